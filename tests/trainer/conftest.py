"""Graph folders with images that are written once for all tests of the trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from handmade_pairs import HandmadePairs, write_pairs

torch.set_num_threads(1)  # small tensors: on busy processors, threads that wait for each other take many times as long


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> HandmadePairs:
    """240 pairs at 64 px in two parts of several row groups, with splits."""
    return write_pairs(tmp_path_factory.mktemp("pairs"), count=240)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for image stores and packs that tests share."""
    return tmp_path_factory.mktemp("cache")
