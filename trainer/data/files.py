"""Folders that a killed command leaves unfinished and the next one finishes: one writer at a time, files whole or not there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from trainer.errors import UserError

if sys.platform != "win32":
    import fcntl


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under another name, and give it its own when it is on the disk."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, document: Any) -> None:
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_file(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """The document, None where there is none that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and hold it against other processes. UserError where one holds it, or it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}. Choose another folder with --cache.") from None
    with lock:
        if sys.platform != "win32":
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"{folder} is being written by another process. Wait for it, then try again.") from None
        yield
