"""`graphprep phantom`: patients → images, masks, labels, boxes, reports and the graphs that the reports say, in one folder.

Images are drawn in batches of studies, by as many workers as there are; a batch counts when its record stands in `.progress`,
so that a run that was killed goes on when it is repeated. `phantom.json` is written last; with it the folder is finished.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from graphprep.errors import UserError
from graphprep.phantom import datasheet
from graphprep.phantom.labels import CLASSES, Truth, box_of, masks_by_class, place_columns
from graphprep.phantom.overlay import write_overlay
from graphprep.phantom.render import render
from graphprep.phantom.report import ReportOptions, write_report
from graphprep.phantom.sample import sample
from graphprep.phantom.scene import KINDS, Study
from graphprep.phantom.truth import TruthWriter
from graphprep.progress import progress as shown_progress
from graphprep.resume import read_json, write_json
from graphprep.vocabulary import load_vocabularies
from graphprep.workers import in_workers, processors

DRAWING = 1
"""Changes whenever the same options give other images or reports."""
BATCH = 25
"""Studies that are drawn in one piece of work."""
OWN = (
    "images",
    "masks",
    "truth",
    "reports.csv",
    "labels.csv",
    "labels-by-place.csv",
    "boxes.json",
    "datasheet.md",
    "overlay.png",
    "phantom.json",
    ".progress",
)
"""All that a phantom's folder holds; nothing else in it is ever touched."""


@dataclass(frozen=True)
class PhantomOptions:
    """What a phantom is made from; the same options give the same phantom.

    `studies`: pairs of image and report (one in ten has a second image). `size`: pixels along an edge. `contrast`: factor on
    the density of findings. `omissions`, `wrong`: see `graphprep.phantom.report.ReportOptions`. `masks`: whether to write them.

    Raises UserError where a value makes no sense.
    """

    studies: int = 600
    seed: int = 0
    size: int = 256
    contrast: float = 1.0
    omissions: float = ReportOptions().omissions
    wrong: float = ReportOptions().wrong
    masks: bool = True

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[str, float, float]] = {
            "studies": ("--n", 1, 200_000),
            "seed": ("--seed", 0, 2**31 - 1),
            "size": ("--size", 32, 2048),
            "contrast": ("--contrast", 0.1, 1.5),
            "omissions": ("--omissions", 0.0, 1.0),
            "wrong": ("--wrong", 0.0, 1.0),
        }
        for name, (flag, low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"{flag} is {value:g}. Expected a number from {low:,} to {high:,}.")

    @property
    def reports(self) -> ReportOptions:
        return ReportOptions(omissions=self.omissions, wrong=self.wrong)


@dataclass(frozen=True)
class PhantomSummary:
    """What a phantom's folder holds. `already_complete`: nothing was to be done. `resumed_from`: studies that were there."""

    output: Path
    studies: int
    subjects: int
    images: int
    boxes: int
    positives: dict[str, int]
    seconds: float
    already_complete: bool = False
    resumed_from: int = 0


def make_phantom(
    output: str | Path,
    options: PhantomOptions | None = None,
    *,
    workers: int | None = 1,
    overlay: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> PhantomSummary:
    """Write a phantom to a folder.

    Args:
        workers: processes that draw, None for one per processor, at most 8; what is written does not depend on it.
        overlay: write overlay.png with so many images, boxes and masks drawn on them; 0 for none.
        overwrite: replace a phantom that was made with other options.
        progress: show on standard error how far it has come.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    folder, options = Path(output), options or PhantomOptions()
    if not 0 <= overlay <= 100:
        raise UserError(f"--overlay is {overlay}. Expected a number from 0 to 100.")
    started = time.monotonic()
    try:
        finished = _prepare(folder, options, overwrite)
        if finished is None:
            finished = _make(folder, options, workers or min(processors(), 8), progress)
        if overlay:
            write_overlay(folder, sample(options.studies, options.seed), overlay, options.size, options.contrast)
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} cannot be written: {error.strerror or type(error).__name__}. "
            "Make room or give another folder with -o; the same command goes on where this one stopped."
        ) from error
    return PhantomSummary(output=folder, seconds=time.monotonic() - started, **finished)


def _settings(options: PhantomOptions) -> dict[str, Any]:
    return {"drawing": DRAWING, "options": asdict(options)}


def _prepare(folder: Path, options: PhantomOptions, overwrite: bool) -> dict[str, Any] | None:
    """Make the folder ready; the counts of a phantom that is finished already, else None.

    Raises UserError where another phantom, or something that is no phantom, is in the way.
    """
    wanted = _settings(options)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file. Give a folder with -o.")
    progress = folder / ".progress"
    # Settings of an unfinished phantom count more than the manifest, which may be of the one that it replaces.
    theirs = read_json(progress / "settings.json") or read_json(folder / "phantom.json")
    if theirs is None:
        found = sorted(name for name in OWN if (folder / name).exists())
        if found and found != [".progress"]:
            raise UserError(
                f"{folder} holds {found[0]}, and no phantom that can be recognised. Give another folder with -o."
            )
    elif not _same(theirs, wanted):
        if not overwrite:
            raise UserError(
                f"{folder} holds a phantom {_difference(theirs, wanted)}. Give another folder, or --overwrite."
            )
        for record in progress.glob("batch-*.json"):
            record.unlink()
    elif (manifest := read_json(folder / "phantom.json")) is not None and _same(manifest, wanted):
        shutil.rmtree(progress, ignore_errors=True)
        return {**manifest["counts"], "already_complete": True}
    progress.mkdir(parents=True, exist_ok=True)
    write_json(progress / "settings.json", wanted)
    (folder / "phantom.json").unlink(missing_ok=True)
    if not any(progress.glob("batch-*.json")):
        for name in OWN:
            if name != ".progress":
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return None


def _same(theirs: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return {key: theirs.get(key) for key in wanted} == wanted


_FLAGS = {"studies": "n"}
"""Options that have another name on the command line."""


def _difference(theirs: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Say how the phantom that is there was made."""
    if theirs.get("drawing") != wanted["drawing"]:
        return "of another version of graphprep"
    options = theirs.get("options", {})
    changed = [
        f"--no-{name}" if given is False else f"--{_FLAGS.get(name, name)}{'' if given is True else f' {given}'}"
        for name, value in wanted["options"].items()
        if (given := options.get(name)) != value
    ]
    return f"made with {' '.join(changed)}"


def _make(folder: Path, options: PhantomOptions, workers: int, progress: bool) -> dict[str, Any]:
    boxes, resumed_from = _draw_all(folder, options, workers, progress)
    counts = _write_tables(folder, options, boxes)
    _replace(folder / "datasheet.md", datasheet.text(_settings(options), counts))
    write_json(folder / "phantom.json", _settings(options) | {"counts": counts})
    shutil.rmtree(folder / ".progress")
    return counts | {"resumed_from": resumed_from}


# Images


@dataclass(frozen=True)
class _Batch:
    """Some studies in a row, `number` counted from 0."""

    number: int
    studies: tuple[Study, ...]


Boxes = list[list[list[int] | None]]
"""By image: for each finding of its study, in their order, x, y, width and height, or None where nothing is seen of it."""


def images_of(study: Study) -> list[str]:
    """The paths of a study's images in the phantom's folder."""
    return [f"images/{study.study_id}-{number + 1}.png" for number in range(study.images)]


def _batches(studies: Iterable[Study]) -> Iterator[_Batch]:
    waiting = iter(studies)
    number = 0
    while batch := tuple(islice(waiting, BATCH)):
        yield _Batch(number, batch)
        number += 1


def _draw_all(folder: Path, options: PhantomOptions, workers: int, progress: bool) -> tuple[dict[int, Boxes], int]:
    """Draw all images that are not there yet. Returns the boxes by batch, and how many studies were there."""
    boxes: dict[int, Boxes] = {}
    missing: list[_Batch] = []
    for batch in _batches(sample(options.studies, options.seed)):
        record = read_json(folder / ".progress" / f"batch-{batch.number:05d}.json")
        paths = [folder / path for study in batch.studies for path in images_of(study)]
        if record is None or not all(path.exists() for path in paths):
            missing.append(batch)
        else:
            boxes[batch.number] = record["boxes"]
    done = resumed_from = min(len(boxes) * BATCH, options.studies)
    with shown_progress("phantom", enabled=progress) as bar:
        bar.start(options.studies, done)
        drawn = _drawn(partial(_Drawer, folder, options), missing, min(workers, len(missing)))
        try:
            for batch, found in drawn:
                boxes[batch.number] = found
                write_json(folder / ".progress" / f"batch-{batch.number:05d}.json", {"boxes": found})
                done += len(batch.studies)
                bar.update(done)
        finally:
            drawn.close()
    return boxes, resumed_from


def _drawn(make: partial[_Drawer], missing: list[_Batch], workers: int) -> Generator[tuple[_Batch, Boxes], None, None]:
    if workers > 1:
        yield from in_workers(make, iter(missing), workers)
    else:
        drawer = make()
        for batch in missing:
            yield batch, drawer(batch)


class _Drawer:
    """Writes the images and masks of a batch."""

    def __init__(self, folder: Path, options: PhantomOptions) -> None:
        self._folder = folder
        self._options = options

    def __call__(self, batch: _Batch) -> Boxes:
        boxes: Boxes = []
        for study in batch.studies:
            for number, path in enumerate(images_of(study)):
                picture = render(study, number, self._options.size, self._options.contrast)
                self._write(path, picture.pixels)
                found = [box_of(mask) for _, mask in picture.findings]
                boxes.append([None if box is None else list(box) for box in found])
                if self._options.masks:
                    for name, mask in (picture.anatomy | masks_by_class(picture.findings)).items():
                        self._write(f"masks/{name}/{Path(path).name}", mask.astype(np.uint8) * np.uint8(255))
        return boxes

    def _write(self, path: str, pixels: npt.NDArray[np.uint8]) -> None:
        file = self._folder / path
        if not file.parent.is_dir():
            file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / ".progress" / path.replace("/", "-")
        Image.fromarray(pixels).save(temporary, format="PNG")
        temporary.replace(file)


# Tables


def _write_tables(folder: Path, options: PhantomOptions, boxes: dict[int, Boxes]) -> dict[str, Any]:
    """Write reports, labels, boxes and the reports' graphs. Returns what was counted."""
    truth = Truth(load_vocabularies(None, None)[1])
    positives: Counter[str] = Counter()
    subjects: set[str] = set()
    coco: dict[str, Any] = {
        "info": {"description": "Phantom chest radiographs; a test object, not patients", "drawing": DRAWING},
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(KINDS, 1)],
    }
    categories = {name: number for number, name in enumerate(KINDS, 1)}
    studies = 0
    with (
        TruthWriter(folder) as graphs,  # closed last: its manifest names the finished table of reports
        _Table(folder / "reports.csv") as report_rows,
        _Table(folder / "labels.csv") as label_rows,
        _Table(folder / "labels-by-place.csv") as place_rows,
    ):
        report_rows.add(["report_id", "subject_id", "study_id", "split", "images", "view", "findings", "impression"])
        label_rows.add(["image", "subject_id", "split", *CLASSES])
        place_rows.add(["image", "subject_id", "split", *place_columns()])
        for batch in _batches(sample(options.studies, options.seed)):
            found = iter(boxes[batch.number])
            for study in batch.studies:
                subjects.add(study.subject_id)
                text = write_report(study, options.reports)
                paths = images_of(study)
                report_rows.add(
                    [
                        study.report_id,
                        study.subject_id,
                        study.study_id,
                        study.split,
                        "|".join(paths),
                        study.view,
                        text.findings,
                        text.impression,
                    ]
                )
                graphs.add(study, text, [(path, study.view) for path in paths])
                studies += 1
                labels, places = truth.labels(study), truth.labels_by_place(study)
                for path in paths:
                    positives.update(name for name, value in labels.items() if value)
                    known = [path, study.subject_id, study.split]
                    label_rows.add([*known, *labels.values()])
                    place_rows.add([*known, *("" if value is None else value for value in places.values())])
                    image = {"id": len(coco["images"]) + 1, "file_name": path}
                    coco["images"].append(image | {"width": options.size, "height": options.size})
                    for finding, box in zip(study.findings, next(found), strict=True):
                        if box is not None:
                            coco["annotations"].append(
                                {
                                    "id": len(coco["annotations"]) + 1,
                                    "image_id": image["id"],
                                    "category_id": categories[finding.concept],
                                    "bbox": box,
                                    "area": box[2] * box[3],
                                    "iscrowd": 0,
                                    "side": finding.side,
                                    "zone": finding.zone,
                                    "severity": finding.severity,
                                }
                            )
    _replace(folder / "boxes.json", json.dumps(coco, separators=(",", ":")) + "\n")
    return {
        "studies": studies,
        "subjects": len(subjects),
        "images": len(coco["images"]),
        "boxes": len(coco["annotations"]),
        "positives": {name: positives[name] for name in CLASSES},
    }


class _Table:
    """A CSV file that is there as a whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.parent / ".progress" / path.name
        self._file = self._temporary.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def add(self, row: Iterable[object]) -> None:
        self._writer.writerow(row)

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None:
            self._temporary.replace(self._path)


def _replace(path: Path, content: str) -> None:
    temporary = path.parent / ".progress" / path.name
    temporary.write_text(content, encoding="utf-8", newline="\n")
    temporary.replace(path)
