"""Models: imported from archives, fetched from a hub of our own, verified; used with the network cut off."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from tiny_models import ROOT

from graphprep.errors import UserError
from graphprep.extractors.radgraph.folder import open_model
from graphprep.models import PUBLISHED, fetch, import_model, verify

NAME = "radgraph-xl"
PROGRAM = [sys.executable, "-m", "graphprep"]

BLOCKED = """\
import os, socket
def refuse(*given, **named):
    open(os.environ["ATTEMPTS"], "a").write(repr(given) + "\\n")
    raise OSError("the network is cut off")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
"""


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def out(published: dict[str, Path]) -> Path:
    tiny_models.archive(published[NAME], NAME)
    return published[NAME]


@pytest.fixture
def archive(out: Path) -> Path:
    return out / f"{NAME}.tar.gz"


# From an archive to graphs


def test_import_extract_stats_with_the_network_cut_off(out: Path, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    attempts = tmp_path / "attempts"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    environment |= {
        "PYTHONPATH": str(tmp_path),
        "ATTEMPTS": str(attempts),
        "HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    folder, graphs = tmp_path / "model", tmp_path / "graphs"
    assert NAME in run("models", "import", archive, "-o", folder, "--encoder", out / "encoder")
    before = files_of(folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert "can be used" in run("models", "verify", folder)
        said = run(
            *("extract", "tests/data/reports.csv", "-o", graphs, "--extractor", "radgraph", "--model", folder),
            *("--device", "cpu", "--batch-tokens", 300, "--assertion", "model", "--workers", 1),
        )
        assert "reports" in said
        assert "radgraph" in run("stats", graphs)
        assert files_of(folder) == before
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert not attempts.exists()
    made = json.loads((graphs / "manifest.json").read_text())["extractor"]["settings"]
    assert (made["model"], made["assertion"]) == (NAME, "model")


def test_a_folder_is_the_same_from_archive_folder_and_copy(out: Path, archive: Path, tmp_path: Path) -> None:
    one = import_model(archive, tmp_path / "one", encoder=out / "encoder")
    two = import_model(out / "published" / NAME, tmp_path / "two", encoder=out / "encoder")
    with tarfile.open(tmp_path / "carried.tar.xz", "w:xz") as tar:
        tar.add(one.path, "some/where")
    three = import_model(tmp_path / "carried.tar.xz", tmp_path / "three")
    assert one.files == two.files == three.files
    assert (three.name, three.encoder) == (NAME, one.encoder)
    assert verify(three.path) == []
    suffixes = {Path(name).suffix for name in one.files}
    assert suffixes == {".json", ".txt", ".safetensors"}
    given = torch.load(out / "published" / NAME / "weights.th", weights_only=True)
    from graphprep.extractors.radgraph.convert import read_weights

    weights = read_weights(one.weights)
    assert weights.keys() == given.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in given.items())


def test_code_that_a_configuration_refers_to_is_forgotten(out: Path, archive: Path, tmp_path: Path) -> None:
    encoder = shutil.copytree(out / "encoder", tmp_path / "encoder")
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    (encoder / "evil.py").write_text("raise SystemExit")
    model = import_model(archive, tmp_path / "model", encoder=encoder)
    assert "auto_map" not in model.encoder_config()
    assert not list(model.path.rglob("*.py"))


# What is refused


def packed(path: Path, out: Path, change: Callable[[tarfile.TarFile], None]) -> Path:
    """An archive with what a good one holds, and something more."""
    with tarfile.open(path, "w:gz") as tar:
        for each in ("config.json", "weights.th", "vocabulary"):
            tar.add(out / "published" / NAME / each, each)
        change(tar)
    return path


def member(name: str, **fields: Any) -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        info.size = 0 if "type" in fields else 4
        tar.addfile(info, io.BytesIO(b"evil"))

    return add


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (member("../evil.txt"), "would leave"),
        (member("/evil.txt"), "would leave"),
        (member("a/../../evil.txt"), "would leave"),
        (member("..\\evil.txt"), "would leave"),
        (
            member("vocabulary/link.txt", type=tarfile.SYMTYPE, linkname="../../elsewhere.txt"),
            "neither a file nor a folder",
        ),
        (member("hard.txt", type=tarfile.LNKTYPE, linkname="config.json"), "neither a file nor a folder"),
        (member("pipe", type=tarfile.FIFOTYPE), "neither a file nor a folder"),
        (member("modeling.py"), "can hold code"),
        (member("encoder/native.so.1"), "can hold code"),
        (member("extra/data.pkl"), "can hold code"),
        (member("encoder/pytorch_model.bin"), "can hold code"),
    ],
)
def test_archives_that_are_not_to_be_trusted(
    out: Path, tmp_path: Path, change: Callable[[tarfile.TarFile], None], message: str
) -> None:
    (tmp_path / "in").mkdir()
    path = packed(tmp_path / "in" / "m.tar.gz", out, change)
    with pytest.raises(UserError, match=message):
        import_model(path, tmp_path / "model", encoder=out / "encoder")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in"]


def test_what_a_model_does_not_need_is_left(out: Path, tmp_path: Path) -> None:
    path = packed(tmp_path / "m.tar.gz", out, member("metrics.txt"))
    model = import_model(path, tmp_path / "model", encoder=out / "encoder")
    assert not any("metrics" in name for name in model.files)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95, 0.999])
def test_truncated_archives(out: Path, archive: Path, tmp_path: Path, share: float) -> None:
    content = archive.read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"cut off|damaged"):
        import_model(cut, tmp_path / "model", encoder=out / "encoder")
    assert not (tmp_path / "model").exists()


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_weights_with_code_are_not_unpickled(out: Path, tmp_path: Path) -> None:
    source = shutil.copytree(out / "published" / NAME, tmp_path / "source")
    ran = tmp_path / "ran"
    for save in (torch.save, lambda found, path: path.write_bytes(pickle.dumps(found))):
        save({"weight": Evil(ran)}, source / "weights.th")
        with pytest.raises(UserError, match="not unpickled"):
            import_model(source, tmp_path / "model", encoder=out / "encoder")
        assert not ran.exists()


def test_what_is_missing_is_said(out: Path, archive: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    with pytest.raises(UserError, match=r"published without config.json and a tokenizer .*--encoder FOLDER"):
        import_model(archive, model)
    encoder = shutil.copytree(out / "encoder", tmp_path / "encoder")
    (encoder / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"published without a tokenizer \(tokenizer.json, vocab.txt"):
        import_model(archive, model, encoder=encoder)
    with pytest.raises(UserError, match="is not there"):
        import_model(tmp_path / "none.tar", model)
    with pytest.raises(UserError, match="is no folder"):
        import_model(archive, model, encoder=archive)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as file:
        file.writestr("config.json", "{}")
    with pytest.raises(UserError, match="no tar archive"):
        import_model(tmp_path / "m.zip", model)
    source = shutil.copytree(out / "published" / NAME, tmp_path / "source")
    with pytest.raises(UserError, match="no labels of radgraph "):
        import_model(source, model, encoder=out / "encoder", name="radgraph")
    (source / "weights.th").write_bytes((source / "weights.th").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"weights\.th"):
        import_model(source, model, encoder=out / "encoder")
    (source / "weights.th").unlink()
    with pytest.raises(UserError, match=r"no config\.json with weights\.th beside it"):
        import_model(source, model, encoder=out / "encoder")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        import_model(archive, taken, encoder=out / "encoder")
    assert not model.exists()


def test_weights_of_another_model(out: Path, published: dict[str, Path], tmp_path: Path) -> None:
    source = shutil.copytree(out / "published" / NAME, tmp_path / "source")
    shutil.copy(published["radgraph"] / "published" / "radgraph" / "weights.th", source)
    with pytest.raises(UserError, match="weights of another model"):
        import_model(source, tmp_path / "model", encoder=out / "encoder")
    assert not (tmp_path / "model").exists()


def test_another_encoder(out: Path, archive: Path, tmp_path: Path) -> None:
    encoder = shutil.copytree(out / "encoder", tmp_path / "encoder")
    (encoder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="model_type 'gpt2'; expected bert or modernbert"):
        import_model(archive, tmp_path / "model", encoder=encoder)


def test_verify_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    assert verify(folder) == []
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "encoder" / "vocab.txt").write_text("x" * (copy / "encoder" / "vocab.txt").stat().st_size)
    (copy / "vocabulary" / "non_padded_namespaces.txt").unlink()
    changed, missing = verify(copy)
    assert "vocab.txt has been changed" in changed
    assert "non_padded_namespaces.txt is missing" in missing
    done = subprocess.run([*PROGRAM, "models", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (1, 2, "")


@pytest.mark.parametrize(
    "record",
    [
        "[]",
        "{",
        '{"format": 2}',
        '{"format": 1, "name": "other", "encoder": "x", "files": {}}',
        '{"format": 1, "name": "radgraph", "encoder": "x", "files": {"../x": {"bytes": 1, "sha256": ""}}}',
        '{"format": 1, "name": "radgraph", "encoder": "x", "files": {}}',
    ],
)
def test_records_that_are_none(tmp_path: Path, record: str) -> None:
    (tmp_path / "model.json").write_text(record)
    with pytest.raises(UserError, match=r"model\.json"):
        open_model(tmp_path)


# From the hub


class Hub:
    """A hub of two repositories. Breaks the first transfer of the archive off; lies about a hash where told to."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.ranges: list[str | None] = []
        self.break_off = False
        self.lie = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *values: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(False)

            def do_GET(self) -> None:
                self.answer(True)

            def answer(self, body: bool) -> None:
                content = hub.files.get(self.path)
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                large = self.path.endswith(".gz")
                wanted = self.headers.get("Range")
                start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
                self.send_response(206 if wanted else 200)
                digest = hashlib.sha256(content) if large else hashlib.sha1(b"blob %d\0" % len(content) + content)
                etag = digest.hexdigest()
                if hub.lie and large:
                    etag = etag[::-1]
                self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Content-Length", str(len(content) - start))
                if wanted:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                if not body:
                    return
                if large:
                    hub.ranges.append(wanted)
                if large and hub.break_off:
                    self.wfile.write(content[: len(content) // 2])
                    self.wfile.flush()
                    self.connection.close()
                    return
                self.wfile.write(content[start:])

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def hub(published: dict[str, Path], tmp_path: Path) -> Iterator[Hub]:
    out = published["radgraph"]
    source = shutil.copytree(out / "published" / "radgraph", tmp_path / "published")
    config = (source / "config.json").read_text().replace(str(out / "encoder"), "some/encoder")
    (source / "config.json").write_text(config)
    with tarfile.open(tmp_path / "radgraph.tar.gz", "w:gz", compresslevel=1) as tar:
        for each in ("config.json", "weights.th", "vocabulary"):
            tar.add(source / each, each)
        padding = tarfile.TarInfo("padding.txt")  # the client keeps what it has by the 10 MB
        padding.size = 24 << 20
        tar.addfile(padding, io.BytesIO(random.Random(0).randbytes(padding.size)))
    files = {"/StanfordAIMI/RRG_scorers/resolve/main/radgraph.tar.gz": (tmp_path / "radgraph.tar.gz").read_bytes()}
    for path in (out / "encoder").iterdir():
        files[f"/some/encoder/resolve/main/{path.name}"] = path.read_bytes()
    found = Hub(files)
    yield found
    found.server.shutdown()
    found.server.server_close()


def fetch_from(hub: Hub, output: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(output.parent / "home"), "OMP_NUM_THREADS": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    environment |= variables
    command = [*PROGRAM, "models", "fetch", "radgraph", "-o", str(output)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_fetch_goes_on_where_it_was_broken_off(hub: Hub, tmp_path: Path) -> None:
    hub.break_off = True
    done = fetch_from(hub, tmp_path / "model")
    assert done.returncode == 2
    assert "Run the same command again" in done.stderr
    assert not (tmp_path / "model").exists()
    hub.break_off = False
    hub.ranges.clear()
    done = fetch_from(hub, tmp_path / "model")
    assert done.returncode == 0, done.stderr
    size = len(hub.files["/StanfordAIMI/RRG_scorers/resolve/main/radgraph.tar.gz"])
    [wanted] = hub.ranges
    assert wanted is not None
    assert 0 < int(wanted.removeprefix("bytes=").split("-")[0]) <= size // 2
    model = open_model(tmp_path / "model")
    assert (model.name, model.encoder) == ("radgraph", "some/encoder")
    assert not list(tmp_path.glob(".model*"))


def test_fetch_refuses_another_hash(hub: Hub, tmp_path: Path) -> None:
    hub.lie = True
    done = fetch_from(hub, tmp_path / "model")
    assert done.returncode == 2
    assert "arrived with another hash" in done.stderr
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.rglob("*.download/*.gz"))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids the network"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "could not be fetched (ConnectionError). Run the same command again"),
    ],
)
def test_fetch_without_a_network(hub: Hub, tmp_path: Path, variables: dict[str, str], message: str) -> None:
    done = fetch_from(hub, tmp_path / "model", **variables)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_fetch_of_what_the_hub_has_no_more(hub: Hub, tmp_path: Path) -> None:
    hub.files.clear()
    done = fetch_from(hub, tmp_path / "model")
    assert (done.returncode, "StanfordAIMI/RRG_scorers has no radgraph.tar.gz" in done.stderr) == (2, True)


def test_a_pinned_hash_counts(archive: Path, tmp_path: Path) -> None:
    def download(_: str, file: str, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(archive, folder / file))

    assert PUBLISHED[NAME].sha256 is not None
    with pytest.raises(UserError, match=r"radgraph-xl.tar.gz has another sha256.*removed"):
        fetch(NAME, tmp_path / "model", download=download)
    assert not list(tmp_path.rglob("*.gz"))
    with pytest.raises(
        UserError, match=r"no model named bert\. Expected one of radgraph, radgraph-xl, modern-radgraph-xl"
    ):
        fetch("bert", tmp_path / "model", download=download)
