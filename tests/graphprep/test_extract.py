"""`extract` around a pipeline: cutting, order, resuming after a kill at any moment, and what it refuses."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import fake_pipeline
import pyarrow.parquet as pq
import pytest
from fake_pipeline import SMALL, module, run
from hypothesis import given
from hypothesis import strategies as st

import schemas
from graphprep.errors import UserError
from graphprep.extract import Task, cut
from graphprep.graphs import open_graphs
from graphprep.pipeline import PipelineSettings
from graphprep.read import ReadOptions
from graphprep.records import Reject, Report
from graphprep.validate import validate
from graphprep.workers import TASKS_AHEAD

PROGRAM = [sys.executable, fake_pipeline.__file__]


@pytest.fixture(autouse=True, scope="module")
def small_tasks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for name, size in SMALL.items():
            patched.setattr(module, name, size)
        yield


def write_reports(path: Path, texts: Iterable[str], **columns: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["report_id", "report", *columns])
        for number, (text, *others) in enumerate(zip(texts, *columns.values(), strict=True)):
            rows.writerow([f"{number:04d}", text, *others])
    return path


def some_texts(n: int) -> list[str]:
    words = random.Random(n)
    return [" ".join(words.choices(["heart", "effusion", "edema", "unheard", "clear"], k=6)) for _ in range(n)]


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Sixty reports, one without text (row 18, a reject)."""
    texts = some_texts(60)
    texts[17] = ""
    return write_reports(tmp_path / "reports.csv", texts)


def files_of(folder: Path) -> dict[str, bytes]:
    """All bytes of a folder but those of run.json."""
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    files.pop("run.json", None)
    return files


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def rows_of(folder: Path, table: str) -> list[dict[str, Any]]:
    return [row for file in sorted((folder / table).iterdir()) for row in pq.read_table(file).to_pylist()]


# Cutting


def a_report(number: int) -> Report:
    return Report(str(number), "text", "r.csv", number + 1)


def a_reject(number: int) -> Reject:
    return Reject("r.csv", number + 1, None, "empty_text", "There is no text.")


@given(kinds=st.lists(st.booleans(), max_size=80), shard_size=st.integers(1, 25))
def test_cut_keeps_everything_in_order_and_within_bounds(kinds: list[bool], shard_size: int) -> None:
    items = [a_report(n) if report else a_reject(n) for n, report in enumerate(kinds)]
    shards = list(shards_of(cut(iter(items), shard_size)))

    assert [item for shard in shards for group in shard for task in group for item in task.items] == items
    sizes = [sum(n_reports(task) for group in shard for task in group) for shard in shards]
    assert all(size == shard_size for size in sizes[:-1])
    assert sizes[-1] <= shard_size
    assert sizes[-1] > 0 or sum(kinds) == 0
    for shard in shards:
        for group in shard:
            assert sum(map(n_reports, group)) <= 10
            assert sum(len(task.items) - n_reports(task) for task in group) <= 10
            assert all(n_reports(task) <= 5 for task in group)


@given(kinds=st.lists(st.booleans(), max_size=80), shard_size=st.integers(1, 25), kept=st.integers(0, 10))
def test_cut_goes_on_after_finished_shards_as_if_it_had_never_stopped(
    kinds: list[bool], shard_size: int, kept: int
) -> None:
    items = [a_report(n) if report else a_reject(n) for n, report in enumerate(kinds)]
    shards = list(shards_of(cut(iter(items), shard_size)))
    kept = min(kept, len(shards))
    consumed = sum(len(task.items) for shard in shards[:kept] for group in shard for task in group)

    assert list(shards_of(cut(iter(items[consumed:]), shard_size, resumed=kept > 0))) == shards[kept:]


def n_reports(task: Task) -> int:
    return sum(isinstance(item, Report) for item in task.items)


def shards_of(tasks: Iterable[Task]) -> Iterator[list[list[Task]]]:
    shard: list[list[Task]] = [[]]
    for task in tasks:
        shard[-1].append(task)
        if task.ends_shard:
            assert task.ends_group
            yield shard
            shard = [[]]
        elif task.ends_group:
            shard.append([])
    assert shard == [[]]


# The folder


def test_it_writes_the_data_contract(reports: Path, tmp_path: Path) -> None:
    summary = run([reports], tmp_path / "graphs", shard_size=25)

    found = validate(tmp_path / "graphs")
    assert found.problems == []
    assert (summary.reports, summary.rejected, summary.shards) == (59, {"empty_text": 1}, 3)
    assert found.counts == {
        "reports": 59, "rejects": 1, "mentions": summary.mentions, "nodes": summary.nodes, "edges": summary.edges
    }  # fmt: skip
    assert summary.mentions > summary.nodes > summary.edges > 0
    assert (summary.resumed_from, summary.already_complete) == (None, False)
    assert not list((tmp_path / "graphs").rglob(".*"))

    ids = [row["report_id"] for row in rows_of(tmp_path / "graphs", "reports")]
    assert ids == [f"{n:04d}" for n in range(60) if n != 17]
    groups = pq.ParquetFile(tmp_path / "graphs/reports/part-00000.parquet").metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [10, 10, 5]


def test_the_manifest_says_what_the_graphs_are_made_of(reports: Path, tmp_path: Path) -> None:
    run([reports], tmp_path / "graphs", shard_size=25, limit=30, settings=PipelineSettings(sections=("IMPRESSION",)))

    manifest = manifest_of(tmp_path / "graphs")
    assert list(schemas.violations("manifest", manifest)) == []
    assert manifest["schema_version"] == schemas.SCHEMA_VERSION
    assert manifest["extractor"] == {"name": "fake", "settings": {}}
    assert manifest["sections"] == ["impression"]
    assert manifest["text"] is True
    assert manifest["vocabulary"]["pathology"] == {"sha256": fake_pipeline.PATHOLOGY.sha256, "concepts": 2}
    assert manifest["input"]["files"][0]["name"] == "reports.csv"
    assert manifest["input"]["files"][0]["bytes"] == reports.stat().st_size
    assert manifest["input"]["columns"] == {"report_id": "report_id", "text": "report"}
    assert manifest["input"]["options"]["limit"] == 30
    assert manifest["totals"]["reports"] == 30
    assert manifest["rejected"] == {"empty_text": 1}
    assert str(tmp_path) not in json.dumps(manifest)

    counts = {
        row["concept"]: row["count"] for row in pq.read_table(tmp_path / "graphs/vocab/pathology.parquet").to_pylist()
    }
    nodes = [row["concept"] for row in rows_of(tmp_path / "graphs", "nodes")]
    assert counts == {"effusion": nodes.count("effusion"), "edema": nodes.count("edema")}


def test_run_json_keeps_its_schema(reports: Path, tmp_path: Path) -> None:
    run([reports], tmp_path / "graphs", command=["graphprep", "extract"])

    found = json.loads((tmp_path / "graphs/run.json").read_text(encoding="utf-8"))
    assert list(schemas.violations("run", found)) == []
    assert found["command"] == ["graphprep", "extract"]


def test_the_number_of_workers_leaves_no_trace(reports: Path, tmp_path: Path) -> None:
    run([reports], tmp_path / "one", shard_size=25, workers=1)
    run([reports], tmp_path / "two", shard_size=25, workers=2)

    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


@pytest.mark.parametrize("shard_size", [1, 7, 60, 10_000])
def test_any_shard_size_gives_the_same_rows(reports: Path, tmp_path: Path, shard_size: int) -> None:
    run([reports], tmp_path / "one", shard_size=25)
    run([reports], tmp_path / "other", shard_size=shard_size)

    assert validate(tmp_path / "other").problems == []
    for table in schemas.TABLES:
        assert rows_of(tmp_path / "one", table) == rows_of(tmp_path / "other", table)


def test_without_text_no_text_is_written(tmp_path: Path) -> None:
    texts = ["The heart of Zebulon.", "", "CRASH at Zebulon's heart."]
    reports = write_reports(tmp_path / "reports.csv", texts, split=["train", "Zebulon", "test"])
    summary = run([reports], tmp_path / "graphs", text=False)

    assert summary.rejected == {"empty_text": 1, "extraction_failed": 1}
    for table in ("reports", "mentions", "nodes", "edges", "rejects"):
        assert "Zebulon" not in str(rows_of(tmp_path / "graphs", table))
    found = validate(tmp_path / "graphs")
    assert found.problems == []
    assert found.skipped


def test_a_report_that_the_pipeline_fails_on_is_a_reject_in_its_place(tmp_path: Path) -> None:
    texts = ["heart", "heart CRASH", "", "effusion CRASH", "edema", "heart"]
    reports = write_reports(tmp_path / "reports.csv", texts)
    summary = run([reports], tmp_path / "graphs")

    assert [row["report_id"] for row in rows_of(tmp_path / "graphs", "reports")] == ["0000", "0004", "0005"]
    rejects = rows_of(tmp_path / "graphs", "rejects")
    assert [(row["source_row"], row["reason"]) for row in rejects] == [
        (2, "extraction_failed"), (3, "empty_text"), (4, "extraction_failed")
    ]  # fmt: skip
    assert "ValueError" in rejects[0]["detail"]
    assert "CRASH" not in rejects[0]["detail"]
    assert "CRASH" in rejects[0]["content"]
    assert summary.rejected == {"empty_text": 1, "extraction_failed": 2}
    assert validate(tmp_path / "graphs").problems == []


@pytest.mark.parametrize("texts", [[], ["", ""]], ids=["header only", "rejects only"])
def test_without_a_usable_report_the_folder_is_valid_and_empty(tmp_path: Path, texts: list[str]) -> None:
    summary = run([write_reports(tmp_path / "reports.csv", texts)], tmp_path / "graphs")

    assert (summary.reports, summary.shards, sum(summary.rejected.values())) == (0, 1, len(texts))
    assert validate(tmp_path / "graphs").problems == []
    assert len(open_graphs(tmp_path / "graphs")) == 0


def test_a_flood_of_rejects_is_spread_over_row_groups(tmp_path: Path) -> None:
    run([write_reports(tmp_path / "reports.csv", ["heart", *[""] * 34])], tmp_path / "graphs")

    metadata = pq.ParquetFile(tmp_path / "graphs/rejects/part-00000.parquet").metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [10, 10, 10, 4]
    assert validate(tmp_path / "graphs").problems == []


def test_reading_goes_only_so_far_ahead_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead: list[int] = []
    read, written = 0, 0

    def counting_reader(*arguments: Any) -> Iterator[Report | Reject]:
        nonlocal read
        for item in original_reader(*arguments):
            read += 1
            yield item

    class CountingWriter(module.ShardWriter):
        def write(self, tables: Any) -> None:
            nonlocal written
            written += tables["reports"].num_rows
            ahead.append(read - written)
            super().write(tables)

    original_reader = module.read_reports
    monkeypatch.setattr(module, "read_reports", counting_reader)
    monkeypatch.setattr(module, "ShardWriter", CountingWriter)
    reports = write_reports(tmp_path / "reports.csv", some_texts(400))
    run([reports], tmp_path / "one", workers=1)
    assert max(ahead) <= 5
    ahead.clear()
    read = written = 0
    run([reports], tmp_path / "two", workers=2)
    assert max(ahead) <= (2 * TASKS_AHEAD + 3) * 5


# Images


def test_the_image_root_is_the_way_from_the_graphs_to_the_input(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "images").mkdir()
    reports = write_reports(tmp_path / "data/reports.csv", ["heart"], image=["a/b.png"])
    run([reports], tmp_path / "out/graphs")
    run([reports], tmp_path / "out/others", images=tmp_path / "images")

    assert manifest_of(tmp_path / "out/graphs")["image_root"] == "../../data"
    assert manifest_of(tmp_path / "out/others")["image_root"] == "../../images"
    assert rows_of(tmp_path / "out/graphs", "reports")[0]["images"][0]["path"] == "a/b.png"


def test_without_images_there_is_no_image_root(reports: Path, tmp_path: Path) -> None:
    run([reports], tmp_path / "graphs")
    assert manifest_of(tmp_path / "graphs")["image_root"] is None

    with pytest.raises(UserError, match="no column of images"):
        run([reports], tmp_path / "others", images=tmp_path)


def test_inputs_with_images_in_several_folders_need_a_root(tmp_path: Path) -> None:
    inputs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        file = write_reports(tmp_path / name / f"{name}.csv", ["heart"], image=["x.png"])
        inputs.append(file.rename(file.with_name("reports.csv")) if name == "a" else file)
    with pytest.raises(UserError, match="--images ROOT"):
        run(inputs, tmp_path / "graphs")


def test_missing_images_are_rejects_only_when_they_are_looked_at(tmp_path: Path) -> None:
    reports = write_reports(tmp_path / "reports.csv", ["heart"], image=["x.png"])

    assert run([reports], tmp_path / "graphs").rejected == {}
    assert run([reports], tmp_path / "others", check_images=True).rejected == {"missing_image": 1}


# Killed, and run again


def test_a_finished_folder_is_left_as_it_is(reports: Path, tmp_path: Path) -> None:
    first = run([reports], tmp_path / "graphs")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "graphs").rglob("*")}
    again = run([reports], tmp_path / "graphs", workers=2)

    assert again.already_complete
    assert (again.reports, again.rejected, again.nodes) == (first.reports, first.rejected, first.nodes)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "graphs").rglob("*")} == before


@pytest.mark.parametrize(("workers", "kills"), [(1, (1, 6, 11)), (2, (4,))])
def test_killed_at_any_moment_and_run_again_it_gives_the_same_bytes(
    tmp_path: Path, workers: int, kills: tuple[int, ...]
) -> None:
    reports = write_reports(tmp_path / "reports.csv", some_texts(1200))
    run([reports], tmp_path / "whole", shard_size=60)
    whole = files_of(tmp_path / "whole")
    arguments = [str(reports), str(tmp_path / "killed"), "shard_size=60", f"workers={workers}", "delay=0.003"]

    moments = random.Random(workers)
    for shards in kills:  # of twenty
        process = subprocess.Popen([*PROGRAM, *arguments])
        wait_for(lambda: len(list(tmp_path.glob("killed/.progress/part-*.json"))) >= shards, process)  # noqa: B023
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.wait()
        assert not (tmp_path / "killed/manifest.json").exists()

    done = subprocess.run([*PROGRAM, *arguments], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert files_of(tmp_path / "killed") == whole


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        if condition():
            return
        assert process.poll() is None, "it ended before the moment came"
        time.sleep(0.01)
    raise AssertionError("the moment did not come")


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    reports = write_reports(tmp_path / "reports.csv", some_texts(1200))
    process = subprocess.Popen([*PROGRAM, str(reports), str(tmp_path / "graphs"), "workers=2", "delay=0.01"])
    wait_for(lambda: len(children_of(process.pid)) >= 3, process)  # with multiprocessing's resource tracker
    children = children_of(process.pid)
    process.kill()
    process.wait()
    for _ in range(1000):
        if not any(is_running(child) for child in children):
            return
        time.sleep(0.01)
    raise AssertionError("a worker outlived its parent")


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class Killed(BaseException):
    """Stands for the end of the process; after it, nothing of it may touch the disk."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[str]]:
    """Make the n-th change of a name on the disk from now on the last (None: no end); gives the list of changes."""
    changes: list[str] = []
    last: int | None = None
    dead = False

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            nonlocal dead
            if dead or (last is not None and len(changes) == last):
                dead = True
                raise Killed
            changes.append(f"{name} {arguments[0]}")
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, watched)

    def set_last(n: int | None) -> list[str]:
        nonlocal last, dead
        last, dead = n, False
        changes.clear()
        return changes

    for name in ("replace", "unlink", "rmdir", "mkdir"):
        watch(Path, name)
    watch(shutil, "rmtree")
    return set_last


def test_a_kill_before_any_change_on_the_disk_leaves_nothing_wrong(
    tmp_path: Path, kill_at: Callable[[int | None], list[str]]
) -> None:
    reports = write_reports(tmp_path / "reports.csv", [*some_texts(20), ""])
    changes = kill_at(None)
    run([reports], tmp_path / "whole", shard_size=8)
    whole, n_changes = files_of(tmp_path / "whole"), len(changes)
    assert n_changes > 20

    for n in range(n_changes):
        folder = tmp_path / f"killed-{n}"
        kill_at(n)
        with pytest.raises(Killed):
            run([reports], folder, shard_size=8)
        kill_at(None)
        finished = (folder / "manifest.json").exists()
        summary = run([reports], folder, shard_size=8)
        assert summary.already_complete == finished
        assert files_of(folder) == whole
        shutil.rmtree(folder)


def test_a_kill_while_overwriting_never_leaves_a_mixture(
    tmp_path: Path, kill_at: Callable[[int | None], list[str]]
) -> None:
    kill_at(None)
    before = write_reports(tmp_path / "before.csv", some_texts(20))
    after = write_reports(tmp_path / "after.csv", some_texts(9))
    run([before], tmp_path / "old", shard_size=8)
    run([after], tmp_path / "new", shard_size=8)
    old, new = files_of(tmp_path / "old"), files_of(tmp_path / "new")
    shutil.copytree(tmp_path / "old", tmp_path / "whole")
    changes = kill_at(None)
    run([after], tmp_path / "whole", shard_size=8, overwrite=True)
    assert files_of(tmp_path / "whole") == new

    seen = set()
    for n in range(len(changes)):
        folder = tmp_path / f"killed-{n}"
        shutil.copytree(tmp_path / "old", folder)
        kill_at(n)
        with pytest.raises(Killed):
            run([after], folder, shard_size=8, overwrite=True)
        kill_at(None)
        try:
            run([after], folder, shard_size=8)  # goes on with the new graphs, once the old ones are no more
            seen.add("new")
        except UserError:
            assert {name: old[name] for name in old} == {k: v for k, v in files_of(folder).items() if k in old}
            seen.add("old")
            run([after], folder, shard_size=8, overwrite=True)
        assert files_of(folder) == new
        shutil.rmtree(folder)
    assert seen == {"old", "new"}


def interrupted(reports: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, shards: int = 1, **settings: Any) -> None:
    """Leave a folder with so many finished shards."""
    from graphprep.resume import GraphFolder

    original = GraphFolder.add

    def add(self: GraphFolder, record: Any) -> None:
        original(self, record)
        if len(self.shards) == shards:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(GraphFolder, "add", add)
        with pytest.raises(Killed):
            run([reports], folder, **settings)


def test_an_unfinished_folder_is_not_continued_by_another_version(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(reports, tmp_path / "graphs", monkeypatch, shard_size=20)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_version", lambda: "99.0")
        with pytest.raises(UserError, match=r'graphprep \("[^"]+" there, "99.0" now\)'):
            run([reports], tmp_path / "graphs", shard_size=20)
    run([reports], tmp_path / "graphs", shard_size=20)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_version", lambda: "99.0")
        assert run([reports], tmp_path / "graphs", shard_size=20).already_complete


def test_an_unfinished_folder_is_continued_and_says_so(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(reports, tmp_path / "graphs", monkeypatch, shards=2, shard_size=20)
    summary = run([reports], tmp_path / "graphs", shard_size=20)

    assert (summary.resumed_from, summary.shards, summary.reports) == (2, 3, 59)
    assert summary.rejected == {"empty_text": 1}


def test_a_finished_shard_that_was_damaged_is_made_again(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([reports], tmp_path / "whole", shard_size=20)
    interrupted(reports, tmp_path / "graphs", monkeypatch, shards=2, shard_size=20)
    (tmp_path / "graphs/nodes/part-00001.parquet").write_bytes(b"torn")

    assert run([reports], tmp_path / "graphs", shard_size=20).resumed_from == 1
    assert files_of(tmp_path / "graphs") == files_of(tmp_path / "whole")


def test_a_worker_that_is_killed_is_a_sentence_and_finished_shards_are_kept(tmp_path: Path) -> None:
    texts = some_texts(120)
    texts[110] += " KILL"
    reports = write_reports(tmp_path / "reports.csv", texts)
    run([reports], tmp_path / "whole", shard_size=20)
    trap = tmp_path / "trap"
    trap.touch()
    with pytest.raises(UserError, match=r"worker process was ended.*run the same command again"):
        run([reports], tmp_path / "graphs", shard_size=20, workers=2, delay=0.01, die_if=str(trap))
    assert len(list((tmp_path / "graphs/.progress").glob("part-*.json"))) >= 1

    trap.unlink()
    assert (run([reports], tmp_path / "graphs", shard_size=20, workers=2, die_if=str(trap)).resumed_from or 0) >= 1
    assert files_of(tmp_path / "graphs") == files_of(tmp_path / "whole")


def test_a_full_disk_is_a_sentence_and_finished_shards_are_kept(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(module.ShardWriter):
        def write(self, tables: Any) -> None:
            if self.part == 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(tables)

    with monkeypatch.context() as patched:
        patched.setattr(module, "ShardWriter", FullDisk)
        with pytest.raises(UserError, match="No space left on device"):
            run([reports], tmp_path / "graphs", shard_size=20)
    assert run([reports], tmp_path / "graphs", shard_size=20).resumed_from == 1


def test_an_interrupt_ends_workers_at_once(tmp_path: Path) -> None:
    reports = write_reports(tmp_path / "reports.csv", some_texts(1200))
    process = subprocess.Popen(
        [*PROGRAM, str(reports), str(tmp_path / "graphs"), "workers=2", "delay=0.05", "shard_size=20"],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a background job's children ignore
    )
    wait_for(lambda: bool(list(tmp_path.glob("graphs/*/.part-*"))), process)
    children = children_of(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=30)
    patience = time.monotonic() + 10  # the system may take a moment to reap them on a busy machine
    while any(is_running(child) for child in children) and time.monotonic() < patience:
        time.sleep(0.05)
    assert not any(is_running(child) for child in children)


# What it refuses


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shard_size": 30}, r"shard_size \(20 there, 30 now\)"),
        ({"text": False}, r"text \(true there, false now\)"),
        ({"limit": 50}, r"input.options.limit \(null there, 50 now\)"),
        ({"name": "other"}, r'extractor.name \("fake" there, "other" now\)'),
        ({"settings": PipelineSettings(sections=("all",))}, "sections"),
        ({"read": ReadOptions(max_chars=9_999)}, r"input.options.max_chars \(100000 there, 9999 now\)"),
    ],
)
def test_other_settings_are_refused_by_name(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], named: str, finished: bool
) -> None:
    if finished:
        run([reports], tmp_path / "graphs", shard_size=20)
    else:
        interrupted(reports, tmp_path / "graphs", monkeypatch, shard_size=20)
    before = files_of(tmp_path / "graphs")
    with pytest.raises(UserError, match=named) as refused:
        run([reports], tmp_path / "graphs", **({"shard_size": 20} | change))
    assert "--overwrite" in str(refused.value)
    assert {k: v for k, v in files_of(tmp_path / "graphs").items() if "lock" not in k} == {
        k: v for k, v in before.items() if "lock" not in k
    }

    run([reports], tmp_path / "fresh", **({"shard_size": 20} | change))
    run([reports], tmp_path / "graphs", overwrite=True, **({"shard_size": 20} | change))
    assert files_of(tmp_path / "graphs") == files_of(tmp_path / "fresh")


def test_other_input_is_refused(reports: Path, tmp_path: Path) -> None:
    run([reports], tmp_path / "graphs")
    reports.write_text(reports.read_text(encoding="utf-8") + "last,heart\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"input\.files.*--overwrite"):
        run([reports], tmp_path / "graphs")


def test_settings_of_a_run_that_finished_no_shard_bind_nobody(reports: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        run([reports], tmp_path / "graphs", strict=True)
    assert run([reports], tmp_path / "graphs", shard_size=7).shards == 9


def test_a_finished_folder_that_was_damaged_is_not_called_complete(reports: Path, tmp_path: Path) -> None:
    run([reports], tmp_path / "graphs")
    (tmp_path / "graphs/edges/part-00000.parquet").unlink()
    with pytest.raises(UserError, match=r"edges/part-00000.parquet is missing.*--overwrite"):
        run([reports], tmp_path / "graphs")
    run([reports], tmp_path / "graphs", overwrite=True)
    assert validate(tmp_path / "graphs").problems == []


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json", "reports/part-00000.parquet"])
def test_a_folder_that_is_not_ours_is_not_touched(reports: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "graphs" / name
    file.parent.mkdir(parents=True)
    file.write_text('{"name": "somebody else\'s"}', encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="left alone"):
            run([reports], tmp_path / "graphs", overwrite=overwrite)
    assert [entry for entry in (tmp_path / "graphs").rglob("*") if entry.is_file()] == [file]


def test_overwriting_leaves_the_files_of_others(reports: Path, tmp_path: Path) -> None:
    run([reports], tmp_path / "graphs", shard_size=20)
    others = [tmp_path / "graphs" / name for name in ("notes.txt", "reports/readme.md", "images/part-00000.png")]
    for file in others:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine", encoding="utf-8")
    run([reports], tmp_path / "graphs", overwrite=True)

    assert [file.read_text(encoding="utf-8") for file in others] == ["mine"] * 3
    assert not (tmp_path / "graphs/reports/part-00001.parquet").exists()


def test_a_file_in_the_place_of_the_folder_is_an_error(reports: Path, tmp_path: Path) -> None:
    (tmp_path / "graphs").touch()
    with pytest.raises(UserError, match="is a file"):
        run([reports], tmp_path / "graphs")
    with pytest.raises(UserError, match="cannot write there"):
        run([reports], tmp_path / "graphs" / "below")


def test_a_folder_is_written_by_one_process_at_a_time(reports: Path, tmp_path: Path) -> None:
    lock = tmp_path / "graphs/.progress/lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w", encoding="utf-8") as held:
        held.write("process 1 on elsewhere")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="being written by process 1 on elsewhere"):
            run([reports], tmp_path / "graphs")
    # The holder is gone; what it left behind is no lock.
    assert lock.read_text(encoding="utf-8") == "process 1 on elsewhere"
    assert run([reports], tmp_path / "graphs").reports == 59


def test_strict_stops_at_the_first_reject(reports: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reports.csv, row 18: empty_text"):
        run([reports], tmp_path / "graphs", strict=True)
    assert not (tmp_path / "graphs/manifest.json").exists()

    run([reports], tmp_path / "graphs")
    with pytest.raises(UserError, match="empty_text 1"):
        run([reports], tmp_path / "graphs", strict=True)


def test_strict_stops_at_a_report_that_the_pipeline_fails_on(tmp_path: Path) -> None:
    reports = write_reports(tmp_path / "reports.csv", ["heart", "CRASH", "heart"])
    with pytest.raises(UserError, match=r"reports.csv, row 2: extraction_failed") as stopped:
        run([reports], tmp_path / "graphs", strict=True)
    assert "CRASH" not in str(stopped.value)
    assert not (tmp_path / "graphs/manifest.json").exists()


@pytest.mark.parametrize("setting", ["workers", "shard_size", "limit"])
def test_numbers_below_one_are_refused(reports: Path, tmp_path: Path, setting: str) -> None:
    with pytest.raises(UserError, match=f"{setting} must be at least 1"):
        run([reports], tmp_path / "graphs", **{setting: 0})


def test_a_mistake_in_the_input_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        run([tmp_path / "nowhere.csv"], tmp_path / "graphs")
    assert not (tmp_path / "graphs").exists()
