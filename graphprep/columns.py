"""Which column of a table holds what: found by the names that data sets of radiology reports use, or as the user says.

Names are compared without case, blanks and punctuation: `ViewPosition`, `view_position` and `View Position` are one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphprep.errors import UserError

ROLES: dict[str, tuple[str, ...]] = {
    "report_id": ("report_id", "id", "uid"),
    "subject_id": ("subject_id", "patient_id", "deid_patient_id", "subject", "patient"),
    "study_id": ("study_id", "study", "study_uid", "study_instance_uid", "accession_number", "accession", "exam_id"),
    "split": ("split", "data_split", "subset", "partition"),
    "image": (
        "image_path", "path_to_image", "image", "path", "file_path", "filename", "image_file", "image_filename", "img_path", "jpg_path", "dicom_path",
    ),
    "images": ("images", "image_paths", "image_files", "image_filenames", "filenames", "paths"),
    "view": ("view", "view_position", "views", "projection", "frontal_lateral", "ap_pa"),
    "image_id": ("image_id", "dicom_id", "image_ids", "dicom_ids", "sop_instance_uid"),
}  # fmt: skip
"""Role → its usual names, the first that a table has being taken. PadChest, OpenI, MIMIC-CXR and CheXpert (Plus) are covered."""

_REPORT = (
    "report",
    "report_text",
    "text",
    "full_text",
    "full_report",
    "radiology_report",
    "report_content",
    "report_body",
)
_REPORT_IF_NO_SECTION = ("narrative", "note", "note_text", "body")
_SECTIONS = {
    "findings": ("findings", "finding"),
    "impression": ("impression", "impressions", "conclusion", "conclusions", "opinion"),
    "indication": (
        "indication", "indications", "clinical_indication", "clinical_information", "clinical_info", "clinical_question",
        "reason_for_exam", "reason_for_examination", "reason_for_study",
    ),
    "history": ("history", "clinical_history", "medical_history", "patient_history"),
    "comparison": ("comparison", "comparisons"),
    "technique": ("technique",),
    "recommendation": ("recommendation", "recommendations"),
    "addendum": ("addendum",),
}  # fmt: skip
_FIRST = ("findings", "impression")
_OPENI = frozenset({"uid", "mesh", "problems"})


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column of text; `section` is the name of the section that it is, None if it holds whole reports."""

    column: str
    section: str | None = None
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns to read. With several texts each is a section, in the order in which they are joined."""

    texts: tuple[TextColumn, ...]
    roles: Mapping[str, str]
    """Role → column, of those in `ROLES` that the table has. `report_id` may be the column of `study_id`."""

    def by_role(self) -> dict[str, str]:
        """Role → column, sections by their heading, whole reports as `text`."""
        return {**self.roles, **{text.heading.lower() if text.heading else "text": text.column for text in self.texts}}


def find_columns(names: Sequence[str], table: str, given: Mapping[str, str], text_columns: Sequence[str]) -> Columns:
    """The columns of a table with these names.

    A column with whole reports is taken rather than its sections; without a report id, a study id is the id of the report.

    Args:
        table: what messages call it.
        given: role → column, as the user wants it; the role `text` is one of `text_columns`.
        text_columns: columns of text; several, or one that has the name of a section, are sections.

    Raises:
        UserError: no text is found, a column that was named is not there, or a column that is used is there twice.
    """
    unknown = sorted(set(given) - set(ROLES) - {"text"})
    if unknown:
        raise UserError(f"There is no role {unknown[0]!r} for a column. Roles are: {', '.join(ROLES)}, text.")
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(_fold(name), name)

    def named(name: str) -> str:
        found = name if name in names else folded.get(_fold(name))
        if found is None:
            nearest = difflib.get_close_matches(_fold(name), list(folded), n=1, cutoff=0.5)
            hint = f" Did you mean {folded[nearest[0]]!r}?" if nearest else ""
            raise UserError(f"{table} has no column {name!r}.{hint} {_listing(names)}")
        return found

    texts = tuple(named(name) for name in (*((given["text"],) if "text" in given else ()), *text_columns))
    if texts:
        chosen = [_text_column(name, whole=len(texts) == 1) for name in dict.fromkeys(texts)]
    else:
        chosen = _usual_texts(names, folded)
        if not chosen:
            raise UserError(
                f"{table} has no column that holds reports. {_listing(names)} Name it with --text-column NAME."
            )

    roles = {role: named(name) for role, name in given.items() if role != "text"}
    for role, usual in ROLES.items():
        # OpenI's `image` says what was taken ("Xray Chest PA and Lateral").
        if role in roles or (role == "image" and folded.keys() >= _OPENI):
            continue
        found = next((folded[_fold(name)] for name in usual if _fold(name) in folded), None)
        if found is not None and all(found != text.column for text in chosen):
            roles[role] = found
    if "report_id" not in roles and "study_id" in roles:
        roles["report_id"] = roles["study_id"]

    for column in (*roles.values(), *(text.column for text in chosen)):
        if names.count(column) > 1:
            raise UserError(
                f"{table} has {names.count(column)} columns named {column!r}. Rename all but the one to be read."
            )
    chosen.sort(key=lambda text: _FIRST.index(text.section) if text.section in _FIRST else len(_FIRST))
    return Columns(tuple(chosen), roles)


def _usual_texts(names: Sequence[str], folded: Mapping[str, str]) -> list[TextColumn]:
    for name in _REPORT:
        if _fold(name) in folded:
            return [TextColumn(folded[_fold(name)])]
    sections = [_text_column(name, whole=False) for name in names if _section(name) and folded[_fold(name)] == name]
    if any(text.section in _FIRST for text in sections):
        return sections
    for name in _REPORT_IF_NO_SECTION:
        if _fold(name) in folded:
            return [TextColumn(folded[_fold(name)])]
    return sections


def _text_column(name: str, whole: bool) -> TextColumn:
    section = _section(name)
    if section is None and whole:
        return TextColumn(name)
    heading = " ".join(re.sub(r"^section_", "", name, flags=re.IGNORECASE).replace("_", " ").split())
    return TextColumn(name, section or heading.lower(), heading.upper())


def _section(name: str) -> str | None:
    """The section that a column of this name holds; CheXpert Plus writes `section_findings`."""
    folded = _fold(re.sub(r"^section_", "", name, flags=re.IGNORECASE))
    return next((section for section, usual in _SECTIONS.items() if folded in map(_fold, usual)), None)


def role_of(name: str) -> str | None:
    """The role that a name usually has."""
    return next((role for role, usual in ROLES.items() if _fold(name) in map(_fold, usual)), None)


def _fold(name: str) -> str:
    """A name without case, blanks and punctuation."""
    return "".join(filter(str.isalnum, name.casefold()))


def _listing(names: Sequence[str]) -> str:
    """The columns of a table for a message, unless its first row is no header: that may be of a patient."""
    shown = [name.encode("utf-8", "replace").decode() for name in names if name]
    if not shown:
        return "The header is empty."
    if any(len(name) > 60 or len(name.split()) > 6 or not re.search(r"[^\W\d_]", name) for name in shown):
        return f"Its first row ({len(names)} fields) does not look like a header; the first row must name the columns."
    return f"Its columns are: {', '.join(shown[:50])}{' …' if len(shown) > 50 else ''}."
