"""NIH ChestX-ray14: labels of 14 findings mined from reports, and boxes for some of the images.

Boxes are in pixels of the images as they are published, 1024 × 1024, not of the originals, whose size the table has.
"""

from __future__ import annotations

from pathlib import Path

from graphprep.convert import Conversion, register
from graphprep.convert.conversion import number
from graphprep.convert.image_files import Header

CLASSES = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", "No Finding",
)  # fmt: skip
PUBLISHED_SIZE = Header(1024, 1024)
_SAME = {"Infiltrate": "Infiltration", "Pleural Thickening": "Pleural_Thickening"}
_BOX = ("Bbox [x", "y", "w", "h]")


@register(
    "nih", "Data_Entry_2017.csv, BBox_List_2017.csv, train_val_list.txt, test_list.txt, and the images in any folders"
)
def convert_nih(conversion: Conversion) -> None:
    """Labels with 1 for each finding that is listed and 0 for the others; boxes; the published test set."""
    path = conversion.find("Data_Entry_2017*.csv", what="labels of the images")
    conversion.output.version("table", path.name.partition(".")[0])
    images = conversion.images()
    splits = _splits(conversion)
    labels = conversion.output.labels(CLASSES)
    paths: dict[str, str] = {}
    names: set[str] = set()
    for row in conversion.rows(path, ("Image Index", "Finding Labels", "Patient ID")):
        name = row.values["Image Index"]
        names.add(name)
        found = {_SAME.get(label, label) for label in row.values["Finding Labels"].split("|")}
        if unknown := sorted(found - set(CLASSES)):
            conversion.malformed(path, row.number, f"{unknown[0]!r} is none of the set's findings.")
            continue
        image = conversion.image(images, name.rpartition(".")[0], f"images/{name}", path, row.number)
        if image is None:
            continue
        paths[name] = image
        split = splits.get(name, "")
        labels.write(
            image, row.values["Patient ID"], split, {label: "1" if label in found else "0" for label in CLASSES}
        )
    for name in splits:
        if name not in names:
            conversion.output.list_as("unknown_image", name, detail=f"A list of the split has it, {path.name} has not.")
    if boxes := conversion.find_optional("BBox_List_2017*.csv"):
        _write_boxes(conversion, boxes, paths, images.any_there)


def _splits(conversion: Conversion) -> dict[str, str]:
    """Name of an image → split, as published: `train` is the list of images to train and validate with."""
    splits: dict[str, str] = {}
    for split, name in (("train", "train_val_list*.txt"), ("test", "test_list*.txt")):
        if path := conversion.find_optional(name):
            conversion.output.record_input(path, conversion.path)
            names = path.read_text(encoding="utf-8", errors="replace").split()
            splits.update(dict.fromkeys(names, split))
    return splits


def _write_boxes(conversion: Conversion, path: Path, paths: dict[str, str], any_images: bool) -> None:
    rows = list(conversion.rows(path, ("Image Index", "Finding Label", *_BOX)))
    wanted = {name: paths[name] for row in rows if (name := row.values["Image Index"]) in paths}
    headers = conversion.headers(wanted.values()) if any_images else dict.fromkeys(wanted.values(), PUBLISHED_SIZE)
    boxes = conversion.output.boxes(CLASSES[:-1])
    for row in rows:
        name, label = row.values["Image Index"], row.values["Finding Label"]
        label = _SAME.get(label, label)
        image = wanted.get(name)
        header = headers.get(image) if image else None
        if image is None or header is None:
            conversion.output.list_as(
                "unknown_image", name, file=path.name, row=row.number, detail="Its box is left out."
            )
            continue
        if label not in CLASSES[:-1]:
            conversion.malformed(path, row.number, f"{label!r} is none of the set's findings.")
            continue
        try:
            x, y, width, height = (number(row.values[column]) for column in _BOX)
        except ValueError:
            conversion.malformed(path, row.number, "The box is not four numbers.")
            continue
        across, down = header.width / PUBLISHED_SIZE.width, header.height / PUBLISHED_SIZE.height
        conversion.output.count("boxes_scaled_to_the_image", (across, down) != (1, 1))
        boxes.image(image, header.width, header.height)
        boxes.box(image, label, (x * across, y * down, width * across, height * down), file=path, row=row.number)
