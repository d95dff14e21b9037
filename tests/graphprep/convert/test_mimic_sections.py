"""Sections of reports as MIMIC-CXR writes them: every line begins with a blank."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import MIMIC_REPORTS
from trees import mimic_report as report

from graphprep.convert.mimic_sections import COLUMNS, cut


def test_headings_become_columns() -> None:
    assert cut(MIMIC_REPORTS["10000032", "50414267"]) == {
        "examination": "CHEST (PA AND LAT)",
        "indication": "___F with new onset ascites  // eval for infection",
        "technique": "Chest PA and lateral",
        "comparison": "None.",
        "findings": "There is no focal consolidation.\nThe heart is normal.",
        "impression": "No acute process.",
        "findings_from": "heading",
    }


def test_the_last_paragraphs_are_the_findings_where_neither_is_headed() -> None:
    assert cut(MIMIC_REPORTS["10000032", "53189527"]) == {
        "other": "PORTABLE CHEST, ___",
        "comparison": "Study of ___.",
        "findings": "Small left pleural effusion.\n\nNo pneumothorax.",
        "findings_from": "last_paragraph",
    }


@pytest.mark.parametrize(
    ("heading", "column"),
    [
        ("IMPRESSON", "impression"),
        ("IMPRESSION (PRELIMINARY)", "impression"),
        ("CONCLUSION", "impression"),
        ("FINDINGS AND IMPRESSION", "impression"),
        ("FINDINGS/ IMPRESSION", "impression"),
        ("FINDGINGS", "findings"),
        ("CHEST, TWO VIEWS", "findings"),
        ("PA AND LATERAL CHEST RADIOGRAPH", "findings"),
        ("FRONTAL UPRIGHT PORTABLE", "findings"),
        ("REASON FOR EXAM", "indication"),
        ("COMPARISION", "comparison"),
        ("COMPARISONS", "comparison"),
        ("CLINICAL HISTORY", "history"),
        ("RECOMMENDATION(S)", "recommendations"),
        ("WET READ", "wet_read"),
    ],
)
def test_what_a_heading_means(heading: str, column: str) -> None:
    text = report(f"{heading}:  Words of the section.", "", "IMPRESSION:  Last." if column != "impression" else "x")
    assert cut(text)[column].startswith("Words of the section.")


def test_the_last_section_of_a_name_that_has_text_counts() -> None:
    found = cut(report("IMPRESSION:  First.", "", "FINDINGS:  Clear.", "IMPRESSION:  Second.", "", "FINDINGS:", ""))
    assert (found["findings"], found["impression"]) == ("Clear.", "Second.")
    assert found["other"] == "IMPRESSION: First."


def test_a_report_title_is_no_section() -> None:
    found = cut(report("CHEST, PA LATERAL:", "", "INDICATION:   Cough.", "", "IMPRESSION:  Normal."))
    assert found == {"indication": "Cough.", "impression": "Normal."}


def test_a_report_written_in_the_comparison() -> None:
    found = cut(report("INDICATION:  Cough.", "", "COMPARISON:  Lungs are clear. No effusion since ___."))
    assert found["findings"] == "Lungs are clear. No effusion since ___."
    assert found["findings_from"] == "comparison"
    assert "comparison" not in found


def test_a_report_written_under_the_technique() -> None:
    found = cut(report("COMPARISON:  None.", "TECHNIQUE:  AP view. The heart is normal. No pneumothorax."))
    assert (found["findings_from"], found["comparison"]) == ("technique", "None.")


def test_a_comparison_alone_is_no_finding() -> None:
    found = cut(report("INDICATION:  Cough.", "COMPARISON:  None."))
    assert found == {"indication": "Cough.", "comparison": "None."}


def test_a_report_without_headings() -> None:
    assert cut(report("CHEST RADIOGRAPH", "", "Clear lungs."))["findings"] == "Clear lungs."
    whole = cut(report("Lungs are clear.", "", "Heart is normal."))
    assert whole == {"findings": "Lungs are clear.\n\nHeart is normal.", "findings_from": "report"}
    assert cut("Clear lungs.") == {"findings": "Clear lungs.", "findings_from": "report"}
    assert cut("") == {}


def test_capitals_within_a_line_are_no_heading() -> None:
    found = cut(report("FINDINGS:  Seen: NG TUBE: in place.", "ET tube: fine.", "IMPRESSION:  OK."))
    assert found["findings"] == "Seen: NG TUBE: in place.\nET tube: fine."


WORDS = st.sampled_from(
    ["lungs clear", "tube at 3 cm", "No effusion.", "\n", "\n\n", "FINDINGS:", "IMPRESSION:", "CHEST:", "x:"]
)


@given(st.lists(WORDS, max_size=14))
def test_no_word_is_lost(words: list[str]) -> None:
    text = "".join(f" {word}" if word.strip() else word for word in words)
    found = cut(text)
    assert set(found) <= {"findings", "impression", *COLUMNS}
    kept = " ".join(value for column, value in found.items() if column != "findings_from")
    for word in ("lungs clear", "No effusion.", "tube at 3 cm"):
        assert kept.count(word) == text.count(word)
