"""Worker processes: tasks go out in order, results come back in order, and nobody outlives anybody.

Only light modules are imported here, because what a worker has to do first must come before spaCy is imported.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

from graphprep.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

TASKS_AHEAD = 4
"""Tasks per worker that are taken before the result of the first of them is given."""


def in_workers(
    make: Callable[[], Callable[[T], R]], tasks: Iterator[T], workers: int
) -> Generator[tuple[T, R], None, None]:
    """Each task with its result, in order. To be closed, for the workers to end.

    Args:
        make: called once in every worker, gives what is called with the tasks. It must pickle, as tasks and results must.

    Raises:
        UserError: a worker was ended from outside.
    """
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start, (pickle.dumps(make),))
    pending: deque[tuple[T, Future[R]]] = deque()
    answered = False
    try:
        while True:
            for task in islice(tasks, TASKS_AHEAD * workers - len(pending)):
                with _interrupts_held_back():
                    pending.append((task, _submit(pool, task)))
            if not pending:
                return
            task, future = pending.popleft()
            yield task, future.result()
            answered = True
    except BrokenProcessPool:
        hint = "If memory ran out, give fewer --workers."
        if not answered:
            hint += " In a script of your own, call extract under `if __name__ == '__main__':`."
        raise UserError(
            f"A worker process was ended from outside. Finished shards are kept: run the same command again to go on. {hint}"
        ) from None
    finally:
        # However it ended, no worker has anything that is worth waiting for.
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _submit(pool: ProcessPoolExecutor, task: T) -> Future[Any]:
    try:
        return pool.submit(_work, task)
    except OSError as error:
        if error.errno is not None:
            raise
        # Python's own "handle is closed": the pool broke while the task was handed over, before it could say so itself.
        raise BrokenProcessPool(str(error)) from error


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_torch_out() -> None:
    """Import what spaCy needs of thinc so that it does not import torch, which costs 450 MB and a second in every process.

    spaCy's own torch layers cannot be used in the process afterwards; torch itself can.
    """
    if "torch" in sys.modules or "thinc.compat" in sys.modules:
        return
    modules: dict[str, Any] = sys.modules
    modules["torch"] = None  # an import of it fails
    try:
        import thinc.compat  # noqa: F401
    finally:
        del modules["torch"]


_function: Callable[[Any], Any]
"""In a worker: what `make` gave."""


def _start(pickled_make: bytes) -> None:
    global _function
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_torch_out()
    _function = pickle.loads(pickled_make)()


def _work(task: Any) -> Any:
    return _function(task)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next task for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C is this process's to answer, and comes a moment later; workers that are started in here never see it."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
