"""Files to read: from a path or from standard input, gzipped or not, as bytes or as text with its bad bytes marked.

Raises UserError where there is nothing that can be read: not there, a folder, empty, cut off.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import shutil
import stat
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, TextIO

from graphprep.errors import UserError

STDIN = "-"
GZIP_MAGIC = b"\x1f\x8b"
BAD_BYTES = "\udcff"
"""What stands for bytes that are not text: a lone surrogate, which no encoding gives."""

FORMAT_OF_SUFFIX = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""What the end of a name says about the format."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read, and its name for tables and messages: the base name, or `stdin`."""

    path: Path
    name: str

    @property
    def stem(self) -> str:
        """The name without the suffixes of format and compression; a dot elsewhere in it stays."""
        name = self.name
        for suffixes in ({".gz"}, FORMAT_OF_SUFFIX.keys()):
            suffix = Path(name).suffix.lower()
            if suffix in suffixes and len(name) > len(suffix):
                name = name[: -len(suffix)]
        return name


def find_source(path: str | Path) -> Source:
    """The file at a path, or what standard input holds (`-`). Raises UserError if there is nothing to read.

    Standard input can be read once, and rows are needed twice: it is kept in a temporary file while its stream lives.
    """
    if str(path) == STDIN:
        return Source(_spooled_stdin(), "stdin")
    source = Source(Path(path), Path(path).name)
    try:
        found = source.path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise UserError(f"{path} is a folder. Give the files in it, such as {Path(path, '*.csv')}.")
        if not stat.S_ISREG(found.st_mode):
            raise UserError(
                f"{path} is not a regular file and cannot be read twice. Pipe it in, and give - for standard input."
            )
        with source.path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}.") from None
    if found.st_size == 0:
        raise UserError(f"{path} is empty. Expected a table of reports.")
    return source


_BOMS = {  # UTF-32 first: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_spooled: weakref.WeakKeyDictionary[IO[bytes], Path] = weakref.WeakKeyDictionary()


def _spooled_stdin() -> Path:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise UserError("Standard input cannot be read: it is closed or not a stream of bytes.")
    if stream not in _spooled:
        # Reports are kept where nobody else can read them, on Linux in a file without a name: it does not outlive a kill.
        nameless = Path("/proc/self/fd").is_dir()
        file = tempfile.TemporaryFile() if nameless else tempfile.NamedTemporaryFile()  # noqa: SIM115
        weakref.finalize(stream, file.close)
        try:
            shutil.copyfileobj(stream, file)
            file.flush()
        except (OSError, ValueError) as error:
            raise UserError(f"Standard input cannot be read or kept in {tempfile.gettempdir()}: {error}.") from None
        _spooled[stream] = Path(f"/proc/self/fd/{file.fileno()}" if nameless else file.name)
    path = _spooled[stream]
    if path.stat().st_size == 0:
        raise UserError("Standard input is empty. Expected a table of reports.")
    return path


@contextmanager
def reading(source: Source) -> Iterator[None]:
    """Errors of a file that is damaged or cut off, as UserError."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(
            f"{source.name} is cut off or damaged: its gzip stream ends in an error. Get the file again."
        ) from None
    except OSError as error:
        raise UserError(f"{source.name} cannot be read: {error.strerror or 'the file is damaged'}.") from None


@contextmanager
def open_binary(source: Source) -> Iterator[BinaryIO | gzip.GzipFile]:
    """The bytes of a file, unpacked if it is gzipped. Raises UserError if it has the name of a gzip file only."""
    with source.path.open("rb") as file:
        if file.read(2) == GZIP_MAGIC:
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        elif source.name.lower().endswith(".gz"):
            raise UserError(
                f"{source.name} is not gzipped, though its name ends in .gz. Rename it, or get the file again."
            )
        else:
            file.seek(0)
            yield file


BAD_BYTES = "\udcff"
"""What stands for bytes that are not text: a lone surrogate, which no encoding gives."""


def _mark_bad_bytes(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError):
        return BAD_BYTES, error.end
    raise error


codecs.register_error("graphprep.mark", _mark_bad_bytes)


@contextmanager
def open_text(source: Source, encoding: str) -> Iterator[TextIO]:
    """The text of a file, line ends as they are, bad bytes marked; a byte order mark counts more than `encoding`."""
    with open_binary(source) as stream:
        head = stream.read(4)
        stream.seek(0)
        encoding = next((name for bom, name in _BOMS.items() if head.startswith(bom)), encoding)
        with io.TextIOWrapper(stream, encoding=encoding, errors="graphprep.mark", newline="") as text:
            yield text


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def seen_from(path: Path, folder: Path) -> str:
    """A path as seen from a folder, with forward slashes; absolute where there is no way from one to the other (another drive)."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()
