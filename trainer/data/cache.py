"""Images decoded once, at the size of training, in one memory-mapped file.

    images.npy       uint8, (images, size, size); black where an image cannot be used
    index.parquet    path, usable, reason, detail, note, and size, time and sha256 of the file, in the order of images.npy
    rejects.csv      the images that cannot be used, and why
    store.json       settings, counts and the sha256 of every block of images; written last, so that it says `complete`
    .blocks/         one record for each finished block while the store is being made

Blocks are decoded by any number of processes; a killed run goes on behind its last finished blocks.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainer.data.files import locked, read_json, write_file, write_json
from trainer.data.images import DECODING, ImageError, decode_image, fit_square, image_path
from trainer.data.parallel import unordered
from trainer.data.progress import progress
from trainer.errors import UserError

BLOCK = 256
_INDEX = pa.schema(
    [
        ("path", pa.string()),
        ("usable", pa.bool_()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("note", pa.string()),
        ("bytes", pa.int64()),
        ("modified", pa.int64()),
        ("sha256", pa.string()),
    ]
)
_LOOKED_AT = 200
"""Files that are compared with the store when it is used again."""


class ImageStore:
    """A complete store. `store[rows]` are images, uint8, (rows, size, size).

    Raises:
        UserError: the folder holds no complete store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = read_json(folder / "store.json")
        try:
            self.settings: dict[str, Any] = settings["settings"]
            self._blocks: list[str] = settings["blocks"]
            self.images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
            self.usable: NDArray[np.bool_] = np.asarray(
                self.column("usable")
            )  # (images,) whether each could be decoded
        except (TypeError, KeyError, OSError, ValueError, pa.ArrowException):
            raise UserError(f"{folder} holds no complete image store. Make it with `trainer cache-images`.") from None
        if self.images.shape != (len(self.usable), self.size, self.size):
            raise UserError(
                f"{folder}: images.npy and index.parquet do not agree. Remove the folder and make it again."
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageStore, (self.folder,)

    @property
    def size(self) -> int:
        return int(self.settings["size"])

    def column(self, *names: str) -> Any:
        """A column of the index, or a table of several; read anew, since a large index is larger than what is needed of it."""
        table = pq.read_table(self.folder / "index.parquet", schema=_INDEX, columns=list(names))
        return table.column(0) if len(names) == 1 else table

    def __len__(self) -> int:
        return len(self.usable)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        return np.asarray(self.images[rows])

    def rows_of(self, paths: pa.Array | pa.ChunkedArray | Sequence[str]) -> NDArray[np.int64]:
        """Rows of some paths; −1 where an image is not here or cannot be used."""
        wanted = paths if isinstance(paths, pa.ChunkedArray) else pa.chunked_array([paths], pa.string())
        found = pc.index_in(wanted, value_set=self.column("path").combine_chunks())
        rows: NDArray[np.int64] = found.fill_null(-1).to_numpy().astype(np.int64)
        return np.where(np.append(self.usable, False)[rows], rows, -1)  # −1 is the place that was appended

    @property
    def rejected(self) -> dict[str, int]:
        """Reason → images."""
        return dict(sorted(Counter(reason for reason in self.column("reason").to_pylist() if reason).items()))

    def rejects(self) -> list[dict[str, str]]:
        """Path, reason and detail of every image that cannot be used."""
        rows: list[dict[str, str]] = self.column("path", "reason", "detail").filter(pa.array(~self.usable)).to_pylist()
        return rows

    def verify(self) -> list[str]:
        """What is wrong with the store: a sentence for each block whose pixels are not those that were written."""
        faults = []
        with progress("verify images", len(self)) as update:
            for block, expected in enumerate(self._blocks):
                if hashlib.sha256(self.images[block * BLOCK : (block + 1) * BLOCK].tobytes()).hexdigest() != expected:
                    last = min(len(self), (block + 1) * BLOCK) - 1
                    faults.append(f"{self.folder / 'images.npy'}: images {block * BLOCK} to {last} are damaged.")
                update(min(len(self), (block + 1) * BLOCK))
        return faults

    def outdated(self, root: Path) -> bool:
        """Whether files have changed since; a sample of them is looked at."""
        rows = np.unique(np.linspace(0, max(0, len(self) - 1), min(_LOOKED_AT, len(self))).astype(int))
        for row in self.column("path", "bytes", "modified", "sha256").take(rows).to_pylist():
            try:
                file = image_path(root, row["path"])
                status = file.stat()
                if (status.st_size, status.st_mtime_ns) == (row["bytes"], row["modified"]):
                    continue
                if status.st_size != row["bytes"] or hashlib.sha256(file.read_bytes()).hexdigest() != row["sha256"]:
                    return True
            except (OSError, ImageError):
                if row["bytes"] is not None:
                    continue  # images may be gone once they are here
        return False


def image_store(
    root: Path,
    paths: pa.Array | pa.ChunkedArray | Sequence[str],
    folder: Path,
    size: int,
    fit: str = "letterbox",
    workers: int = 1,
) -> ImageStore:
    """The store of these images below `folder`, made or finished where it is not complete.

    Args:
        root: image root.
        paths: relative to it, one at least; each is decoded once.
        folder: stores of several sizes lie side by side in it.
        workers: processes; the store is the same for any number.

    Raises:
        UserError: the folder cannot be written, another process writes there, or one that decodes was killed.
    """
    names = list(dict.fromkeys(paths)) if isinstance(paths, Sequence) else pc.unique(paths).to_pylist()
    listed = hashlib.sha256("\n".join(names).encode()).hexdigest()
    settings = {"decoding": DECODING, "size": size, "fit": fit, "images": len(names), "paths": listed}
    place = folder / f"images-{size}-{fit}-{listed[:12]}"
    if not _complete(place, settings, root):
        with locked(place):
            if not _complete(place, settings, root):  # another process may have made it meanwhile
                _build(place, root, names, settings, workers)
    return ImageStore(place)


def _complete(place: Path, settings: dict[str, Any], root: Path) -> bool:
    found = read_json(place / "store.json")
    if not isinstance(found, dict) or found.get("settings") != settings:
        return False
    try:
        return not ImageStore(place).outdated(root)
    except UserError:
        return False


def _build(place: Path, root: Path, names: list[str], settings: dict[str, Any], workers: int) -> None:
    records = place / ".blocks"
    started = records / "settings.json"
    pixels = place / "images.npy"
    if (place / "store.json").exists() or read_json(started) != settings or not pixels.exists():
        (place / "store.json").unlink(missing_ok=True)
        shutil.rmtree(records, ignore_errors=True)
        records.mkdir()
        shape = (len(names), settings["size"], settings["size"])
        pixels.unlink(missing_ok=True)
        np.lib.format.open_memmap(pixels, mode="w+", dtype=np.uint8, shape=shape)  # type: ignore[no-untyped-call]
        write_json(started, settings)

    blocks = range(-(-len(names) // BLOCK))
    finished = {block for block in blocks if read_json(_record(records, block)) is not None}
    missing = (
        (block, pixels, root, names[block * BLOCK : (block + 1) * BLOCK], settings["fit"])
        for block in blocks
        if block not in finished
    )
    with progress("decode images", len(names)) as update:
        for count, (block, record) in enumerate(unordered(_decode_block, missing, workers), len(finished) + 1):
            write_json(_record(records, block), record)
            update(min(len(names), count * BLOCK))

    whole = [read_json(_record(records, block)) for block in blocks]
    rows = [row for record in whole for row in record["rows"]]
    table = pa.Table.from_pylist(rows, schema=_INDEX)
    write_file(place / "index.parquet", lambda file: pq.write_table(table, file))
    write_file(place / "rejects.csv", lambda file: file.write(_rejects(rows)))
    write_json(place / "store.json", {"settings": settings, "blocks": [record["sha256"] for record in whole]})
    shutil.rmtree(records)


def _record(records: Path, block: int) -> Path:
    return records / f"block-{block:06d}.json"


def _decode_block(block: int, pixels: Path, root: Path, paths: list[str], fit: str) -> tuple[int, dict[str, Any]]:
    """Decode the images of a block into their place in the file."""
    images = np.load(pixels, mmap_mode="r+", allow_pickle=False)
    target = images[block * BLOCK : block * BLOCK + len(paths)]
    size = target.shape[1]
    rows = []
    for row, path in enumerate(paths):
        entry: dict[str, Any] = dict.fromkeys(_INDEX.names) | {"path": path, "usable": False}
        notes: list[str] = []
        target[row] = 0
        try:
            file = image_path(root, path)
            image = decode_image(file, at_least=2 * size, notes=notes)
            target[row] = fit_square(image, size, fit)
            entry["usable"] = True
            entry["note"] = " ".join(notes) or None
        except ImageError as error:
            entry["reason"], entry["detail"] = error.reason, error.detail
        entry |= _fingerprint(root, path)
        rows.append(entry)
    images.flush()
    return block, {"sha256": hashlib.sha256(target.tobytes()).hexdigest(), "rows": rows}


def _fingerprint(root: Path, path: str) -> dict[str, Any]:
    try:
        file = image_path(root, path)
        status = file.stat()
        with file.open("rb") as stream:
            digest = (
                hashlib.file_digest(stream, "sha256")
                if hasattr(hashlib, "file_digest")
                else hashlib.sha256(stream.read())
            )
        return {"bytes": status.st_size, "modified": status.st_mtime_ns, "sha256": digest.hexdigest()}
    except (OSError, ImageError):
        return {}


def _rejects(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason", "detail"])
    writer.writerows([row["path"], row["reason"], row["detail"]] for row in rows if not row["usable"])
    return text.getvalue().encode()
