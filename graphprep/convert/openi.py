"""Indiana University's chest X-rays from Open-i: one XML file per report in `ecgen-radiology/`, images by the ids in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from graphprep.convert import Conversion, register

_SECTIONS = {"FINDINGS": "findings", "IMPRESSION": "impression", "INDICATION": "indication", "COMPARISON": "comparison"}


@dataclass(frozen=True, slots=True)
class _Examination:
    report_id: str
    texts: dict[str, str]
    image_ids: list[str]


@register("openi", "ecgen-radiology/1.xml … 3999.xml, and CXR1_1_IM-0001-3001.png … (or the DICOM files) in any folder")
def convert_openi(conversion: Conversion) -> None:
    """One report per XML file; images by their ids; views from Kaggle's `indiana_projections.csv` where it is there."""
    folder = next(
        (folder for folder in (conversion.path, conversion.path / "ecgen-radiology") if any(folder.glob("*.xml"))), None
    )
    if folder is None:
        raise conversion.lacking("ecgen-radiology/1.xml", what="one report in each file")
    images = conversion.images()
    by_id = {_plain_id(key): key for key in images.keys}
    views = _views(conversion)
    reports = conversion.output.reports(("indication", "comparison", "mesh"))
    seen: dict[str, str] = {}
    for file in conversion.track(sorted(folder.glob("*.xml"), key=lambda path: (len(path.name), path.name))):
        examination = _read(file)
        if isinstance(examination, str):
            conversion.output.list_as("malformed_file", file.name, detail=examination)
            continue
        if examination.report_id in seen:
            detail = f"{seen[examination.report_id]} has the same id, {examination.report_id}."
            conversion.output.list_as("malformed_file", file.name, detail=detail)
            continue
        seen[examination.report_id] = file.name
        found = []
        for image_id in examination.image_ids:
            plain = _plain_id(image_id)
            path = conversion.image(images, by_id.get(plain, image_id), f"{image_id}.png", file, 1)
            if path is not None:
                found.append((path, views.get(plain, "")))
        if not examination.image_ids:
            conversion.output.list_as("report_without_images", file.name)
        reports.write(examination.report_id, examination.texts, found, study_id=examination.report_id)


def _read(file: Path) -> _Examination | str:
    """What a file holds, or what is wrong with it."""
    try:
        content = file.read_bytes()
    except OSError as error:
        return f"It cannot be read: {error.strerror}."
    if b"<!ENTITY" in content:
        return "It defines entities, which no report needs."
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as error:
        where = getattr(error, "position", None)
        return "It is not XML that can be read" + (f" (line {where[0]})." if where else ".")
    identity = root.find(".//uId")
    report_id = identity.get("id", "").strip() if identity is not None else ""
    if not report_id:
        return "It has no uId."
    texts: dict[str, str] = {}
    for element in root.iter("AbstractText"):
        section = _SECTIONS.get(element.get("Label", "").strip().upper())
        text = "".join(element.itertext()).strip()
        if section and text:
            texts[section] = f"{texts[section]}\n{text}" if section in texts else text
    texts["mesh"] = "; ".join(text for element in root.iter("major") if (text := (element.text or "").strip()))
    image_ids = [name for element in root.iter("parentImage") if (name := element.get("id", "").strip())]
    return _Examination(report_id, texts, image_ids)


def _plain_id(name: str) -> str:
    """What an image is called in all archives: `CXR1_1_IM-0001-3001` is `1_IM-0001-3001.dcm`, `CXR2_IM-1` is `2_IM-1.dcm`."""
    return re.sub(r"\.(dcm|png|jpg)$", "", re.sub(r"^CXR(\d+)_(?:\1_)?", r"\1_", name))


def _views(conversion: Conversion) -> dict[str, str]:
    path = conversion.find_optional("indiana_projections.csv")
    if path is None:
        return {}
    return {
        _plain_id(Path(row.values["filename"]).stem): row.values["projection"]
        for row in conversion.rows(path, ("filename", "projection"))
    }
