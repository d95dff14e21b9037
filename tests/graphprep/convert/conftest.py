"""A folder for a data set and one for what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "set"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"
