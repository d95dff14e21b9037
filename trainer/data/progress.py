"""How far a long preparation has come: a bar on a terminal, a line every half minute in a log. On standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Update = Callable[[int], None]
"""Called with the number of items that are finished."""

_LOG_SECONDS = 30.0


@contextmanager
def progress(what: str, total: int) -> Iterator[Update]:
    """Show the progress of `total` items."""
    if not sys.stderr.isatty():
        yield _log(what, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _log(what: str, total: int) -> Update:
    printed = time.monotonic()

    def update(done: int) -> None:
        nonlocal printed
        if time.monotonic() - printed >= _LOG_SECONDS:
            printed = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return update
