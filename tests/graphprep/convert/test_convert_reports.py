"""Sets with reports: what comes out, what is listed, and that `graphprep.read` reads it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import trees
from trees import as_read, converted, listed, picture, rows, table, write

from graphprep.errors import UserError

# MIMIC-CXR


def test_mimic_cxr(source: Path, output: Path) -> None:
    trees.mimic_cxr(source)
    document = converted("mimic-cxr", source, output)
    first, second, third = rows(output / "reports.csv")
    assert list(first)[:8] == [
        "report_id", "subject_id", "study_id", "split", "images", "view", "findings", "impression",
    ]  # fmt: skip
    assert (first["report_id"], first["subject_id"], first["study_id"]) == ("s50414267", "10000032", "50414267")
    folder = "files/p10/p10000032/s50414267"
    assert json.loads(first["images"]) == [f"{folder}/aa-1.jpg", f"{folder}/aa-2.jpg"]
    assert json.loads(first["view"]) == ["PA", "LATERAL"]
    assert (first["impression"], first["comparison"]) == ("No acute process.", "None.")
    assert (second["findings_from"], second["view"]) == ("last_paragraph", "")
    assert [first["split"], second["split"], third["split"]] == ["train", "train", "val"]
    assert document["counts"] == {
        "reports": 3,
        "reports_without_images": 0,
        "images": 4,
        "reports_without_text": 0,
        "findings_from_last_paragraph": 1,
        "rows_of_labels.csv": 4,
    }
    document["versions"].pop("graphprep")
    assert document["versions"] == {"metadata": "2.0.0", "split": "2.0.0", "chexpert": "2.0.0"}
    assert document["listed"] == {}

    reports, rejects = as_read(output, source)
    assert not rejects
    assert [len(report.images) for report in reports] == [2, 1, 1]
    assert [image.view for image in reports[0].images] == ["PA", "LATERAL"]
    assert reports[0].text.startswith("FINDINGS:\nThere is no focal consolidation.")
    assert [section.name for section in reports[2].sections] == ["impression"]


def test_mimic_cxr_labels(source: Path, output: Path) -> None:
    trees.mimic_cxr(source)
    table(source / "mimic-cxr-2.0.0-negbio.csv", ("subject_id", "study_id", "Edema"), [("10000764", "57375967", 1.0)])
    converted("mimic-cxr", source, output)
    labels = rows(output / "labels.csv")
    assert [(row["Edema"], row["No Finding"]) for row in labels] == [("", "1"), ("", "1"), ("-1", ""), ("0", "")]
    assert [row["split"] for row in labels] == ["train", "train", "train", "val"]
    assert [row["Edema"] for row in rows(output / "labels-negbio.csv")] == ["1"]


def test_mimic_cxr_from_gzip_and_zip_is_the_same(source: Path, output: Path, tmp_path: Path) -> None:
    trees.mimic_cxr(source)
    trees.mimic_cxr(tmp_path / "packed", packed=True, archive=True)
    converted("mimic-cxr", source, output)
    converted("mimic-cxr", tmp_path / "packed", tmp_path / "other")
    for name in ("reports.csv", "labels.csv"):
        assert (output / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_mimic_cxr_dicom_beside_jpg(source: Path, output: Path) -> None:
    pytest.importorskip("pydicom")
    trees.mimic_cxr(source, suffix=".dcm")
    trees.mimic_cxr(source)
    converted("mimic-cxr", source, output, image_format="dicom")
    assert all(path.endswith(".dcm") for row in rows(output / "reports.csv") for path in json.loads(row["images"]))
    document = converted("mimic-cxr", source, output.with_name("any"))
    assert all(
        path.endswith(".jpg")
        for row in rows(output.with_name("any") / "reports.csv")
        for path in json.loads(row["images"])
    )
    assert document["listed"]["duplicate_image"]["count"] == 4


def test_mimic_cxr_without_images_has_the_published_paths(source: Path, output: Path) -> None:
    trees.mimic_cxr(source)
    for path in source.rglob("*.jpg"):
        path.unlink()
    document = converted("mimic-cxr", source, output)
    assert json.loads(rows(output / "reports.csv")[1]["images"]) == ["files/p10/p10000032/s53189527/bb-1.jpg"]
    assert "No image is under the image root" in document["notes"][0]


def test_mimic_cxr_missing_and_surplus(source: Path, output: Path) -> None:
    trees.mimic_cxr(source)
    (source / "files/p10/p10000032/s50414267/aa-2.jpg").unlink()
    (source / "files/p10/p10000764/s57375967.txt").unlink()
    picture(source / "files/p10/p10000764/s57375967/dd-1.jpg")
    write(source / "files/p10/p10000032/s1.txt", " IMPRESSION: None.")
    (source / "files/p10/p10000032/s2.txt").write_bytes(b" IMPRESSION: \xff")
    document = converted("mimic-cxr", source, output)
    assert listed(output, "missing_image") == [
        ("files/p10/p10000032/s50414267/aa-2.jpg", "mimic-cxr-2.0.0-metadata.csv", "2")
    ]
    assert listed(output, "missing_report") == [("p10/p10000764/s57375967.txt", "", "")]
    assert listed(output, "surplus_image") == [("files/p10/p10000764/s57375967/dd-1.jpg", "", "")]
    assert listed(output, "report_without_images") == [("p10/p10000032/s1.txt", "", "")]
    assert listed(output, "malformed_file") == [("p10/p10000032/s2.txt", "", "")]
    assert document["counts"]["reports"] == 3
    reports, rejects = as_read(output, source)
    assert (len(reports), rejects) == (3, [])


def test_mimic_cxr_images_elsewhere(source: Path, output: Path, tmp_path: Path) -> None:
    trees.mimic_cxr(tmp_path / "jpg")
    for (subject, study), text in trees.MIMIC_REPORTS.items():
        write(source / f"mimic-cxr-reports/files/p{subject[:2]}/p{subject}/s{study}.txt", text)
    converted("mimic-cxr", source, output, images=tmp_path / "jpg")
    assert len(as_read(output, tmp_path / "jpg")[0]) == 3


def test_mimic_cxr_paths_stay_under_the_root(source: Path, output: Path) -> None:
    trees.mimic_cxr(source)
    header = ("dicom_id", "subject_id", "study_id", "ViewPosition")
    lines = [
        ("aa-1", "10000032", "50414267", "PA"),
        ("../../../../../etc/x", "10000032", "50414267", "PA"),
        ("", "", "", ""),
    ]
    table(source / "mimic-cxr-2.0.0-metadata.csv", header, lines)
    document = converted("mimic-cxr", source, output)
    assert document["counts"]["images"] == 1
    assert [row for _, _, row in listed(output, "malformed_row")][:2] == ["2", "3"]


def test_mimic_cxr_without_reports(source: Path, output: Path) -> None:
    picture(source / "files/p10/p10000032/s50414267/aa-1.jpg")
    with pytest.raises(UserError, match=r"expected files/p10/p10000032/s50414267.txt .* Found there: files/\.$"):
        converted("mimic-cxr", source, output)
    assert not output.exists()


# Open-i


def test_openi(source: Path, output: Path) -> None:
    trees.openi(source)
    document = converted("openi", source, output)
    found = rows(output / "reports.csv")
    assert [row["report_id"] for row in found] == ["CXR1", "CXR2", "CXR10"]
    first = found[0]
    assert (first["findings"], first["impression"]) == ("The lungs are clear.", "Normal chest.")
    assert (first["indication"], first["comparison"], first["mesh"]) == ("Cough & fever", "None.", "normal")
    names = ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"]
    assert json.loads(first["images"]) == [f"NLMCXR_png/{name}.png" for name in names]
    assert listed(output, "report_without_images") == [("10.xml", "", "")]
    assert document["counts"]["images"] == 3
    reports, rejects = as_read(output, source)
    assert (len(reports), rejects) == (3, [])


def test_openi_names_of_the_dicom_archive_and_views(source: Path, output: Path) -> None:
    trees.openi(source)
    for path in (source / "NLMCXR_png").iterdir():
        path.unlink()
    picture(source / "images/1_IM-0001-3001.dcm.png")
    picture(source / "images/2_IM-0652-1001.dcm.png")
    picture(source / "images/3999_IM-1.dcm.png")
    header = ("uid", "filename", "projection")
    table(source / "indiana_projections.csv", header, [("1", "1_IM-0001-3001.dcm.png", "Frontal")])
    converted("openi", source, output)
    first, second, _ = rows(output / "reports.csv")
    assert json.loads(first["images"]) == ["images/1_IM-0001-3001.dcm.png"]
    assert json.loads(first["view"]) == ["Frontal"]
    assert json.loads(second["images"]) == ["images/2_IM-0652-1001.dcm.png"]
    assert second["view"] == ""
    assert listed(output, "missing_image")[0] == ("CXR1_1_IM-0001-4001.png", "1.xml", "1")
    assert ("images/3999_IM-1.dcm.png", "", "") in listed(output, "surplus_image")


def test_openi_files_that_are_no_reports(source: Path, output: Path) -> None:
    trees.openi(source)
    write(source / "ecgen-radiology/3.xml", "<eCitation><uId")
    write(source / "ecgen-radiology/4.xml", "<eCitation/>")
    write(source / "ecgen-radiology/5.xml", '<!DOCTYPE x [<!ENTITY a "b">]><eCitation><uId id="CXR5"/>&a;</eCitation>')
    write(source / "ecgen-radiology/6.xml", '<eCitation><uId id="CXR1"/></eCitation>')
    document = converted("openi", source, output)
    assert [name for name, _, _ in listed(output, "malformed_file")] == ["3.xml", "4.xml", "5.xml", "6.xml"]
    assert document["counts"]["reports"] == 3


# CheXpert Plus


def test_chexpert_plus(source: Path, output: Path) -> None:
    trees.chexpert_plus(source)
    document = converted("chexpert-plus", source, output)
    first, second, third = rows(output / "reports.csv")
    assert first["report_id"] == first["study_id"] == "patient00001/study1"
    folder = "train/patient00001/study1"
    assert json.loads(first["images"]) == [f"{folder}/view1_frontal.png", f"{folder}/view2_lateral.png"]
    assert json.loads(first["view"]) == ["AP", "Lateral"]
    assert (first["findings"], first["impression"], first["history"]) == (
        "Clear lungs.",
        "Normal,\nno change.",
        "Cough",
    )
    assert (second["findings"], second["findings_from"]) == ("Mild edema.", "section_narrative")
    assert (third["subject_id"], third["split"], third["findings"]) == ("patient64541", "val", "")
    assert document["versions"]["table"] == "240401"
    reports, rejects = as_read(output, source)
    assert ([report.report_id for report in reports], rejects) == (
        ["patient00001/study1", "patient00001/study2", "patient64541/study1"], [],
    )  # fmt: skip


def test_chexpert_plus_malformed_rows_are_listed_once(source: Path, output: Path) -> None:
    path = trees.chexpert_plus(source)
    with path.open("a") as file:
        file.write("train/patient1.jpg,,,,,,,,,,,train\ntoo,few\n")
    document = converted("chexpert-plus", source, output)
    name = "df_chexpert_plus_240401.csv"
    assert listed(output, "malformed_row") == [(name, name, "5"), (name, name, "6")]
    assert (
        document["listed"]["malformed_row"]["first"][1]
        == f"{name}, row 6: Line 9: expected 12 fields as in the header, found 2."
    )


def test_chexpert_plus_gzipped_and_given_as_a_file(source: Path, output: Path, tmp_path: Path) -> None:
    path = trees.chexpert_plus(source)
    converted("chexpert-plus", source, output)
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    converted("chexpert-plus", packed, tmp_path / "other")
    assert (output / "reports.csv").read_bytes() == (tmp_path / "other/reports.csv").read_bytes()


# A folder


def test_folder(source: Path, output: Path) -> None:
    write(source / "007.txt", "\ufeffFINDINGS: Clear.\r\nIMPRESSION: Normal.\n")
    picture(source / "007.png")
    write(source / "008.txt", "Effusion.")
    picture(source / "008-2.png")
    picture(source / "008-1.png")
    write(source / "008-1-old.txt", "Older.")
    picture(source / "008-1-old_a.jpg")
    write(source / "p1/s1/report.txt", "Clear.")
    picture(source / "p1/s1/frontal.png")
    picture(source / "p1/s1/lateral.png")
    write(source / "alone.txt", "Alone.")
    picture(source / "nobody.png")
    (source / "latin.txt").write_bytes("Thorax: unauffällig".encode("latin-1"))
    converted("folder", source, output)
    found = {row["report_id"]: (row["report"], row["images"]) for row in rows(output / "reports.csv")}
    assert found == {
        "007": ("FINDINGS: Clear.\nIMPRESSION: Normal.", '["007.png"]'),
        "008": ("Effusion.", '["008-1.png", "008-2.png"]'),
        "008-1-old": ("Older.", '["008-1-old_a.jpg"]'),
        "alone": ("Alone.", ""),
        "p1/s1/report": ("Clear.", '["p1/s1/frontal.png", "p1/s1/lateral.png"]'),
    }
    assert listed(output, "malformed_file") == [("latin.txt", "", "")]
    assert listed(output, "surplus_image") == [("nobody.png", "", "")]
    assert listed(output, "report_without_images") == [("alone.txt", "", "")]
    reports, rejects = as_read(output, source)
    assert (len(reports), rejects) == (5, [])
    assert reports[0].text == "FINDINGS: Clear.\nIMPRESSION: Normal."


def test_folder_in_another_encoding(source: Path, output: Path) -> None:
    source.mkdir()
    (source / "a.txt").write_bytes("unauffällig".encode("latin-1"))
    converted("folder", source, output, encoding="latin-1")
    assert rows(output / "reports.csv")[0]["report"] == "unauffällig"


def test_folder_that_holds_its_output(source: Path) -> None:
    write(source / "a.txt", "Clear.")
    picture(source / "a.png")
    first = converted("folder", source, source / "out")
    write(source / "out/notes.txt", "not of the set")
    assert converted("folder", source, source / "out") == first


def test_folder_without_texts(source: Path, output: Path) -> None:
    picture(source / "a.png")
    with pytest.raises(UserError, match=r"folder: expected \*\.txt .* Found there: a\.png\."):
        converted("folder", source, output)
