"""Commands run in this process, and how they end."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import typer


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """Both outputs without the boxes and line breaks of usage errors."""
        return " ".join(re.sub("[│╭╮╰╯─]", " ", self.out + self.err).split())


def runner(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """What runs a command of `app` with its arguments."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run
