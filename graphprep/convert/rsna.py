"""RSNA Pneumonia Detection Challenge (stage 2): boxes of lung opacity, and the class of every image.

Boxes are in pixels of the published DICOM images, 1024 × 1024. The set's `patientId` names an image, not a patient; the
patients are those of ChestX-ray14, where RSNA's table of mappings to it is there.
"""

from __future__ import annotations

import json
from pathlib import Path

from graphprep.convert import Conversion, register
from graphprep.convert.conversion import number
from graphprep.convert.image_files import Header

OPACITY = "Lung Opacity"
CLASSES = (OPACITY, "No Lung Opacity / Not Normal", "Normal")
PUBLISHED_SIZE = Header(1024, 1024)
_BOX = ("x", "y", "width", "height")


@register(
    "rsna",
    "stage_2_train_labels.csv, stage_2_detailed_class_info.csv, stage_2_train_images/*.dcm (pneumonia-challenge-dataset-mappings_2018.json)",
)
def convert_rsna(conversion: Conversion) -> None:
    """Labels of the three classes; boxes.json has all images, with boxes or without."""
    path = conversion.find("stage_2_train_labels.csv", what="boxes of the images")
    images = conversion.images()
    classes = _classes(conversion)
    patients = _patients(conversion)
    found: dict[str, str] = {}
    targets: dict[str, str] = {}
    placed: list[tuple[str, int, tuple[float, float, float, float]]] = []
    missing: set[str] = set()
    for row in conversion.rows(path, ("patientId", *_BOX, "Target")):
        name, target = row.values["patientId"], row.values["Target"]
        if target not in ("0", "1") or targets.get(name, target) != target:
            detail = "Target is not 0 or 1." if target not in ("0", "1") else "Target differs from an earlier row's."
            conversion.malformed(path, row.number, detail)
            continue
        box: list[float] = []
        if target == "1":
            try:
                box = [number(row.values[column]) for column in _BOX]
            except ValueError:
                conversion.malformed(path, row.number, "Target is 1 and the box is not four numbers.")
                continue
        if name in missing:
            continue
        if name not in found:
            image = conversion.image(images, name, f"stage_2_train_images/{name}.dcm", path, row.number)
            if image is None:
                missing.add(name)
                continue
            found[name] = image
        targets[name] = target
        if box:
            placed.append((name, row.number, (box[0], box[1], box[2], box[3])))

    headers = conversion.headers_or_published(images, found.values(), PUBLISHED_SIZE)
    labels = conversion.output.labels(CLASSES if classes else (OPACITY,))
    boxes = conversion.output.boxes((OPACITY,))
    for name, image in found.items():
        if image not in headers:
            continue
        values = {OPACITY: targets[name]}
        if name in classes:
            values |= {label: str(int(label == classes[name])) for label in CLASSES[1:]}
        labels.write(image, patients.get(name, name), "", values)
        boxes.image(image, headers[image].width, headers[image].height)
    for name, row_number, (x, y, width, height) in placed:
        if (header := headers.get(found[name])) is None:
            continue
        across, down = header.width / PUBLISHED_SIZE.width, header.height / PUBLISHED_SIZE.height
        conversion.output.count("boxes_scaled_to_the_image", (across, down) != (1, 1))
        scaled = (x * across, y * down, width * across, height * down)
        boxes.box(found[name], OPACITY, scaled, file=path, row=row_number)


def _classes(conversion: Conversion) -> dict[str, str]:
    """Image → its class of three; the table repeats an image for each of its boxes."""
    path = conversion.find_optional("stage_2_detailed_class_info.csv")
    if path is None:
        return {}
    classes: dict[str, str] = {}
    for row in conversion.rows(path, ("patientId", "class")):
        name = row.values["class"]
        if name not in CLASSES or classes.setdefault(row.values["patientId"], name) != name:
            detail = (
                "The class is none of the set's." if name not in CLASSES else "The class differs from an earlier row's."
            )
            conversion.malformed(path, row.number, detail)
    return classes


def _patients(conversion: Conversion) -> dict[str, str]:
    """Image → patient of ChestX-ray14, by RSNA's mappings; the first part of an image's name there is the patient."""
    path = conversion.find_optional("pneumonia-challenge-dataset-mappings_2018.json")
    if path is None:
        conversion.output.note(
            "subject_id is the image's own id, for the set does not name patients: split by it and a patient may be in two parts. "
            "With pneumonia-challenge-dataset-mappings_2018.json beside the tables it is the patient of ChestX-ray14."
        )
        return {}
    return _read_mappings(conversion, path)


def _read_mappings(conversion: Conversion, path: Path) -> dict[str, str]:
    conversion.output.record_input(path, conversion.path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(entry["subset_img_id"]): str(entry["img_id"]).partition("_")[0]
            for entry in entries
            if entry.get("subset_img_id")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        conversion.output.list_as(
            "malformed_file", path.name, detail="It is no JSON list of entries with img_id and subset_img_id."
        )
        return {}
