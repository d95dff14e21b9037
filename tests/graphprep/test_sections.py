"""Sections: golden reports in the formats of hospitals and data sets (written for these tests), rules files, properties."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprep.errors import UserError
from graphprep.records import Section
from graphprep.sections import OUR_RULES, SectionFinder, canonical_name

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture(scope="module")
def finder() -> SectionFinder:
    return SectionFinder()


def found(finder: SectionFinder, text: str, columns: Sequence[Section] = ()) -> list[tuple[str, str]]:
    return [(section.name, text[section.start : section.end]) for section in finder(text, columns)]


def joined(columns: dict[str, str]) -> tuple[str, list[Section]]:
    """The text of several columns as `read` joins them, and where each lies."""
    text = ""
    sections = []
    for name, body in columns.items():
        text += ("\n\n" if text else "") + f"{name.upper()}:\n"
        sections.append(Section(name, len(text), len(text) + len(body)))
        text += body
    return text, sections


HEADINGS = {
    "capitals and colon": (
        "FINDINGS: Clear lungs. No effusion.\nIMPRESSION: Normal chest.",
        [("findings", "Clear lungs. No effusion."), ("impression", "Normal chest.")],
    ),
    "one line": (
        "COMPARISON: None. IMPRESSION: Normal.",
        [("comparison", "None."), ("impression", "Normal.")],
    ),
    "comparison after the impression in one line": (
        "IMPRESSION: Normal. COMPARISON: None. TECHNIQUE: Two views.",
        [("impression", "Normal."), ("comparison", "None."), ("technique", "Two views.")],
    ),
    "no stop between": (
        "EXAM: CHEST (PA AND LAT) INDICATION: cough",
        [("exam", "CHEST (PA AND LAT)"), ("indication", "cough")],
    ),
    "title case": (
        "Indication: Cough. Comparison: None. Findings: Clear lungs. Impression: Normal.",
        [("indication", "Cough."), ("comparison", "None."), ("findings", "Clear lungs."), ("impression", "Normal.")],
    ),
    "title case without stops": (
        "Indication: cough Comparison: none Findings: clear lungs Impression: normal",
        [("indication", "cough"), ("comparison", "none"), ("findings", "clear lungs"), ("impression", "normal")],
    ),
    "lower case on lines": (
        "history: cough\nfindings: clear lungs\nconclusion: normal",
        [("history", "cough"), ("findings", "clear lungs"), ("impression", "normal")],
    ),
    "lower case in one line": (
        "indication: cough. findings: clear lungs. impression: normal.",
        [("indication", "cough."), ("findings", "clear lungs."), ("impression", "normal.")],
    ),
    "capitals without a colon": (
        "FINDINGS The lungs are clear.\nIMPRESSION\nNo acute disease. RECOMMENDATION Chest CT.",
        [("findings", "The lungs are clear."), ("impression", "No acute disease."), ("recommendation", "Chest CT.")],
    ),
    "capitals without colons and stops": (
        "INDICATION Cough COMPARISON None FINDINGS The lungs are clear IMPRESSION Normal",
        [
            ("indication", "Cough"),
            ("comparison", "None"),
            ("findings", "The lungs are clear"),
            ("impression", "Normal"),
        ],
    ),
    "shouted throughout": (
        "INDICATION COUGH AND FEVER\nFINDINGS THE LUNGS ARE CLEAR.\nFINDINGS ARE SIMILAR TO PRIOR.\nIMPRESSION NORMAL",
        [
            ("indication", "COUGH AND FEVER"),
            ("findings", "THE LUNGS ARE CLEAR.\nFINDINGS ARE SIMILAR TO PRIOR."),
            ("impression", "NORMAL"),
        ],
    ),
    "joined titles": (
        "INDICATION/HISTORY: cough\nEXAM AND TECHNIQUE: two views\nFINDINGS AND IMPRESSION: clear lungs\n"
        "IMPRESSION & RECOMMENDATION: none",
        [("indication", "cough"), ("exam", "two views"), ("findings", "clear lungs"), ("impression", "none")],
    ),
    "titles in a row": (
        "FINAL REPORT EXAMINATION: CHEST. FINDINGS: Clear.",
        [("exam", "CHEST."), ("findings", "Clear.")],
    ),
    "marks": (
        "** FINDINGS **\nClear lungs\n**Impression:** Normal\n[ADDENDUM] None\n*** WET READ ***\nNormal",
        [("findings", "Clear lungs"), ("impression", "Normal"), ("addendum", "None"), ("wet_read", "Normal")],
    ),
    "markdown": (
        "## Findings\nClear lungs.\n\n## Impression\nNormal",
        [("findings", "Clear lungs."), ("impression", "Normal")],
    ),
    "underlined": (
        "FINDINGS\n--------\nClear lungs.\n\nIMPRESSION\n==========\nok",
        [("findings", "Clear lungs."), ("impression", "ok")],
    ),
    "numbered": (
        "1. FINDINGS: Clear lungs.\n2. IMPRESSION: 1. Normal. 2. No change.",
        [("findings", "Clear lungs."), ("impression", "1. Normal. 2. No change.")],
    ),
    "dashes": ("Findings - clear lungs\nIMPRESSION — normal", [("findings", "clear lungs"), ("impression", "normal")]),
    "in brackets": (
        "FINDINGS (CHEST): clear\nIMPRESSION (PRELIMINARY): normal",
        [("findings", "clear"), ("impression", "normal")],
    ),
    "names of staff": (
        "IMPRESSION: Normal.\nElectronically signed by Jane Doe, MD\nDICTATED BY: JD\nAttending: R. Roe",
        [("impression", "Normal."), ("signature", "Jane Doe, MD"), ("signature", "JD"), ("signature", "R. Roe")],
    ),
    "addendum first": (
        "ADDENDUM by Dr. Doe: The tube was pulled.\nFINAL REPORT\nFINDINGS: Tube in place.",
        [("addendum", "by Dr. Doe: The tube was pulled."), ("findings", "Tube in place.")],
    ),
    "other kinds": (
        "REASON FOR EXAM: cough\nREASON FOR THIS EXAMINATION:\n fever\nCLINICAL INFORMATION: pain\nCLINICAL HISTORY: asthma\n"
        "PRIOR: none\nPROCEDURE: biopsy\nRECOMMENDATION(S): CT\nNOTIFICATION: by phone\nIMPRESSION: ok",
        [
            ("indication", "cough"),
            ("indication", "fever"),
            ("indication", "pain"),
            ("history", "asthma"),
            ("comparison", "none"),
            ("procedure", "biopsy"),
            ("recommendation", "CT"),
            ("notification", "by phone"),
            ("impression", "ok"),
        ],
    ),
    "negation after the heading stays": ("FINDINGS: no further nodule.", [("findings", "no further nodule.")]),
    "empty sections are left out": ("FINDINGS:\n\nIMPRESSION: Normal.\nADDENDUM:", [("impression", "Normal.")]),
    "no space": ("Clear lungs.IMPRESSION:Normal.", [("findings", "Clear lungs."), ("impression", "Normal.")]),
}


@pytest.mark.parametrize(("text", "expected"), HEADINGS.values(), ids=HEADINGS.keys())
def test_headings(finder: SectionFinder, text: str, expected: list[tuple[str, str]]) -> None:
    assert found(finder, text) == expected


@pytest.mark.parametrize(
    "sentence",
    [
        "These findings are consistent with edema.",
        "Findings consistent with edema.",
        "Findings were discussed with Dr. Doe.",
        "There is an impression of a nodule.",
        "Impression on the trachea by the arch.",
        "No findings of pneumonia.",
        "She has a history of cancer.",
        "History of cancer.",
        "No comparison. Comparison with prior study shows no change.",
        "The following findings: effusion and edema.",
        "Changes are new (comparison: none).",
        "Technique is limited. Study limited by motion.",
        "Prior sternotomy. Views are limited. Exam is otherwise normal.",
        "FINDINGS ARE CONSISTENT WITH EDEMA.",
        "NO ACUTE FINDINGS. HISTORY OF CANCER. COMPARISON IS MADE WITH THE PRIOR.",
        "NO SIGNIFICANT FINDINGS: NORMAL.",
        "LUNGS: clear\nHeart: normal\nCHEST: intact\nThoracic spine: scoliosis\nBONES/SOFT TISSUES: intact",
        "PA and lateral chest: clear lungs",
    ],
)
def test_what_is_no_heading(finder: SectionFinder, sentence: str) -> None:
    assert found(finder, f"FINDINGS: {sentence} Clear lungs.") == [("findings", f"{sentence} Clear lungs.")]
    assert found(finder, sentence) == [("findings", sentence)]


MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough  // pneumonia?

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  ___.
 {findings}
 IMPRESSION:

 No pneumonia."""
BODY = "The lungs are clear.\n The heart is of normal size."
HEAD = [
    ("exam", "CHEST (PA AND LAT)"),
    ("indication", "___F with cough  // pneumonia?"),
    ("technique", "Chest PA and lateral"),
    ("comparison", "___."),
]

BODIES = {
    "free text": (BODY, [("findings", BODY)]),
    "free text in another language": (
        "Cliché de face. Pas de foyer.\n\nSilhouette normale.",
        [("findings", "Cliché de face. Pas de foyer.\n\nSilhouette normale.")],
    ),
    "MIMIC": (
        MIMIC.format(findings=f"\n FINDINGS:\n\n {BODY}\n"),
        [*HEAD, ("findings", BODY), ("impression", "No pneumonia.")],
    ),
    "MIMIC without FINDINGS": (
        MIMIC.format(findings=f"\n {BODY}\n"),
        [*HEAD, ("findings", BODY), ("impression", "No pneumonia.")],
    ),
    "MIMIC without FINDINGS, label": (
        MIMIC.format(findings=f"\n PORTABLE AP CHEST:  {BODY}\n"),
        [*HEAD, ("findings", f"PORTABLE AP CHEST:  {BODY}"), ("impression", "No pneumonia.")],
    ),
    "MIMIC without FINDINGS, flattened": (
        " ".join(MIMIC.format(findings=BODY).split()),
        [
            ("exam", "CHEST (PA AND LAT)"),
            ("indication", "___F with cough // pneumonia?"),
            ("technique", "Chest PA and lateral"),
            ("comparison", "___."),
            ("findings", "The lungs are clear. The heart is of normal size."),
            ("impression", "No pneumonia."),
        ],
    ),
    "nothing but a head": (
        "EXAM: CHEST\n\nINDICATION: cough\n\nCOMPARISON: ___. CT of ___.",
        [("exam", "CHEST"), ("indication", "cough"), ("comparison", "___. CT of ___.")],
    ),
    "the patient is no finding": (
        "EXAM: CHEST\n\n65 year old woman with pleural effusion\n\nIMPRESSION: Clear lungs.",
        [("exam", "CHEST\n\n65 year old woman with pleural effusion"), ("impression", "Clear lungs.")],
    ),
    "FINAL REPORT alone": (f"   FINAL REPORT\n {BODY}", [("findings", BODY)]),
    "nothing but a signature": (f"{BODY}\n\nSIGNED BY: Jane Doe", [("findings", BODY), ("signature", "Jane Doe")]),
    "text before headings": (
        "CHEST, TWO VIEWS\n\nFINDINGS: Clear lungs.",
        [("preamble", "CHEST, TWO VIEWS"), ("findings", "Clear lungs.")],
    ),
    "body before the impression": (f"{BODY}\nIMPRESSION: Normal.", [("findings", BODY), ("impression", "Normal.")]),
    "body after a first line": (
        f"CHEST ___\n\n{BODY}\n\nIMPRESSION: Normal.",
        [("preamble", "CHEST ___"), ("findings", BODY), ("impression", "Normal.")],
    ),
    "patient before the impression": (
        "65-year-old man with pleural effusion and edema.\nIMPRESSION: Clear lungs.",
        [("preamble", "65-year-old man with pleural effusion and edema."), ("impression", "Clear lungs.")],
    ),
    "a head within findings takes its sentence": (
        "FINDINGS: Clear lungs. Comparison: none. No effusion.\nIMPRESSION: Normal.",
        [
            ("findings", "Clear lungs."),
            ("comparison", "none."),
            ("findings", "No effusion."),
            ("impression", "Normal."),
        ],
    ),
    "a head within free text takes its sentence": (
        "Clear lungs. Comparison: none. No effusion.",
        [("findings", "Clear lungs."), ("comparison", "none."), ("findings", "No effusion.")],
    ),
    "findings behind a head in findings": (
        "FINDINGS: COMPARISON: ___\n\n The lungs are clear.",
        [("comparison", "___"), ("findings", "The lungs are clear.")],
    ),
    "CheXpert Plus": (
        "NARRATIVE:\nRADIOGRAPHIC EXAMINATION OF THE CHEST: 1/2/2003\n\nCLINICAL HISTORY: Cough.\n\nPROCEDURE COMMENTS: Two views."
        "\n\nFINDINGS: Clear lungs.\n\nIMPRESSION:\n\n1.  NO EDEMA.\n\nSUMMARY: 2-ABNORMAL, PREVIOUSLY REPORTED\n\n"
        "ACCESSION NUMBER:\n123\nI have personally reviewed the images for this examination.",
        [
            ("preamble", "RADIOGRAPHIC EXAMINATION OF THE CHEST: 1/2/2003"),
            ("history", "Cough."),
            ("technique", "Two views."),
            ("findings", "Clear lungs."),
            ("impression", "1.  NO EDEMA."),
            ("summary_code", "2-ABNORMAL, PREVIOUSLY REPORTED"),
            ("exam", "123"),
            ("signature", "for this examination."),
        ],
    ),
    "nothing": ("", []),
    "no words": (" \n - ", []),
}


@pytest.mark.parametrize(("text", "expected"), BODIES.values(), ids=BODIES.keys())
def test_bodies(finder: SectionFinder, text: str, expected: list[tuple[str, str]]) -> None:
    assert found(finder, text) == expected


COLUMNS = {
    "plain": (
        {"findings": "Clear lungs.", "impression": "Normal.", "indication": "cough"},
        [("findings", "Clear lungs."), ("impression", "Normal."), ("indication", "cough")],
    ),
    "synonyms": (
        {
            "Conclusion": "Normal.",
            "clinical_information": "cough",
            "section_comparison": "none",
            "Wet Read": "ok",
            "Befund": "frei",
        },
        [
            ("impression", "Normal."),
            ("indication", "cough"),
            ("comparison", "none"),
            ("wet_read", "ok"),
            ("befund", "frei"),
        ],
    ),
    "heading repeated": ({"findings": "FINDINGS: Clear lungs."}, [("findings", "Clear lungs.")]),
    "nested heading": (
        {"findings": "Clear lungs. IMPRESSION: Normal.", "history": "cough"},
        [("findings", "Clear lungs."), ("impression", "Normal."), ("history", "cough")],
    ),
    "head within": (
        {"findings": "COMPARISON: ___\n\nClear lungs.", "impression": "Comparison: none. Normal heart."},
        [("comparison", "___"), ("findings", "Clear lungs."), ("comparison", "none."), ("impression", "Normal heart.")],
    ),
    "a whole report in a column": (
        {"report": "HISTORY: cough\nFINDINGS: Clear lungs.", "note": "none"},
        [("history", "cough"), ("findings", "Clear lungs."), ("note", "none")],
    ),
    "free text in a column": (
        {"text": "Clear lungs.", "history": "cough"},
        [("findings", "Clear lungs."), ("history", "cough")],
    ),
    "empty": ({"findings": "", "impression": " . "}, []),
}


@pytest.mark.parametrize(("columns", "expected"), COLUMNS.values(), ids=COLUMNS.keys())
def test_columns(finder: SectionFinder, columns: dict[str, str], expected: list[tuple[str, str]]) -> None:
    text, given_sections = joined(columns)
    assert found(finder, text, given_sections) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("findings", "findings"),
        ("Conclusion", "impression"),
        ("clinical_information", "indication"),
        ("REASON FOR EXAM", "indication"),
        ("reason-for-examination", "indication"),
        ("Prior Study", "comparison"),
        ("section_impression", "impression"),
        ("findings_text", "findings"),
        ("wet_read", "wet_read"),
        ("Quality of Image", "quality_of_image"),
        ("", ""),
    ],
)
def test_canonical_name(name: str, expected: str) -> None:
    assert canonical_name(name) == expected


# Rules of the user's own.


def rules(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "ours.yaml"
    path.write_text(content, encoding="utf-8")
    return path


def test_rules_file_adds_titles_and_patterns(tmp_path: Path) -> None:
    finder = SectionFinder(
        rules(
            tmp_path,
            "sections:\n  findings: [Befund, Lungenbefund]\n  conclusion: Beurteilung\n  Quality of image: [Bildqualität]\n"
            "patterns:\n  findings: ['^CXR \\d+ views?,?']\n  end: ['={5,}']\n",
        )
    )
    text = "Bildqualität: gut\nBEFUND Lunge frei. Beurteilung: normal."
    assert found(finder, text) == [("quality_of_image", "gut"), ("findings", "Lunge frei."), ("impression", "normal.")]
    text = "HISTORY: cough\nCxr 2 views Clear lungs. COMPARISON: none. ===== Page 1"
    assert found(finder, text) == [
        ("history", "cough"),
        ("findings", "Clear lungs."),
        ("comparison", "none."),
        ("end", "Page 1"),
    ]
    assert found(finder, "FINDINGS: Clear lungs. =====") == [("findings", "Clear lungs.")]
    assert finder.canonical_name("befund") == "findings"


def test_rules_file_goes_before_ours(tmp_path: Path) -> None:
    finder = SectionFinder(
        rules(tmp_path, "sections:\n  findings: [comment, Summary]\npatterns:\n  other: ['^IMPRESSION OF THE DAY:']\n")
    )
    assert found(finder, "SUMMARY: Clear lungs.") == [("findings", "Clear lungs.")]
    assert found(finder, "SUMMARY Clear lungs.") == [("findings", "Clear lungs.")]  # no longer among `colon_only`
    assert found(finder, "IMPRESSION OF THE DAY: sun\nIMPRESSION: ok") == [("other", "sun"), ("impression", "ok")]
    assert canonical_name("summary") == "impression"  # ours are as they were


def test_rules_file_word_lists(tmp_path: Path) -> None:
    finder = SectionFinder(
        rules(tmp_path, "sections: {findings: [Befund]}\ncolon_only: [befund]\nnot_before: [kein]\n")
    )
    assert found(finder, "HISTORY: cough. BEFUND Lunge frei.") == [("history", "cough. BEFUND Lunge frei.")]
    assert found(finder, "HISTORY: kein BEFUND: x") == [("history", "kein BEFUND: x")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a mapping"),
        ("[findings]", "expected a mapping"),
        ("sections: {findings: [a]", "line 1: not YAML"),
        ("section: {findings: [a]}", "unknown key `section`"),
        ("version: 2\nsections: {findings: [a]}", "version: expected 1"),
        ("colon_only: [a]", "found neither"),
        ("sections: [findings]", "sections: expected a mapping"),
        ("sections: {findings: 3}", "sections, findings: expected a list"),
        ("sections: {findings: [Befund, 3]}", "sections, findings, entry 2: expected a text, not 3"),
        ("sections: {findings: [no]}", "sections, findings, entry 1: expected a text, not False"),
        ("sections: {findings: [': ']}", "sections, findings, entry 1: a title needs a letter"),
        ("sections: {1: [Befund]}", "the section's name 1"),
        ("sections: {'--': [Befund]}", "the section's name '--'"),
        (
            "sections: {findings: [Befund], impression: [BEFUND]}",
            "sections, impression, entry 1: the title 'BEFUND' is already",
        ),
        ("patterns: {findings: ['^(a']}", "patterns, findings, entry 1: '\\^\\(a' is not a regular expression"),
        ("patterns: {findings: ['a*']}", "patterns, findings, entry 1: 'a\\*' matches nothing"),
        ("sections: {findings: [a]}\nbare: {b: c}", "bare: expected a list"),
    ],
)
def test_mistakes_in_rules_files(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        SectionFinder(rules(tmp_path, content))
    assert "ours.yaml" in str(caught.value)


def test_rules_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml"):
        SectionFinder(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("sections: {findings: [Bildqualität]}".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml is not a YAML file in UTF-8"):
        SectionFinder(tmp_path / "latin.yaml")


def test_our_rules_pass_as_a_users(finder: SectionFinder) -> None:
    text = "FINDINGS: Clear. IMPRESSION: ok"
    assert found(SectionFinder(OUR_RULES), text) == found(finder, text)


# Properties.

PIECES = [
    *"FINDINGS:|IMPRESSION:|Comparison: none.|FINAL REPORT|findings|Impression|\n|\n\n| |. |** |1. |___|The lungs are clear.".split(
        "|"
    ),
    *"INDICATION/HISTORY:|HISTORY|of|No acute|ADDENDUM|PRIOR:|Heart: normal|SUMMARY: 2-A|İ|ﬁ|\ue000|\uf8ff|(|-|—|:|所見：".split(
        "|"
    ),
]
TEXTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))


def check(text: str, sections: list[Section]) -> None:
    at = 0
    for section in sections:
        body = text[section.start : section.end]
        assert at <= section.start < section.end <= len(text)
        assert body == body.strip()
        assert re.search(r"\w", body)
        assert section.name
        at = section.end


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_properties_of_free_text(finder: SectionFinder, text: str) -> None:
    sections = finder(text, [])
    check(text, sections)
    assert sections == finder(text, [])


@settings(deadline=None)
@given(
    columns=st.dictionaries(st.sampled_from(["findings", "impression", "history", "report", "x"]), TEXTS, max_size=4)
)
def test_properties_of_columns(finder: SectionFinder, columns: dict[str, str]) -> None:
    text, given_sections = joined(columns)
    sections = finder(text, given_sections)
    check(text, sections)
    for section in sections:
        assert any(column.start <= section.start and section.end <= column.end for column in given_sections)


@settings(deadline=None)
@given(text=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters=":："), max_size=200))
def test_text_without_headings_is_findings(finder: SectionFinder, text: str) -> None:
    text = text.lower()
    expected = [("findings", text.strip())] if re.search(r"\w", text) else []
    if "*" not in text and "[" not in text:
        assert found(finder, text) == expected


def test_memory_does_not_grow_with_the_words_of_reports(finder: SectionFinder) -> None:
    strings = finder._headings.nlp.vocab.strings
    before = len(strings)
    for i in range(100):
        finder(f"FINDINGS word{i}: Other{i}. IMPRESSION: a{i} HISTORY{i} ({i})", [])
    assert len(strings) == before


@pytest.mark.parametrize(
    "piece",
    ["FINDINGS: a ", "COMPARISON: none. Clear lungs.\n\n", "Comparison findings impression ", "HISTORY/", "\n \n"],
)
def test_long_texts_take_linear_time(finder: SectionFinder, piece: str) -> None:
    text = piece * (100_000 // len(piece))
    started = time.process_time()
    check(text, finder(text, []))
    assert time.process_time() - started < 10  # some 0.1 s; a quadratic step takes longer than the limit


@pytest.mark.skipif(not (SHARED / "iu/reports.csv").exists(), reason="shared data is absent")
def test_real_reports_give_back_their_columns(finder: SectionFinder) -> None:
    same = total = 0
    with (SHARED / "iu/reports.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            columns = {name: row[name] for name in ("findings", "impression", "indication", "comparison") if row[name]}
            text, given_sections = joined(columns)
            sections = finder(text, given_sections)
            assert {s.name for s in sections} >= {
                c.name for c in given_sections if c.name in ("findings", "impression")
            }
            total += 1
            same += sections == finder(text, [])  # the headings alone tell as much as the columns
    assert same >= 0.99 * total > 0
