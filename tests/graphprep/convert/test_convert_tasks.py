"""Sets with labels, boxes and masks for downstream tasks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trees
from PIL import Image
from trees import boxes, boxes_of, converted, listed, picture, rows, table, write

from graphprep.convert.run_lengths import mask_of_counts
from graphprep.errors import UserError

# NIH ChestX-ray14


def test_nih(source: Path, output: Path) -> None:
    trees.nih(source)
    document = converted("nih", source, output)
    first, second, third = rows(output / "labels.csv")
    assert first["image"] == "images_001/images/00000001_000.png"
    assert [first["subject_id"], third["subject_id"]] == ["1", "2"]
    assert [first["split"], second["split"], third["split"]] == ["train", "train", "test"]
    assert {name for name, value in first.items() if value == "1" and name != "subject_id"} == {
        "Cardiomegaly",
        "Emphysema",
    }
    assert {name for name, value in second.items() if value == "1" and name != "subject_id"} == {"No Finding"}
    assert third["Infiltration"] == "1"
    assert len(first) == 3 + 15
    assert boxes_of(output) == [
        ("images_001/images/00000001_000.png", "Cardiomegaly", [256.0, 512.0, 128.5, 64.0]),
        ("images_002/images/00000002_000.png", "Infiltration", [1000.0, 100.0, 24.0, 200.0]),
    ]
    assert [(image["width"], image["height"]) for image in boxes(output)["images"]] == [(1024, 1024)] * 2
    assert document["counts"]["boxes_cut_at_the_edge"] == 1
    assert document["listed"] == {}


def test_nih_boxes_follow_images_that_were_made_smaller(source: Path, output: Path) -> None:
    trees.nih(source, size=256)
    document = converted("nih", source, output)
    assert boxes_of(output)[0][2] == [64.0, 128.0, 32.125, 16.0]
    assert document["counts"]["boxes_scaled_to_the_image"] == 2


def test_nih_rows_that_end_in_other_numbers_of_empty_fields_are_the_same(source: Path, output: Path) -> None:
    trees.nih(source)
    converted("nih", source, output)
    for name, more in (("Data_Entry_2017.csv", ",,"), ("BBox_List_2017.csv", "")):
        header, *lines = (source / name).read_text().splitlines()
        write(source / name, "\n".join([header, *(line.rstrip(",") + more for line in lines)]) + "\n")
    document = converted("nih", source, output.with_name("other"))
    assert document["listed"] == {}
    for name in ("labels.csv", "boxes.json"):
        assert (output / name).read_bytes() == (output.with_name("other") / name).read_bytes()


def test_nih_without_images(source: Path, output: Path) -> None:
    trees.nih(source)
    for path in source.rglob("*.png"):
        path.unlink()
    converted("nih", source, output)
    assert rows(output / "labels.csv")[0]["image"] == "images/00000001_000.png"
    assert boxes(output)["images"][0]["width"] == 1024


def test_nih_missing_surplus_and_malformed(source: Path, output: Path) -> None:
    trees.nih(source, size=16)
    (source / "images_002/images/00000002_000.png").unlink()
    (source / "images_001/images/00000001_000.png").write_bytes(b"\x89PNG nothing")
    picture(source / "images_002/images/00000099_000.png")
    with (source / "Data_Entry_2017.csv").open("a") as file:
        file.write("00000003_000.png,Flu,0,3,81,M,PA,1,1,1,1,\nbroken\n")
    with (source / "BBox_List_2017.csv").open("a") as file:
        file.write("00000001_001.png,Mass,x,1,1,1,,,\n00000001_001.png,Mass,1,1,0,5,,,\n")
    with (source / "test_list.txt").open("a") as file:
        file.write("\n00000055_000.png\n")
    converted("nih", source, output)
    assert listed(output, "missing_image") == [("images/00000002_000.png", "Data_Entry_2017.csv", "3")]
    assert listed(output, "surplus_image") == [("images_002/images/00000099_000.png", "", "")]
    assert listed(output, "unreadable_image") == [("images_001/images/00000001_000.png", "", "")]
    assert listed(output, "malformed_row") == [
        ("Data_Entry_2017.csv", "Data_Entry_2017.csv", "4"),
        ("Data_Entry_2017.csv", "Data_Entry_2017.csv", "5"),
        ("BBox_List_2017.csv", "BBox_List_2017.csv", "3"),
    ]
    assert listed(output, "box_without_area") == [("images_001/images/00000001_001.png", "BBox_List_2017.csv", "4")]
    assert [name for name, _, _ in listed(output, "unknown_image")] == [
        "00000055_000.png", "00000001_000.png", "00000002_000.png",
    ]  # fmt: skip
    assert boxes_of(output) == []


# RSNA


def test_rsna(source: Path, output: Path) -> None:
    pytest.importorskip("pydicom")
    trees.rsna(source)
    document = converted("rsna", source, output)
    first, second, third = rows(output / "labels.csv")
    assert second == {
        "image": "stage_2_train_images/00436515.dcm",
        "subject_id": "00436515",
        "split": "",
        "Lung Opacity": "1",
        "No Lung Opacity / Not Normal": "0",
        "Normal": "0",
    }
    assert [first["No Lung Opacity / Not Normal"], third["Normal"]] == ["1", "1"]
    assert [box for _, _, box in boxes_of(output)] == [[264.0, 152.0, 213.0, 379.0], [562.0, 152.0, 256.0, 453.0]]
    assert len(boxes(output)["images"]) == 3
    assert "subject_id is the image's own id" in document["notes"][0]


def test_rsna_patients_by_the_mappings(source: Path, output: Path) -> None:
    pytest.importorskip("pydicom")
    trees.rsna(source, classes=False)
    mappings = [{"img_id": "00000007_003.png", "subset_img_id": "00436515"}, {"img_id": "00000009_000.png"}]
    write(source / "pneumonia-challenge-dataset-mappings_2018.json", json.dumps(mappings))
    converted("rsna", source, output)
    labels = rows(output / "labels.csv")
    assert [row["subject_id"] for row in labels] == ["0004cfab", "00000007", "00569f44"]
    assert list(labels[0]) == ["image", "subject_id", "split", "Lung Opacity"]


def test_rsna_malformed_rows(source: Path, output: Path) -> None:
    pytest.importorskip("pydicom")
    trees.rsna(source)
    name = "stage_2_train_labels.csv"
    with (source / name).open("a") as file:
        file.write("0004cfab,1,1,1,1,1\n00569f44,,,,,2\n00436515,1,1,nan,1,1\nffff,1,1,1,1,1\n")
    converted("rsna", source, output)
    assert [row for _, _, row in listed(output, "malformed_row")] == ["5", "6", "7"]
    assert listed(output, "missing_image") == [("stage_2_train_images/ffff.dcm", name, "8")]


def test_dicom_without_pydicom(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydicom")
    trees.rsna(source)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match="pip install pydicom"):
        converted("rsna", source, output)


# SIIM-ACR


def siim_mask() -> np.ndarray[Any, Any]:
    """What the first image's two rows say: rows 5 to 7 of the first column and of the second, and the last pixel."""
    mask = np.zeros((1024, 1024), dtype=bool)
    mask[5:8, 0] = mask[5:8, 1] = mask[1023, 1023] = True
    return mask


def test_siim_run_lengths(source: Path, output: Path) -> None:
    pytest.importorskip("pydicom")
    trees.siim(source)
    converted("siim", source, output)
    labels = rows(output / "labels.csv")
    assert [(row["subject_id"], row["Pneumothorax"]) for row in labels] == [("p-1", "1"), ("p-2", "0"), ("p-1", "1")]
    first, second = rows(output / "masks.csv")
    assert first["image"] == labels[0]["image"] == "dicom-images-train/1.2.276.9.1/1.2.276.8.1/1.2.276.1.dcm"
    counts = [int(count) for count in first["counts"].split()]
    assert np.array_equal(mask_of_counts(counts, int(first["width"]), int(first["height"])), siim_mask())
    assert second["counts"] == "0 1024 1047552"


@pytest.mark.parametrize("size", [1024, 512])
def test_siim_png(source: Path, output: Path, size: int) -> None:
    pytest.importorskip("pydicom")
    trees.siim(source, size=size)
    document = converted("siim", source, output, masks="png")
    drawn = sorted(path.relative_to(output).as_posix() for path in (output / "masks").rglob("*.png"))
    assert drawn == ["masks/Pneumothorax/1.2.276.1.png", "masks/Pneumothorax/1.2.276.3.png"]
    first = np.asarray(Image.open(output / drawn[0]))
    assert first.shape == (size, size)
    assert set(np.unique(first)) <= {0, 255}
    last = np.asarray(Image.open(output / drawn[1]))
    assert (last[:, 0] == 255).all()
    assert (last[:, 1:] == 0).all()
    if size == 1024:
        assert np.array_equal(first == 255, siim_mask())
    assert document["files"]["masks"] == {"rows": 2}


@pytest.mark.parametrize("encoded", ["9" * 40 + " 1", "5", "5 -1", "1 2 x", "1048570 7", "", "1.5 2"])
def test_siim_malformed_run_lengths(source: Path, output: Path, encoded: str) -> None:
    write(source / "train-rle.csv", f"ImageId, EncodedPixels\nfine, -1\nbad, {encoded}\n")
    converted("siim", source, output)
    assert listed(output, "malformed_row") == [("train-rle.csv", "train-rle.csv", "2")]
    assert [row["image"] for row in rows(output / "labels.csv")] == ["dicom-images-train/fine.dcm"]


# CheXpert


def test_chexpert(source: Path, output: Path) -> None:
    trees.chexpert(source)
    picture(source / "train/patient00002/study1/view1_frontal.jpg")
    document = converted("chexpert", source, output)
    assert [list(row.values()) for row in rows(output / "labels.csv")] == [
        ["train/patient00001/study1/view1_frontal.jpg", "patient00001", "train", "1", ""],
        ["train/patient00001/study1/view2_lateral.jpg", "patient00001", "train", "", "-1"],
        ["valid/patient64541/study1/view1_frontal.jpg", "patient64541", "val", "0", "1"],
    ]
    assert listed(output, "surplus_image") == [("train/patient00002/study1/view1_frontal.jpg", "", "")]
    assert set(document["inputs"]) == {"train.csv", "valid.csv"}


def test_chexpert_from_the_folder_above(source: Path, output: Path) -> None:
    trees.chexpert(source / "CheXpert-v1.0-small")
    converted("chexpert", source, output)
    assert rows(output / "labels.csv")[0]["image"].startswith("CheXpert-v1.0-small/train/patient00001/")


def test_chexpert_values_that_are_no_labels(source: Path, output: Path) -> None:
    trees.chexpert(source)
    text = (source / "train.csv").read_text()
    (source / "train.csv").write_text(text.replace("-1.0", "0.5").replace("view1_frontal", "../../../up"))
    converted("chexpert", source, output)
    assert [row for _, _, row in listed(output, "malformed_row")] == ["2"]
    assert listed(output, "missing_image")[0][2] == "1"


# VinDr-CXR


def test_vindr(source: Path, output: Path) -> None:
    pytest.importorskip("pydicom")
    trees.vindr(source)
    document = converted("vindr", source, output)
    assert [list(row.values()) for row in rows(output / "labels.csv")] == [
        ["train/aaa.dicom", "", "train", "1", "0", "0", "0"],
        ["test/bbb.dicom", "", "test", "0", "1", "1", "0"],
    ]
    assert boxes_of(output) == [
        ("train/aaa.dicom", "Cardiomegaly", [10.5, 20.0, 19.5, 25.0]),
        ("train/aaa.dicom", "Cardiomegaly", [11.0, 21.0, 20.0, 23.0]),
        ("test/bbb.dicom", "Nodule/Mass", [1.0, 2.0, 2.0, 3.0]),
    ]
    assert [annotation.get("rad_id") for annotation in boxes(output)["annotations"]] == ["R1", "R2", None]
    assert [(image["width"], image["height"]) for image in boxes(output)["images"]] == [(60, 50), (40, 30)]
    assert document["counts"]["images_whose_readers_differ"] == 1


def test_vindr_with_boxes_alone(source: Path, output: Path) -> None:
    pytest.importorskip("pydicom")
    trees.vindr(source, labels=False)
    converted("vindr", source, output)
    labels = rows(output / "labels.csv")
    assert list(labels[0])[3:] == ["Cardiomegaly", "No finding", "Nodule/Mass"]
    assert [labels[0]["Cardiomegaly"], labels[0]["No finding"], labels[1]["Nodule/Mass"]] == ["1", "0", "1"]


def test_vindr_malformed_boxes(source: Path, output: Path) -> None:
    pytest.importorskip("pydicom")
    trees.vindr(source)
    name = "annotations_train.csv"
    with (source / "annotations" / name).open("a") as file:
        file.write("aaa,R3,Cardiomegaly,1,2,,4\naaa,R3,Cardiomegaly,9,9,3,3\nccc,R1,Cardiomegaly,1,1,2,2\n")
    converted("vindr", source, output)
    assert listed(output, "malformed_row") == [(name, name, "4")]
    assert listed(output, "box_without_area") == [("train/aaa.dicom", name, "5")]
    assert listed(output, "missing_image") == [("train/ccc.dicom", name, "6")]


# COCO


def test_coco(source: Path, output: Path) -> None:
    trees.coco(source)
    converted("coco", source, output, masks="png")
    assert [list(row.values()) for row in rows(output / "labels.csv")] == [
        ["images/a.png", "", "train", "0", "1"],
        ["images/b.png", "", "train", "1", "0"],
    ]
    assert boxes_of(output) == [
        ("images/a.png", "nodule", [1, 1, 3, 2]),
        ("images/b.png", "effusion, left", [0, 0, 2, 2]),
    ]
    assert [annotation["iscrowd"] for annotation in boxes(output)["annotations"]] == [0, 1]
    polygon = np.asarray(Image.open(output / "masks/nodule/a.png")) == 255
    expected = np.zeros((6, 8), dtype=bool)
    expected[1:3, 1:4] = True
    assert np.array_equal(polygon, expected)
    runs = np.asarray(Image.open(output / "masks/effusion_ left/b.png")) == 255
    assert runs.astype(int).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]


def test_coco_masks_of_a_class_are_one(source: Path, output: Path) -> None:
    one = {
        "image_id": 9,
        "category_id": 3,
        "bbox": [0, 0, 1, 1],
        "segmentation": {"size": [3, 4], "counts": [0, 1, 11]},
    }
    other = {**one, "segmentation": {"size": [3, 4], "counts": [11, 1]}}
    trees.coco(source, [one, other])
    converted("coco", source, output)
    [row] = rows(output / "masks.csv")
    assert (row["class"], row["width"], row["height"], row["counts"]) == ("nodule", "4", "3", "0 1 10 1")


def test_coco_malformed_annotations(source: Path, output: Path) -> None:
    fine = {"image_id": 7, "category_id": 3, "bbox": [1, 1, 3, 2]}
    wrong: list[Any] = [
        {**fine, "image_id": 8},
        {**fine, "category_id": [3]},
        {**fine, "bbox": [1, 1, 3]},
        {**fine, "bbox": [1, 1, 3, float("nan")]},
        {**fine, "segmentation": [[1, 1, 2, 2]]},
        {**fine, "segmentation": {"size": [8, 6], "counts": [48]}},
        "none",
    ]
    trees.coco(source, [fine, *wrong])
    converted("coco", source, output)
    assert [row for _, _, row in listed(output, "malformed_row")] == ["2", "3", "4", "5", "8", "6", "7"]
    assert len(boxes_of(output)) == 3


def test_coco_class_that_is_called_as_a_column(source: Path, output: Path) -> None:
    trees.coco(source)
    path = source / "annotations/instances_train2017.json"
    path.write_text(path.read_text().replace("nodule", "split"))
    with pytest.raises(UserError, match="A class is called 'split'"):
        converted("coco", source, output)


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "C:/a.png", "file://x/a.png", "", "."])
def test_coco_paths_stay_under_the_root(source: Path, output: Path, name: str) -> None:
    trees.coco(source)
    path = source / "annotations/instances_train2017.json"
    path.write_text(path.read_text().replace("a.png", name))
    for image in (source / "images").iterdir():
        image.unlink()
    converted("coco", source, output)
    assert [row for _, _, row in listed(output, "malformed_row")] == ["1"]
    assert [row["image"] for row in rows(output / "labels.csv")] == ["b.png"]


def test_coco_needs_its_format(source: Path, output: Path) -> None:
    write(source / "a.json", "[]")
    with pytest.raises(UserError, match=r"a\.json is not in the format of COCO"):
        converted("coco", source, output)


def test_coco_with_two_images_of_one_name(source: Path, output: Path) -> None:
    trees.coco(source)
    picture(source / "more/a.png")
    converted("coco", source, output)
    assert listed(output, "missing_image") == [("a.png", "instances_train2017.json", "1")]


# Whatever the set


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("nih", "Data_Entry_2017*.csv"),
        ("rsna", "stage_2_train_labels.csv"),
        ("siim", "train-rle.csv or stage_2_train.csv"),
        ("chexpert", "train.csv or valid.csv"),
        ("chexpert-plus", "df_chexpert_plus*.csv"),
        ("vindr", "annotations/annotations_train.csv or train.csv"),
        ("coco", "*.json or annotations/*.json"),
        ("openi", "ecgen-radiology/1.xml"),
        ("mimic-cxr", "files/p10/p10000032/s50414267.txt or mimic-cxr-reports.zip"),
        ("folder", "*.txt"),
    ],
)
def test_what_was_expected_and_what_is_there(name: str, file: str, tmp_path: Path, output: Path) -> None:
    with pytest.raises(UserError) as gone:
        converted(name, tmp_path / "wrong", output)
    assert f"expected {file}" in str(gone.value) or "image root" in str(gone.value)
    assert "no such folder" in str(gone.value) or "is not a folder" in str(gone.value)
    write(tmp_path / "set/notes.md", "x")
    with pytest.raises(UserError) as lacking:
        converted(name, tmp_path / "set", output)
    assert f"expected {file}" in str(lacking.value)
    assert str(lacking.value).endswith("Found there: notes.md.")
    assert not output.exists()


def test_a_table_of_another_kind(source: Path, output: Path) -> None:
    table(source / "Data_Entry_2017.csv", ("Image Index", "Labels"), [("a.png", "x")])
    with pytest.raises(UserError, match=r"no column 'Finding Labels'.* Its columns are: Image Index, Labels\."):
        converted("nih", source, output)
