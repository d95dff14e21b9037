"""The store of decoded images: the same for any number of workers, finished by the next run, checked, and made anew when it must."""

from __future__ import annotations

import csv
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from trainer.data import cache
from trainer.data.cache import BLOCK, ImageStore, image_store
from trainer.data.files import locked
from trainer.data.images import load_image
from trainer.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """40 images of several shapes, of which three cannot be used, and a link below the root."""
    folder = tmp_path / "root"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(40):
        shape = (20 + number % 7, 20 + number % 5)
        Image.fromarray(random.integers(0, 256, shape).astype(np.uint8)).save(folder / f"{number:03d}.png")
    (folder / "003.png").unlink()
    (folder / "010.png").write_bytes((folder / "011.png").read_bytes()[:60])
    (folder / "020.png").write_text("no image", encoding="utf-8")
    return folder


PATHS = pa.chunked_array(
    [[f"{number:03d}.png" for number in range(25)], [f"{number:03d}.png" for number in range(20, 40)]]
)
USABLE = [number for number in range(40) if number not in (3, 10, 20)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK", 8)


def content(store: ImageStore) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(store.folder.iterdir()) if file.is_file()}


def test_a_store_holds_every_image_at_its_size(root: Path, tmp_path: Path) -> None:
    store = image_store(root, PATHS, tmp_path / "cache", 16)
    assert len(store) == 40  # each path once
    for number in USABLE:
        assert np.array_equal(store[number], load_image(root / f"{number:03d}.png", 16))
    assert store[[5, 1]].shape == (2, 16, 16)
    assert not store[[3, 10, 20]].any()
    assert np.flatnonzero(store.usable).tolist() == USABLE
    assert store.verify() == []


def test_what_cannot_be_used_is_listed_with_its_reason(root: Path, tmp_path: Path) -> None:
    store = image_store(root, PATHS, tmp_path / "cache", 16)
    assert store.rejected.keys() == {"missing", "truncated", "unknown_format"}
    rejects = store.rejects()
    assert [row["path"] for row in rejects] == ["003.png", "010.png", "020.png"]
    assert all(row["reason"] and row["detail"] for row in rejects)
    with (store.folder / "rejects.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rejects


def test_rows_of_paths(root: Path, tmp_path: Path) -> None:
    store = image_store(root, PATHS, tmp_path / "cache", 16)
    wanted = ["039.png", "010.png", "elsewhere.png", "000.png"]
    assert store.rows_of(wanted).tolist() == store.rows_of(pa.array(wanted)).tolist() == [39, -1, -1, 0]
    assert store.rows_of(pa.chunked_array([wanted[:1], wanted[1:]])).tolist() == [39, -1, -1, 0]


def test_any_number_of_workers_makes_the_same_bytes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "BLOCK", BLOCK)  # other processes know of no other
    many = pa.chunked_array(
        [[*(f"{number:03d}.png" for number in range(40)), *(f"none-{n}" for n in range(2 * BLOCK))]]
    )
    one, three = (image_store(root, many, tmp_path / f"{workers}", 16, workers=workers) for workers in (1, 3))
    assert content(one) == content(three)
    assert len(one) == 40 + 2 * BLOCK


def test_an_interrupted_store_is_finished_and_finished_blocks_are_not_made_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = content(image_store(root, PATHS, tmp_path / "whole", 16))
    decode, seen = cache._decode_block, []

    def interrupted(block: int, *arguments: Any) -> Any:
        if block == 3:
            raise KeyboardInterrupt
        return decode(block, *arguments)

    def recorded(block: int, *arguments: Any) -> Any:
        seen.append(block)
        return decode(block, *arguments)

    monkeypatch.setattr(cache, "_decode_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        image_store(root, PATHS, tmp_path / "cache", 16)
    [folder] = (tmp_path / "cache").iterdir()
    with pytest.raises(UserError, match="cache-images"):
        ImageStore(folder)
    monkeypatch.setattr(cache, "_decode_block", recorded)
    assert content(image_store(root, PATHS, tmp_path / "cache", 16)) == whole
    assert seen == [3, 4]
    image_store(root, PATHS, tmp_path / "cache", 16)
    assert seen == [3, 4]


SCRIPT = """
import sys
from pathlib import Path
import pyarrow as pa
from trainer.data import cache, images

def slowly(*arguments, decode=cache.decode_image, **named):
    import time
    time.sleep(0.02)
    return decode(*arguments, **named)

cache.BLOCK = 8
cache.decode_image = slowly
names = pa.chunked_array([[f"{number:03d}.png" for number in range(40)]])
cache.image_store(Path(sys.argv[1]), names, Path(sys.argv[2]), 16)
"""


def test_a_killed_process_leaves_what_the_next_one_finishes(root: Path, tmp_path: Path) -> None:
    whole = content(image_store(root, PATHS, tmp_path / "whole", 16))
    command = [sys.executable, "-c", SCRIPT, str(root), str(tmp_path / "cache")]
    process = subprocess.Popen(command, cwd=ROOT)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cache").glob("*/.blocks/block-000001.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert content(image_store(root, PATHS, tmp_path / "cache", 16)) == whole


def test_damaged_pixels_are_found(root: Path, tmp_path: Path) -> None:
    store = image_store(root, PATHS, tmp_path / "cache", 16)
    file = store.folder / "images.npy"
    damaged = bytearray(file.read_bytes())
    damaged[-16 * 16 * 10] ^= 1  # of image 30
    file.write_bytes(damaged)
    [fault] = ImageStore(store.folder).verify()
    assert "images 24 to 31" in fault


def test_a_cut_store_is_made_again(root: Path, tmp_path: Path) -> None:
    store = image_store(root, PATHS, tmp_path / "cache", 16)
    whole = content(store)
    file = store.folder / "images.npy"
    file.write_bytes(file.read_bytes()[:-1])
    assert content(image_store(root, PATHS, tmp_path / "cache", 16)) == whole


def test_changed_images_are_decoded_again_and_touched_ones_are_not(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = image_store(root, PATHS, tmp_path / "cache", 16)
    for file in root.iterdir():
        os.utime(file, (1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_build", lambda *_: pytest.fail("it was made again"))
        image_store(root, PATHS, tmp_path / "cache", 16)
    old = before[7].copy()
    Image.fromarray(np.full((20, 20), 200, np.uint8)).save(root / "007.png")
    after = image_store(root, PATHS, tmp_path / "cache", 16)
    assert not np.array_equal(after[7], old)
    assert (after[7] == 200).all()


def test_the_store_serves_when_the_images_are_gone(root: Path, tmp_path: Path) -> None:
    pixels = image_store(root, PATHS, tmp_path / "cache", 16)[5].copy()
    for file in root.iterdir():
        file.unlink()
    assert np.array_equal(image_store(root, PATHS, tmp_path / "cache", 16)[5], pixels)


def test_an_image_that_appears_is_decoded(root: Path, tmp_path: Path) -> None:
    assert not image_store(root, PATHS, tmp_path / "cache", 16).usable[3]
    (root / "003.png").write_bytes((root / "004.png").read_bytes())
    assert image_store(root, PATHS, tmp_path / "cache", 16).usable[3]


def test_sizes_and_fits_lie_side_by_side(root: Path, tmp_path: Path) -> None:
    stores = [image_store(root, PATHS, tmp_path, size, fit) for size in (8, 16) for fit in ("letterbox", "crop")]
    assert len({store.folder for store in stores}) == 4
    assert [store.size for store in stores] == [8, 8, 16, 16]


def test_two_processes_do_not_write_one_store(root: Path, tmp_path: Path) -> None:
    store = image_store(root, PATHS, tmp_path / "cache", 16)
    (store.folder / "store.json").unlink()
    with locked(store.folder), pytest.raises(UserError, match="another process"):
        image_store(root, PATHS, tmp_path / "cache", 16)


def test_a_folder_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        image_store(root, PATHS, tmp_path / "cache", 16)


def test_paths_that_leave_the_root_are_rejected(root: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "secret.png")
    store = image_store(root, ["../secret.png", "000.png"], tmp_path / "cache", 16)
    assert store.rejected == {"outside_root": 1}


def test_a_store_of_no_images(tmp_path: Path) -> None:
    store = image_store(tmp_path, [], tmp_path / "cache", 16)
    assert len(store) == 0
    assert store.rows_of(["a.png"]).tolist() == [-1]
    assert store.rejects() == store.verify() == []


def test_a_store_goes_to_another_process_as_its_folder(root: Path, tmp_path: Path) -> None:
    store = image_store(root, PATHS, tmp_path / "cache", 16)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent)[5], store[5])
