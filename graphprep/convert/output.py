"""What a converter writes: reports, labels, boxes, masks, the list of what is missing, and `convert.json` about all of it.

Everything is written to a hidden folder beside the output's files and renamed at the end, `convert.json` last. Nothing in
the files depends on the time, the machine or the number of threads.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from graphprep.errors import UserError
from graphprep.files import GZIP_MAGIC, seen_from, sha256_of
from graphprep.resume import write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUMMARY = "convert.json"
FIRST = 10
"""So many names of each kind are in `convert.json`; all are in `missing.csv`."""

_PARTIAL = ".convert-partial"
_OURS = re.compile(r"reports\.csv|labels(-\w+)?\.csv|boxes\.json|masks(\.csv)?|missing\.csv")
_IDENTITY = ("source", "settings")
_FIRST_COLUMNS = ("report_id", "subject_id", "study_id", "split", "images", "view", "findings", "impression")


class Output:
    """The output of one conversion; a context manager. After an exception nothing of it is left.

    Raises UserError if the folder holds what another conversion wrote (unless `overwrite`), or anything else.
    """

    def __init__(self, folder: Path, source: str, settings: Mapping[str, str], overwrite: bool) -> None:
        self.folder = folder
        self.counts: dict[str, int] = {}
        """What `convert.json` counts, in the order in which it was first counted."""
        self._document: dict[str, Any] = {"source": source, "settings": dict(settings), "versions": {}, "notes": []}
        self.version("graphprep", metadata.version("cascading-graph-alignment"))
        self._overwrite = overwrite
        self._inputs: dict[str, dict[str, Any]] = {}
        self._lines: dict[Path, int] = {}
        self._listed: dict[str, dict[str, Any]] = {}
        self._tables: dict[str, _Table] = {}
        self._boxes: Boxes | None = None
        self._masks: Masks | None = None
        self._before = self._earlier()
        self._temporary = folder / _PARTIAL

    def __enter__(self) -> Output:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._temporary, ignore_errors=True)  # of a run that was killed
            self._temporary.mkdir()
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be written: {error.strerror}. Give another folder with -o."
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for table in self._tables.values():
            with suppress(OSError):  # of a full disk, which the exception tells already
                table.close()
        shutil.rmtree(self._temporary, ignore_errors=True)
        if kind is not None:
            with suppress(OSError):  # of a folder that holds something, or that something is mounted on
                self.folder.rmdir()

    # What a converter writes

    def reports(self, sections: Sequence[str] = ()) -> Reports:
        """Write `reports.csv`; `sections` are the columns behind findings and impression."""
        return Reports(self, self._table("reports.csv", (*_FIRST_COLUMNS, *sections)))

    def labels(self, classes: Sequence[str], name: str = "labels.csv") -> Labels:
        """Write a table of labels with a column for each class. Raises UserError if a class is called as another column."""
        if taken := sorted({"image", "subject_id", "split"} & set(classes)):
            raise UserError(f"A class is called {taken[0]!r}, which is another column of {name}. Rename the class.")
        table = self._table(name, ("image", "subject_id", "split", *classes))
        return Labels(self, table, list(classes), f"rows_of_{name}")

    def boxes(self, classes: Sequence[str]) -> Boxes:
        """Write `boxes.json` with these categories."""
        self._boxes = Boxes(self, classes)
        return self._boxes

    def masks(self, form: str) -> Masks:
        """Write masks, as `masks.csv` or as PNG files in `masks/`."""
        table = self._table("masks.csv", ("image", "class", "width", "height", "counts")) if form == "csv" else None
        self._masks = Masks(self, table, self._temporary / "masks")
        return self._masks

    def list_as(self, kind: str, name: str, *, file: str = "", row: int | None = None, detail: str = "") -> None:
        """List something that is missing, left over or cannot be used."""
        listed = self._listed.setdefault(kind, {"count": 0, "first": []})
        listed["count"] += 1
        if listed["count"] <= FIRST:
            listed["first"].append(name if row is None or name != file else f"{file}, row {row}: {detail}")
        table = self._tables.get("missing.csv") or self._table("missing.csv", ("kind", "name", "file", "row", "detail"))
        table.write((kind, name, file, "" if row is None else str(row), detail))

    def count(self, what: str, number: int = 1) -> None:
        """Count something that `convert.json` and the summary are to tell."""
        self.counts[what] = self.counts.get(what, 0) + number

    def note(self, sentence: str) -> None:
        """Say something of the whole set."""
        self._document["notes"].append(sentence)

    def version(self, name: str, version: str) -> None:
        """Say which version of something of the set was read."""
        if version:
            self._document["versions"][name] = version

    def record_input(self, path: Path, root: Path) -> None:
        """Note a table that is read: name, bytes, SHA-256."""
        try:
            name = path.relative_to(root).as_posix()
        except ValueError:
            name = path.name
        name = path.name if name == "." else name
        if name in self._inputs:
            return
        digest, size, lines = hashlib.sha256(), 0, 0
        packed = False
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                packed = packed or (size == 0 and block.startswith(GZIP_MAGIC))
                size += len(block)
                digest.update(block)
                lines += block.count(b"\n")
        self._inputs[name] = {"bytes": size, "sha256": digest.hexdigest()}
        self._lines[path] = _gzip_lines(path) if packed else lines

    def lines(self, path: Path) -> int:
        """The number of lines of a table that was recorded: about that of its rows."""
        return self._lines.get(path, 0)

    # Putting it into place

    def close(self, root: Path) -> dict[str, Any]:
        """Finish all files and give them their names; what `convert.json` says."""
        files: dict[str, Any] = {}
        for name, table in self._tables.items():
            table.close()
            files[name] = {"rows": table.rows, "sha256": sha256_of(self._temporary / name)}
        if self._boxes is not None:
            self._boxes.write(self._temporary / "boxes.json")
            files["boxes.json"] = {"rows": self._boxes.count, "sha256": sha256_of(self._temporary / "boxes.json")}
        if self._masks is not None and (self._temporary / "masks").is_dir():
            files["masks"] = {"rows": self._masks.count}
        document = {
            **self._document,
            "images": seen_from(root, self.folder),
            "inputs": dict(sorted(self._inputs.items())),
            "counts": self.counts,
            "listed": dict(sorted(self._listed.items())),
            "files": files,
        }
        document = json.loads(json.dumps(document))
        if self._before is not None and not self._overwrite and self._before != document:
            raise UserError(
                f"{self.folder} holds the output of other input. Give another folder, or --overwrite to replace it."
            )
        try:
            (self.folder / SUMMARY).unlink(missing_ok=True)
            for old in list(self.folder.iterdir()):
                if _OURS.fullmatch(old.name) and old.is_dir():
                    shutil.rmtree(old)
                elif _OURS.fullmatch(old.name) and old.name not in files:
                    old.unlink()
            for name in files:
                (self._temporary / name).replace(self.folder / name)
            write_json(self.folder / SUMMARY, document)
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written: {error.strerror}.") from None
        return dict(document)

    def _earlier(self) -> dict[str, Any] | None:
        """What `convert.json` says of the run before, whose files are to be replaced; None where there was none."""
        if not self.folder.exists():
            return None
        if not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file. Give a folder with -o.")
        names = {entry.name for entry in self.folder.iterdir()}
        if SUMMARY not in names and _PARTIAL in names:  # killed while it wrote or renamed
            return None
        before: Any = {"files": {}}
        try:
            if SUMMARY in names:
                before = json.loads((self.folder / SUMMARY).read_text(encoding="utf-8"))
            strange = sorted(name for name in names if _OURS.fullmatch(name) and name not in before["files"])
            same = all(before.get(key, value) == value for key, value in self._document.items() if key in _IDENTITY)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            strange, same = [SUMMARY], False
        if strange:
            raise UserError(
                f"{self.folder} holds {strange[0]}, which `graphprep convert` did not write. Give another folder with -o."
            )
        if not same and not self._overwrite:
            raise UserError(
                f"{self.folder} holds another conversion already. Give another folder, or --overwrite to replace it."
            )
        return dict(before) if SUMMARY in names else None

    def _table(self, name: str, columns: Sequence[str]) -> _Table:
        self._tables[name] = _Table(self._temporary / name, columns)
        return self._tables[name]


class _Table:
    """A CSV file that is being written."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._stream: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._stream, lineterminator="\n")
        self._writer.writerow(columns)
        self.columns = tuple(columns)
        self.rows = 0

    def write(self, row: Sequence[str]) -> None:
        self._writer.writerow(row)
        self.rows += 1

    def close(self) -> None:
        self._stream.close()


class Reports:
    """`reports.csv`: one row per study with all its images."""

    def __init__(self, output: Output, table: _Table) -> None:
        self._output = output
        self._table = table

    def write(
        self,
        report_id: str,
        texts: Mapping[str, str],
        images: Sequence[tuple[str, str]],
        *,
        subject_id: str = "",
        study_id: str = "",
        split: str = "",
    ) -> None:
        """Add a report; `texts` by column, `images` as (path, view), the view empty where it is not known."""
        self._output.count("reports")
        self._output.count("reports_without_images", not images)
        self._output.count("images", len(images))
        empty = not any(texts.get(column) for column in ("findings", "impression", "report"))
        self._output.count("reports_without_text", empty)
        values = {
            **texts,
            "report_id": report_id,
            "subject_id": subject_id,
            "study_id": study_id,
            "split": split,
            "images": _json([path for path, _ in images]) if images else "",
            "view": _json([view for _, view in images]) if any(view for _, view in images) else "",
        }
        self._table.write([values.get(column, "") for column in self._table.columns])


class Labels:
    """A table of labels: one row per image."""

    def __init__(self, output: Output, table: _Table, classes: list[str], counted_as: str) -> None:
        self._output = output
        self._table = table
        self._counted_as = counted_as
        self.classes = classes

    def write(self, image: str, subject_id: str, split: str, values: Mapping[str, str]) -> None:
        """Add an image; `values` by class are "1", "0", "-1" or "", which is also that of a class that is not there."""
        self._output.count(self._counted_as)
        self._table.write([image, subject_id, split, *(values.get(name, "") for name in self.classes)])


class Boxes:
    """`boxes.json` in the format of COCO: every image that was looked at, with boxes or without.

    Boxes are [x, y, width, height] in pixels of the image, from its upper left corner.
    """

    def __init__(self, output: Output, classes: Sequence[str]) -> None:
        self._output = output
        self._categories = {name: i for i, name in enumerate(classes, start=1)}
        self._images: dict[str, dict[str, Any]] = {}
        self._annotations: list[dict[str, Any]] = []

    @property
    def count(self) -> int:
        return len(self._annotations)

    def image(self, path: str, width: int, height: int) -> None:
        """Add an image."""
        if path not in self._images:
            self._output.count("images_in_boxes.json")
            self._images[path] = {
                "id": len(self._images) + 1,
                "file_name": path,
                "width": width,
                "height": height,
            }

    def box(self, path: str, name: str, box: Sequence[float], *, file: Path, row: int, **more: Any) -> None:
        """Add a box of a class to an image that was added; cut off at the image's edges, listed if nothing is left of it.

        `more`: further keys of the annotation.
        """
        image = self._images[path]
        x, y, width, height = box
        left, top = max(x, 0.0), max(y, 0.0)
        right, bottom = min(x + width, float(image["width"])), min(y + height, float(image["height"]))
        if right <= left or bottom <= top:
            detail = f"The box of {name} has no area within the image of {image['width']} × {image['height']} pixels."
            self._output.list_as("box_without_area", path, file=file.name, row=row, detail=detail)
            return
        self._output.count("boxes")
        self._output.count(
            "boxes_cut_at_the_edge", (left, top) != (x, y) or right - left < width or bottom - top < height
        )
        cut = [left, top, min(width, right - left), min(height, bottom - top)]
        self._annotations.append(
            {
                "id": len(self._annotations) + 1,
                "image_id": image["id"],
                "category_id": self._categories[name],
                "bbox": cut,
                "area": cut[2] * cut[3],
                "iscrowd": 0,
                **more,
            }
        )

    def write(self, path: Path) -> None:
        """Write the file, an object a line."""
        categories = [{"id": i, "name": name} for name, i in self._categories.items()]
        parts = {"images": list(self._images.values()), "annotations": self._annotations, "categories": categories}
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write("{")
            for i, (name, objects) in enumerate(parts.items()):
                file.write(f"{',' if i else ''}\n{_json(name)}: [\n")
                file.write(",\n".join(map(_json, objects)))
                file.write("\n]")
            file.write("\n}\n")


class Masks:
    """Masks: rows of `masks.csv`, or `masks/<class>/<image stem>.png` with 255 inside and 0 outside.

    A row holds the counts of COCO's uncompressed run lengths, with blanks between: column by column, the number of pixels
    outside, inside, outside and so on. A mask that is not there is empty where the class's label is 0.
    """

    def __init__(self, output: Output, table: _Table | None, folder: Path) -> None:
        self._output = output
        self._table = table
        self._folder = folder
        self._owners: dict[str, str] = {}
        self.count = 0

    def write(self, image: str, name: str, mask: NDArray[np.bool_]) -> None:
        """Add the mask of a class, of shape (height, width)."""
        from graphprep.convert.run_lengths import counts_of_mask

        self._output.count("masks")
        self.count += 1
        height, width = mask.shape
        if self._table is not None:
            counts = " ".join(map(str, counts_of_mask(mask)))
            self._table.write((image, name, str(width), str(height), counts))
            return
        from PIL import Image

        stem = PurePosixPath(image).stem
        file = f"{_folder_name(name)}/{stem}.png"
        owner = self._owners.setdefault(file, image)
        if owner != image:
            raise UserError(
                f"{owner} and {image} would have the same mask file, masks/{file}. Rename one, or use --masks csv."
            )
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype("uint8") * 255).save(path, format="PNG")


def _folder_name(name: str) -> str:
    """The name of a class as that of a folder."""
    cleaned = re.sub(r"[^\w .()+-]", "_", name).strip(" .")
    return cleaned or "_"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _gzip_lines(path: Path) -> int:
    try:
        with gzip.open(path) as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except (OSError, EOFError):
        return 0  # reading the rows says what is wrong
