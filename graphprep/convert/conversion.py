"""What a converter works with: the files at the path, their tables row by row, the images, and the output."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from graphprep.convert.image_files import SUFFIXES, Header, ImageFiles, read_header
from graphprep.convert.output import Output
from graphprep.errors import UserError
from graphprep.files import find_source
from graphprep.formats import Fault, FormatSettings, open_table
from graphprep.formats import Row as TableRow
from graphprep.images import ImageRoot
from graphprep.progress import Progress
from graphprep.records import Image

ImageFormat = Literal["any", "png", "jpg", "dicom"]
MaskFormat = Literal["csv", "png"]
T = TypeVar("T")
R = TypeVar("R")

_SHOWN_EVERY = 500
_THREADS = 8
_SHOWN_NAMES = 8


@dataclass(frozen=True)
class ConvertOptions:
    """How a set is converted.

    `images`: the folder that image paths are relative to; None: the path of the set itself.
    `image_format`: use files of this format only.
    `masks`: `csv`, one file with run lengths, or `png`, one file per image and class.
    `encoding`: of text files.
    """

    images: Path | None = None
    image_format: ImageFormat = "any"
    masks: MaskFormat = "csv"
    encoding: str = "utf-8"

    def settings(self) -> dict[str, str]:
        """The options that the output depends on, apart from where the files lie."""
        return {"image_format": self.image_format, "masks": self.masks, "encoding": self.encoding}


class Row(NamedTuple):
    """A row of a table: its number among the data rows, from 1, and the values of the columns asked for, without blanks around."""

    number: int
    values: Mapping[str, str]


@dataclass
class Conversion:
    """One run of a converter."""

    source: str
    path: Path
    options: ConvertOptions
    output: Output
    progress: Progress
    _images: list[ImageFiles] = field(default_factory=list)
    _malformed: set[tuple[Path, int, str]] = field(default_factory=set)

    # The files of the set

    def find(self, *patterns: str, what: str) -> Path:
        """The file of the set with one of these names (`*` allowed, gzipped or not).

        Raises UserError, saying what was expected and what is there instead.
        """
        found = self.find_optional(*patterns)
        if found is None:
            raise self.lacking(*patterns, what=what)
        return found

    def lacking(self, *patterns: str, what: str) -> UserError:
        """The error of a set that lacks a file: what was expected and what is there instead."""
        names = " or ".join(patterns)
        return UserError(f"{self.source}: expected {names} ({what}) in {self.path}. {self._there()}")

    def find_optional(self, *patterns: str) -> Path | None:
        """As `find`; None where there is no such file. It is looked for in the folder, in those in it and in the image root."""
        if self.path.is_file():
            return self.path if any(self.path.match(name) for pattern in patterns for name in _gz(pattern)) else None
        for folder, prefix in ((self.path, ""), (self.path, "*/"), (self.root, "")):
            for pattern in patterns:
                for name in _gz(pattern):
                    found = sorted(path for path in folder.glob(prefix + name) if path.is_file())
                    if len(found) > 1:
                        names = ", ".join(str(path) for path in found[:_SHOWN_NAMES])
                        raise UserError(f"{self.source}: several files are called {name}: {names}. Leave one of them.")
                    if found:
                        return found[0]
        return None

    def _there(self) -> str:
        try:
            names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(self.path))
        except FileNotFoundError:
            return "There is no such folder."
        except NotADirectoryError:
            return "That is a file, not a folder."
        except OSError as error:
            return f"It cannot be opened: {error.strerror}."
        if not names:
            return "That folder is empty."
        more = f" and {len(names) - _SHOWN_NAMES:,} more" if len(names) > _SHOWN_NAMES else ""
        return f"Found there: {', '.join(names[:_SHOWN_NAMES])}{more}."

    def columns(self, path: Path) -> list[str]:
        """The names of a table's columns."""
        return [name for name in open_table(find_source(path), self._format).names if name]

    def rows(self, path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Row]:
        """The rows of a table, those that cannot be read being listed. Columns that are optional and absent give "".

        Raises UserError if a required column is not there.
        """
        table = open_table(find_source(path), self._format)
        lacking = [column for column in required if column not in table.names]
        if lacking:
            raise UserError(
                f"{path.name} has no column {lacking[0]!r}, which {self.source} needs "
                f"(expected: {', '.join(required)}). Its columns are: {', '.join(name for name in table.names if name)}."
            )
        wanted = [column for column in (*required, *optional) if column in table.names]
        absent = dict.fromkeys((column for column in optional if column not in table.names), "")
        self.output.record_input(path, self.path)
        self.progress.start(self.output.lines(path), 0)
        for row in table.rows(wanted):
            recovered = _without_empty_ends(row, table.names, wanted) if isinstance(row, Fault) else row
            if isinstance(recovered, Fault):
                self.malformed(path, recovered.number, recovered.detail)
                continue
            number, values = recovered
            if number % _SHOWN_EVERY == 0:
                self.progress.update(number)
            words = ["" if value is None else str(value).strip() for value in values]
            yield Row(number, {**absent, **dict(zip(wanted, words, strict=True))})

    def malformed(self, path: Path, row: int, detail: str) -> None:
        """List a row that cannot be used; once, however often a table is read."""
        if (path, row, detail) in self._malformed:
            return
        self._malformed.add((path, row, detail))
        self.output.list_as("malformed_row", path.name, file=path.name, row=row, detail=detail)

    def track(self, items: Sequence[T]) -> Iterator[T]:
        """The items, with progress."""
        self.progress.start(len(items), 0)
        for done, item in enumerate(items):
            if done % _SHOWN_EVERY == 0:
                self.progress.update(done)
            yield item

    def track_chunks(
        self, items: Sequence[T], read: Callable[[Sequence[T]], Sequence[R]], at_a_time: int
    ) -> Iterator[tuple[T, R]]:
        """Each item with what `read` gives for it, which is called with so many items at a time; with progress."""
        self.progress.start(len(items), 0)
        for start in range(0, len(items), at_a_time):
            chunk = items[start : start + at_a_time]
            yield from zip(chunk, read(chunk), strict=True)
            self.progress.update(start + len(chunk))

    @property
    def _format(self) -> FormatSettings:
        return FormatSettings(self.options.encoding, ",")

    # The images of the set

    @property
    def root(self) -> Path:
        """The folder that image paths are relative to."""
        if self.options.images is not None:
            return self.options.images
        return self.path.parent if self.path.is_file() else self.path

    def images(self, *, key: str = "stem") -> ImageFiles:
        """The image files under the root, to be asked for by stem, or by path without suffix (`key="path"`).

        What is left over in the end is listed as surplus.
        """
        if not self.root.is_dir():
            raise UserError(f"{self.source}: the image root {self.root} is not a folder. Name it with --images ROOT.")
        suffixes = [
            suffix for name, group in SUFFIXES.items() for suffix in group if self.options.image_format in ("any", name)
        ]
        images = ImageFiles(self.root, key, suffixes, self.output.folder)
        for path, kept in images.duplicates:
            self.output.list_as("duplicate_image", path, detail=f"{kept} is used in its place.")
        if not images.any_there:
            kind = "" if self.options.image_format == "any" else f" of the format {self.options.image_format}"
            self.output.note(
                f"No image{kind} is under the image root: paths and sizes are those that the set documents."
            )
        self._images.append(images)
        return images

    def image(self, images: ImageFiles, key: str, published: str, file: Path, row: int) -> str | None:
        """The path of an image, relative to the root; None, and listed, if it is missing.

        Where there are no images at all, the path that the set has it at is taken, which is `published`.
        """
        placed = self._image_root.place(Image(published))
        if not isinstance(placed, Image):
            self.malformed(file, row, "The path of the image is empty or leads out of the image root.")
            return None
        if not images.any_there:
            return placed.path
        path = images.take(key)
        if path is None:
            self.output.list_as("missing_image", published, file=file.name, row=row)
        return path

    @cached_property
    def _image_root(self) -> ImageRoot:
        return ImageRoot(self.root, check=False)

    def headers(self, paths: Iterable[str]) -> dict[str, Header]:
        """The headers of images by their path; images that cannot be read are listed and left out."""
        found: dict[str, Header] = {}
        with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
            warnings.simplefilter("ignore")  # pydicom's quote what is in the header

            def read(chunk: Sequence[str]) -> list[Header | str]:
                return list(pool.map(lambda path: read_header(self.root / path), chunk))

            for path, header in self.track_chunks(sorted(set(paths)), read, _SHOWN_EVERY):
                if isinstance(header, Header):
                    found[path] = header
                else:
                    self.output.list_as("unreadable_image", path, detail=header)
        return found

    def headers_or_published(self, images: ImageFiles, paths: Iterable[str], published: Header) -> dict[str, Header]:
        """The headers of images; where there are no images at all, that which the set documents for all of them."""
        return self.headers(paths) if images.any_there else dict.fromkeys(paths, published)

    def finish(self) -> dict[str, Any]:
        """List the surplus images, and put the files into place."""
        for images in self._images:
            for path in images.left_over():
                self.output.list_as("surplus_image", path)
        return self.output.close(self.root)


def _without_empty_ends(fault: Fault, names: Sequence[str], wanted: Sequence[str]) -> TableRow | Fault:
    """A row that has only more or fewer empty fields at its end than the header, as published tables do; else the fault."""
    content = fault.content if isinstance(fault.content, str) else ""
    lines = content.splitlines()
    if fault.reason != "malformed_row" or len(lines) != 1 or '"' in content or "\0" in content:
        return fault
    cells = lines[0].split(",")
    if any(cells[len(names) :]) or any(names[len(cells) :]):
        return fault
    row = dict(zip(names, cells, strict=False))
    return fault.number, tuple(row[name] for name in wanted)


def _gz(pattern: str) -> tuple[str, str]:
    return pattern, f"{pattern}.gz"


def split_name(name: str) -> str:
    """The name that a split has in the output: train, val or test; others stay."""
    folded = name.strip().lower()
    return {"training": "train", "validate": "val", "valid": "val", "validation": "val"}.get(folded, folded)


def label_value(text: str) -> str:
    """A label as the output has it: 1, 0, -1 or empty. ValueError for anything else."""
    if text.strip() == "":
        return ""
    value = float(text)
    if value not in (1.0, 0.0, -1.0):
        raise ValueError(text)
    return str(int(value))


def number(text: str) -> float:
    """A finite number. ValueError for anything else."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def digits_of(name: str) -> str:
    """The version that the name of a file gives (`mimic-cxr-2.0.0-split.csv` → `2.0.0`), else empty."""
    found = re.search(r"\d+(?:\.\d+)+|\d{4,}", name)
    return found.group() if found else ""
