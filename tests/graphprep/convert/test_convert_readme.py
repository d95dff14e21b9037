"""The lines of Python in data/README.md, on the real manifests where they are."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from trees import boxes, picture, rows, write

import graphprep.convert as convert_module
from graphprep.read import ReadOptions, read_reports
from graphprep.records import Report

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "cxr"
README = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
LABELS, REPORTS, CONVERTER = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the real manifests are not here")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convert_module, "_REGISTERED", {})
    return tmp_path


def run(lines: str) -> None:
    scope: dict[str, Any] = {"__name__": "readme"}
    exec(compile(lines, "data/README.md", "exec"), scope)


def manifest_of(name: str, folder: Path) -> list[dict[str, str]]:
    """The rows of a real manifest, which is linked into the folder with its images."""
    for entry in (SHARED / name).iterdir():
        (folder / entry.name).symlink_to(entry)
    return rows(folder / "manifest.csv")


def test_labels(here: Path) -> None:
    write(here / "manifest.csv", "image,patient,labels\na.png,007,Mass|Nodule\nb.png,8,No Finding\n")
    run(LABELS)
    assert (here / "labels.csv").read_text().splitlines() == [
        "image,subject_id,split,Mass,No Finding,Nodule",
        "a.png,007,,1,0,1",
        "b.png,8,,0,1,0",
    ]


def test_converter(here: Path) -> None:
    for name in ("a", "b", "c"):
        picture(here / f"{name}.png", 8, 6)
    Image.new("L", (8, 6), 255).save(here / "mask.png")
    (here / "mask.png").rename(here / "mask.bmp")  # not among the images
    write(here / "manifest.csv", 'image,boxes,mask\na.png,"[[1, 1, 2, 2]]",mask.bmp\nb.png,[],\nc.png,,\nd.png,,\n')
    run(CONVERTER)
    assert [image["file_name"] for image in boxes(here / "converted")["images"]] == ["a.png", "b.png"]
    assert rows(here / "converted/masks.csv")[0]["counts"] == "0 48"
    assert [row["name"] for row in rows(here / "converted/missing.csv")] == ["d.png"]


@needs_shared
def test_nih_labels_and_boxes(here: Path) -> None:
    manifest = manifest_of("nih", here)
    run(LABELS)
    labels = rows(here / "labels.csv")
    assert len(labels) == len(manifest)
    for given, found in zip(manifest, labels, strict=True):
        assert {name for name, value in list(found.items())[3:] if value == "1"} == set(given["labels"].split("|"))
        assert found["subject_id"] == given["patient"]

    (here / "manifest.csv").unlink()
    with (here / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["image", "boxes"], *([row["image"], row["rsna_boxes"]] for row in manifest)])
    run(CONVERTER)
    document = boxes(here / "converted")
    assert len(document["images"]) == sum(row["rsna_boxes"] != "" for row in manifest)
    with_boxes = {annotation["image_id"] for annotation in document["annotations"]}
    assert len(with_boxes) == sum(row["rsna_boxes"] not in ("", "[]") for row in manifest)
    assert not (here / "converted/missing.csv").exists()


@needs_shared
def test_covid_reports_and_masks(here: Path) -> None:
    manifest = manifest_of("covid", here)
    run(REPORTS)
    found = list(read_reports(["reports.csv"], ReadOptions(check_images=True)))
    assert all(isinstance(report, Report) for report in found)
    assert len(found) == sum(row["report"] != "" for row in manifest)

    (here / "manifest.csv").unlink()
    with (here / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "mask"], *([row["image"], row["lung_mask"]] for row in manifest)])
    run(CONVERTER)
    masks = rows(here / "converted/masks.csv")
    assert len(masks) == sum(row["lung_mask"] != "" for row in manifest)
    for row in masks[:5]:
        with Image.open(row["image"]) as image:
            assert image.size == (int(row["width"]), int(row["height"]))
        counts = [int(count) for count in row["counts"].split()]
        assert sum(counts[1::2]) > 0.05 * sum(counts)


def test_every_set_and_every_option_of_the_command_is_described() -> None:
    for name in convert_module.converters():
        assert re.search(rf"^\| `{name}` \|", README, re.MULTILINE), name
        assert re.search(rf"^    graphprep convert {name} ", README, re.MULTILINE), name
