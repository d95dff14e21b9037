"""Tiny models of all three names, built once; where torch or radgraph is not installed nothing here is collected."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("torch") is None or find_spec("radgraph") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import tiny_models
    import torch
    from tiny_models import ROOT, Tiny

    from graphprep.extractors.radgraph.folder import NAMES, ModelFolder, open_model
    from graphprep.extractors.radgraph.network import Network
    from graphprep.models import import_model


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The models are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name → the folder that `tiny_models.build` made."""
    place = tmp_path_factory.mktemp("models")
    return {name: tiny_models.build(place / name, name) for name in NAMES}


@pytest.fixture(scope="session")
def folder(published: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one model."""
    return _imported(published["radgraph-xl"], "radgraph-xl", tmp_path_factory.mktemp("folder") / "model").path


@pytest.fixture(scope="session", params=["radgraph", "radgraph-xl", "modern-radgraph-xl"])
def tiny(request: pytest.FixtureRequest, published: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    name = request.param
    made = _imported(published[name], name, tmp_path_factory.mktemp(name) / "model")
    return Tiny(name, published[name], made, Network(open_model(made.path), torch.device("cpu")))


def _imported(out: Path, name: str, folder: Path) -> ModelFolder:
    return import_model(tiny_models.archive(out, name), folder, encoder=out / "encoder")


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Findings or impressions of 300 real reports where they are at hand, else of the invented ones."""
    real = ROOT.parent / "shared" / "iu" / "reports.csv"
    with (real if real.exists() else ROOT / "tests" / "data" / "reports.csv").open(
        encoding="utf-8", newline=""
    ) as file:
        rows = list(csv.DictReader(file))[:300]
    return [
        text
        for number, row in enumerate(rows)
        if (text := (number % 4 == 0 and row["findings"]) or row["impression"] or row["findings"])
    ]
