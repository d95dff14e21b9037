"""`in_workers`: order, and what a worker process is and is not. How kills and interrupts end is tested in test_extract."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from importlib.util import find_spec

import pytest

from graphprep.errors import UserError
from graphprep.workers import TASKS_AHEAD, in_workers


def make_squarer() -> Callable[[int], tuple[int, int, bool]]:
    import spacy  # noqa: F401  (as the pipelines do)

    return square


def square(number: int) -> tuple[int, int, bool]:
    time.sleep(0.02 * (number % 3))  # later tasks may be done before earlier ones
    if number == 1000:
        raise ValueError("too large")
    return number * number, os.getpid(), "torch" in sys.modules


def test_results_come_in_order_from_processes_that_have_not_loaded_torch() -> None:
    found = list(in_workers(make_squarer, iter(range(20)), 2))
    assert [(task, result[0]) for task, result in found] == [(n, n * n) for n in range(20)]
    assert os.getpid() not in {result[1] for _, result in found}
    assert not any(result[2] for _, result in found)


def test_tasks_are_taken_only_so_far_ahead_and_an_early_end_is_clean() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(1_000):
            taken.append(number)
            yield number

    with closing(in_workers(make_squarer, tasks(), 1)) as results:
        task, (_, pid, _) = next(results)
    assert task == 0
    assert len(taken) == TASKS_AHEAD
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_exception_in_a_worker_is_the_caller_s() -> None:
    with closing(in_workers(make_squarer, iter([1, 1000]), 1)) as results, pytest.raises(ValueError, match="too large"):
        list(results)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError("handle is closed"), UserError),  # what Python's pool raises where it breaks in the middle of `submit`
        (OSError(errno.ENOMEM, "Cannot allocate memory"), OSError),
    ],
)
def test_a_pool_that_breaks_while_a_task_is_handed_over(
    raised: OSError, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(*_: object) -> None:
        raise raised

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    with pytest.raises(expected) as caught:
        list(in_workers(make_squarer, iter(range(3)), 1))
    assert ("worker process was ended" in str(caught.value)) == (expected is UserError)


def test_torch_is_kept_out_of_spacy_and_can_be_had_all_the_same() -> None:
    script = (
        "import sys\n"
        "from graphprep.workers import keep_torch_out\n"
        "keep_torch_out()\n"
        "import spacy\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "assert torch.ones(2).sum() == 2\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
