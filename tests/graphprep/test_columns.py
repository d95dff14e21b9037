"""Columns found by the names that data sets have, and named by the user."""

from __future__ import annotations

import pytest

from graphprep.columns import Columns, find_columns
from graphprep.errors import UserError


def found(header: str, given: dict[str, str] | None = None, text_columns: tuple[str, ...] = ()) -> Columns:
    return find_columns([name.strip() for name in header.split(",")], "reports.csv", given or {}, text_columns)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("id,text", {"report_id": "id", "text": "text"}),
        ("Report ID,REPORT_TEXT", {"report_id": "Report ID", "text": "REPORT_TEXT"}),
        ("text", {"text": "text"}),
        # a report id before an id, and a study id where there is neither
        ("id,report_id,report", {"report_id": "report_id", "text": "report"}),
        (
            "study_id,subject_id,dicom_id,report",
            {
                "report_id": "study_id",
                "study_id": "study_id",
                "subject_id": "subject_id",
                "image_id": "dicom_id",
                "text": "report",
            },
        ),
        # OpenI, whose `image` is no image
        (
            "uid,MeSH,Problems,image,indication,comparison,findings,impression",
            {
                "report_id": "uid",
                "findings": "findings",
                "impression": "impression",
                "indication": "indication",
                "comparison": "comparison",
            },
        ),
        # MIMIC-CXR, sectioned
        (
            "study,impression,findings,last_paragraph,comparison",
            {
                "report_id": "study",
                "study_id": "study",
                "findings": "findings",
                "impression": "impression",
                "comparison": "comparison",
            },
        ),
        (
            "dicom_id,subject_id,study_id,ViewPosition,findings,path",
            {
                "report_id": "study_id",
                "study_id": "study_id",
                "subject_id": "subject_id",
                "image": "path",
                "image_id": "dicom_id",
                "view": "ViewPosition",
                "findings": "findings",
            },
        ),
        # CheXpert Plus
        (
            "path_to_image,frontal_lateral,ap_pa,deid_patient_id,section_findings,section_impression,section_narrative,split",
            {
                "image": "path_to_image",
                "view": "frontal_lateral",
                "subject_id": "deid_patient_id",
                "split": "split",
                "findings": "section_findings",
                "impression": "section_impression",
            },
        ),
        # PadChest
        (
            "ImageID,StudyID,PatientID,Projection,Report",
            {
                "report_id": "StudyID",
                "study_id": "StudyID",
                "subject_id": "PatientID",
                "image_id": "ImageID",
                "view": "Projection",
                "text": "Report",
            },
        ),
        # whole reports rather than their sections; a note rather than nothing, but after sections
        ("id,findings,report,impression", {"report_id": "id", "text": "report"}),
        ("id,note,impression", {"report_id": "id", "impression": "impression"}),
        ("id,history,note", {"report_id": "id", "text": "note"}),
        ("id,history", {"report_id": "id", "history": "history"}),
        ("id,images,Conclusion", {"report_id": "id", "images": "images", "conclusion": "Conclusion"}),
    ],
)
def test_usual_names(header: str, expected: dict[str, str]) -> None:
    assert found(header).by_role() == expected


def test_order_names_and_headings_of_sections() -> None:
    columns = found("technique,Conclusion,clinical_information,findings,section_comparison")
    assert [(text.column, text.section, text.heading) for text in columns.texts] == [
        ("findings", "findings", "FINDINGS"),
        ("Conclusion", "impression", "CONCLUSION"),
        ("technique", "technique", "TECHNIQUE"),
        ("clinical_information", "indication", "CLINICAL INFORMATION"),
        ("section_comparison", "comparison", "COMPARISON"),
    ]


def test_columns_that_the_user_names() -> None:
    columns = found("a,b,c,findings", {"report_id": "B", "image": "c"}, ("a",))
    assert columns.by_role() == {"report_id": "b", "image": "c", "text": "a"}
    assert found("a,b,findings", {"text": "a"}).by_role() == {"text": "a"}
    several = found("a,Follow Up,findings", text_columns=("Follow Up", "a", "findings"))
    assert [(text.column, text.section, text.heading) for text in several.texts] == [
        ("findings", "findings", "FINDINGS"),
        ("Follow Up", "follow up", "FOLLOW UP"),
        ("a", "a", "A"),
    ]
    assert found("a,impression", text_columns=("impression",)).texts[0].section == "impression"


def test_a_named_column_with_the_same_words_as_another_is_taken_exactly() -> None:
    assert found("Report,report", text_columns=("report",)).texts[0].column == "report"


def test_a_text_column_is_no_other() -> None:
    assert "image" not in found("id,path", text_columns=("path",)).roles


@pytest.mark.parametrize(
    ("header", "given", "text_columns", "message"),
    [
        (
            "a,b",
            {},
            (),
            r"reports.csv has no column that holds reports. Its columns are: a, b. Name it with --text-column NAME.",
        ),
        ("report,b", {"report_id": "reprot"}, (), r"no column 'reprot'. Did you mean 'report'\?"),
        ("report,b", {}, ("findings", "zzz"), r"no column 'findings'.*columns are: report, b"),
        ("report,b", {"identity": "b"}, (), r"no role 'identity'.*report_id"),
        ("report,report", {}, (), r"2 columns named 'report'"),
        ("report,id,id", {}, (), r"2 columns named 'id'"),
        (",", {}, (), "header is empty"),
    ],
)
def test_what_cannot_be_resolved(
    header: str, given: dict[str, str], text_columns: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        found(header, given, text_columns)


@pytest.mark.parametrize(
    "row", ["17,Lungs are clear", "a,There is no focal consolidation or effusion", "b," + "x" * 61]
)
def test_a_row_that_is_no_header_is_not_quoted(row: str) -> None:
    with pytest.raises(UserError, match="does not look like a header") as raised:
        found(row)
    assert "clear" not in str(raised.value)
    assert "focal" not in str(raised.value)


def test_a_column_that_is_not_read_may_be_there_twice() -> None:
    assert found("report,x,x").by_role() == {"text": "report"}
