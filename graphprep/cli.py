"""The command line. Every command is a function `x_cli`: it parses, calls the plain function `x`, and reports.

Only Typer and the standard library are imported here; a command imports what it needs when it runs, so that --help is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from graphprep.extract import ExtractSummary
    from graphprep.extractors import ModelSettings
    from graphprep.extractors.radgraph.folder import ModelFolder
    from graphprep.vocabulary import Concept, Vocabulary


class _Commands(TyperGroup):
    """Turns what can go wrong outside the program into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        from graphprep.errors import UserError

        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # so that a closed pipe is noticed while Typer can still answer it, by ending quietly
        except UserError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(130) from None
        return result


app = typer.Typer(
    cls=_Commands,
    help="Radiology reports to anatomy-pathology graphs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks can show values, and values can be report text
)
vocab_app = typer.Typer(help="The vocabularies of places and findings.", no_args_is_help=True)
app.add_typer(vocab_app, name="vocab")
models_app = typer.Typer(help="The published RadGraph models.", no_args_is_help=True)
app.add_typer(models_app, name="models")


def main() -> None:
    """The entry of the console script: 0 done, 1 problems found, 2 a mistake in what was given, 130 interrupted."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"graphprep {version('cascading-graph-alignment')}")
        raise typer.Exit


@app.callback()
def graphprep_cli(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


GraphsArgument = Annotated[Path, typer.Argument(metavar="GRAPHS", help="A folder that `graphprep extract` wrote.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AnatomyOption = Annotated[
    Path | None,
    typer.Option(
        "--anatomy-vocab", metavar="FILE", help="Another vocabulary of places, or an addition to ours (YAML)."
    ),
]
PathologyOption = Annotated[
    Path | None,
    typer.Option(
        "--pathology-vocab", metavar="FILE", help="Another vocabulary of findings, or an addition to ours (YAML)."
    ),
]


class KindName(str, Enum):
    anatomy = "anatomy"
    pathology = "pathology"


class ExportFormat(str, Enum):
    radgraph = "radgraph"
    graphml = "graphml"
    pyg = "pyg"


class OriginName(str, Enum):
    stated = "stated"
    all = "all"


class AssertionName(str, Enum):
    model = "model"
    context = "context"
    both = "both"


class ShowFormat(str, Enum):
    text = "text"
    json = "json"


_COLUMNS = "Columns of the input, where their names are not the usual ones"
_LANGUAGE = "What is extracted"
_MODEL = "With --extractor radgraph"
_RUN = "How it runs"


def _column(flag: str, what: str) -> Any:
    return typer.Option(flag, metavar="NAME", help=what, rich_help_panel=_COLUMNS)


@app.command("extract")
def extract_cli(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="REPORTS...", help="CSV, TSV, JSON Lines or Parquet files, gzipped or not; - is standard input."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="GRAPHS", help="The folder to write.")],
    extractor: Annotated[
        str, typer.Option(metavar="NAME", help="What finds the mentions.", rich_help_panel=_LANGUAGE)
    ] = "rules",
    sections: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Sections to extract from, with commas between them, or `all`.",
            rich_help_panel=_LANGUAGE,
        ),
    ] = "findings,impression",
    section_rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Further section headings (YAML).", rich_help_panel=_LANGUAGE),
    ] = None,
    context_rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Further rules of negation, doubt and time (YAML).", rich_help_panel=_LANGUAGE
        ),
    ] = None,
    anatomy_vocab: AnatomyOption = None,
    pathology_vocab: PathologyOption = None,
    text: Annotated[
        bool, typer.Option("--text/--no-text", help="Keep report text in the output.", rich_help_panel=_LANGUAGE)
    ] = True,
    id_column: Annotated[str | None, _column("--id-column", "Id of the report.")] = None,
    text_column: Annotated[
        list[str] | None,
        _column("--text-column", "Text; repeat it where each section has its own column."),
    ] = None,
    subject_column: Annotated[str | None, _column("--subject-column", "Id of the subject.")] = None,
    study_column: Annotated[str | None, _column("--study-column", "Id of the study.")] = None,
    split_column: Annotated[str | None, _column("--split-column", "train, valid, test …")] = None,
    image_column: Annotated[str | None, _column("--image-column", "Path of the image.")] = None,
    images_column: Annotated[
        str | None, _column("--images-column", "Paths of several images: a JSON list, or | between them.")
    ] = None,
    view_column: Annotated[str | None, _column("--view-column", "View of the image.")] = None,
    image_id_column: Annotated[str | None, _column("--image-id-column", "Id of the image.")] = None,
    encoding: Annotated[
        str, typer.Option(metavar="NAME", help="Encoding of text files.", rich_help_panel=_COLUMNS)
    ] = "utf-8",
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="CHARACTER",
            show_default="as the header has it",
            help="What stands between the fields of CSV files; `tab` for a tab.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    max_chars: Annotated[
        int, typer.Option(min=1, help="Longer reports are rejected.", rich_help_panel=_COLUMNS)
    ] = 100_000,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="ROOT",
            show_default="that of the input",
            help="The folder that image paths are relative to.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    check_images: Annotated[
        bool,
        typer.Option(
            "--check-images", help="Open every image; reject missing and corrupt ones.", rich_help_panel=_COLUMNS
        ),
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The model, as `graphprep models` makes its folder.", rich_help_panel=_MODEL
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="auto",
            help="cpu, cuda (workers take turns at the GPUs), cuda:N; auto: a GPU where there is one.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(min=1, show_default="as the device likes it", help="Tokens of a batch.", rich_help_panel=_MODEL),
    ] = None,
    assertion: Annotated[
        AssertionName | None,
        typer.Option(
            show_default="both",
            help="Whether a finding is present, uncertain or absent: as the model says, as ConText says, or as the model "
            "says with ConText's history and hypotheses.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="one per processor, at most 8; fewer with a model",
            help="Worker processes.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Reports per shard.", rich_help_panel=_RUN)] = 10_000,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Read so many reports and no more.", rich_help_panel=_RUN),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace graphs made with other settings or input.", rich_help_panel=_RUN),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first row that cannot be used.", rich_help_panel=_RUN)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no summary.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Write the graphs of reports. A run that was killed goes on where it stopped when it is repeated."""
    from graphprep.workers import keep_torch_out

    keep_torch_out()
    from graphprep.extract import extract
    from graphprep.pipeline import PipelineSettings
    from graphprep.read import ReadOptions

    columns = {
        "report_id": id_column,
        "subject_id": subject_column,
        "study_id": study_column,
        "split": split_column,
        "image": image_column,
        "images": images_column,
        "view": view_column,
        "image_id": image_id_column,
    }
    summary = extract(
        inputs,
        output,
        settings=PipelineSettings(
            extractor=extractor,
            sections=tuple(name.strip() for name in sections.split(",") if name.strip()),
            section_rules=section_rules,
            context_rules=context_rules,
            anatomy_vocab=anatomy_vocab,
            pathology_vocab=pathology_vocab,
            model=_model_settings(extractor, model, device, batch_tokens, assertion),
        ),
        read=ReadOptions(
            columns={role: column for role, column in columns.items() if column is not None},
            text_columns=tuple(text_column or ()),
            encoding=encoding,
            delimiter=delimiter,
            max_chars=max_chars,
        ),
        images=images,
        check_images=check_images,
        text=text,
        workers=workers,
        shard_size=shard_size,
        limit=limit,
        overwrite=overwrite,
        strict=strict,
        progress=not quiet,
        command=sys.argv,
    )
    if not quiet:
        _print_lines(_summary_lines(summary))
    if summary.reports == 0 and not summary.already_complete:
        typer.echo("Warning: no report could be read; the folder holds none.", err=True)


def _model_settings(
    extractor: str,
    model: Path | None,
    device: str | None,
    batch_tokens: int | None,
    assertion: AssertionName | None,
) -> ModelSettings | None:
    """None where nothing of a model is asked for."""
    from graphprep.extractors import ModelSettings

    given = {
        "folder": model,
        "device": device,
        "batch_tokens": batch_tokens,
        "assertion": None if assertion is None else assertion.value,
    }
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return ModelSettings(**said) if said or extractor == "radgraph" else None


def _summary_lines(summary: ExtractSummary) -> Iterable[str]:
    if summary.already_complete:
        yield f"{summary.output} is complete already, of the same input and settings: nothing to do. It holds"
    elif summary.resumed_from is not None:
        yield f"{summary.output}: {summary.resumed_from} finished shards were kept, the others written. It holds"
    else:
        yield f"{summary.output}"
    rejected = sum(summary.rejected.values())
    rows = {
        "reports": summary.reports,
        "rejected rows": rejected,
        **{f"  {reason}": count for reason, count in sorted(summary.rejected.items())},
        "mentions": summary.mentions,
        "nodes": summary.nodes,
        "edges": summary.edges,
        "shards": summary.shards,
    }
    width = max(map(len, rows))
    for name, count in rows.items():
        yield f"  {name:<{width}}  {count:>11,}"
    if not summary.already_complete:
        yield f"  {'seconds':<{width}}  {summary.seconds:>11,.1f}"


class ImageFormatName(str, Enum):
    any = "any"
    png = "png"
    jpg = "jpg"
    dicom = "dicom"


class MaskFormatName(str, Enum):
    csv = "csv"
    png = "png"


def _list_converters(wanted: bool) -> None:
    if wanted:
        from graphprep.convert import converters

        found = converters()
        width = max(map(len, found))
        _print_lines(f"{name:<{width}}  {converter.expects}" for name, converter in found.items())
        raise typer.Exit


@app.command("convert")
def convert_cli(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Name of the data set; --list prints them.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where the files of the data set are.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The folder to write.")],
    images: Annotated[
        Path | None,
        typer.Option(metavar="ROOT", show_default="PATH", help="The folder with the images; paths are relative to it."),
    ] = None,
    image_format: Annotated[ImageFormatName, typer.Option(help="Use images of this format.")] = ImageFormatName.any,
    masks: Annotated[
        MaskFormatName, typer.Option(help="Masks as one file of run lengths, or as one file each.")
    ] = MaskFormatName.csv,
    encoding: Annotated[str, typer.Option(metavar="NAME", help="Encoding of text files.")] = "utf-8",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another conversion in OUT.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
    _: Annotated[
        bool,
        typer.Option(
            "--list", help="List the data sets and what PATH must hold.", callback=_list_converters, is_eager=True
        ),
    ] = False,
) -> None:
    """Convert a published data set to reports.csv, labels.csv, boxes.json and masks."""
    from graphprep.convert import ConvertOptions, convert, summary_lines

    options = ConvertOptions(images, image_format.value, masks.value, encoding)
    document = convert(source, path, output, options, overwrite=overwrite, progress=not quiet)
    if not quiet:
        _print_lines(summary_lines(document, path, output, options))


@app.command("phantom")
def phantom_cli(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write.")],
    studies: Annotated[int, typer.Option("--n", help="Pairs of images and report.")] = 600,
    seed: Annotated[int, typer.Option(help="Another seed gives other patients.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels along an edge of the images.")] = 256,
    contrast: Annotated[float, typer.Option(help="Factor on the density of findings; less is harder.")] = 1.0,
    omissions: Annotated[float, typer.Option(help="Share of present findings that reports leave out.")] = 0.1,
    wrong: Annotated[float, typer.Option(help="Share of statements of reports that are wrong.")] = 0.0,
    masks: Annotated[bool, typer.Option("--masks/--no-masks", help="Write masks of findings and anatomy.")] = True,
    overlay: Annotated[
        int, typer.Option(metavar="N", help="Write overlay.png: N images with boxes and masks drawn on them.")
    ] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, show_default="one per processor, at most 8", help="Worker processes.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a phantom made with other options.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Write drawn chest radiographs with reports, labels, boxes, masks and graphs, from a known truth."""
    from graphprep.phantom.make import PhantomOptions, make_phantom

    summary = make_phantom(
        output,
        PhantomOptions(studies, seed, size, contrast, omissions, wrong, masks),
        workers=workers,
        overlay=overlay,
        overwrite=overwrite,
        progress=not quiet,
    )
    if quiet:
        return
    state = (
        " was complete already, of the same options: nothing was drawn. It holds" if summary.already_complete else ""
    )
    typer.echo(f"{summary.output}{state}")
    if summary.resumed_from:
        typer.echo(f"  {summary.resumed_from:,} studies were there from an earlier run.")
    _print_lines(
        f"  {name:<10}{count:>11,}"
        for name, count in (
            ("patients", summary.subjects),
            ("studies", summary.studies),
            ("images", summary.images),
            ("boxes", summary.boxes),
        )
    )
    if not summary.already_complete:
        typer.echo(f"  {'seconds':<10}{summary.seconds:>11,.1f}")


@app.command("validate")
def validate_cli(graphs: GraphsArgument) -> None:
    """Check a folder of graphs against the data contract. Exit code 1 if it does not keep it."""
    from graphprep.validate import validate

    report = validate(graphs)
    _print_lines(f"Not checked: {check}" for check in report.skipped)
    _print_lines(str(problem) for problem in report.problems)
    if not report.ok:
        typer.echo(f"{graphs} breaks the data contract: {_number(len(report.problems), 'check')} failed.")
        raise typer.Exit(1)
    counts = ", ".join(f"{count:,} {table}" for table, count in report.counts.items())
    typer.echo(f"{graphs} keeps the data contract: {counts}.")


@app.command("stats")
def stats_cli(
    graphs: GraphsArgument,
    json: JsonOption = False,
    top: Annotated[int, typer.Option(min=1, help="Length of the lists.")] = 20,
) -> None:
    """Print what a folder of graphs holds."""
    from graphprep.stats import format_stats, stats

    found = stats(graphs, max(top, 50))
    _print_json(found) if json else typer.echo(format_stats(found, **_terminal(), top=top), nl=False)


@app.command("show")
def show_cli(
    graphs: GraphsArgument,
    report_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the report.")],
    format: Annotated[ShowFormat, typer.Option(help="For the eye, or for a program.")] = ShowFormat.text,
) -> None:
    """Print one report with its mentions marked, and its graph as a tree."""
    from graphprep.show import show

    view = show(graphs, report_id)
    if format is ShowFormat.json:
        typer.echo(view.json())
    else:
        typer.echo(view.text(**_terminal()), nl=False)


@app.command("evaluate")
def evaluate_cli(
    predicted: Annotated[Path, typer.Argument(metavar="PRED", help="The graphs to score, or RadGraph's JSON.")],
    gold: Annotated[Path, typer.Option("--gold", metavar="GOLD", help="What is taken to be right: graphs or JSON.")],
    origin: Annotated[OriginName, typer.Option(help="Nodes and edges that reports state, or all.")] = OriginName.stated,
    bootstrap: Annotated[
        int, typer.Option(min=0, metavar="N", help="Resamples for the intervals; 0: no intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    labels: Annotated[
        str, typer.Option(metavar="SET", help="The labels to compare, as `graphprep labels --set` has them.")
    ] = "chexpert14",
    errors: Annotated[int, typer.Option(min=0, metavar="N", help="How many confusions to print.")] = 20,
    text: Annotated[bool, typer.Option("--text/--no-text", help="Print a sentence with each confusion.")] = True,
    top: Annotated[int, typer.Option(min=1, help="How many concepts to print.")] = 20,
    json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Score graphs against other graphs of the same reports: mentions, relations, nodes and edges."""
    from graphprep.evaluate import evaluate
    from graphprep.evaluate.tables import format_evaluation

    found = evaluate(
        predicted,
        gold,
        origin=origin.value,
        bootstrap=bootstrap,
        seed=seed,
        labels=labels,
        errors=errors,
        text=text,
        show_progress=not quiet,
    )
    _print_json(found) if json else typer.echo(format_evaluation(found, top), nl=False)


@app.command("labels")
def labels_cli(
    graphs: GraphsArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The CSV file to write.")],
    set: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="chexpert14, chestxray14, chexbert, own (the concepts), or a YAML file: label → concepts.",
        ),
    ] = "chexpert14",
    images: Annotated[bool, typer.Option("--images", help="One row per image: the labels.csv of training.")] = False,
    hierarchy: Annotated[
        bool, typer.Option(help="Count a finding for the labels of what it is a kind of, too.")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Write labels of reports or images: 1, 0 (denied), -1 (uncertain) or empty."""
    from graphprep.labels import labels

    done = labels(graphs, output, set, images=images, hierarchy=hierarchy, show_progress=not quiet)
    if not quiet:
        typer.echo(f"{output}: {_number(done.rows, 'row')}, {_number(done.columns, 'label')}.")
    if done.without_image:
        typer.echo(f"Warning: {_number(done.without_image, 'report')} without an image made no row.", err=True)


@app.command("export")
def export_cli(
    graphs: GraphsArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")],
    format: Annotated[ExportFormat, typer.Option(help="JSON, a zip of GraphML files, or arrays (.npz).")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Write graphs as RadGraph's JSON, as GraphML, or as arrays for PyTorch Geometric."""
    from graphprep.export import export

    count = export(graphs, format.value, output, show_progress=not quiet)
    if not quiet:
        typer.echo(f"{output}: {_number(count, 'report')}.")


@app.command("import-radgraph")
def import_radgraph_cli(
    annotations: Annotated[Path, typer.Argument(metavar="FILE", help="RadGraph's JSON.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="GRAPHS", help="The folder to write.")],
    reports: Annotated[
        list[str] | None,
        typer.Option(
            "--reports", metavar="FILE", help="The reports that were annotated, as for `extract`; repeatable."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="The folder that image paths are relative to.")
    ] = None,
    section_rules: Annotated[Path | None, typer.Option(metavar="FILE", help="Further section headings (YAML).")] = None,
    anatomy_vocab: AnatomyOption = None,
    pathology_vocab: PathologyOption = None,
    text: Annotated[bool, typer.Option("--text/--no-text", help="Keep report text in the output.")] = True,
    workers: Annotated[
        int | None, typer.Option(min=1, show_default="one per processor, at most 8", help="Worker processes.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace graphs made with other settings or input.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Write the graphs of reports that RadGraph has annotated."""
    from graphprep.workers import keep_torch_out

    keep_torch_out()
    from graphprep.import_radgraph import import_radgraph
    from graphprep.pipeline import PipelineSettings

    done = import_radgraph(
        annotations,
        output,
        reports=reports or (),
        settings=PipelineSettings(
            section_rules=section_rules, anatomy_vocab=anatomy_vocab, pathology_vocab=pathology_vocab
        ),
        images=images,
        text=text,
        workers=workers,
        overwrite=overwrite,
        progress=not quiet,
        command=sys.argv,
    )
    if not quiet:
        _print_lines(_summary_lines(done.extract))
    if done.unused:
        typer.echo(f"Warning: {_number(done.unused, 'annotation')} of no report that could be used.", err=True)


@vocab_app.command("list")
def vocab_list_cli(
    kind: Annotated[KindName | None, typer.Option(help="Only places, or only findings.")] = None,
    anatomy_vocab: AnatomyOption = None,
    pathology_vocab: PathologyOption = None,
    json: JsonOption = False,
) -> None:
    """List the concepts."""
    from graphprep.vocabulary import load_vocabularies, to_rows

    vocabularies = [
        vocabulary
        for vocabulary in load_vocabularies(anatomy_vocab, pathology_vocab)
        if kind is None or vocabulary.kind == kind.value
    ]
    if json:
        _print_json([{"kind": vocabulary.kind, **row} for vocabulary in vocabularies for row in to_rows(vocabulary)])
        return
    for vocabulary in vocabularies:
        typer.echo(
            f"{vocabulary.kind}: {_number(len(vocabulary.concepts), 'concept')}, sha256 {vocabulary.sha256[:12]}"
        )
        width = max(map(len, vocabulary.concepts), default=0)
        _print_lines(f"  {concept.id:<{width}}  {_in_a_line(concept)}" for concept in vocabulary.concepts.values())


def _in_a_line(concept: Concept) -> str:
    facts = [concept.category] if concept.category not in (None, "finding") else []
    facts += ["sided"] if concept.sided else []
    facts += [f"a {concept.parent}"] if concept.parent else []
    facts += [f"part of {concept.part_of}"] if concept.part_of else []
    facts += [f"at {concept.site}"] if concept.site else []
    return concept.name + (f" ({', '.join(map(str, facts))})" if facts else "")


@vocab_app.command("show")
def vocab_show_cli(
    concept: Annotated[str, typer.Argument(metavar="CONCEPT", help="Id, name or synonym of a concept.")],
    anatomy_vocab: AnatomyOption = None,
    pathology_vocab: PathologyOption = None,
    json: JsonOption = False,
) -> None:
    """Print all that is known of a concept."""
    from graphprep.errors import UserError
    from graphprep.vocabulary import load_vocabularies, to_rows

    vocabularies = load_vocabularies(anatomy_vocab, pathology_vocab)
    found = [(vocabulary, known) for vocabulary in vocabularies for known in _named(vocabulary, concept)]
    if not found:
        raise UserError(f"No concept is called {concept!r}. `graphprep vocab list` lists them all.")
    if json:
        _print_json([{"kind": vocabulary.kind, **to_rows(vocabulary)[known.index]} for vocabulary, known in found])
        return
    for vocabulary, known in found:
        _print_lines(_concept_lines(vocabulary, known))


def _named(vocabulary: Vocabulary, wanted: str) -> list[Concept]:
    """The concept of this id; else those of this name or synonym."""
    if wanted in vocabulary.concepts:
        return [vocabulary.concepts[wanted]]
    words = wanted.lower()
    return [
        concept
        for concept in vocabulary.concepts.values()
        if words == concept.name.lower() or words in concept.synonyms
    ]


def _concept_lines(vocabulary: Vocabulary, concept: Concept) -> Iterable[str]:
    yield f"{concept.id}  ({vocabulary.kind}, from {vocabulary.sources.get(concept.id, 'ours')})"
    facts = {
        "name": concept.name,
        "category": concept.category,
        "sided": "yes" if concept.sided else None,
        "kind of": ", ".join(vocabulary.ancestors(concept.id)),
        "kinds": ", ".join(vocabulary.descendants(concept.id)),
        "part of": concept.part_of,
        "site": concept.site,
        "opposite": ", ".join(concept.opposites),
        "synonyms": "; ".join(concept.synonyms),
        "mesh": concept.mesh,
        "radlex": concept.radlex,
    }
    for name, fact in facts.items():
        if fact:
            yield f"  {name:<10}{fact}"
    for composition in concept.compositions:
        beside = f", with {' + '.join(composition.with_)}" if composition.with_ else ""
        yield f"  {'when':<10}{' | '.join(composition.words)} at {' | '.join(composition.at)}{beside}"
    for name, labels in concept.labels.items():
        yield f"  {'label':<10}{name}: {', '.join(labels)}"


@vocab_app.command("check")
def vocab_check_cli(anatomy_vocab: AnatomyOption = None, pathology_vocab: PathologyOption = None) -> None:
    """List what is wrong in vocabularies. Exit code 1 if anything is."""
    from graphprep.vocabulary import check, read_vocabulary

    anatomy, pathology = read_vocabulary("anatomy", anatomy_vocab), read_vocabulary("pathology", pathology_vocab)
    problems = check(anatomy, pathology)
    _print_lines(problems)
    if problems:
        typer.echo(f"{_number(len(problems), 'problem')}.")
        raise typer.Exit(1)
    for vocabulary in (anatomy, pathology):
        typer.echo(f"{vocabulary.kind}: {_number(len(vocabulary.concepts), 'concept')}, nothing wrong.")


@vocab_app.command("diff")
def vocab_diff_cli(
    kind: Annotated[KindName, typer.Argument(help="What the files are vocabularies of.")],
    after: Annotated[Path, typer.Argument(metavar="FILE", help="A vocabulary, or an addition to ours.")],
    before: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", show_default="our vocabulary", help="What to compare it with."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print what a vocabulary adds, removes and changes. Exit code 0 either way."""
    from graphprep.vocabulary import diff, read_vocabulary

    found = diff(read_vocabulary(kind.value, before), read_vocabulary(kind.value, after))
    if json:
        _print_json({"added": found.added, "removed": found.removed, "changed": dict(found.changed)})
        return
    _print_lines(f"+ {concept}" for concept in found.added)
    _print_lines(f"- {concept}" for concept in found.removed)
    for concept, changes in found.changed.items():
        _print_lines([f"~ {concept}", *(f"    {change}" for change in changes)])
    if not found:
        typer.echo("No difference.")


@vocab_app.command("suggest")
def vocab_suggest_cli(
    graphs: GraphsArgument,
    top: Annotated[int, typer.Option(min=1, help="How many to print.")] = 50,
    json: JsonOption = False,
) -> None:
    """Rank the words of reports that no concept covers, by the number of their mentions."""
    from dataclasses import asdict

    from graphprep.show import printable
    from graphprep.suggest import suggest

    found = suggest(graphs, top)
    if json:
        _print_json([asdict(suggestion) for suggestion in found])
    elif not found:
        typer.echo("Concepts cover all mentions.")
    else:
        _print_lines(f"{each.count:>9,}  {each.label:<11}  {printable(each.text)}" for each in found)


@models_app.command("list")
def models_list_cli() -> None:
    """The models that can be fetched."""
    from graphprep.models import PUBLISHED

    width = max(map(len, PUBLISHED))
    _print_lines(f"{name:<{width}}  {model.about}" for name, model in PUBLISHED.items())


@models_app.command("fetch")
def models_fetch_cli(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model of `graphprep models list`.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write.")],
) -> None:
    """Download a model and make its folder. The only command that uses the network; goes on where it was broken off."""
    from graphprep.models import fetch

    _say_model(fetch(name, output))


@models_app.command("import")
def models_import_cli(
    source: Annotated[
        Path, typer.Argument(metavar="ARCHIVE", help="The published archive, or a folder with what was in it.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write.")],
    encoder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="config.json and tokenizer of the encoder, where ARCHIVE holds none."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model's name, where ARCHIVE holds several.")
    ] = None,
) -> None:
    """Make a model's folder from what was carried in. Archives with code or that leave their folder are refused."""
    from graphprep.models import import_model

    _say_model(import_model(source, output, encoder=encoder, name=name))


@models_app.command("verify")
def models_verify_cli(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a model.")],
) -> None:
    """Check that a model's files are as they were, and belong together. Exit code 1 if not."""
    from graphprep.models import verify

    problems = verify(folder)
    _print_lines(problems)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{folder} is complete and can be used.")


def _say_model(model: ModelFolder) -> None:
    size = sum(entry["bytes"] for entry in model.files.values())
    typer.echo(f"{model.path}: {model.name}, {size / 1e6:,.1f} MB; encoder {model.encoder}.")
    typer.echo(f"Use it with: graphprep extract REPORTS -o GRAPHS --extractor radgraph --model {model.path}")


def _terminal() -> dict[str, Any]:
    """How text is to be laid out where it goes."""
    import shutil

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((100, 24)).columns if terminal else 100
    return {"width": width, "color": terminal and "NO_COLOR" not in os.environ}


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _print_json(document: Any) -> None:
    import json

    # Line by line: an unbuffered stdout drops the rest of one long write, without an error, when the pipe closes in it.
    _print_lines(json.dumps(document, indent=2).split("\n"))


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
