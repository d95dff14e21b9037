"""VinDr-CXR: boxes by several radiologists and labels of images; also the tables of VinBigData's challenge at Kaggle.

Every image of the training set was read by three radiologists of seventeen, every image of the test set by five in
consensus. All boxes are kept, in the training set with `rad_id`; a label is 1 if most of an image's readers gave it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from graphprep.convert import Conversion, register
from graphprep.convert.conversion import label_value, number
from graphprep.convert.image_files import ImageFiles
from graphprep.errors import UserError

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_NO_FINDING = "No finding"
_SAME = {"Other disease": "Other diseases"}  # the two tables of labels differ here
_TABLES = {
    "train": ("annotations_train.csv", "train.csv"),
    "test": ("annotations_test.csv",),
}


@register(
    "vindr",
    "annotations/annotations_train.csv, annotations_test.csv, image_labels_train.csv, image_labels_test.csv, train/ and test/ with *.dicom",
)
def convert_vindr(conversion: Conversion) -> None:
    """Labels by the majority of readers; all boxes; the published split. Images other than DICOM need `--images` of full size."""
    boxes = {split: path for split, names in _TABLES.items() if (path := conversion.find_optional(*names))}
    labels = {split: path for split in _TABLES if (path := conversion.find_optional(f"image_labels_{split}.csv"))}
    if not boxes and not labels:
        raise conversion.lacking("annotations/annotations_train.csv", "train.csv", what="boxes of the images")
    images = conversion.images()
    paths: dict[str, str | None] = {}
    if labels:
        _write_labels(conversion, labels, images, paths)
    else:
        _write_labels_of_boxes(conversion, boxes, images, paths)
    if images.any_there:
        _write_boxes(conversion, boxes, images, paths)
    elif boxes:
        conversion.output.note("boxes.json is not written: the set has the sizes of images in the images alone.")


def _path(
    conversion: Conversion,
    images: ImageFiles,
    paths: dict[str, str | None],
    split: str,
    name: str,
    file: Path,
    row: int,
) -> str | None:
    """The path of an image; what is missing is listed once."""
    if name not in paths:
        paths[name] = conversion.image(images, name, f"{split}/{name}.dicom", file, row)
    return paths[name]


def _write_labels(
    conversion: Conversion, tables: dict[str, Path], images: ImageFiles, paths: dict[str, str | None]
) -> None:
    columns = {
        split: [name for name in conversion.columns(path) if name not in ("image_id", "rad_id")]
        for split, path in tables.items()
    }
    classes = list(dict.fromkeys(_SAME.get(name, name) for names in columns.values() for name in names))
    labels = conversion.output.labels(classes)
    for split, path in tables.items():
        readers: Counter[str] = Counter()
        votes: dict[str, Counter[str]] = {}
        rows: dict[str, int] = {}
        for row in conversion.rows(path, ("image_id", *columns[split])):
            name = row.values["image_id"]
            try:
                given = [column for column in columns[split] if label_value(row.values[column]) == "1"]
            except ValueError:
                conversion.malformed(path, row.number, "A label is not 1, 0 or empty.")
                continue
            rows.setdefault(name, row.number)
            readers[name] += 1
            votes.setdefault(name, Counter()).update(_SAME.get(column, column) for column in given)
        known = [_SAME.get(column, column) for column in columns[split]]
        for name, first in rows.items():
            image = _path(conversion, images, paths, split, name, path, first)
            if image is None:
                continue
            values = {label: str(int(2 * votes[name][label] > readers[name])) for label in known}
            conversion.output.count(
                "images_whose_readers_differ", any(0 < n < readers[name] for n in votes[name].values())
            )
            labels.write(image, "", split, values)


def _write_labels_of_boxes(
    conversion: Conversion, tables: dict[str, Path], images: ImageFiles, paths: dict[str, str | None]
) -> None:
    """Labels where only boxes are published: by the majority of the readers that an image's rows name."""
    seen: dict[str, dict[str, set[str]]] = {}
    order: dict[str, tuple[str, int, Path]] = {}
    for split, path in tables.items():
        for row in conversion.rows(path, ("image_id", "class_name"), ("rad_id",)):
            name = row.values["image_id"]
            order.setdefault(name, (split, row.number, path))
            seen.setdefault(name, {}).setdefault(row.values["class_name"], set()).add(row.values["rad_id"])
    classes = sorted({label for found in seen.values() for label in found})
    labels = conversion.output.labels(classes)
    for name, (split, row_number, path) in order.items():
        image = _path(conversion, images, paths, split, name, path, row_number)
        if image is None:
            continue
        readers = len(set().union(*seen[name].values()))
        values = {label: str(int(2 * len(seen[name].get(label, ())) > readers)) for label in classes}
        labels.write(image, "", split, values)


def _write_boxes(
    conversion: Conversion, tables: dict[str, Path], images: ImageFiles, paths: dict[str, str | None]
) -> None:
    rows = [
        (split, path, row)
        for split, path in tables.items()
        for row in conversion.rows(path, ("image_id", "class_name", *_CORNERS), ("rad_id",))
    ]
    for split, path, row in rows:
        _path(conversion, images, paths, split, row.values["image_id"], path, row.number)
    there = {name: path for name, path in paths.items() if path is not None}
    headers = conversion.headers(there.values())
    classes = sorted({row.values["class_name"] for _, _, row in rows} - {_NO_FINDING, ""})
    if rows and not classes:
        raise UserError(f"{rows[0][1]} has no box: every class_name is {_NO_FINDING!r} or empty.")
    boxes = conversion.output.boxes(classes)
    for path_of_image in dict.fromkeys(there.values()):
        if header := headers.get(path_of_image):
            boxes.image(path_of_image, header.width, header.height)
    for _, path, row in rows:
        image = there.get(row.values["image_id"])
        if image is None or image not in headers or row.values["class_name"] == _NO_FINDING:
            continue
        try:
            left, top, right, bottom = (number(row.values[column]) for column in _CORNERS)
        except ValueError:
            conversion.malformed(path, row.number, "The box is not four numbers.")
            continue
        if not row.values["class_name"]:
            conversion.malformed(path, row.number, "class_name is empty.")
            continue
        reader = {"rad_id": row.values["rad_id"]} if row.values["rad_id"] else {}
        box = (left, top, right - left, bottom - top)
        boxes.box(image, row.values["class_name"], box, file=path, row=row.number, **reader)
