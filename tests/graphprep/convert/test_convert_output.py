"""What happens to the output folder, and what is the same from run to run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trees
from hypothesis import given
from hypothesis import strategies as st
from trees import converted, listed, picture, rows, write

import graphprep.convert as convert_module
from graphprep.convert import Conversion, convert, converters, register, summary_lines
from graphprep.convert.conversion import label_value, split_name
from graphprep.convert.image_files import Header, ImageFiles, read_header
from graphprep.convert.output import Output
from graphprep.errors import UserError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    trees.nih(root, size=16)
    (root / "images_002/images/00000002_000.png").unlink()
    return root


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(table: Any, *_: object) -> None:
        table._stream.close()  # which fails too where what is left cannot be written
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        for method in ("write", "close"):
            patch.setattr(f"graphprep.convert.output._Table.{method}", full)
        with pytest.raises(UserError, match="out cannot be read or written: No space left on device"):
            convert("nih", source, output)
    assert not output.exists()
    assert convert("nih", source, output)["files"]["labels.csv"]["rows"] == 2


def test_a_rerun_writes_the_same_bytes(source: Path, output: Path) -> None:
    converted("nih", source, output)
    before = contents(output)
    assert sorted(before) == ["boxes.json", "convert.json", "labels.csv", "missing.csv"]
    converted("nih", source, output)
    assert contents(output) == before


def test_the_same_input_elsewhere_gives_the_same_bytes(source: Path, output: Path, tmp_path: Path) -> None:
    converted("nih", source, output)
    trees.nih(tmp_path / "elsewhere/set", size=16)
    (tmp_path / "elsewhere/set/images_002/images/00000002_000.png").unlink()
    converted("nih", tmp_path / "elsewhere/set", tmp_path / "elsewhere/out")
    assert contents(tmp_path / "elsewhere/out") == contents(output)


def test_convert_json_describes_input_and_output(source: Path, output: Path) -> None:
    document = converted("nih", source, output)
    assert document["source"] == "nih"
    assert document["images"] == "../set"
    assert set(document["inputs"]) == {
        "Data_Entry_2017.csv",
        "BBox_List_2017.csv",
        "train_val_list.txt",
        "test_list.txt",
    }
    assert document["files"]["labels.csv"]["rows"] == 2
    assert document["listed"]["missing_image"] == {"count": 1, "first": ["images/00000002_000.png"]}


def test_another_conversion_is_refused_without_overwrite(source: Path, output: Path, tmp_path: Path) -> None:
    converted("nih", source, output)
    before = contents(output)
    with pytest.raises(UserError, match="holds another conversion already"):
        converted("nih", source, output, masks="png")
    trees.chexpert(tmp_path / "other")
    with pytest.raises(UserError, match="--overwrite"):
        converted("chexpert", tmp_path / "other", output)
    with (source / "train_val_list.txt").open("a") as file:
        file.write("00000077_000.png\n")
    with pytest.raises(UserError, match="output of other input"):
        converted("nih", source, output)
    assert contents(output) == before
    converted("chexpert", tmp_path / "other", output, overwrite=True)
    assert sorted(contents(output)) == ["convert.json", "labels.csv"]


def test_files_of_others_are_not_touched(source: Path, output: Path) -> None:
    write(output / "notes.md", "mine")
    converted("nih", source, output)
    write(output / "graphs/manifest.json", "{}")
    converted("nih", source, output, overwrite=True)
    assert (output / "notes.md").read_text() == "mine"
    assert (output / "graphs/manifest.json").exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["labels.csv", "convert.json", "masks/a.png"])
def test_a_file_that_looks_like_ours_is_refused(source: Path, output: Path, name: str, overwrite: bool) -> None:
    write(output / name, "[]")
    with pytest.raises(UserError, match="did not write"):
        converted("nih", source, output, overwrite=overwrite)
    assert contents(output) == {name: b"[]"}


def test_a_file_in_place_of_the_folder(source: Path, output: Path) -> None:
    output.write_text("x")
    with pytest.raises(UserError, match="is a file"):
        converted("nih", source, output)


def test_a_run_that_was_killed_is_run_again(
    source: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted("nih", source, tmp_path / "undisturbed")

    class Killed(BaseException):
        pass

    replaced: list[Path] = []
    replace: Callable[[Path, Path], Path] = Path.replace

    def replace_two(self: Path, target: Path) -> Path:
        if len(replaced) == 2:
            raise Killed
        replaced.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_two)
    monkeypatch.setattr(Output, "__exit__", lambda *_: None)  # nobody cleans up behind a kill
    with pytest.raises(Killed):
        converted("nih", source, output)
    monkeypatch.undo()
    assert "convert.json" not in contents(output)
    assert len(replaced) == 2
    converted("nih", source, output)
    assert contents(output) == contents(tmp_path / "undisturbed")


def test_nothing_is_left_of_a_run_that_failed(source: Path, output: Path) -> None:
    (source / "BBox_List_2017.csv").write_text("Image Index\nx\n")
    with pytest.raises(UserError, match="Finding Label"):
        converted("nih", source, output)
    assert not output.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(source: Path, output: Path) -> None:
    output.mkdir(mode=0o500)
    with pytest.raises(UserError, match="cannot be written"):
        converted("nih", source, output)


def test_several_files_that_could_be_the_table(source: Path, output: Path) -> None:
    write(source / "Data_Entry_2017_v2020.csv", "x")
    with pytest.raises(UserError, match="several files are called"):
        converted("nih", source, output)


# Images


def test_images_are_followed_through_links_but_not_round(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere/a.PNG")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "root")
    write(tmp_path / "root/.hidden/b.png", "")
    write(tmp_path / "root/out/masks/c.png", "")
    images = ImageFiles(tmp_path / "root", "stem", ["png"], tmp_path / "root/out")
    assert images.keys == ["a"]
    assert images.take("a") == "linked/a.PNG"
    assert images.left_over() == []


def test_of_two_formats_the_preferred_one_is_taken(tmp_path: Path) -> None:
    for name in ("x/a.jpg", "y/a.png", "z/a.png", "b.jpeg"):
        picture(tmp_path / name)
    images = ImageFiles(tmp_path, "stem", ["png", "jpg", "jpeg"], tmp_path / "none")
    assert images.take("a") == "y/a.png"
    assert images.duplicates == [("x/a.jpg", "y/a.png"), ("z/a.png", "y/a.png")]
    assert images.left_over() == ["b.jpeg"]


def test_headers(tmp_path: Path) -> None:
    assert read_header(picture(tmp_path / "a.jpg", 7, 5)) == Header(7, 5)
    for name in ("b.png", "c.dcm") if find_spec("pydicom") else ("b.png",):
        assert str(read_header(write(tmp_path / name, "no image"))).startswith("It cannot be read as")
    assert str(read_header(tmp_path / "gone.png")).startswith("It cannot be read as")


def test_dicom_headers(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    assert read_header(trees.dicom(tmp_path / "d.dcm", 7, 5, "007")) == Header(7, 5, "007")


# Small things


@pytest.mark.parametrize(("given", "expected"), [("1.0", "1"), ("0", "0"), ("-1.0", "-1"), ("", ""), (" ", "")])
def test_labels(given: str, expected: str) -> None:
    assert label_value(given) == expected


@given(st.text(max_size=6))
def test_a_label_is_one_of_four_or_an_error(text: str) -> None:
    try:
        assert label_value(text) in ("1", "0", "-1", "")
    except ValueError:
        assert text.strip()


def test_splits() -> None:
    assert [split_name(name) for name in ("train", "validate", "Valid", "test", "fold3", "")] == [
        "train", "val", "val", "test", "fold3", "",
    ]  # fmt: skip


FINITE = st.floats(-50, 150, allow_nan=False)


@given(st.tuples(FINITE, FINITE, FINITE, FINITE))
def test_boxes_stay_within_their_image(tmp_path_factory: pytest.TempPathFactory, box: tuple[float, ...]) -> None:
    folder = tmp_path_factory.mktemp("boxes")
    with Output(folder / "out", "x", {}, False) as output:
        boxes = output.boxes(["nodule"])
        boxes.image("a.png", 100, 60)
        boxes.box("a.png", "nodule", box, file=Path("boxes.csv"), row=1)
        output.close(folder)
    annotations = trees.boxes(folder / "out")["annotations"]
    assert len(annotations) + len(listed(folder / "out", "box_without_area")) == 1
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        assert x >= 0
        assert y >= 0
        assert width > 0
        assert height > 0
        assert x + width <= 100 + 1e-9
        assert y + height <= 60 + 1e-9


def test_masks_of_two_images_with_one_name(tmp_path: Path) -> None:
    import numpy as np

    mask = np.ones((2, 2), dtype=bool)
    with Output(tmp_path / "out", "x", {}, False) as output:
        masks = output.masks("png")
        masks.write("x/a.png", "nodule", mask)
        with pytest.raises(UserError, match=r"masks/nodule/a\.png"):
            masks.write("y/a.png", "nodule", mask)


# The registry


def test_all_sets_are_registered() -> None:
    assert list(converters()) == [
        "chexpert", "chexpert-plus", "coco", "folder", "mimic-cxr", "nih", "openi", "rsna", "siim", "vindr",
    ]  # fmt: skip


def test_an_unknown_set(source: Path, output: Path) -> None:
    with pytest.raises(UserError, match=r"no converter 'nhi'. Expected one of chexpert, .*vindr\."):
        convert("nhi", source, output)


def test_a_converter_of_somebody_else(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "theirs"

        def load(self) -> None:
            @register("theirs", "notes.csv")
            def convert_theirs(conversion: Conversion) -> None:
                reports = conversion.output.reports()
                for row in conversion.rows(conversion.find("notes.csv", what="reports"), ("id", "text")):
                    reports.write(row.values["id"], {"findings": row.values["text"]}, [])

    def points(group: str) -> list[Any]:
        return [Point()] if group == "graphprep.converters" else []

    monkeypatch.setattr(convert_module, "_REGISTERED", dict(convert_module._REGISTERED))
    monkeypatch.setattr(convert_module, "entry_points", points)
    write(source / "notes.csv", "id,text\n007,Clear.\n")
    document = convert("theirs", source, output)
    assert rows(output / "reports.csv")[0]["report_id"] == "007"
    [*_, last] = summary_lines(document, source, output, convert_module.ConvertOptions())
    assert last == f"Next: graphprep extract {output}/reports.csv --images {source} -o {output}/graphs"


def test_what_cannot_be_used_is_named_in_the_summary(source: Path, output: Path) -> None:
    with (source / "Data_Entry_2017.csv").open("a") as file:
        file.write("00000003_000.png,Flu,0,3,81,M,PA,1,1,1,1,\n")
    document = converted("nih", source, output)
    lines = "\n".join(summary_lines(document, source, output, convert_module.ConvertOptions()))
    assert "Data_Entry_2017.csv, row 4: 'Flu' is none of the set's findings." in lines
    assert "images/00000002_000.png" in lines
    assert json.dumps(document["counts"]) in json.dumps(document)


def test_the_output_may_be_in_the_folder_of_the_set(tmp_path: Path) -> None:
    trees.coco(tmp_path)
    first = converted("coco", tmp_path, tmp_path, masks="png")
    before = contents(tmp_path)
    assert converted("coco", tmp_path, tmp_path, masks="png") == first
    assert contents(tmp_path) == before
    assert first["listed"] == {}
