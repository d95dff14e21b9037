"""Radiology reports to anatomy-pathology graphs.

    import graphprep

    for graph in graphprep.extract_texts(["Small left pleural effusion. The heart is normal in size."]):
        print(graphprep.to_networkx(graph).nodes(data=True))

    graphprep.extract(["reports.csv"], "graphs/")
    for graph in graphprep.open_graphs("graphs/"):
        print(graph.report.report_id, len(graph.nodes))

Importing the package loads nothing else; each name loads its module when it is first used. `graphprep.extract`,
`validate`, `evaluate`, `export`, `labels` and `import_radgraph` are functions: the modules of the same names are reached by
`from graphprep.extract import …`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphprep.errors import UserError
    from graphprep.evaluate import evaluate
    from graphprep.export import export
    from graphprep.extract import extract
    from graphprep.graphs import GraphFolder, open_graphs, to_networkx
    from graphprep.import_radgraph import import_radgraph
    from graphprep.labels import labels
    from graphprep.records import (
        Attribute,
        Edge,
        Image,
        Mention,
        Node,
        Reject,
        Relation,
        Report,
        ReportGraph,
        Section,
        Span,
    )
    from graphprep.validate import validate
    from graphprep.vocabulary import Vocabulary, load_vocabularies

    __version__: str

__all__ = [
    "Attribute",
    "Edge",
    "GraphFolder",
    "Image",
    "Mention",
    "Node",
    "Reject",
    "Relation",
    "Report",
    "ReportGraph",
    "Section",
    "Span",
    "UserError",
    "Vocabulary",
    "__version__",
    "evaluate",
    "export",
    "extract",
    "extract_texts",
    "import_radgraph",
    "labels",
    "load_vocabularies",
    "open_graphs",
    "to_networkx",
    "validate",
]

#: Public name → the module that defines it.
_HOME = {
    "UserError": "errors",
    "evaluate": "evaluate",
    "export": "export",
    "extract": "extract",
    "import_radgraph": "import_radgraph",
    "labels": "labels",
    "GraphFolder": "graphs",
    "open_graphs": "graphs",
    "to_networkx": "graphs",
    "validate": "validate",
    "Vocabulary": "vocabulary",
    "load_vocabularies": "vocabulary",
} | dict.fromkeys(
    (
        "Attribute",
        "Edge",
        "Image",
        "Mention",
        "Node",
        "Reject",
        "Relation",
        "Report",
        "ReportGraph",
        "Section",
        "Span",
    ),
    "records",
)


def extract_texts(texts: Sequence[str], **settings: Any) -> list[ReportGraph]:
    """The graphs of some report texts, in their order; report ids are "0", "1", …

    `settings` are the fields of `graphprep.pipeline.PipelineSettings`. Offsets are those of `graph.report.text`: the
    text after the normalisation of `graphprep.read.normalise_text`. The pipeline is built anew by every call (about half
    a second, two with the imports of the first call), so give all texts at once.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError("texts must be a sequence of strings, one a report")
    from graphprep.pipeline import Pipeline, PipelineSettings
    from graphprep.read import normalise_text
    from graphprep.records import Report

    reports = [Report(str(i), normalise_text(text), source="memory", source_row=i + 1) for i, text in enumerate(texts)]
    graphs: list[ReportGraph] = Pipeline(PipelineSettings(**settings)).run(reports)
    return graphs


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cascading-graph-alignment")
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps `graphprep.extract` the function, whoever imports the module of that name and when.

    The import system binds a submodule to its package under its name; for these names that would replace the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and _HOME.get(name) == name):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
