"""What is known of a `graphs/` folder while it is being written, so that a run can be killed at any moment and repeated.

    graphs/.progress/lock                held by the process that writes (the kernel lets go of it when the process ends)
    graphs/.progress/settings.json       what the folder is made from; written before anything else
    graphs/.progress/part-00000.json …   one record per finished shard; written after the shard's files are in place

A shard without its record is not there: its files are removed and it is made again. `manifest.json` is written last;
with it the folder is finished and `.progress` goes.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graphprep.errors import UserError
from graphprep.files import sha256_of
from schemas import TABLES

if sys.platform != "win32":
    import fcntl

Settings = Mapping[str, Any]

_PROGRESS = ".progress"
_SETTINGS = "settings.json"


@dataclass
class ShardRecord:
    """A finished shard: how many records of the input went into it, and what came out."""

    part: int
    consumed: int
    """Reports and rejects taken from the reader; a resumed run skips as many."""
    tables: dict[str, dict[str, Any]]
    """Table → its file (relative to the folder), rows and sha256."""
    rejected: dict[str, int]
    """Reason → rows."""
    concepts: dict[str, dict[str, int]]
    """Kind → concept → nodes."""


class GraphFolder:
    """A folder that graphs are written to; made by `opened`, which holds its lock."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.settings = settings
        self.shards: list[ShardRecord] = []
        self.manifest: dict[str, Any] | None = None
        """The manifest of a folder that is finished already; nothing is to be done then."""

    def add(self, record: ShardRecord) -> None:
        """Make a shard count as finished. Its files must be in place."""
        write_json(self.path / _PROGRESS / _record_name(record.part), asdict(record))
        self.shards.append(record)

    def finish(self) -> None:
        """Remove what only an unfinished folder needs. The manifest must be in place."""
        shutil.rmtree(self.path / _PROGRESS, ignore_errors=True)

    def prepare(self, overwrite: bool) -> None:
        """Find out what is there, under the lock; leave the folder ready for the first shard that is missing.

        The order of what is removed keeps the folder recognisable, and never wrongly finished, at every moment.
        """
        progress = self.path / _PROGRESS
        theirs = read_json(progress / _SETTINGS)
        manifest = read_json(self.path / "manifest.json")
        if manifest is not None and theirs is not None and _differences(manifest, theirs):
            manifest = None  # an interrupted --overwrite: the manifest is of the graphs before
        records = self._records() if manifest is None and theirs is not None else []

        if not overwrite:
            if manifest is not None:
                self._refuse_other_settings(manifest, "holds graphs")
                self.finish()
                self._verify(manifest)
                self.manifest = manifest
                return
            if records and theirs is not None:
                self._refuse_other_settings(theirs, "holds unfinished graphs")
                self.shards = records

        kept = {_record_name(record.part) for record in self.shards}
        for file in progress.glob("part-*.json*"):
            if file.name not in kept:
                file.unlink()
        write_json(progress / _SETTINGS, self.settings)
        self._remove_all_but(self.shards)

    def _records(self) -> list[ShardRecord]:
        """The records of finished shards, up to the first whose files are not as they were written."""
        records: list[ShardRecord] = []
        while (found := read_json(self.path / _PROGRESS / _record_name(len(records)))) is not None:
            record = ShardRecord(**found)
            if any(_damage(self.path, entry) for entry in record.tables.values()):
                break
            records.append(record)
        return records

    def _refuse_other_settings(self, theirs: Settings, what: str) -> None:
        different = _differences(theirs, self.settings)
        if different:
            raise UserError(
                f"{self.path} {what} made with other settings or input: {'; '.join(different)}. "
                "Give another folder, or --overwrite to replace them."
            )

    def _verify(self, manifest: Settings) -> None:
        entries = [entry for shard in manifest["shards"] for entry in shard["tables"].values()]
        for entry in [*entries, *manifest["vocabulary_files"].values()]:
            if damage := _damage(self.path, entry):
                raise UserError(f"{self.path} is finished, but {damage}. Give --overwrite to make it again.")

    def _remove_all_but(self, records: list[ShardRecord]) -> None:
        kept = {entry["file"] for record in records for entry in record.tables.values()}
        for name in ("manifest.json", "run.json"):
            (self.path / name).unlink(missing_ok=True)
        for pattern in (".manifest.json*", ".run.json*", *_OUR_FILES):
            for file in self.path.glob(pattern):
                if file.relative_to(self.path).as_posix() not in kept:
                    file.unlink()
        for name in (*TABLES, "vocab"):
            folder = self.path / name
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


_OUR_FILES = (
    *(f"{table}/{dot}part-[0-9]*.parquet*" for table in TABLES for dot in ("", ".")),
    *(f"vocab/{dot}{kind}.parquet*" for kind in ("anatomy", "pathology") for dot in ("", ".")),
)


@contextmanager
def opened(path: Path, settings: Settings, overwrite: bool) -> Iterator[GraphFolder]:
    """The folder, locked and prepared: finished, to be continued after `shards`, or empty of graphs.

    Raises:
        UserError: the folder is not ours, made with other settings, damaged, or being written by another process.
    """
    _refuse_foreign(path)
    folder = GraphFolder(path, settings)
    if (path / "manifest.json").exists() and not (path / _PROGRESS).exists() and not overwrite:
        folder.prepare(overwrite)  # finished or refused: nothing will be written, a read-only folder is as good
        yield folder
        return
    try:
        (path / _PROGRESS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot write there ({error.strerror}). Give another folder with -o.") from None
    with _locked(path):
        folder.prepare(overwrite)
        yield folder


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file so that it is there as a whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None where there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _record_name(part: int) -> str:
    return f"part-{part:05d}.json"


def _refuse_foreign(path: Path) -> None:
    """Refuse a folder with something in it that `extract` did not put there: not even --overwrite may touch it."""
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file; -o wants a folder for the graphs.")
    if all(entry.name == _PROGRESS for entry in path.iterdir()) or read_json(path / _PROGRESS / _SETTINGS):
        return
    manifest = read_json(path / "manifest.json")
    if manifest is None or not {"schema_version", "shards"} <= manifest.keys():
        raise UserError(
            f"{path} is not empty and holds no graphs made by graphprep; it is left alone, with --overwrite too. "
            "Give an empty or a new folder with -o."
        )


def _damage(folder: Path, entry: Mapping[str, Any]) -> str | None:
    """What is wrong with a file that was written, or None."""
    file = folder / entry["file"]
    if not file.is_file():
        return f"{entry['file']} is missing"
    return None if sha256_of(file) == entry["sha256"] else f"{entry['file']} has been changed"


def _differences(theirs: Settings, ours: Settings) -> list[str]:
    """What differs between the settings of two runs, in words. Only names that both hold are compared."""
    different: list[str] = []

    def compare(name: str, old: Any, new: Any) -> None:
        if isinstance(old, dict) and isinstance(new, dict):
            for key in sorted(old.keys() | new.keys()):
                compare(f"{name}.{key}", old.get(key), new.get(key))
        elif old != new:
            short = all(
                isinstance(value, (int, float, str, type(None))) and len(str(value)) <= 40 for value in (old, new)
            )
            different.append(f"{name} ({json.dumps(old)} there, {json.dumps(new)} now)" if short else name)

    for name in sorted(theirs.keys() & ours.keys()):
        compare(name, theirs[name], ours[name])
    return different


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold `path/.progress/lock`, which names its holder.

    The lock is the kernel's: it is gone when its process is, however that ended, so a lock file left behind is no lock.
    """
    if sys.platform == "win32":  # two processes in one folder are not noticed there
        yield
        return
    lock = path / _PROGRESS / "lock"
    while True:
        lock.parent.mkdir(exist_ok=True)
        with lock.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(f"{path} is being written by {holder}. Wait for it, or give another folder.") from None
            except OSError:
                pass  # a file system without locks
            if not _same_file(lock, file.fileno()):
                continue  # the holder before us finished and removed it between our opening and locking it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield
            return


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
