"""Figures of a run as they come: `metrics.csv`, one row per step that has any, and TensorBoard beside it."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from trainer.checkpoint import write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Appends rows to a CSV file whose columns grow, and to TensorBoard where it is installed.

    Rows after `resume_step` are dropped: they are of a run that was broken off and is now repeated from there.
    """

    def __init__(self, folder: Path, *, resume_step: int | None = None, tensorboard: bool = True) -> None:
        self._path = folder / "metrics.csv"
        self._rows: dict[int, dict[str, str]] = {}
        self._columns = ["step"]
        if resume_step is not None and self._path.is_file():
            self._restore(resume_step)
        self._rewrite()
        self._board = _summary_writer(folder / "tensorboard", resume_step) if tensorboard else None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add figures to the row of a step."""
        row = {name: _text(value) for name, value in figures.items()}
        new = [name for name in row if name not in self._columns]
        again = step in self._rows
        self._rows[step] = {**self._rows.get(step, {"step": str(step)}), **row}
        self._columns += new
        if new or again:
            self._rewrite()
        else:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                self._writer(file).writerow(self._rows[step])
        if self._board is not None:
            for name, value in figures.items():
                if math.isfinite(value):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _restore(self, last: int) -> None:
        for row in read_metrics(self._path):
            if int(row["step"]) <= last:
                kept = {name: value for name, value in row.items() if value}
                self._rows[int(row["step"])] = kept
                self._columns += [name for name in kept if name not in self._columns]

    def _writer(self, file: io.TextIOBase | io.StringIO) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self._columns, lineterminator="\n")

    def _rewrite(self) -> None:
        text = io.StringIO()
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(self._rows[step] for step in sorted(self._rows))
        write_text(self._path, text.getvalue())


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv; a last row that was cut off is left out."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["step"].isdigit() and None not in row.values()]


def _text(value: float) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _summary_writer(folder: Path, resume_step: int | None) -> SummaryWriter | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the packages that tensorboard imports
            from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=None if resume_step is None else resume_step + 1)
