"""labels.csv: `image`, `subject_id`, `split?`, and one column per class with 1, 0, -1 or nothing."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainer.errors import UserError

Uncertain = Literal["missing", "positive", "negative"]

#: Columns that are no class.
DESCRIPTIVE = ("image", "subject_id", "study_id", "report_id", "split", "view")

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
           "dev": "val", "test": "test", "testing": "test"}  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """`values` is (images, classes): 1, 0, or NaN where it is not known. `splits` are train, val or test."""

    path: Path
    images: tuple[str, ...]
    subjects: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    values: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        """The rows of a split."""
        return np.asarray([row for row, name in enumerate(self.splits) if name == split], np.int64)

    def of_classes(self, classes: Sequence[str]) -> Labels:
        """The same images with some of the classes. UserError for a class that is not there."""
        missing = [name for name in classes if name not in self.classes]
        if missing:
            raise UserError(f"{self.path} has no column {missing[0]!r}; it has {', '.join(self.classes)}.")
        columns = [self.classes.index(name) for name in classes]
        return replace(self, classes=tuple(classes), values=self.values[:, columns])


def read_labels(path: Path, *, uncertain: Uncertain = "missing", seed: int = 0) -> Labels:
    """Read labels. Without splits, 10 % of the subjects are validation and 20 % test, by hash.

    Args:
        uncertain: what -1 is; an empty cell is always missing.
    Raises:
        UserError: the file or a column is missing, a value is none of 1, 0, -1 and empty, an image stands twice, or a
            subject is in two splits.
    """
    header, rows = _read_rows(path)
    for needed in ("image", "subject_id"):
        if needed not in header:
            raise UserError(f"{path} has no column `{needed}`; expected image, subject_id, perhaps split, and classes.")
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise UserError(f"{path} has two columns `{min(repeated)}`.")
    classes = tuple(name for name in header if name not in DESCRIPTIVE)
    if not classes or not rows:
        raise UserError(f"{path} has no {'rows' if classes else 'classes'}.")
    cells = {name: [row[column].strip() for row in rows] for column, name in enumerate(header)}
    images, subjects = cells["image"], cells["subject_id"]
    _check_ids(path, images, subjects)
    given = cells.get("split", [""] * len(rows))
    if any(given):
        splits = [_split(path, number, name) for number, name in enumerate(given, start=2)]
    else:
        splits = [_hashed_split(subject, seed) for subject in subjects]
    _check_splits(path, subjects, splits)
    values = np.full((len(rows), len(classes)), np.nan, np.float32)
    meaning = {
        "1": 1.0,
        "0": 0.0,
        "": math.nan,
        "-1": {"missing": math.nan, "positive": 1.0, "negative": 0.0}[uncertain],
    }
    for column, name in enumerate(classes):
        for row_index, cell in enumerate(cells[name]):
            key = cell.removesuffix(".0")
            if key not in meaning:
                raise UserError(f"{path}, row {row_index + 2}, column `{name}`: expected 1, 0, -1 or nothing.")
            values[row_index, column] = meaning[key]
    return Labels(path, tuple(images), tuple(subjects), tuple(splits), classes, values)


def read_images(path: Path) -> tuple[list[str], list[str] | None]:
    """The columns `image` and, where there is one, `subject_id` of a CSV. UserError where there is no image."""
    header, rows = _read_rows(path)
    if "image" not in header or not rows:
        raise UserError(f"{path}: expected a column `image` and rows.")
    subjects = [row[header.index("subject_id")].strip() for row in rows] if "subject_id" in header else None
    return [row[header.index("image")].strip() for row in rows], subjects


def subjects_in_order(subjects: Sequence[str], seed: int) -> list[str]:
    """The distinct subjects in an order that depends on the seed alone, not on the order of the rows."""
    return sorted(set(subjects), key=lambda subject: (_hash(f"{seed}:{subject}"), subject))


def _read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows, each as long as the header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV in UTF-8: {error}.") from None
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise UserError(f"{path}, row {number}: expected {len(header)} cells, found {len(row)}.")
    return header, rows


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _hashed_split(subject: str, seed: int) -> str:
    share = _hash(f"split:{seed}:{subject}") / 2**64
    return "val" if share < 0.1 else "test" if share < 0.3 else "train"


def _split(path: Path, number: int, name: str) -> str:
    if name.lower() not in _SPLITS:
        raise UserError(f"{path}, row {number}: the split must be train, val or test.")
    return _SPLITS[name.lower()]


def _check_ids(path: Path, images: list[str], subjects: list[str]) -> None:
    seen: dict[str, int] = {}
    for number, (image, subject) in enumerate(zip(images, subjects, strict=True), start=2):
        if not image or not subject:
            raise UserError(f"{path}, row {number}: the {'image' if not image else 'subject_id'} is empty.")
        if image in seen:
            raise UserError(f"{path}, row {number}: the image stands in row {seen[image]} too; expected each once.")
        seen[image] = number


def _check_splits(path: Path, subjects: list[str], splits: list[str]) -> None:
    first: dict[str, str] = {}
    for number, (subject, split) in enumerate(zip(subjects, splits, strict=True), start=2):
        if first.setdefault(subject, split) != split:
            raise UserError(
                f"{path}, row {number}: the subject is in {first[subject]} and in {split}; split by subject."
            )
