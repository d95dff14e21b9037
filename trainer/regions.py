"""Where findings are: `boxes.json` (COCO), `masks/<class>/<image stem>.png`, or `masks.csv` with run lengths, as masks."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.errors import UserError
from trainer.labels import read_labels

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Region:
    """What is marked of one class in one image. `size` is (height, width) of the image that the marks are drawn in."""

    image: str
    name: str
    size: tuple[int, int] | None
    boxes: tuple[tuple[float, float, float, float], ...] = ()  # x, y, width, height in pixels
    mask_file: Path | None = None
    counts: str | None = field(default=None, repr=False)  # pixels outside, inside, outside … down the columns

    def mask(self) -> Mask:
        """(H, W), true where the finding is. UserError where the file cannot be read or a run leaves the image."""
        if self.mask_file is not None:
            return _read_png(self.mask_file)
        if self.size is None:
            raise UserError(f"The size of the image {self.image} is not known; boxes.json must give height and width.")
        height, width = self.size
        if self.counts is not None:
            return _from_counts(self.counts, height, width, self.image)
        mask = np.zeros((height, width), bool)
        for x, y, w, h in self.boxes:
            mask[max(0, round(y)) : max(0, round(y + h)), max(0, round(x)) : max(0, round(x + w))] = True
        return mask


def read_regions(path: Path, images: dict[str, str] | None = None) -> list[Region]:
    """The regions of a COCO file, of a folder of masks or of a run-length CSV, by image and class.

    Args:
        path: `boxes.json`, `masks/` or `masks.csv`.
        images: image path by stem, for a folder of masks, whose files have the stem of their image.
    Raises:
        UserError: the path does not exist or is not what it should be.
    """
    if path.is_dir():
        regions = list(_of_folder(path, images or {}))
    elif path.suffix.lower() == ".json":
        regions = _of_coco(path)
    elif path.suffix.lower() == ".csv":
        regions = _of_csv(path)
    else:
        raise UserError(f"{path}: expected boxes.json (COCO), a folder of masks, or a run-length CSV.")
    if not regions:
        raise UserError(f"{path} marks nothing.")
    return regions


def regions_of(path: Path, labels: Path | None, split: str | None) -> list[Region]:
    """The regions of the images of a labels.csv, or of one split of it, or all where there is none.

    UserError as `read_regions`, or where no image of the labels is marked.
    """
    if labels is None:
        if split is not None or path.is_dir():
            raise UserError(f"{path}: give --labels FILE, which says where the images are and in which split.")
        return read_regions(path)
    read = read_labels(labels)
    wanted = {image for image, name in zip(read.images, read.splits, strict=True) if split in (None, name)}
    if not wanted:
        raise UserError(f"{labels} has no image of the split {split}; expected train, val or test.")
    found = read_regions(path, images_by_stem(list(read.images), labels) if path.is_dir() else None)
    kept = [region for region in found if region.image in wanted]
    if not kept:
        raise UserError(
            f"{path} marks no image of {labels}, such as {min(wanted)}; image paths must be the same in both."
        )
    return kept


def _of_folder(folder: Path, images: dict[str, str]) -> Iterator[Region]:
    for class_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
        for file in sorted(class_folder.glob("*.png")):
            yield Region(images.get(file.stem, file.stem), class_folder.name, None, mask_file=file)


def _of_coco(path: Path) -> list[Region]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        names = {entry["id"]: str(entry["name"]) for entry in document["categories"]}
        images = {entry["id"]: entry for entry in document["images"]}
        grouped: dict[tuple[Any, Any], list[tuple[float, float, float, float]]] = {}
        for annotation in document["annotations"]:
            x, y, w, h = map(float, annotation["bbox"])
            grouped.setdefault((annotation["image_id"], annotation["category_id"]), []).append((x, y, w, h))
        return [
            Region(
                str(images[image]["file_name"]),
                names[category],
                (int(images[image]["height"]), int(images[image]["width"])),
                tuple(boxes),
            )
            for (image, category), boxes in grouped.items()
        ]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a COCO file: expected images (id, file_name, height, width), categories (id, name) and "
            f"annotations (image_id, category_id, bbox); {type(error).__name__}."
        ) from None


def _of_csv(path: Path) -> list[Region]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            wanted = ("image", "class", "width", "height", "counts")
            if missing := [name for name in wanted if name not in (reader.fieldnames or ())]:
                raise UserError(f"{path} has no column `{missing[0]}`; expected {', '.join(wanted)}.")
            return [
                Region(row["image"], row["class"], (int(row["height"]), int(row["width"])), counts=row["counts"])
                for row in reader
            ]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None


def _from_counts(text: str, height: int, width: int, image: str) -> Mask:
    """COCO's run lengths: pixels outside, inside, outside and so on, down the columns from the left."""
    try:
        counts = np.asarray([int(number) for number in text.split()], np.int64)
        if (counts < 0).any() or counts.sum() != height * width:
            raise ValueError
    except ValueError:
        raise UserError(
            f"The counts of {image} do not cover the image of {width} × {height} pixels; expected numbers of pixels outside, "
            "inside, outside … down the columns."
        ) from None
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def _read_png(path: Path) -> Mask:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(np.asarray(image.convert("L")) > 127)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        raise UserError(f"{path} cannot be read as an image.") from None


def images_by_stem(images: Iterator[str] | list[str], path: Path) -> dict[str, str]:
    """Image paths by their stem. UserError where two have the same, since masks could not be told apart."""
    found: dict[str, str] = {}
    for image in images:
        stem = PurePosixPath(image).stem
        if stem in found:
            raise UserError(f"{path}: {found[stem]} and {image} have the same name, so a mask cannot tell them apart.")
        found[stem] = image
    return found
