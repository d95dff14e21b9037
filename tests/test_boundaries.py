"""The two programs meet only in `schemas`: neither imports the other, and graphprep's base imports no torch.

What runs a model is in one package, `graphprep.extractors.radgraph`: its modules alone may import torch, and no other module
imports them before they are needed.
"""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What a program must not import, at its base and in its code.
FORBIDDEN = {
    "graphprep": {
        "trainer",
        "torch",
        "torchvision",
        "transformers",
        "radgraph",
        "timm",
        "lightning",
        "torch_geometric",
    },
    "trainer": {"graphprep", "spacy", "medspacy", "radgraph"},
    "schemas": {"graphprep", "trainer", "torch", "spacy"},
}


# Modules that may import what is forbidden to the rest of their program.
EXEMPT = "graphprep.extractors.radgraph."


def modules_of(package: str) -> list[str]:
    return [package, *(module.name for module in pkgutil.walk_packages([str(ROOT / package)], prefix=f"{package}."))]


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_every_module_imports_where_the_forbidden_are_missing(package: str) -> None:
    if package == "trainer":
        pytest.importorskip("torch")
        pytest.importorskip("timm")
    # spaCy's thinc imports torch where there is one, so what counts is that nothing of ours needs it.
    names = [name for name in modules_of(package) if not name.endswith("__main__") and not name.startswith(EXEMPT)]
    script = (
        "import importlib\n"
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        f"missing = {FORBIDDEN[package]!r}\n"
        "PathFinder.find_spec = lambda name, *rest: None if name.split('.')[0] in missing else find(name, *rest)\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_no_line_imports_the_forbidden(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
                names = [node.module]
            found = {name.split(".")[0] for name in names} & FORBIDDEN[package]
            if path.is_relative_to(ROOT / Path(*EXEMPT.split("."))):
                found -= {"torch", "transformers", "radgraph"}
            assert not found, f"{path.relative_to(ROOT)} imports {found}"
