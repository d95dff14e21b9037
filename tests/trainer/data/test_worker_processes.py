"""Tasks over processes: all results, faults passed on, and no process that outlives the one it works for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.data.parallel import unordered
from trainer.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_has_its_result(workers: int) -> None:
    assert sorted(unordered(pow, ((number, 2) for number in range(20)), workers)) == [n * n for n in range(20)]


def test_an_error_of_a_worker_is_raised_here() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(unordered(int, [("1",), ("x",)], 2))


def test_a_worker_that_is_killed_is_said() -> None:
    with pytest.raises(UserError, match="fewer --workers"):
        list(unordered(os._exit, [(9,)], 2))


SCRIPT = """
import time
from trainer.data.parallel import unordered

results = unordered(time.sleep, [(0.01,), (600,), (600,)], 2)
next(results)
print("working", flush=True)
next(results)
"""


def test_workers_end_when_their_process_is_killed() -> None:
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"working\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)  # the output ends when the last process that could write to it has ended
    assert process.returncode == -signal.SIGKILL
