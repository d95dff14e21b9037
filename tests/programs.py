"""The programs in benchmarks/, loaded as modules and run as programs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load_program(path: Path) -> ModuleType:
    """The module of a program; what it adds to the search path is gone afterwards."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, path.stem, module)  # where its dataclasses look for it
        patch.setattr(sys, "path", [str(path.parent), *sys.path])  # as for a program that is run
        spec.loader.exec_module(module)
    return module


def run_program(path: Path, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, in `folder`, with the packages of this checkout."""
    return subprocess.run(
        [sys.executable, path, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
