"""Reports in, `graphs/` out: reads, spreads the reports over worker processes, and writes shard after shard in input order.

What is written depends on the input and the settings alone. Reports are cut into tasks, tasks into row groups, row groups into
shards by counting, before any worker sees them, and results are written in that order; so neither the number of workers
nor a run that was killed and repeated leaves a trace. How a killed run is taken up again: `graphprep.resume`.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from graphprep.errors import ReportError, UserError
from graphprep.extractors import default_workers
from graphprep.files import seen_from, sha256_of
from graphprep.pipeline import ALL_SECTIONS, Pipeline, PipelineSettings
from graphprep.progress import Progress
from graphprep.progress import progress as shown_progress
from graphprep.read import ReadOptions, describe_inputs, read_reports, resolve_columns
from graphprep.records import Reject, Report, ReportGraph
from graphprep.resume import GraphFolder, ShardRecord, opened, write_json
from graphprep.sections import canonical_name
from graphprep.vocabulary import Vocabulary
from graphprep.workers import in_workers, processors
from graphprep.write import ShardWriter, tables_of, write_manifest, write_vocabulary
from schemas import SCHEMA_VERSION, TABLES

TASK_REPORTS = 200
"""Reports that a worker is handed at a time."""
GROUP_REPORTS = 1_000
"""Reports, and rejects, of a row group at most."""
ALONE_SECONDS = 5.0
"""So long this process works alone: workers need about as long to get ready, which small inputs are not worth."""

Tables = dict[str, pa.Table]


class GraphPipeline(Protocol):
    """What turns reports into graphs: `graphprep.pipeline.Pipeline`, or one of your own."""

    @property
    def anatomy(self) -> Vocabulary: ...
    @property
    def pathology(self) -> Vocabulary: ...
    def describe(self) -> dict[str, object]:
        """Name and settings of the extractor, for the manifest."""

    def run(self, reports: Sequence[Report]) -> list[ReportGraph]: ...


PipelineFactory = Callable[[], GraphPipeline]
"""Builds the pipeline, once in every process; must pickle (a function of a module, or a `functools.partial` of one)."""


@dataclasses.dataclass(frozen=True)
class ExtractSummary:
    """What `extract` did; of a folder that was complete already, what it holds."""

    output: Path
    reports: int
    rejected: dict[str, int]
    """Reason → rows."""
    mentions: int
    nodes: int
    edges: int
    shards: int
    seconds: float
    resumed_from: int | None
    """The first shard that this run had to make; None where it began at the beginning."""
    already_complete: bool


def extract(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    settings: PipelineSettings | None = None,
    read: ReadOptions | None = None,
    workers: int | None = None,
    shard_size: int = 10_000,
    images: str | Path | None = None,
    check_images: bool = False,
    overwrite: bool = False,
    limit: int | None = None,
    strict: bool = False,
    text: bool = True,
    progress: bool = True,
    pipeline: PipelineFactory | None = None,
    command: Sequence[str] = (),
) -> ExtractSummary:
    """Write the graphs of reports into the folder `output`, as `schemas/` describes it.

    Args:
        inputs: CSV, TSV, JSON Lines or Parquet files, or `-` for standard input.
        settings: of the language part; ours by default.
        read: how the inputs are read.
        workers: worker processes, started when there is work for more than some seconds; by default one per processor, at
            most 8, fewer with a model. With 1 everything happens in this process.
        shard_size: reports per shard.
        images: the folder that image paths are relative to; by default that of the input.
        check_images: open every image, and reject those that are missing or corrupt.
        overwrite: replace graphs made with other settings or input; nothing else in the folder is touched.
        limit: read no more than so many reports.
        strict: stop at the first reject.
        text: keep report text in the output.
        progress: show on standard error how far it has come.
        pipeline: builds another pipeline than that of `settings`.
        command: the command line, for run.json.

    Raises:
        UserError: see `graphprep.resume.opened` for the folder, `graphprep.read` for the inputs; a reject under `strict`; a
            worker that was killed; a disk that is full. Finished shards are kept, and the same call continues after them.
    """
    for name, value in (("workers", workers), ("shard_size", shard_size), ("limit", limit)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1; it is {value}.")
    begun = datetime.now(timezone.utc)
    settings = settings or PipelineSettings()
    build: PipelineFactory = pipeline or partial(Pipeline, settings)
    options = read or ReadOptions()
    options = dataclasses.replace(
        options,
        limit=limit or options.limit,
        image_root=Path(images) if images is not None else options.image_root,
        check_images=check_images or options.check_images,
    )
    output = Path(output)
    source = _describe_source(inputs, options, output)
    own = build()
    made_from = json.loads(json.dumps(_made_from(own, settings, text, shard_size) | source))

    with _disk_errors(output), opened(output, made_from | {"graphprep": _version()}, overwrite) as folder:
        if folder.manifest is not None:
            if strict and folder.manifest["rejected"]:
                found = ", ".join(f"{reason} {count:,}" for reason, count in folder.manifest["rejected"].items())
                raise UserError(
                    f"{output} is complete, with rows that were rejected: {found}. They are in its rejects."
                )
            return _summary(output, folder.manifest, begun, None, already_complete=True)
        first = len(folder.shards)
        done = sum(shard.consumed for shard in folder.shards)
        if pipeline is None:
            workers = workers or default_workers(settings.extractor, settings.model, processors())
            if settings.model is not None:
                shared = dataclasses.replace(settings.model, processes=workers)
                build = partial(Pipeline, dataclasses.replace(settings, model=shared))
        workers = workers or min(processors(), 8)
        with shown_progress("extract", enabled=progress) as shown:
            items = read_reports(inputs, options, lambda total: shown.start(total, done))
            tasks = cut(islice(_strictly(items) if strict else items, done, None), shard_size, resumed=first > 0)
            with closing(_results(tasks, own, build, workers, text)) as results:
                _write_shards(folder, results, strict, shown)
        manifest = _manifest(folder, own, made_from)
        write_json(output / "run.json", _run(begun, workers, command))
        write_manifest(output, manifest)
        folder.finish()
    return _summary(output, manifest, begun, first or None, already_complete=False)


def _made_from(pipeline: GraphPipeline, settings: PipelineSettings, text: bool, shard_size: int) -> dict[str, Any]:
    """Of what the graphs are made, but for the input: the head of the manifest."""
    sections = {canonical_name(name) for name in settings.sections}
    return {
        "schema_version": SCHEMA_VERSION,
        "extractor": pipeline.describe(),
        "sections": [ALL_SECTIONS] if ALL_SECTIONS in sections else sorted(sections),
        "section_rules": None if settings.section_rules is None else sha256_of(Path(settings.section_rules)),
        "text": text,
        "vocabulary": {
            vocabulary.kind: {"sha256": vocabulary.sha256, "concepts": len(vocabulary.concepts)}
            for vocabulary in (pipeline.anatomy, pipeline.pathology)
        },
        "shard_size": shard_size,
    }


def _describe_source(inputs: Sequence[str | Path], options: ReadOptions, output: Path) -> dict[str, Any]:
    """What is read, and how: the manifest's `input` and `image_root`."""
    files = [
        {"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in describe_inputs(inputs, options)
    ]
    found: dict[str, Any] = {
        "files": files,
        "columns": resolve_columns(inputs, options),
        "options": {
            "encoding": options.encoding,
            "delimiter": options.delimiter,
            "max_chars": options.max_chars,
            "limit": options.limit,
            "check_images": options.check_images,
        },
    }
    fingerprint = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    root = _image_root(inputs, options) if _IMAGE_ROLES & found["columns"].keys() else None
    if root is None and options.image_root is not None:
        raise UserError(
            "An image root is given, and the input has no column of images. Name it with --image-column NAME."
        )
    return {
        "input": found | {"fingerprint": fingerprint},
        "image_root": None if root is None else seen_from(root, output),
    }


_IMAGE_ROLES = {"image", "images", "image_id"}


def _image_root(inputs: Sequence[str | Path], options: ReadOptions) -> Path:
    if options.image_root is not None:
        return options.image_root
    roots = {(Path() if str(path) == "-" else Path(path).parent).resolve() for path in inputs}
    if len(roots) > 1:
        raise UserError(
            "The inputs lie in several folders; --images ROOT must say what their image paths are relative to."
        )
    return roots.pop()


# Reports → tasks


@dataclasses.dataclass
class Task:
    """What a worker is handed: some reports, and the rejects between them; and whether a row group or a shard ends there."""

    items: list[Report | Reject] = dataclasses.field(default_factory=list)
    ends_group: bool = False
    ends_shard: bool = False


def cut(items: Iterable[Report | Reject], shard_size: int, *, resumed: bool = False) -> Iterator[Task]:
    """Cut what the reader gives into tasks, row groups and shards, by counting alone.

    A shard ends when a report comes that it has no room for: rejects after the last report make no shard of their own.
    No items at all make one empty task, the only part of a folder without reports; after a `resumed` run's shards, none.
    """
    task = Task()
    in_task, in_group, in_shard, rejects_in_group = 0, 0, 0, 0
    for item in items:
        report = isinstance(item, Report)
        ends_shard = report and in_shard == shard_size
        ends_group = ends_shard or (in_group if report else rejects_in_group) == GROUP_REPORTS
        if ends_group or (report and in_task == TASK_REPORTS):
            task.ends_group, task.ends_shard = ends_group, ends_shard
            yield task
            task, in_task = Task(), 0
            if ends_group:
                in_group, rejects_in_group = 0, 0
            if ends_shard:
                in_shard = 0
        task.items.append(item)
        if report:
            in_task, in_group, in_shard = in_task + 1, in_group + 1, in_shard + 1
        else:
            rejects_in_group += 1
    if task.items or not resumed:
        task.ends_group = task.ends_shard = True
        yield task


def _strictly(items: Iterable[Report | Reject]) -> Iterator[Report | Reject]:
    for item in items:
        if isinstance(item, Reject):
            raise UserError(_strict_message(item.source, item.source_row, item.reason, item.detail))
        yield item


def _strict_message(source: str, row: int, reason: str, detail: str) -> str:
    return f"{source}, row {row}: {reason}. {detail} Without --strict the row is listed among the rejects and the others go on."


# Tasks → tables, here or in worker processes


def _tables(pipeline: GraphPipeline, text: bool, task: Task) -> Tables:
    """The rows of a task. A report that the pipeline fails on becomes a reject, in its place."""
    reports = [item for item in task.items if isinstance(item, Report)]
    try:
        graphs = pipeline.run(reports)
        rejects = [item for item in task.items if isinstance(item, Reject)]
    except UserError:  # no fault of a report: no memory on the device
        raise
    except Exception:
        graphs, rejects = [], []
        for item in task.items:
            if isinstance(item, Reject):
                rejects.append(item)
                continue
            try:
                graphs += pipeline.run([item])
            except UserError:
                raise
            except ReportError as error:
                rejects.append(_failed(item, error.reason, error.detail))
            except Exception as error:  # its type only: the message may quote the report
                detail = f"The extractor failed on this report ({type(error).__name__}); please report it as a bug, without the report."
                rejects.append(_failed(item, "extraction_failed", detail))
    return tables_of(graphs, rejects, text)


def _failed(report: Report, reason: str, detail: str) -> Reject:
    content = json.dumps({"report_id": report.report_id, "text": report.text}, ensure_ascii=False)[:2000]
    return Reject(report.source, report.source_row, report.report_id, reason, detail, content)


def _results(
    tasks: Iterator[Task], own: GraphPipeline, build: PipelineFactory, workers: int, text: bool
) -> Generator[tuple[Task, Tables], None, None]:
    """The tables of the tasks, in their order. To be closed, for its workers to end."""
    begun = time.monotonic()
    for task in tasks:
        yield task, _tables(own, text, task)
        if workers > 1 and time.monotonic() - begun > ALONE_SECONDS:
            break
    more = next(tasks, None)
    if more is not None:
        yield from in_workers(partial(_tables_by, build, text), chain([more], tasks), workers)


def _tables_by(build: PipelineFactory, text: bool) -> Callable[[Task], Tables]:
    pipeline = build()
    gc.freeze()  # the vocabularies and rules stay as long as the worker does
    return partial(_tables, pipeline, text)


# Tables → shards → the folder


def _write_shards(folder: GraphFolder, results: Iterator[tuple[Task, Tables]], strict: bool, shown: Progress) -> None:
    done = sum(shard.consumed for shard in folder.shards)
    for result in results:  # the first of a shard; the loop inside takes the others
        part = len(folder.shards)
        record = ShardRecord(part, 0, {}, {}, {"anatomy": {}, "pathology": {}})
        group: list[Tables] = []
        with ShardWriter(folder.path, part) as writer:
            for task, tables in chain([result], results):
                if strict:
                    _refuse_failures(tables["rejects"])
                group.append(tables)
                record.consumed += len(task.items)
                if task.ends_group:
                    joined = {
                        name: pa.concat_tables([each[name] for each in group]).combine_chunks() for name in TABLES
                    }
                    writer.write(joined)
                    _tally(record, joined)
                    group = []
                shown.update(done + record.consumed)
                if task.ends_shard:
                    break
        record.tables = writer.files
        folder.add(record)
        done += record.consumed


def _tally(record: ShardRecord, tables: Tables) -> None:
    """Add the rejects by reason, and the nodes by kind and concept, of a row group."""
    for row in _counted(tables["rejects"], ["reason"]):
        record.rejected[row["reason"]] = record.rejected.get(row["reason"], 0) + row["count_all"]
    for row in _counted(tables["nodes"], ["kind", "concept"]):
        counts = record.concepts[row["kind"]]
        counts[row["concept"]] = counts.get(row["concept"], 0) + row["count_all"]


def _counted(table: pa.Table, by: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.group_by(by, use_threads=False).aggregate([([], "count_all")]).to_pylist()
    return rows


def _refuse_failures(rejects: pa.Table) -> None:
    """Under --strict: what the reader rejects has not come so far, so these are reports that the extractor failed on."""
    for row in rejects.slice(0, 1).to_pylist():
        raise UserError(_strict_message(row["source"], row["source_row"], row["reason"], row["detail"]))


def _manifest(folder: GraphFolder, pipeline: GraphPipeline, made_from: Mapping[str, Any]) -> dict[str, Any]:
    """Write the vocabularies, which count the nodes of all shards, and sum up."""
    vocabulary_files = {}
    for vocabulary in (pipeline.anatomy, pipeline.pathology):
        counts = _sum(shard.concepts[vocabulary.kind] for shard in folder.shards)
        vocabulary_files[vocabulary.kind] = write_vocabulary(folder.path, vocabulary, counts)
    return {
        **made_from,
        "shards": [{"part": shard.part, "tables": shard.tables} for shard in folder.shards],
        "vocabulary_files": vocabulary_files,
        "totals": {table: sum(shard.tables[table]["rows"] for shard in folder.shards) for table in TABLES},
        "rejected": _sum(shard.rejected for shard in folder.shards),
    }


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)


def _run(begun: datetime, workers: int, command: Sequence[str]) -> dict[str, Any]:
    finished = datetime.now(timezone.utc)
    packages = ("cascading-graph-alignment", "medspacy", "pyarrow", "spacy", "radgraph", "torch", "transformers")
    return {
        "started": begun.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "seconds": round((finished - begun).total_seconds(), 1),
        "workers": workers,
        "engine": "local",
        "host": {"system": platform.platform(), "processor": platform.machine(), "processors": processors()},
        "command": list(command),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages if name in sys.modules or name == packages[0]},
        },
    }


def _summary(
    output: Path, manifest: Mapping[str, Any], begun: datetime, resumed_from: int | None, already_complete: bool
) -> ExtractSummary:
    totals = manifest["totals"]
    return ExtractSummary(
        output=output,
        reports=totals["reports"],
        rejected=dict(manifest["rejected"]),
        mentions=totals["mentions"],
        nodes=totals["nodes"],
        edges=totals["edges"],
        shards=len(manifest["shards"]),
        seconds=(datetime.now(timezone.utc) - begun).total_seconds(),
        resumed_from=resumed_from,
        already_complete=already_complete,
    )


def _version() -> str:
    """Not in the manifest: a finished folder stays finished when the program is updated, an unfinished one must not be mixed."""
    return metadata.version("cascading-graph-alignment")


@contextmanager
def _disk_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(
            f"{output} cannot be written: {error.strerror or error}. Finished shards are kept: when that is mended, run the "
            "same command again to go on."
        ) from error
