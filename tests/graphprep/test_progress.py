"""Progress: a bar with rate and time left on a terminal, now and then a line in a log, nothing when not wanted."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest

from graphprep.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("extract") as shown:
        shown.start(1_000, 400)
        time.sleep(0.05)
        shown.update(700)
    written = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.getvalue())
    assert "reading" in written
    last = written.strip().splitlines()[-1]
    assert re.search(r"extract .* 700 of 1,000 [\d,]+ rows/s, 0:00 left", last)
    rate = int(re.sub(r".* ([\d,]+) rows/s.*", r"\1", last).replace(",", ""))
    assert rate <= 300 / 0.05  # what an earlier run did is not this one's


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress("extract") as shown:
        shown.start(10_000, 1_000)
        for done, seconds in ((1_100, 10), (2_000, 10), (4_000, 10), (4_001, 1), (7_000, 29)):
            now += seconds
            shown.update(done)
    assert capsys.readouterr().err.splitlines() == [
        "extract: 4,000 of 10,000 rows, 100/s, 1:00 left",
        "extract: 7,000 of 10,000 rows, 100/s, 0:30 left",
    ]


def test_time_left_of_hours_and_of_nothing_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress("extract") as shown:
        shown.start(100_000, 0)
        for done in (0, 600):
            now += 30
            shown.update(done)
    assert capsys.readouterr().err.splitlines() == [
        "extract: 0 of 100,000 rows, 0/s",
        "extract: 600 of 100,000 rows, 10/s, 2:45:40 left",
    ]


def test_unwanted_it_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("graphprep.progress.LOG_SECONDS", 0.0)
    with progress("extract", enabled=False) as shown:
        shown.start(10, 0)
        shown.update(10)
    assert capsys.readouterr() == ("", "")
