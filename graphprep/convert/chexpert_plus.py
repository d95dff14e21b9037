"""CheXpert Plus: one CSV with a row per image, which repeats the report of the study."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from graphprep.convert import Conversion, register
from graphprep.convert.chexpert import image_key
from graphprep.convert.conversion import Row, digits_of, split_name

_SECTIONS = {
    "findings": "section_findings",
    "impression": "section_impression",
    "clinical_history": "section_clinical_history",
    "history": "section_history",
    "comparison": "section_comparison",
    "technique": "section_technique",
    "procedure_comments": "section_procedure_comments",
    "end_of_impression": "section_end_of_impression",
    "summary": "section_summary",
    "accession_number": "section_accession_number",
}
_IN_PLACE_OF_FINDINGS = ("section_narrative", "section_summary", "report")
_STUDY = re.compile(r"(?:.*/)?(patient[^/]+/study[^/]+)/[^/]+")


@dataclass(slots=True)
class _Study:
    row: int
    images: list[tuple[str, str]] = field(default_factory=list)


@register("chexpert-plus", "df_chexpert_plus_240401.csv, and train/ and valid/ with the images")
def convert_chexpert_plus(conversion: Conversion) -> None:
    """Reports by study; the table is read twice, for images first, so that texts need not be kept."""
    path = conversion.find("df_chexpert_plus*.csv", what="reports and paths of images")
    conversion.output.version("table", digits_of(path.name))
    images = conversion.images(key="path")
    by_key = {image_key(key): key for key in images.keys}
    required = ("path_to_image", "section_findings", "section_impression")
    optional = (
        "deid_patient_id",
        "split",
        "ap_pa",
        "frontal_lateral",
        "patient_report_date_order",
        *(column for column in _SECTIONS.values() if column not in required),
        *_IN_PLACE_OF_FINDINGS,
    )
    studies: dict[str, _Study] = {}
    for row in conversion.rows(path, ("path_to_image",), ("ap_pa", "frontal_lateral")):
        published = row.values["path_to_image"]
        found = _STUDY.fullmatch(published)
        if found is None:
            conversion.malformed(path, row.number, "path_to_image does not name a patient, a study and an image.")
            continue
        study = studies.setdefault(found[1], _Study(row.number))
        key = image_key(published.rpartition(".")[0])
        image = conversion.image(images, by_key.get(key, key), published, path, row.number)
        if image is not None:
            study.images.append((image, row.values["ap_pa"] or row.values["frontal_lateral"]))

    sections = ("findings_from", *(name for name in _SECTIONS if name not in ("findings", "impression")))
    reports = conversion.output.reports((*sections, "date_order"))
    first_rows = {study.row: name for name, study in studies.items()}
    for row in conversion.rows(path, required, optional):
        name = first_rows.get(row.number)
        if name is None:
            continue
        reports.write(
            name,
            _texts(row),
            studies[name].images,
            subject_id=row.values["deid_patient_id"] or name.partition("/")[0],
            study_id=name,
            split=split_name(row.values["split"]),
        )
        if not studies[name].images:
            conversion.output.list_as("report_without_images", name, file=path.name, row=row.number)


def _texts(row: Row) -> dict[str, str]:
    """The columns of text. Without findings and impression the findings are the narrative, the summary or the whole report."""
    texts = {name: row.values[column] for name, column in _SECTIONS.items()}
    texts["date_order"] = row.values["patient_report_date_order"]
    if texts["findings"]:
        texts["findings_from"] = "section_findings"
    elif not texts["impression"]:
        source = next((column for column in _IN_PLACE_OF_FINDINGS if row.values[column]), None)
        if source is not None:
            texts["findings"], texts["findings_from"] = row.values[source], source
    return texts
