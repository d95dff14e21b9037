"""Any boxes and segmentations in the format of COCO: one JSON file or several, which may be the parts of a split."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphprep.convert import Conversion, register
from graphprep.convert.conversion import split_name
from graphprep.convert.image_files import ImageFiles
from graphprep.convert.run_lengths import mask_of_counts, unpack_counts
from graphprep.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SPLIT = re.compile(r"(?:^|[^a-z])(train|val|valid|validation|test)(?:[^a-z]|$)", re.IGNORECASE)


@dataclass(slots=True)
class _Document:
    """A file: its images by id with their paths under the root, the names of its categories by id, its annotations."""

    path: Path
    split: str
    images: dict[Any, dict[str, Any]]
    paths: dict[Any, str]
    categories: dict[Any, str]
    annotations: list[dict[str, Any]]


@register(
    "coco",
    "a JSON file in the format of COCO, or a folder (or annotations/ in it) with such files; images at file_name",
)
def convert_coco(conversion: Conversion) -> None:
    """Boxes, masks, and labels: 1 where an image has an annotation of the class, else 0."""
    images = conversion.images(key="path")
    documents = [_read(conversion, path, images) for path in _files(conversion)]
    classes = sorted({name for document in documents for name in document.categories.values()})
    labels = conversion.output.labels(classes)
    boxes = conversion.output.boxes(classes)
    masks = None
    for document in documents:
        by_image: dict[Any, list[tuple[int, dict[str, Any]]]] = {key: [] for key in document.paths}
        for row, annotation in enumerate(document.annotations, start=1):
            if problem := _problem(annotation, document):
                conversion.malformed(document.path, row, problem)
            elif annotation["image_id"] in by_image:
                by_image[annotation["image_id"]].append((row, annotation))
            else:
                conversion.output.count("annotations_of_missing_images")
        for key, found in conversion.track(list(by_image.items())):
            image, about = document.paths[key], document.images[key]
            present = {document.categories[annotation["category_id"]] for _, annotation in found}
            labels.write(image, "", document.split, {name: str(int(name in present)) for name in classes})
            boxes.image(image, about["width"], about["height"])
            union: dict[str, NDArray[np.bool_]] = {}
            for row, annotation in found:
                name = document.categories[annotation["category_id"]]
                crowd = {"iscrowd": 1} if annotation.get("iscrowd") else {}
                boxes.box(image, name, annotation["bbox"], file=document.path, row=row, **crowd)
                if not annotation.get("segmentation"):
                    continue
                try:
                    mask = _mask(annotation["segmentation"], about["width"], about["height"])
                except (ValueError, TypeError, KeyError):
                    detail = "The segmentation is neither polygons nor run lengths of the image's size."
                    conversion.malformed(document.path, row, detail)
                    continue
                union[name] = union[name] | mask if name in union else mask
            for name in sorted(union):
                masks = masks or conversion.output.masks(conversion.options.masks)
                masks.write(image, name, union[name])


def _files(conversion: Conversion) -> list[Path]:
    path = conversion.path
    if path.is_file():
        return [path]
    for folder in (path, path / "annotations"):
        # A folder of results is no annotation, and neither is what an earlier conversion wrote.
        found = sorted(file for file in folder.glob("*.json") if file.name not in ("convert.json", "boxes.json"))
        if found:
            return found
    raise conversion.lacking("*.json", "annotations/*.json", what="images, annotations and categories")


def _read(conversion: Conversion, path: Path, images: ImageFiles) -> _Document:
    conversion.output.record_input(path, conversion.path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        about = {entry["id"]: entry for entry in content["images"]}
        categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        annotations = list(content.get("annotations", []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path} is not in the format of COCO: expected a JSON object with images, annotations and categories. "
            "Give the file of annotations itself where a folder holds others."
        ) from None
    split = _SPLIT.search(re.sub(r"\d+", "", path.stem))
    document = _Document(path, split_name(split[1]) if split else "", about, {}, categories, annotations)
    by_name = _unique_names(images)
    for row, (key, entry) in enumerate(about.items(), start=1):
        size = (entry.get("width"), entry.get("height"))
        name = entry.get("file_name")
        if not isinstance(name, str) or not all(type(length) is int and length > 0 for length in size):
            conversion.malformed(path, row, "An image has no file_name, width and height.")
            continue
        stem = name.replace("\\", "/").rpartition(".")[0]
        stem = stem if stem in by_name or "/" in stem else by_name.get(f"*/{stem}", stem)
        image = conversion.image(images, by_name.get(stem, stem), name, path, row)
        if image is not None:
            document.paths[key] = image
    return document


def _unique_names(images: ImageFiles) -> dict[str, str]:
    """Key → key, and `*/name` → key where one image alone has the name: file_name often leaves the folder out."""
    names: dict[str, str] = {}
    twice: set[str] = set()
    for key in images.keys:
        name = f"*/{key.rpartition('/')[2]}"
        if name in names:
            twice.add(name)
        names[name] = key
        names[key] = key
    return {name: key for name, key in names.items() if name not in twice}


def _problem(annotation: Any, document: _Document) -> str | None:
    """What is wrong with an annotation."""
    if not isinstance(annotation, dict):
        return "An annotation is no object."
    for key, known in (("image_id", document.images), ("category_id", document.categories)):
        if not isinstance(annotation.get(key), int | str) or annotation[key] not in known:
            return f"An annotation has a {key} that is not in the file."
    box = annotation.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(x, int | float) and isfinite(x) for x in box)):
        return "The bbox of an annotation is not four numbers."
    return None


def _mask(segmentation: Any, width: int, height: int) -> NDArray[np.bool_]:
    """The mask of a segmentation. Raises ValueError, TypeError or KeyError if it is none."""
    if isinstance(segmentation, dict):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError("the mask is of another size")
        counts = segmentation["counts"]
        return mask_of_counts(unpack_counts(counts) if isinstance(counts, str) else counts, width, height)
    import numpy as np
    from PIL import Image, ImageDraw

    picture = Image.new("1", (width, height))
    draw = ImageDraw.Draw(picture)
    for corners in _polygons(segmentation):
        draw.polygon(corners, fill=1)
    return np.array(picture, dtype=bool)


def _polygons(segmentation: Any) -> Iterator[list[tuple[float, float]]]:
    for flat in segmentation:
        if len(flat) < 6 or len(flat) % 2:
            raise ValueError("a polygon has fewer than three corners, or half of one")
        yield [(float(x), float(y)) for x, y in zip(flat[::2], flat[1::2], strict=True)]
