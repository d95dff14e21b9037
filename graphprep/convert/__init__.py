"""Published data sets to the same few files: `reports.csv` for `graphprep extract`, labels, boxes and masks for downstream tasks.

A converter is a function that takes a `Conversion`, reads what is at `conversion.path` and writes to
`conversion.output`; it is registered by name:

    @register("my-set", "the folder with reports.xml and images/")
    def convert_my_set(conversion: Conversion) -> None: ...

Every module of this package is looked through for such functions, and so is the entry point group `graphprep.converters`,
whose entry points are named as the set and lead to a function that is registered when it is imported.
"""

from __future__ import annotations

import pkgutil
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from graphprep.convert.conversion import Conversion, ConvertOptions
from graphprep.convert.output import Output
from graphprep.errors import UserError
from graphprep.progress import progress as shown_progress

__all__ = ["Conversion", "ConvertOptions", "Converter", "convert", "converters", "register", "summary_lines"]


@dataclass(frozen=True, slots=True)
class Converter:
    """A data set that can be converted: its name, what PATH must hold in one line, and the function."""

    name: str
    expects: str
    function: Callable[[Conversion], None]


_REGISTERED: dict[str, Converter] = {}


def register(name: str, expects: str) -> Callable[[Callable[[Conversion], None]], Callable[[Conversion], None]]:
    """Register a function as the converter of the set `name`; `expects` says in one line what PATH must hold."""

    def registered(function: Callable[[Conversion], None]) -> Callable[[Conversion], None]:
        _REGISTERED[name] = Converter(name, expects, function)
        return function

    return registered


def converters() -> dict[str, Converter]:
    """All converters by name, in alphabetical order."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    for point in entry_points(group="graphprep.converters"):
        point.load()
    return dict(sorted(_REGISTERED.items()))


def convert(
    source: str,
    path: str | Path,
    output: str | Path,
    options: ConvertOptions | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Convert the data set at `path` and return what `convert.json` in the folder `output` says of it.

    The files appear under their names when all is written. The same input gives the same bytes; files of an earlier run
    with the same result are replaced, other files need `overwrite`, and what no run wrote is never touched.

    Raises:
        UserError: no such converter, a file that the set must have is not there, or `output` holds something else or
            cannot be written.
    """
    known = converters()
    if source not in known:
        raise UserError(f"There is no converter {source!r}. Expected one of {', '.join(known)}.")
    options = options or ConvertOptions()
    try:
        with (
            Output(Path(output), source, options.settings(), overwrite) as written,
            shown_progress(f"convert {source}", enabled=progress) as shown,
        ):
            conversion = Conversion(source, Path(path), options, written, shown)
            known[source].function(conversion)
            return conversion.finish()
    except OSError as error:
        raise UserError(
            f"{error.filename or output} cannot be read or written: {error.strerror or type(error).__name__}. "
            "Look at it, make room, or give another folder with -o; nothing was converted."
        ) from error


def summary_lines(document: dict[str, Any], path: Path, output: Path, options: ConvertOptions) -> Iterator[str]:
    """What `convert` did, for the eye, from what it returned; with the next command where there are reports."""
    yield f"{output}"
    listed = {kind: found["count"] for kind, found in document["listed"].items()}
    rows = {
        **{name: file["rows"] for name, file in document["files"].items()},
        **{f"  {what.replace('_', ' ')}": count for what, count in document["counts"].items() if count},
    }
    width = max((len(name) for name in [*rows, *listed]), default=0) + 2
    for name, count in rows.items():
        yield f"  {name:<{width}}{count:>11,}"
    if listed:
        yield f"Listed in {output / 'missing.csv'}"
        for kind, found in document["listed"].items():
            more = ", …" if found["count"] > 3 else ""
            yield f"  {kind.replace('_', ' '):<{width}}{found['count']:>11,}  {', '.join(found['first'][:3])}{more}"
    for note in document["notes"]:
        yield f"Note: {note}"
    if "reports.csv" in document["files"]:
        root = options.images or (path.parent if path.is_file() else path)
        words = ["graphprep", "extract", output / "reports.csv", "--images", root, "-o", output / "graphs"]
        yield f"Next: {shlex.join(map(str, words))}"
