"""The command as it is typed, in processes of its own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import trees

PROGRAM = [sys.executable, "-m", "graphprep"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_list() -> None:
    done = run("convert", "--list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines][:2] == ["chexpert", "chexpert-plus"]
    assert "Data_Entry_2017.csv" in next(line for line in lines if line.startswith("nih "))


def test_a_wrong_path(tmp_path: Path) -> None:
    done = run("convert", "nih", tmp_path / "wrong", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    expected = f"Error: nih: expected Data_Entry_2017*.csv (labels of the images) in {tmp_path}/wrong. There is no such folder.\n"
    assert done.stderr == expected


def test_from_a_set_to_graphs(tmp_path: Path) -> None:
    trees.mimic_cxr(tmp_path / "mimic cxr")
    done = run("convert", "mimic-cxr", tmp_path / "mimic cxr", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  reports\.csv +3$", done.stdout, re.MULTILINE)
    *_, following = done.stdout.splitlines()
    program, *arguments = shlex.split(following.removeprefix("Next: "))
    assert program == "graphprep"
    extracted = run(*arguments, "--workers", 1, "--check-images")
    assert extracted.returncode == 0, extracted.stderr
    assert re.search(r"^  reports +3$", extracted.stdout, re.MULTILINE)
    assert re.search(r"^  rejected rows +0$", extracted.stdout, re.MULTILINE)


def test_quiet_says_nothing(tmp_path: Path) -> None:
    trees.chexpert(tmp_path / "set")
    done = run("convert", "chexpert", tmp_path / "set", "-o", tmp_path / "out", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    again = run("convert", "chexpert", tmp_path / "set", "-o", tmp_path / "out", "--masks", "png")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize("arguments", [(), ("nih",), ("nih", "here")])
def test_what_must_be_given(arguments: tuple[str, ...]) -> None:
    assert run("convert", *arguments).returncode == 2
