"""`graphprep phantom` as it is typed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "graphprep", "phantom"]
SMALL = ["--n", "8", "--size", "48"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_a_phantom_is_made_and_then_left_alone(tmp_path: Path) -> None:
    first = run("-o", tmp_path / "demo", *SMALL, "--overlay", 2, "--workers", 1)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"{tmp_path / 'demo'}\n")
    assert "studies" in first.stdout
    assert (tmp_path / "demo" / "overlay.png").exists()
    second = run("-o", tmp_path / "demo", *SMALL)
    assert second.returncode == 0
    assert "was complete already" in second.stdout
    other = run("-o", tmp_path / "demo", *SMALL, "--seed", 1)
    assert other.returncode == 2
    assert "--overwrite" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.parametrize("option", [("--size", "3"), ("--contrast", "9"), ("--wrong", "2"), ("--n", "x")])
def test_a_bad_option_is_a_sentence(tmp_path: Path, option: tuple[str, str]) -> None:
    ended = run("-o", tmp_path / "demo", *option)
    assert ended.returncode == 2
    assert option[0] in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "demo").exists()


def test_quiet_says_nothing(tmp_path: Path) -> None:
    ended = run("-o", tmp_path / "demo", "--n", 1, "--size", 32, "-q")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise there")
def test_a_run_that_is_killed_is_finished_by_the_same_command(tmp_path: Path) -> None:
    arguments = [*PROGRAM, "-o", str(tmp_path / "demo"), "--n", "150", "--size", "64", "--workers", "1", "--no-masks"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = tmp_path / "demo" / ".progress"
    deadline = time.monotonic() + 60
    while not list(records.glob("batch-*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "demo" / "phantom.json").exists()
    again = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "were there from an earlier run" in again.stdout
    assert len(list((tmp_path / "demo" / "images").iterdir())) >= 150
    assert not records.exists()


def test_neither_spacy_nor_torch_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'spacy', 'medspacy'): sys.modules[name] = None\n"
        "from graphprep.phantom.make import PhantomOptions, make_phantom\n"
        f"make_phantom({str(tmp_path / 'demo')!r}, PhantomOptions(studies=2, size=32), overlay=1)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
