"""How far a long command has come: a bar on a terminal, a line every half minute in a log. Always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

LOG_SECONDS = 30.0


class Progress(Protocol):
    def start(self, total: int, done: int) -> None:
        """There are about `total` items, of which `done` were finished by an earlier run."""

    def update(self, done: int) -> None:
        """So many items are finished."""


@contextmanager
def progress(what: str, *, enabled: bool = True) -> Iterator[Progress]:
    """Show the progress of a command that is called `what`."""
    if not enabled:
        yield _Silent()
    elif sys.stderr.isatty():
        with _bar(what) as bar:
            yield bar
    else:
        yield _Log(sys.stderr, what)


class _Silent:
    def start(self, total: int, done: int) -> None:
        pass

    def update(self, done: int) -> None:
        pass


class _Log:
    def __init__(self, stream: TextIO, what: str) -> None:
        self._stream, self._what = stream, what
        self._total = self._first = 0
        self._started = self._printed = time.monotonic()

    def start(self, total: int, done: int) -> None:
        self._total, self._first = total, done
        self._started = time.monotonic()

    def update(self, done: int) -> None:
        now = time.monotonic()
        if now - self._printed < LOG_SECONDS:
            return
        self._printed = now
        rate = (done - self._first) / max(now - self._started, 1e-9)
        left = f", {_clock(max(0, self._total - done) / rate)} left" if rate > 0 else ""
        line = f"{self._what}: {done:,} of {self._total:,} rows, {rate:,.0f}/s{left}"
        print(line, file=self._stream, flush=True)


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class RateAndTimeLeft(ProgressColumn):
        first, started = 0, time.monotonic()

        def render(self, task: Task) -> Text:
            rate = (task.completed - self.first) / max(time.monotonic() - self.started, 1e-9)
            if task.total is None or rate <= 0:
                return Text("")
            return Text(f"{rate:,.0f} rows/s, {_clock(max(0.0, task.total - task.completed) / rate)} left")

    count = TextColumn("{task.fields[count]}")
    rate = RateAndTimeLeft()
    with Bar(
        TextColumn("{task.description}"), BarColumn(), count, rate, TimeElapsedColumn(), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task(what, total=None, count="reading")

        class Shown:
            total = 0

            def start(self, total: int, done: int) -> None:
                self.total, rate.first, rate.started = total, done, time.monotonic()
                bar.update(task, total=total)
                self.update(done)

            def update(self, done: int) -> None:
                bar.update(task, completed=done, count=f"{done:,} of {max(self.total, done):,}")

        yield Shown()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
