"""Models: fetched, imported from what somebody carried in, checked. Each becomes a folder that needs no network.

`fetch` is the only thing in this program that uses one. Archives are data: nothing of them is run, what could be is refused,
and weights are turned into safetensors without unpickling code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from graphprep.errors import UserError
from graphprep.extractors.radgraph.folder import (
    ENCODERS,
    NAMES,
    TOKENIZER_FILES,
    VOCABULARIES,
    ModelFolder,
    describe_model,
    label_files,
    open_model,
    read_json,
    record_model,
)
from graphprep.files import sha256_of


@dataclass(frozen=True)
class Published:
    """A model as it is published: an archive in a repository of the Hugging Face hub. `sha256` where it is known beforehand."""

    name: str
    about: str
    archive: str
    repository: str = "StanfordAIMI/RRG_scorers"
    sha256: str | None = None


PUBLISHED = {
    model.name: model
    for model in (
        Published(
            "radgraph", "The first model: chest radiographs, labels without measurements (BERT).", "radgraph.tar.gz"
        ),
        Published(
            "radgraph-xl",
            "Radiographs, CT and MRI of several regions, measurements too (BERT).",
            "radgraph-xl.tar.gz",
            sha256="fadb5a3454e8996714b609e3105a07e447fa61aa88fffe966b650959475117b6",
        ),
        Published("modern-radgraph-xl", "As radgraph-xl, with a ModernBERT encoder.", "modern-radgraph-xl.tar.gz"),
    )
}

_CODE = re.compile(
    r"\.(py[cdoxz]?|pyi|ipynb|so(\.\d+)*|dylib|dll|exe|bin|pkl|pickle|joblib|sh|bash|bat|cmd|ps1|js|jar|class|whl|egg|rb|pl|lua)$",
    re.IGNORECASE,
)
"""Names of what could be run, or is unpickled by those who load it. (`weights.th` is a pickle; only its tensors are read.)"""

_MAX_TEXT_BYTES = 64 << 20
"""So large may the files beside the weights be."""

Download = Callable[[str, str, Path], Path]
"""Fetches a file of a repository into a folder and returns its path, its hash checked. Raises FileNotFoundError."""


def fetch(name: str, output: str | Path, *, download: Download | None = None) -> ModelFolder:
    """Download a published model and its encoder's tokenizer, and make its folder. A download that was broken off goes on.

    Raises:
        UserError: the name is not known, the folder is not free, the network fails, or a hash is wrong.
    """
    model = PUBLISHED.get(name)
    if model is None:
        raise UserError(f"There is no model named {name}. Expected one of {', '.join(PUBLISHED)}.")
    output = Path(output)
    _refuse_taken(output)
    get = download or _hub_download
    cache = output.with_name(f".{output.name}.download")  # kept when this is broken off
    try:
        archive = get(model.repository, model.archive, cache)
    except FileNotFoundError:
        raise UserError(
            f"{model.repository} has no {model.archive} any more. Import an archive that somebody has."
        ) from None
    if model.sha256 is not None and sha256_of(archive) != model.sha256:
        archive.unlink()
        raise UserError(
            f"{model.archive} has another sha256 than the published archive ({model.sha256}). It was removed; fetch it again."
        )
    with _opened(archive) as source:
        encoder = _encoder_name(_configuration(source, archive))
    if not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", encoder):
        raise UserError(
            f"{model.archive} does not say which encoder it was made with. Import it, with --encoder FOLDER."
        )
    base = cache / "encoder"
    for file in ("config.json", *TOKENIZER_FILES):
        try:
            get(encoder, file, base)
        except FileNotFoundError:
            if file == "config.json":
                raise UserError(f"{encoder}, the encoder of {name}, has no {file}.") from None
    made = import_model(archive, output, encoder=base, name=name)
    shutil.rmtree(cache)
    return made


def import_model(
    source: str | Path, output: str | Path, *, encoder: str | Path | None = None, name: str | None = None
) -> ModelFolder:
    """Make the folder of a model from its archive (tar, compressed or not), or from a folder with what was in one.

    Args:
        source: as published, or with a folder `encoder` in it, or a folder made by this function, packed.
        output: the folder to write.
        encoder: the folder of the encoder's config.json and tokenizer, where the source holds none.
        name: the model's, where the source holds labels of several.

    Raises:
        UserError: the source is damaged, leaves its folder, holds code, or lacks something; the folder is not free.
    """
    source, output = Path(source), Path(output)
    _refuse_taken(output)
    staging = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with _opened(source) as opened:
            _stage(opened, source, staging, None if encoder is None else Path(encoder))
        if not (staging / "model.json").exists():
            _finish(staging, source, name)
        made = _checked(staging)
        if output.exists():
            output.rmdir()
        staging.replace(output)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return ModelFolder(output, made.name, made.encoder, made.files)


def verify(folder: str | Path) -> list[str]:
    """What is wrong with a model's folder; nothing, if it can be used. Raises UserError where it is no model's folder."""
    problems = list(describe_model(folder).problems())
    if not problems:
        try:
            _build(open_model(folder))
        except UserError as error:
            problems.append(str(error))
    return problems


# Archives


@dataclass(frozen=True)
class _Source:
    """The files of an archive or folder by their paths; `open` gives the bytes of one."""

    files: dict[PurePosixPath, int]
    open: Callable[[PurePosixPath], IO[bytes]]

    def root(self) -> PurePosixPath | None:
        """The folder that the model is in: that of the config.json with weights beside it."""
        roots = [
            path.parent
            for path in self.files
            if path.name == "config.json" and any(path.parent / each in self.files for each in _WEIGHTS)
        ]
        return min(roots, key=lambda root: len(root.parts), default=None)


_WEIGHTS = ("weights.safetensors", "weights.th")


@contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    """The files of an archive or folder, none of them written anywhere. Raises UserError where one is not to be trusted."""
    if path.is_dir():
        files = {}
        for each in sorted(path.rglob("*")):
            name = PurePosixPath(each.relative_to(path).as_posix())
            _refuse_code(name, path)
            if each.is_file():
                files[name] = each.stat().st_size
        yield _Source(files, lambda name: path.joinpath(*name.parts).open("rb"))
        return
    if not path.is_file():
        raise UserError(f"{path} is not there. Expected the archive of a model, or a folder with what was in it.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} cannot be read: permission denied.")
    try:
        with tarfile.open(path) as tar:
            members = {}
            for member in tar:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts or "\\" in member.name:
                    raise UserError(
                        f"{path}: {member.name!r} would leave the archive's folder. The archive is refused."
                    )
                if not (member.isfile() or member.isdir()):
                    raise UserError(f"{path}: {member.name!r} is neither a file nor a folder. The archive is refused.")
                if member.isfile():
                    _refuse_code(name, path)
                    members[name] = member
            sizes = {name: member.size for name, member in members.items()}

            def read(name: PurePosixPath) -> IO[bytes]:
                file = tar.extractfile(members[name])
                assert file is not None  # only links have none
                return file

            yield _Source(sizes, read)
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{path} is cut off, damaged or no tar archive. Get it again.") from None


def _refuse_code(name: PurePosixPath, path: Path) -> None:
    if _CODE.search(name.name):
        raise UserError(f"{path}: {str(name)!r} can hold code, and a model needs none. It is refused.")


def _stage(source: _Source, path: Path, staging: Path, encoder: Path | None) -> None:
    """Copy what a model consists of out of a source; everything else in it is left."""
    root = source.root()
    if root is None:
        raise UserError(f"{path} holds no config.json with weights.th beside it, so it is no RadGraph model.")
    own = {file.relative_to(root) for file in source.files if file.is_relative_to(root)}
    labels = {file for file in own if file.parent == PurePosixPath("vocabulary") and file.suffix == ".txt"}
    base = {file for file in own if file.parent == PurePosixPath("encoder") and file.name in _ENCODER_FILES}
    weights = next(each for each in _WEIGHTS if PurePosixPath(each) in own)
    wanted = {PurePosixPath("config.json"), PurePosixPath(weights), *labels, *base}
    record = PurePosixPath("model.json")
    if record in own and base and encoder is None:
        wanted.add(record)
    for file in sorted(wanted):
        if file.name != weights and source.files[root / file] > _MAX_TEXT_BYTES:
            raise UserError(f"{path}: {str(file)!r} is larger than any such file of a model. It is refused.")
        target = staging.joinpath(*file.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open(root / file) as stream, target.open("wb") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
        target.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
    if encoder is not None:
        if not encoder.is_dir():
            raise UserError(f"{encoder} is no folder. Expected the config.json and the tokenizer of the encoder in it.")
        shutil.rmtree(staging / "encoder", ignore_errors=True)
        (staging / "encoder").mkdir()
        for each in _ENCODER_FILES:
            if (encoder / each).is_file():
                shutil.copyfile(encoder / each, staging / "encoder" / each)


_ENCODER_FILES = ("config.json", *TOKENIZER_FILES)


def _finish(staging: Path, source: Path, name: str | None) -> None:
    """Make what was copied a model's folder: weights converted, code not referred to, everything recorded."""
    name = _name_of(staging, source, name)
    encoder = _encoder_name(read_json(staging / "config.json"))
    base = staging / "encoder"
    missing = [] if (base / "config.json").is_file() else ["config.json"]
    if not any((base / each).is_file() for each in VOCABULARIES):
        missing.append(f"a tokenizer ({', '.join(VOCABULARIES)})")
    if missing:
        raise UserError(
            f"{source} was published without {' and '.join(missing)} of its encoder ({encoder}). Carry these files in too, and give "
            "their folder with --encoder FOLDER."
        )
    config = read_json(base / "config.json")
    if config.get("model_type") not in ENCODERS:
        raise UserError(
            f"The encoder's config.json says model_type {config.get('model_type')!r}; expected {' or '.join(ENCODERS)}."
        )
    for document in ("config.json", "tokenizer_config.json"):
        if (base / document).is_file():
            _drop_code(base / document)
    if (staging / "weights.th").is_file():
        convert_weights = _convert_weights()
        convert_weights(staging / "weights.th", staging / "weights.safetensors")
        (staging / "weights.th").unlink()
    record_model(staging, name, encoder)


def _drop_code(path: Path) -> None:
    """Take out of a configuration what refers to code of the model's own; it is never run, and none is carried."""
    document = read_json(path)
    if document.pop("auto_map", None) is not None:
        path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _name_of(staging: Path, source: Path, name: str | None) -> str:
    labels = staging / "vocabulary"
    found = [each for each in NAMES if all((labels / file).is_file() for file in label_files(each))]
    if name is None and len(found) == 1:
        return found[0]
    if name in found:
        return name
    if name is None and found:
        raise UserError(f"{source} holds the labels of {', '.join(found)}. Say which is meant with --name NAME.")
    wanted = name or f"one of {', '.join(NAMES)}"
    raise UserError(
        f"{source} holds no labels of {wanted} (vocabulary/NAME__ner_labels.txt and __relation_labels.txt)."
    )


def _configuration(source: _Source, path: Path) -> dict[str, object]:
    root = source.root()
    if root is None:
        raise UserError(f"{path} holds no config.json with weights.th beside it, so it is no RadGraph model.")
    with source.open(root / "config.json") as file:
        try:
            document = json.loads(file.read(_MAX_TEXT_BYTES))
        except ValueError:
            document = None
    if not isinstance(document, dict):
        raise UserError(f"{path}: config.json is no JSON object.")
    return document


def _encoder_name(config: object) -> str:
    """What a model's configuration calls its encoder."""
    for key in ("dataset_reader", "token_indexers", "bert", "model_name"):
        config = config.get(key) if isinstance(config, dict) else None
    if not isinstance(config, str):
        raise UserError("The model's config.json does not name its encoder, so it is no RadGraph model's.")
    return config


def _refuse_taken(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is there already. Give a new folder with -o, or remove it.")


def _checked(staging: Path) -> ModelFolder:
    model = open_model(staging)
    _build(model)
    return model


def _build(model: ModelFolder) -> None:
    """Build the model once, so that what does not fit together is found now."""
    try:
        from graphprep.extractors.radgraph.labels import read_meanings
        from graphprep.extractors.radgraph.network import check_model
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None
    read_meanings(model)
    check_model(model)


def _convert_weights() -> Callable[[Path, Path], None]:
    try:
        from graphprep.extractors.radgraph.convert import convert_weights
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None
    return convert_weights


def _not_installed(error: ModuleNotFoundError) -> UserError:
    return UserError(
        f"Models need the package {error.name}, which is not installed. Install the extra: "
        "pip install 'cascading-graph-alignment[radgraph]'."
    )


# The hub


def _hub_download(repository: str, file: str, folder: Path) -> Path:
    """A file of the Hugging Face hub; one that was broken off is continued, and its hash compared with the hub's.

    The hub gives the sha256 of large files, and for small ones the hash that git has of them.
    """
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # its transfers do not go on where they were broken off
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
        )
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None
    try:
        published = get_hf_file_metadata(hf_hub_url(repository, file)).etag
        path = Path(hf_hub_download(repository, file, local_dir=folder))
    except OfflineModeIsEnabled:
        raise UserError(
            "HF_HUB_OFFLINE forbids the network, and `models fetch` needs it. Unset it, or import an archive."
        ) from None
    except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise FileNotFoundError(file) from None
        raise UserError(
            f"{file} of {repository} could not be fetched ({type(error).__name__}). Run the same command again to go on where it "
            "broke off, or carry the archive in and import it."
        ) from None
    if published is not None and published not in (sha256_of(path), _git_hash(path)):
        path.unlink()
        raise UserError(
            f"{file} of {repository} arrived with another hash than the hub has. It was removed; fetch it again."
        )
    return path


def _git_hash(path: Path) -> str:
    content = path.read_bytes() if path.stat().st_size <= _MAX_TEXT_BYTES else b""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
