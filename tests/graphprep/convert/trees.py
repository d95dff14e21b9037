"""Small trees in the shape of the published data sets, with invented content."""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from graphprep.convert import ConvertOptions, convert
from graphprep.read import ReadOptions, read_reports
from graphprep.records import Reject, Report


def converted(source: str, path: Path, output: Path, **options: Any) -> dict[str, Any]:
    """What `convert.json` says of a conversion; it is the same on the disk."""
    overwrite = options.pop("overwrite", False)
    document = convert(source, path, output, ConvertOptions(**options), overwrite=overwrite)
    assert json.loads((output / "convert.json").read_text(encoding="utf-8")) == document
    return document


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def listed(output: Path, kind: str) -> list[tuple[str, str, str]]:
    """(name, file, row) of what `missing.csv` lists of a kind."""
    if not (output / "missing.csv").exists():
        return []
    return [(row["name"], row["file"], row["row"]) for row in rows(output / "missing.csv") if row["kind"] == kind]


def as_read(output: Path, root: Path) -> tuple[list[Report], list[Reject]]:
    """What `graphprep extract OUT/reports.csv --images ROOT` would read, images being looked at."""
    found = list(read_reports([output / "reports.csv"], ReadOptions(image_root=root, check_images=True)))
    return [r for r in found if isinstance(r, Report)], [r for r in found if isinstance(r, Reject)]


def boxes(output: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((output / "boxes.json").read_text(encoding="utf-8"))
    return document


def boxes_of(output: Path) -> list[tuple[str, str, list[float]]]:
    """(file name, class, box) of every annotation."""
    document = boxes(output)
    images = {image["id"]: image["file_name"] for image in document["images"]}
    names = {category["id"]: category["name"] for category in document["categories"]}
    return [(images[a["image_id"]], names[a["category_id"]], a["bbox"]) for a in document["annotations"]]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def table(path: Path, header: Sequence[str], lines: Iterable[Sequence[object]]) -> Path:
    """A CSV file, gzipped if its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *lines])
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def picture(path: Path, width: int = 8, height: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)
    return path


def dicom(path: Path, width: int = 8, height: int = 6, patient: str = "") -> Path:
    """A DICOM file with a header and no pixels to speak of."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = Dataset()
    header.file_meta = meta
    header.SOPClassUID = meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    header.PatientID = patient
    header.Rows, header.Columns = height, width
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.save_as(path, enforce_file_format=True)
    return path


# Reports ------------------------------------------------------------------------------------------------------------


def mimic_report(*lines: str) -> str:
    """A report as MIMIC-CXR has it: every line begins with a blank, empty ones too."""
    return "                                 FINAL REPORT\n" + "".join(f" {line}\n" for line in lines)


MIMIC_REPORTS = {
    ("10000032", "50414267"): mimic_report(
        "EXAMINATION:  CHEST (PA AND LAT)", "", "INDICATION:  ___F with new onset ascites  // eval for infection", "",
        "TECHNIQUE:  Chest PA and lateral", "", "COMPARISON:  None.", "", "FINDINGS: ", "",
        "There is no focal consolidation.", "The heart is normal.", "", "IMPRESSION: ", "", "No acute process.",
    ),
    ("10000032", "53189527"): mimic_report(
        "PORTABLE CHEST, ___", "", "COMPARISON:  Study of ___.", "", "Small left pleural effusion.", "",
        "No pneumothorax.",
    ),
    ("10000764", "57375967"): " IMPRESSION:  Right lower lobe pneumonia.\n",
}  # fmt: skip


def mimic_cxr(root: Path, *, suffix: str = ".jpg", packed: bool = False, archive: bool = False) -> None:
    """Three studies of two subjects with four images."""
    for (subject, study), text in MIMIC_REPORTS.items():
        name = f"files/p{subject[:2]}/p{subject}/s{study}.txt"
        if archive:
            root.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "a") as file:
                file.writestr(zipfile.ZipInfo(name), text)
        else:
            write(root / name, text)
    images = [
        ("aa-1", "10000032", "50414267", "PA"),
        ("aa-2", "10000032", "50414267", "LATERAL"),
        ("bb-1", "10000032", "53189527", ""),
        ("cc-1", "10000764", "57375967", "AP"),
    ]
    gz = ".gz" if packed else ""
    table(
        root / f"mimic-cxr-2.0.0-metadata.csv{gz}",
        ("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns"),
        [(dicom_id, subject, study, "CHEST", view, 6, 8) for dicom_id, subject, study, view in images],
    )
    table(
        root / f"mimic-cxr-2.0.0-split.csv{gz}",
        ("dicom_id", "study_id", "subject_id", "split"),
        [(d, study, subject, "train" if subject == "10000032" else "validate") for d, subject, study, _ in images],
    )
    table(
        root / f"mimic-cxr-2.0.0-chexpert.csv{gz}",
        ("subject_id", "study_id", "Edema", "No Finding"),
        [
            ("10000032", "50414267", "", "1.0"),
            ("10000032", "53189527", "-1.0", ""),
            ("10000764", "57375967", "0.0", ""),
        ],
    )
    for dicom_id, subject, study, _ in images:
        path = root / f"files/p{subject[:2]}/p{subject}/s{study}/{dicom_id}{suffix}"
        dicom(path) if suffix == ".dcm" else picture(path)


OPENI_XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><meta type="rr"/><uId id="{report_id}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION">Cough &amp; fever</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">Normal chest.</AbstractText>
</Abstract></Article></MedlineCitation><MeSH><major>normal</major></MeSH>{images}</eCitation>
"""


def openi(root: Path) -> None:
    """Three reports, with two images, one and none."""
    reports = {
        "CXR1": ("The lungs are clear.", ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")),
        "CXR2": ("", ("CXR2_IM-0652-1001",)),
        "CXR10": ("Heart size normal.", ()),
    }
    for report_id, (findings, images) in reports.items():
        parents = "".join(f'<parentImage id="{name}"><figureId>F1</figureId></parentImage>' for name in images)
        text = OPENI_XML.format(report_id=report_id, findings=findings, images=parents)
        write(root / f"ecgen-radiology/{report_id[3:]}.xml", text)
        for name in images:
            picture(root / f"NLMCXR_png/{name}.png")


CHEXPERT_PLUS_COLUMNS = (
    "path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order", "report",
    "section_narrative", "section_history", "section_findings", "section_impression", "section_summary", "split",
)  # fmt: skip


def chexpert_plus(root: Path) -> Path:
    """Three studies of two patients; the rows of the first study are apart."""
    lines = [
        ("train/patient00001/study1/view1_frontal.jpg", "Frontal", "AP", "patient00001", "1", "NARRATIVE: x", "", "Cough",
         "Clear lungs.", "Normal,\nno change.", "", "train"),
        ("train/patient00001/study2/view1_frontal.jpg", "Frontal", "AP", "patient00001", "2", "Edema.", "Mild edema.", "",
         "", "", "", "train"),
        ("train/patient00001/study1/view2_lateral.jpg", "Lateral", "", "patient00001", "1", "NARRATIVE: x", "", "Cough",
         "Clear lungs.", "Normal,\nno change.", "", "train"),
        ("valid/patient64541/study1/view1_frontal.jpg", "Frontal", "PA", "patient64541", "1", "x", "", "",
         "", "Pneumothorax.", "", "valid"),
    ]  # fmt: skip
    for line in lines:
        picture(root / str(line[0]).replace(".jpg", ".png"))
    return table(root / "df_chexpert_plus_240401.csv", CHEXPERT_PLUS_COLUMNS, lines)


# Tasks --------------------------------------------------------------------------------------------------------------


def nih(root: Path, *, size: int = 1024) -> None:
    """Three images of two patients, two of them with boxes."""
    write(
        root / "Data_Entry_2017.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
        "00000001_000.png,Cardiomegaly|Emphysema,0,1,58,M,PA,2682,2749,0.143,0.143,\n"
        "00000001_001.png,No Finding,1,1,58,M,AP,2682,2749,0.143,0.143,\n"
        "00000002_000.png,Infiltration,0,2,81,M,PA,2500,2048,0.171,0.171,\n",
    )
    write(
        root / "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
        "00000001_000.png,Cardiomegaly,256.0,512.0,128.5,64.0,,,\n"
        "00000002_000.png,Infiltrate,1000.0,100.0,100.0,200.0,,,\n",
    )
    write(root / "train_val_list.txt", "00000001_000.png\n00000001_001.png\n")
    write(root / "test_list.txt", "00000002_000.png")
    for folder, name in (
        ("images_001", "00000001_000"),
        ("images_001", "00000001_001"),
        ("images_002", "00000002_000"),
    ):
        picture(root / f"{folder}/images/{name}.png", size, size)


def rsna(root: Path, *, classes: bool = True) -> None:
    """Three images: two boxes, none, none."""
    table(
        root / "stage_2_train_labels.csv",
        ("patientId", "x", "y", "width", "height", "Target"),
        [
            ("0004cfab", "", "", "", "", 0),
            ("00436515", 264.0, 152.0, 213.0, 379.0, 1),
            ("00436515", 562.0, 152.0, 256.0, 453.0, 1),
            ("00569f44", "", "", "", "", 0),
        ],
    )
    if classes:
        table(
            root / "stage_2_detailed_class_info.csv",
            ("patientId", "class"),
            [
                ("0004cfab", "No Lung Opacity / Not Normal"),
                ("00436515", "Lung Opacity"),
                ("00436515", "Lung Opacity"),
                ("00569f44", "Normal"),
            ],
        )
    for name in ("0004cfab", "00436515", "00569f44"):
        dicom(root / f"stage_2_train_images/{name}.dcm", 1024, 1024, name)


def siim(root: Path, *, size: int = 1024) -> None:
    """Three images: a mask of two rows, one of one row, none. The header has a blank before its second name, as published."""
    write(
        root / "train-rle.csv",
        # 10 columns down the left edge: rows 5 to 7 of column 0, and so on.
        "ImageId, EncodedPixels\n1.2.276.1, 5 3 1021 3\n1.2.276.1, 1048575 1\n1.2.276.2, -1\n1.2.276.3,0 1024\n",
    )
    for i, patient in (("1", "p-1"), ("2", "p-2"), ("3", "p-1")):
        dicom(root / f"dicom-images-train/1.2.276.9.{i}/1.2.276.8.{i}/1.2.276.{i}.dcm", size, size, patient)


def chexpert(root: Path) -> None:
    """Three images of two patients; the small release, whose paths begin with its name."""
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Edema")
    name = "CheXpert-v1.0-small"
    table(
        root / "train.csv",
        header,
        [
            (f"{name}/train/patient00001/study1/view1_frontal.jpg", "F", 68, "Frontal", "AP", "1.0", ""),
            (f"{name}/train/patient00001/study1/view2_lateral.jpg", "F", 68, "Lateral", "", "", "-1.0"),
        ],
    )
    valid = (f"{name}/valid/patient64541/study1/view1_frontal.jpg", "M", 73, "Frontal", "AP", "0.0", "1.0")
    table(root / "valid.csv", header, [valid])
    picture(root / "train/patient00001/study1/view1_frontal.jpg")
    picture(root / "train/patient00001/study1/view2_lateral.jpg")
    picture(root / "valid/patient64541/study1/view1_frontal.jpg")


def vindr(root: Path, *, labels: bool = True) -> None:
    """A training image read by three radiologists, and a test image read by consensus."""
    corners = ("x_min", "y_min", "x_max", "y_max")
    table(
        root / "annotations/annotations_train.csv",
        ("image_id", "rad_id", "class_name", *corners),
        [
            ("aaa", "R1", "Cardiomegaly", 10.5, 20, 30, 45),
            ("aaa", "R2", "Cardiomegaly", 11, 21, 31, 44),
            ("aaa", "R3", "No finding", "", "", "", ""),
        ],
    )
    table(
        root / "annotations/annotations_test.csv",
        ("image_id", "class_name", *corners),
        [("bbb", "Nodule/Mass", 1, 2, 3, 5)],
    )
    if labels:
        table(
            root / "annotations/image_labels_train.csv",
            ("image_id", "rad_id", "Cardiomegaly", "Nodule/Mass", "Other diseases", "No finding"),
            [("aaa", "R1", 1, 0, 1, 0), ("aaa", "R2", 1, 0, 0, 0), ("aaa", "R3", 0, 0, 0, 1)],
        )
        table(
            root / "annotations/image_labels_test.csv",
            ("image_id", "Cardiomegaly", "Nodule/Mass", "Other disease", "No finding"),
            [("bbb", 0, 1, 1, 0)],
        )
    dicom(root / "train/aaa.dicom", 60, 50)
    dicom(root / "test/bbb.dicom", 40, 30)


def coco(root: Path, annotations: Sequence[dict[str, Any]] | None = None) -> None:
    """Two images, a polygon and run lengths."""
    document = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 8, "height": 6},
            {"id": 9, "file_name": "b.png", "width": 4, "height": 3},
        ],
        "categories": [{"id": 3, "name": "nodule"}, {"id": 1, "name": "effusion, left"}],
        "annotations": list(
            annotations
            if annotations is not None
            else [
                {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 1, 3, 2], "segmentation": [[1, 1, 3, 1, 3, 2, 1, 2]]},
                {
                    "id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 2, 2], "iscrowd": 1,
                    "segmentation": {"size": [3, 4], "counts": [1, 2, 9]},
                },
            ]
        ),
    }  # fmt: skip
    write(root / "annotations/instances_train2017.json", json.dumps(document))
    picture(root / "images/a.png", 8, 6)
    picture(root / "images/b.png", 4, 3)
