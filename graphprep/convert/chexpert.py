"""CheXpert: labels of 14 observations by image, -1 being uncertain."""

from __future__ import annotations

import re

from graphprep.convert import Conversion, register
from graphprep.convert.conversion import label_value
from graphprep.errors import UserError

_ABOUT = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
_TABLES = {"train": ("train.csv",), "val": ("valid.csv",), "test": ("test.csv", "test_labels.csv")}
_SUBJECT = re.compile(r"(?:^|/)(patient[^/]+)/study[^/]+/")


@register("chexpert", "train.csv and valid.csv (test.csv), and train/ and valid/ with the images")
def convert_chexpert(conversion: Conversion) -> None:
    """Labels as they are: 1, 0, -1 or empty."""
    paths = {split: path for split, names in _TABLES.items() if (path := conversion.find_optional(*names))}
    if not paths:
        raise conversion.lacking("train.csv", "valid.csv", what="labels of the images")
    images = conversion.images(key="path")
    by_key = {image_key(key): key for key in images.keys}
    classes: dict[str, None] = {}
    for path in paths.values():
        classes.update(dict.fromkeys(name for name in conversion.columns(path) if name not in _ABOUT))
    if not classes:
        raise UserError(f"{next(iter(paths.values()))} has no column of labels, only {', '.join(_ABOUT)}.")
    labels = conversion.output.labels(list(classes))
    for split, path in paths.items():
        for row in conversion.rows(path, ("Path",), list(classes)):
            published = row.values["Path"]
            subject = _SUBJECT.search(published)
            if subject is None:
                conversion.malformed(path, row.number, "Path does not name a patient, a study and an image.")
                continue
            try:
                values = {name: label_value(row.values[name]) for name in classes}
            except ValueError:
                conversion.malformed(path, row.number, "A label is not 1, 0, -1 or empty.")
                continue
            key = image_key(published.rpartition(".")[0])
            suffix = published.rpartition(".")[2]
            image = conversion.image(images, by_key.get(key, key), f"{key}.{suffix}", path, row.number)
            if image is not None:
                labels.write(image, subject[1], split, values)


def image_key(path: str) -> str:
    """A path without suffix from the folder of the split on, which is the same in all releases: `train/patient00001/…`."""
    parts = path.split("/")
    starts = [i for i, part in enumerate(parts) if part in ("train", "valid", "test")]
    return "/".join(parts[starts[-1] :]) if starts else path
