"""Images that rows name, their paths under the image root, and their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphprep.images import ImageFault, ImageRoot, images_of
from graphprep.records import Image

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"image": " a.png "}, [Image("a.png")]),
        ({"image": ""}, []),
        ({"image": None, "view": "PA"}, []),
        ({"image": "a|b.png"}, [Image("a|b.png")]),
        ({"image": "[a].png"}, [Image("[a].png")]),
        ({"image": ["a.png", "b.png"]}, [Image("a.png"), Image("b.png")]),
        ({"images": "a.png | b.png|"}, [Image("a.png"), Image("b.png")]),
        ({"images": '["a.png", "b.png"]'}, [Image("a.png"), Image("b.png")]),
        ({"images": "['a.png', 'b.png']"}, [Image("a.png"), Image("b.png")]),
        ({"images": "[]"}, []),
        ({"images": "[null]"}, []),
        ({"image": "a.png", "images": "b.png"}, [Image("a.png"), Image("b.png")]),
        ({"image": "a.png", "view": "PA", "image_id": "007"}, [Image("a.png", "PA", "007")]),
        ({"image": "a.png", "image_id": 7}, [Image("a.png", None, "7")]),
        ({"images": "a|b", "view": "PA|LL", "image_id": '["1", "2"]'}, [Image("a", "PA", "1"), Image("b", "LL", "2")]),
        ({"images": ["a", "b"], "view": ["PA", "LL"]}, [Image("a", "PA"), Image("b", "LL")]),
        ({"images": "a|b", "view": "PA"}, [Image("a", "PA"), Image("b", "PA")]),
        (
            {"images": [{"path": "a", "ViewPosition": "PA", "dicom_id": "x"}, {"image": "b", "id": "y"}], "view": "LL"},
            [Image("a", "PA", "x"), Image("b", "LL", "y")],
        ),
        ({"images": '[{"file_path": "a", "view": null}]'}, [Image("a")]),
        ({"image_id": "1_2.PNG"}, [Image("1_2.PNG", None, "1_2.PNG")]),
        ({"image_id": "1.2.840"}, []),
        ({"image": "", "image_id": "1.png"}, []),
    ],
)
def test_what_rows_say(values: dict[str, object], expected: list[Image]) -> None:
    assert images_of(values) == (expected, [])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"images": "[a, b]"}, []),
        ({"images": "[" * 100_000 + "]"}, []),
        ({"images": [{"view": "PA"}, {"path": "a"}]}, [Image("a")]),
        ({"images": "a|b|c", "view": "PA|LL"}, [Image("a"), Image("b"), Image("c")]),
        ({"images": "a|b", "image_id": "1"}, [Image("a"), Image("b")]),
    ],
)
def test_what_rows_say_wrongly(values: dict[str, object], expected: list[Image]) -> None:
    images, faults = images_of(values)
    assert images == expected
    assert [fault.reason for fault in faults] == ["malformed_images"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.png", "a.png"),
        ("files/p10/a.png", "files/p10/a.png"),
        ("./files//p10/../a.png", "files/a.png"),
        ("files\\p10\\a.png", "files/p10/a.png"),
        ("..a/b..png", "..a/b..png"),
        ("ROOT/files/a.png", "files/a.png"),
        ("ROOT//files/./a.png", "files/a.png"),
        ("../a.png", None),
        ("files/../../a.png", None),
        ("files\\..\\..\\a.png", None),
        ("ROOT/../a.png", None),
        ("ROOTother/a.png", None),
        ("ROOT", None),
        (".", None),
        ("..", None),
        ("/etc/passwd", None),
        ("C:\\images\\a.png", None),
        ("C:a.png", None),
        ("https://example.org/a.png", None),
        ("file:///a.png", None),
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_paths(tmp_path: Path, path: str, expected: str | None, linked: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    given_root = tmp_path / "link" if linked else root
    if linked:
        given_root.symlink_to(root)
    placed = ImageRoot(given_root, check=False).place(Image(path.replace("ROOT", str(root)), "PA", "7"))
    if expected is not None:
        assert placed == Image(expected, "PA", "7")
    else:
        assert isinstance(placed, ImageFault)
        assert placed.reason == "image_outside_root"


def test_a_relative_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ImageRoot(Path("images"), check=False).place(Image(f"{tmp_path}/images/a.png")) == Image("a.png")


@pytest.mark.parametrize("image", [Image("a\0"), Image("a\udcff"), Image("a", "\ud800"), Image("a", None, "\0")])
def test_what_is_not_text(tmp_path: Path, image: Image) -> None:
    placed = ImageRoot(tmp_path, check=True).place(image)
    assert isinstance(placed, ImageFault)
    assert placed.reason == "undecodable_bytes"


@given(st.text(st.sampled_from("./\\a:C"), min_size=1, max_size=12))
def test_no_path_leaves_the_root(path: str) -> None:
    placed = ImageRoot(Path("/archive/images"), check=False).place(Image(path))
    if isinstance(placed, Image):
        assert os.path.normpath(os.path.join("/archive/images", placed.path)).startswith("/archive/images/")  # noqa: PTH118
        assert "\\" not in placed.path


@pytest.mark.parametrize(
    "content",
    [
        PNG,
        b"\xff\xd8\xff\xe0",
        b"II*\0",
        b"MM\0*",
        b"GIF89a",
        b"BM....",
        bytes(128) + b"DICM",
    ],
)
def test_files_that_are_images(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert ImageRoot(tmp_path, check=True).place(Image("a")) == Image("a")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none.png", "missing_image"),
        ("text.png/a.png", "missing_image"),
        ("folder", "missing_image"),
        ("x" * 300, "missing_image"),
        ("text.png", "corrupt_image"),
        ("empty.png", "corrupt_image"),
    ],
)
def test_files_that_are_none(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("<html>not found</html>")
    (tmp_path / "empty.png").touch()
    assert ImageRoot(tmp_path, check=False).place(Image(path)) == Image(path)
    placed = ImageRoot(tmp_path, check=True).place(Image(path))
    assert isinstance(placed, ImageFault)
    assert placed.reason == reason
    assert str(tmp_path) not in placed.detail
