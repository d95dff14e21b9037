"""One function over many tasks in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, TypeVar

from trainer.errors import UserError

Result = TypeVar("Result")


def unordered(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], workers: int) -> Iterator[Result]:
    """The results of `function(*task)` as they come, in this process if there is one worker.

    Raises:
        UserError: a process was killed; what was yielded before is good.
    """
    if workers <= 1:
        yield from (function(*task) for task in tasks)
        return
    running: set[Future[Result]] = set()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        for task in tasks:
            running.add(pool.submit(function, *task))
            if len(running) >= 3 * workers:  # memory does not grow with the tasks
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool:
        raise UserError(
            "A worker process was ended by the system, perhaps for lack of memory. Give the command again, with fewer "
            "--workers; what is done is kept. In a script of your own, call this under `if __name__ == '__main__':`."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C, which reaches every process of a terminal, to the one that waits; end when that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
