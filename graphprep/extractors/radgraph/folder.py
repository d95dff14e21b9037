"""The folder of a model: everything that it needs, so that it can be carried and runs without a network, on a read-only disk.

model.json               name, the encoder's published name, and the size and sha256 of every other file
config.json              the model's configuration, as published
weights.safetensors      all weights, the encoder's included
vocabulary/              the labels: one file per kind, and non_padded_namespaces.txt
encoder/                 config.json and tokenizer of the encoder
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from graphprep.errors import UserError
from graphprep.files import sha256_of

FORMAT = 1
NAMES = ("radgraph", "radgraph-xl", "modern-radgraph-xl")
ENCODERS = ("bert", "modernbert")
"""The encoders that the models are known to work with, as `model_type` of their configuration."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
"""What a tokenizer may consist of; one of `tokenizer.json`, `vocab.txt` and `vocab.json` is always among them."""
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")

MADE_BY = "Make the folder with `graphprep models import` or `graphprep models fetch`."


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder that is complete; `files` gives the size and sha256 of every file by its path in the folder."""

    path: Path
    name: str
    encoder: str
    files: dict[str, dict[str, Any]]

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def labels(self) -> Path:
        return self.path / "vocabulary"

    @property
    def base(self) -> Path:
        """The folder of the encoder's configuration and tokenizer."""
        return self.path / "encoder"

    def config(self) -> dict[str, Any]:
        """The model's configuration."""
        return read_json(self.path / "config.json")

    def encoder_config(self) -> dict[str, Any]:
        """The encoder's configuration. Raises UserError where it is of no kind that is known."""
        path = self.base / "config.json"
        config = read_json(path)
        if config.get("model_type") not in ENCODERS:
            raise UserError(f"{path}: model_type is {config.get('model_type')!r}; expected {' or '.join(ENCODERS)}.")
        return config

    def problems(self) -> Iterator[str]:
        """What is not as it was when the folder was made: files that are missing, cut off or changed."""
        for name, recorded in sorted(self.files.items()):
            path = self.path / name
            if not path.is_file():
                yield f"{path} is missing."
            elif path.stat().st_size != recorded["bytes"]:
                yield f"{path} has {path.stat().st_size:,} bytes; {recorded['bytes']:,} were recorded."
            elif sha256_of(path) != recorded["sha256"]:
                yield f"{path} has been changed: its sha256 is not the one that was recorded."


def open_model(path: str | Path | None) -> ModelFolder:
    """The model in a folder, every file checked against its recorded hash.

    Raises:
        UserError: no folder is given, it is no model's, or a file is missing or changed.
    """
    model = describe_model(path)
    for problem in model.problems():
        raise UserError(f"{problem} The model cannot be used. {MADE_BY}")
    return model


def describe_model(path: str | Path | None) -> ModelFolder:
    """What `model.json` says of a folder, its files not looked at. Raises UserError where there is none, or no good one."""
    if path is None:
        raise UserError(
            "The extractor radgraph needs a model: give its folder with --model FOLDER. "
            "`graphprep models list` shows which models there are, `graphprep models import` and `fetch` make the folder."
        )
    path = Path(path)
    record = path / "model.json"
    if not path.is_dir():
        raise UserError(f"{path} is no folder. Expected the folder of a model. {MADE_BY}")
    if not record.is_file():
        raise UserError(f"{path} holds no model.json, so it is no model's folder. {MADE_BY}")
    found = read_json(record)
    if found.get("format") != FORMAT:
        raise UserError(f"{record}: expected format {FORMAT}, found {found.get('format')!r}. {MADE_BY}")
    name, encoder, files = found.get("name"), found.get("encoder"), found.get("files")
    if name not in NAMES or not isinstance(encoder, str) or not isinstance(files, dict):
        raise UserError(f"{record}: expected `name` (one of {', '.join(NAMES)}), `encoder` and `files`. {MADE_BY}")
    for file, entry in files.items():
        at = PurePosixPath(file)
        if at.is_absolute() or ".." in at.parts or not isinstance(entry, dict) or not {"bytes", "sha256"} <= set(entry):
            raise UserError(f"{record}: every file needs a path in the folder, `bytes` and `sha256`. {MADE_BY}")
    if missing := sorted(_always(name) - files.keys()):
        raise UserError(f"{record} does not list {', '.join(missing)}. {MADE_BY}")
    if not any(f"encoder/{vocabulary}" in files for vocabulary in VOCABULARIES):
        raise UserError(f"{record} lists no vocabulary of the tokenizer ({', '.join(VOCABULARIES)}). {MADE_BY}")
    return ModelFolder(path, name, encoder, files)


def record_model(path: Path, name: str, encoder: str) -> ModelFolder:
    """Write `model.json` for the files that are in a folder."""
    names = sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
    files = {
        each: {"bytes": (path / each).stat().st_size, "sha256": sha256_of(path / each)}
        for each in names
        if each != "model.json"
    }
    document = {"format": FORMAT, "name": name, "encoder": encoder, "files": files}
    (path / "model.json").write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return describe_model(path)


def label_files(name: str) -> tuple[str, str]:
    """The files of the labels of mentions and of relations."""
    return f"{name}__ner_labels.txt", f"{name}__relation_labels.txt"


def _always(name: str) -> set[str]:
    labels = {f"vocabulary/{file}" for file in (*label_files(name), "non_padded_namespaces.txt")}
    return {"config.json", "weights.safetensors", "encoder/config.json", *labels}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError naming the file where it is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    except ValueError:
        raise UserError(f"{path} is not valid JSON.") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a JSON object.")
    return document
