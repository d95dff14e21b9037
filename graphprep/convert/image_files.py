"""The image files under a folder, found once, and what their headers say: size, and the patient of a DICOM file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from graphprep.errors import UserError

SUFFIXES = {"png": ("png",), "jpg": ("jpg", "jpeg"), "dicom": ("dcm", "dicom")}
"""Formats, the preferred first where an image is there in several, with the ends of their names."""


class ImageFiles:
    """The images under `root` with these suffixes, by key: the name without suffix (`stem`), or the path without (`path`).

    Of several files with one key the first is kept, in the order of `suffixes` and then of the paths; the others are in
    `duplicates`, each with the one that was kept. Links are followed; `excluded` and what is below it is not looked at.
    """

    def __init__(self, root: Path, key: str, suffixes: Sequence[str], excluded: Path) -> None:
        self.root = root
        self.duplicates: list[tuple[str, str]] = []
        self._taken: set[str] = set()
        self._paths: dict[str, str] = {}
        rank = {suffix: i for i, suffix in enumerate(suffixes)}
        for path in files_below(root, excluded):
            stem, _, suffix = path.rpartition(".")
            if suffix.lower() not in rank:
                continue
            name = stem if key == "path" else stem.rpartition("/")[2]
            kept = self._paths.setdefault(name, path)
            if kept != path:
                first, second = sorted((kept, path), key=lambda p: (rank[p.rpartition(".")[2].lower()], p))
                self._paths[name] = first
                self.duplicates.append((second, first))
        self.duplicates.sort()

    @property
    def any_there(self) -> bool:
        """Whether there is any image at all."""
        return bool(self._paths)

    @property
    def keys(self) -> list[str]:
        """The keys of all images, in order."""
        return sorted(self._paths)

    def take(self, key: str) -> str | None:
        """The path of an image relative to the root, with forward slashes; None if there is none. It is no surplus then."""
        path = self._paths.get(key)
        if path is not None:
            self._taken.add(key)
        return path

    def left_over(self) -> list[str]:
        """The paths of the images that were never taken, in order."""
        return sorted(path for key, path in self._paths.items() if key not in self._taken)


def files_below(root: Path, excluded: Path) -> Iterator[str]:
    """The files below a folder in order, relative to it, links being followed; not those that are hidden or excluded."""
    hidden = {_identity(excluded), _identity(excluded / "masks")}
    seen = {_identity(root)}
    for folder, subfolders, names in os.walk(root, followlinks=True):
        kept = []
        for name in sorted(subfolders):
            identity = _identity(Path(folder, name))
            if identity not in hidden and identity not in seen and not name.startswith("."):
                seen.add(identity)  # a link back up would lead round for ever
                kept.append(name)
        subfolders[:] = kept
        prefix = Path(folder).relative_to(root).as_posix()
        prefix = "" if prefix == "." else f"{prefix}/"
        for name in sorted(names):
            if not name.startswith("."):
                yield prefix + name


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_dev, found.st_ino


class Header(NamedTuple):
    """What the header of an image says: size in pixels, and the patient's id (DICOM only, else empty)."""

    width: int
    height: int
    patient: str = ""


def read_header(path: Path) -> Header | str:
    """The header of an image, or what is wrong with the file. Pixels are not decoded.

    Raises UserError if it is a DICOM file and pydicom is not installed.
    """
    if path.suffix.lower().removeprefix(".") in SUFFIXES["dicom"]:
        return _dicom_header(path)
    from PIL import Image

    try:
        with Image.open(path) as image:
            return Header(*image.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "It cannot be read as an image."


def _dicom_header(path: Path) -> Header | str:
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError:
        raise UserError(
            "The images are DICOM files, whose headers pydicom reads, which is not installed. "
            "Run `pip install pydicom`, or give PNG or JPEG images with --images ROOT."
        ) from None
    try:
        header = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=["Rows", "Columns", "PatientID", "SpecificCharacterSet"]
        )
        return Header(int(header.Columns), int(header.Rows), str(header.get("PatientID", "") or ""))
    except (InvalidDicomError, OSError, AttributeError, ValueError, TypeError, KeyError, EOFError):
        return "It cannot be read as DICOM with rows and columns."
