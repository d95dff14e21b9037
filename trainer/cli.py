"""The command line. Every command is a function `x_cli`: it parses, calls the plain function `x`, and reports.

Only Typer and modules without torch are imported here; a command imports what it needs when it runs, so that --help is quick.
The help of a flag that sets a key of the configuration is the help of that key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from trainer import settings
from trainer.config import Config

if TYPE_CHECKING:
    from trainer.pretrain import Outcome


class _Commands(TyperGroup):
    """Turns what can go wrong outside the program into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        from trainer.errors import Diverged, UserError

        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # so that a closed pipe is noticed while Typer can still answer it, by ending quietly
        except UserError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(2) from None
        except Diverged as error:
            typer.echo(f"Stopped: {error}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(130) from None
        return result


app = typer.Typer(
    cls=_Commands,
    help="Graphs and images to an image encoder, by cascading graph alignment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks can show values, and values can be report text
)


def main() -> None:
    """The entry of the console script: 0 done, 1 training diverged or a check failed, 2 a mistake in what was given,
    130 and 143 stopped by SIGINT and SIGTERM."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"trainer {version('cascading-graph-alignment')}")
        raise typer.Exit


@app.callback()
def trainer_cli(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


_DATA, _MODEL, _TRAINING, _RUN = "Data", "Model", "Training", "How it runs"


def _option(key: str, flag: str, panel: str, metavar: str | None = None, help: str = "") -> Any:
    """The option that sets a key of the configuration; its default is the configuration's, so its own is None."""
    default = settings.default_of(Config, key)
    return typer.Option(
        *flag.split(),
        metavar=metavar,
        help=(help or settings.help_of(Config, key)),
        show_default=None if default in (None, "") else str(default),  # type: ignore[arg-type]
        rich_help_panel=panel,
    )


GraphsOption = Annotated[Path | None, _option("run.graphs", "--graphs", _DATA, "GRAPHS")]
OutputOption = Annotated[Path | None, _option("run.output", "--output -o", _RUN, "RUN")]
ImagesOption = Annotated[Path | None, _option("run.images", "--images", _DATA, "FOLDER")]
CacheOption = Annotated[Path | None, _option("run.cache", "--cache", _DATA, "FOLDER")]
LabelsOption = Annotated[Path | None, _option("run.labels", "--labels", _DATA, "FILE")]
ImageSizeOption = Annotated[int | None, _option("data.image_size", "--image-size", _MODEL, "PIXELS")]
BackboneOption = Annotated[str | None, _option("model.backbone", "--backbone", _MODEL, "NAME")]
WeightsOption = Annotated[str | None, _option("model.weights", "--weights", _MODEL, "none|FILE")]
StartFromOption = Annotated[Path | None, _option("run.start_from", "--start-from", _MODEL, "RUN")]
TextModelOption = Annotated[str | None, _option("model.text_model", "--text-model", _MODEL, "FOLDER")]
ObjectiveOption = Annotated[str | None, _option("objective.name", "--objective", _TRAINING, "NAME")]
EpochsOption = Annotated[int | None, _option("run.epochs", "--epochs", _TRAINING)]
MaxStepsOption = Annotated[int | None, _option("run.max_steps", "--max-steps", _TRAINING)]
BatchSizeOption = Annotated[int | None, _option("run.batch_size", "--batch-size", _TRAINING)]
LearningRateOption = Annotated[float | None, _option("optimization.learning_rate", "--lr", _TRAINING, "RATE")]
SeedOption = Annotated[int | None, _option("run.seed", "--seed", _TRAINING)]
PrecisionOption = Annotated[str | None, _option("run.precision", "--precision", _RUN, "32|bf16")]
DevicesOption = Annotated[str | None, _option("run.devices", "--devices", _RUN, "N|auto")]
NumNodesOption = Annotated[int | None, _option("run.num_nodes", "--num-nodes", _RUN)]
WorkersOption = Annotated[int | None, _option("run.workers", "--workers", _RUN)]
ResumeOption = Annotated[
    str,
    typer.Option(
        metavar="auto|never|PATH",
        help="Go on from the last checkpoint of the run, start anew, or go on from a checkpoint elsewhere.",
        rich_help_panel=_RUN,
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="A YAML file, or the name of an installed one (`trainer config`)."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set any key (`trainer config` lists them); may be repeated."),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Start anew where another run is.", rich_help_panel=_RUN)
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.", rich_help_panel=_RUN)]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that `trainer pretrain` wrote.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("pretrain")
def pretrain_cli(
    graphs: GraphsOption = None,
    output: OutputOption = None,
    config: ConfigOption = None,
    images: ImagesOption = None,
    cache: CacheOption = None,
    labels: LabelsOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    start_from: StartFromOption = None,
    image_size: ImageSizeOption = None,
    text_model: TextModelOption = None,
    objective: ObjectiveOption = None,
    epochs: EpochsOption = None,
    max_steps: MaxStepsOption = None,
    batch_size: BatchSizeOption = None,
    lr: LearningRateOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    devices: DevicesOption = None,
    num_nodes: NumNodesOption = None,
    workers: WorkersOption = None,
    resume: ResumeOption = "auto",
    set_: SetOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train an image encoder on graphs and images. A run that was stopped or killed goes on when it is repeated."""
    from trainer.config import load_config

    loaded = load_config(
        config,
        {
            "run.graphs": graphs,
            "run.output": output,
            "run.images": images,
            "run.cache": cache,
            "run.labels": labels,
            "model.backbone": backbone,
            "model.weights": weights,
            "run.start_from": start_from,
            "data.image_size": image_size,
            "model.text_model": text_model,
            "objective.name": objective,
            "run.epochs": epochs,
            "run.max_steps": max_steps,
            "run.batch_size": batch_size,
            "optimization.learning_rate": lr,
            "run.seed": seed,
            "run.precision": precision,
            "run.devices": devices,
            "run.num_nodes": num_nodes,
            "run.workers": workers,
        },
        set_ or (),
    )
    from trainer.pretrain import pretrain

    outcome = pretrain(loaded, resume=resume, overwrite=overwrite, progress=not quiet)
    _report(outcome, quiet)


def _report(outcome: Outcome, quiet: bool) -> None:
    if outcome.stopped is not None:
        if not outcome.first:
            raise typer.Exit(128 + outcome.stopped)
        typer.echo(
            f"Stopped by a signal after step {outcome.step:,} of {outcome.total_steps:,}; a checkpoint was written. "
            "The same command goes on from there.",
            err=True,
        )
        raise typer.Exit(128 + outcome.stopped)
    if quiet or not outcome.first:
        return
    if outcome.already:
        typer.echo(f"{outcome.output} is finished already, with the same configuration: nothing to do.")
        return
    typer.echo(f"{outcome.output}: {outcome.step:,} steps")
    width = max(map(len, outcome.figures), default=0)
    _print_lines(f"  {name:<{width}}  {value:.4f}" for name, value in outcome.figures.items())


@app.command("config")
def config_cli(
    config: Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="A YAML file, or the name of one.")] = None,
    set_: SetOption = None,
    help_of_keys: Annotated[bool, typer.Option("--keys", help="List every key with its default and its help.")] = False,
) -> None:
    """Print a whole configuration, the installed ones, or all keys."""
    from trainer.config import installed_configs, load_config

    if help_of_keys:
        for key in settings.keys(Config):
            typer.echo(f"{key} ({settings.default_of(Config, key)}): {settings.help_of(Config, key)}")
    elif config is None and not set_:
        for name, path in installed_configs().items():
            heading = [line.removeprefix("#").strip() for line in path.read_text(encoding="utf-8").splitlines()[:1]]
            typer.echo(f"{name}: {heading[0] if heading else ''}")
        typer.echo("`trainer config NAME` prints one in full, `trainer config --keys` all keys.")
    else:
        typer.echo(settings.to_yaml(load_config(config, {}, set_ or ())), nl=False)


class FeatureKind(str, Enum):
    pooled = "pooled"
    nodes = "nodes"
    patches = "patches"


class MapKind(str, Enum):
    gradient = "gradient"
    attention = "attention"
    evidence = "evidence"


class Uncertain(str, Enum):
    missing = "missing"
    positive = "positive"
    negative = "negative"


FindingsOption = Annotated[
    str | None,
    typer.Option(
        "--findings",
        metavar="NAMES",
        help="Names with commas between them, such as 'left pleural effusion' or 'nodule in the right upper lobe'.",
    ),
]
ImageRootOption = Annotated[
    Path | None,
    typer.Option("--images", metavar="FOLDER", help="What image paths are relative to; by default the file's folder."),
]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Images at once.")]
MapOption = Annotated[
    MapKind,
    typer.Option(
        "--map",
        help="Which pixels a finding's score depends on, where its query looks, or what each place adds to its score.",
    ),
]


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _numbers(text: str, flag: str, kind: type[Any]) -> list[Any]:
    from trainer.errors import UserError

    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"{flag} {text}: expected numbers with commas between them.") from None


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _print_json(document: Any) -> None:
    import json

    # Line by line: an unbuffered stdout drops the rest of one long write, without an error, when the pipe closes in it.
    _print_lines(json.dumps(document, indent=2).split("\n"))


@app.command("cache-images")
def cache_images_cli(
    graphs: GraphsOption = None,
    config: ConfigOption = None,
    images: ImagesOption = None,
    cache: CacheOption = None,
    image_size: ImageSizeOption = None,
    workers: WorkersOption = None,
    set_: SetOption = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the images with their checksums too.")] = False,
) -> None:
    """Decode the images of graphs once, at the size of training. `pretrain` does it too where it is not done."""
    from trainer.config import load_config
    from trainer.data.cache import image_store
    from trainer.data.graphs import GraphFolder
    from trainer.data.loader import image_paths
    from trainer.errors import UserError
    from trainer.training_data import decoders

    flags: dict[str, Any] = {"run.graphs": graphs, "run.images": images, "run.cache": cache}
    flags |= {"data.image_size": image_size, "run.workers": workers}
    loaded = load_config(config, flags, set_ or ())
    if loaded.run.graphs is None or loaded.run.cache is None:
        raise UserError("Give --graphs GRAPHS and --cache FOLDER; `pretrain` takes the same --cache.")
    folder = GraphFolder(loaded.run.graphs)
    root = folder.image_root(loaded.run.images)
    paths = image_paths(folder)
    data = loaded.data
    store = image_store(root, paths, loaded.run.cache, data.image_size, data.fit, decoders(loaded, len(paths)))
    faults = store.verify() if verify else []
    _print_lines(faults)
    typer.echo(f"{store.folder}: {len(store):,} images, {int(store.usable.sum()):,} can be used.")
    for reason, count in store.rejected.items():
        typer.echo(f"  {reason}: {count:,}")
    if faults:
        raise typer.Exit(1)


@app.command("zeroshot")
def zeroshot_cli(
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="PNG, JPEG, TIFF or DICOM files.")],
    findings: FindingsOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write a CSV of scores.")
    ] = None,
    heat_maps: Annotated[
        Path | None, typer.Option("--heat-maps", metavar="FOLDER", help="Write a picture of each image and finding.")
    ] = None,
    map_kind: MapOption = MapKind.gradient,
    json: JsonOption = False,
    batch_size: BatchOption = 32,
) -> None:
    """Score findings in images without training; above 0 is rather there than not. No diagnosis."""
    from trainer.run_folder import open_run
    from trainer.zeroshot import write_scores, zeroshot

    result = zeroshot(
        open_run(run),
        images,
        _names(findings),
        heat_maps=heat_maps,
        kind=map_kind.value,
        batch_size=batch_size,
    )
    if output is not None:
        write_scores(result, output)
    if json:
        _print_json(result.records())
    elif output is None:
        typer.echo(result.csv(), nl=False)
    for path, reason in result.rejected:
        typer.echo(f"{path}: {reason}", err=True)


@app.command("embed")
def embed_cli(
    run: RunArgument,
    table: Annotated[Path, typer.Argument(metavar="CSV", help="A CSV with a column `image`, such as labels.csv.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The Parquet file to write.")],
    features: Annotated[FeatureKind, typer.Option(help="What of an image.")] = FeatureKind.pooled,
    images: ImageRootOption = None,
    cache: CacheOption = None,
    batch_size: BatchOption = 64,
) -> None:
    """Write the features of images to Parquet."""
    from trainer.embed import embed, open_images
    from trainer.labels import read_images
    from trainer.run_folder import open_run

    paths, subjects = read_images(table)
    opened = open_run(run)
    store = open_images(opened, images or table.parent, paths, cache)
    written, left_out = embed(opened, store, paths, output, features.value, subjects=subjects, batch_size=batch_size)
    typer.echo(f"{output}: {written:,} images, {features.value} features.")
    if left_out:
        typer.echo(f"{left_out:,} images cannot be used; {store.folder / 'rejects.csv'} says why.", err=True)


@app.command("probe")
def probe_cli(
    run: RunArgument,
    labels: Annotated[
        Path, typer.Option("--labels", metavar="FILE", help="labels.csv: image, subject_id, split, classes.")
    ],
    fraction: Annotated[
        str, typer.Option("--fraction", metavar="SHARES", help="Shares of the training subjects, with commas.")
    ] = "0.01,0.1,1",
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="SEEDS", help="Seeds that draw the subjects, with commas.")
    ] = "0,1,2",
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="NAMES", help="Some of the classes, with commas.")
    ] = None,
    features: Annotated[FeatureKind, typer.Option(help="What of an image.")] = FeatureKind.pooled,
    uncertain: Annotated[Uncertain, typer.Option(help="What -1 in the labels is.")] = Uncertain.missing,
    images: ImageRootOption = None,
    cache: CacheOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write all figures as JSON.")
    ] = None,
    json: JsonOption = False,
    batch_size: BatchOption = 64,
) -> None:
    """Linear probe: AUROC on the test split by the share of training subjects whose labels are used."""
    from trainer.embed import compute_features, open_images
    from trainer.features import rows_of_labels
    from trainer.labels import read_labels
    from trainer.probe import probe
    from trainer.run_folder import open_run, write_figures

    read = read_labels(labels, uncertain=uncertain.value)
    if classes is not None:
        read = read.of_classes(_names(classes))
    shares, numbers = _numbers(fraction, "--fraction", float), _numbers(seeds, "--seeds", int)
    opened = open_run(run)
    store = open_images(opened, images or labels.parent, read.images, cache)
    found = compute_features(opened, store, rows_of_labels(store, read), features.value, batch_size)
    result = probe(found, read, shares, numbers)
    if output is not None:
        write_figures(result.to_json(), output)
    if json:
        _print_json(result.to_json())
    else:
        typer.echo(result.table())
        if result.unjudged:
            typer.echo(
                f"Not judged, for want of positives or negatives in the test split: {', '.join(result.unjudged)}."
            )


@app.command("ground")
def ground_cli(
    run: RunArgument,
    regions: Annotated[
        Path,
        typer.Argument(metavar="REGIONS", help="boxes.json (COCO), a folder masks/<class>/<image>.png, or masks.csv."),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", metavar="FILE", help="The images by their paths, and their splits; a folder of masks needs it."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Images of one split of the labels: test.")
    ] = None,
    map_kind: MapOption = MapKind.gradient,
    images: ImageRootOption = None,
    cache: CacheOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write all figures as JSON.")
    ] = None,
    json: JsonOption = False,
    batch_size: BatchOption = 64,
) -> None:
    """Pointing game and mask mass of the heat maps, beside chance and a map that does not see the image."""
    from trainer import ground as grounding
    from trainer.regions import regions_of
    from trainer.run_folder import open_run, write_figures

    marked = regions_of(regions, labels, split)
    root = images or (labels or regions).parent
    found, left_out = grounding.ground(
        open_run(run), marked, root, kind=map_kind.value, cache=cache, batch_size=batch_size
    )
    document = grounding.to_json(found, left_out)
    if output is not None:
        write_figures(document, output)
    if json:
        _print_json(document)
        return
    typer.echo(grounding.table(found))
    _print_lines(f"Left out: {name}: {reason}." for name, reason in left_out.items())


@app.command("blind")
def blind_cli(
    graphs: GraphsOption = None,
    output: OutputOption = None,
    config: ConfigOption = None,
    images: ImagesOption = None,
    cache: CacheOption = None,
    objective: ObjectiveOption = None,
    epochs: EpochsOption = None,
    max_steps: MaxStepsOption = None,
    batch_size: BatchSizeOption = None,
    seed: SeedOption = None,
    resume: ResumeOption = "auto",
    set_: SetOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train on constant images and compare each stage with its prior. Exit code 1 if one can be solved without looking."""
    from trainer.config import load_config

    flags: dict[str, Any] = {"run.graphs": graphs, "run.output": output, "run.images": images, "run.cache": cache}
    flags |= {"objective.name": objective, "run.epochs": epochs, "run.max_steps": max_steps}
    flags |= {"run.batch_size": batch_size, "run.seed": seed}
    loaded = load_config(config, flags, set_ or ())
    from trainer.blind import blind, table

    outcome, stages = blind(loaded, resume=resume, overwrite=overwrite, progress=not quiet)
    if outcome.stopped is not None:
        _report(outcome, quiet)
    typer.echo(table(stages))
    if not all(stage.at_prior for stage in stages):
        raise typer.Exit(1)


@app.command("ablate")
def ablate_cli(
    plan: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML list of runs; trainer/ablate.py describes it.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder of all runs and the table.")
    ],
    quiet: QuietOption = False,
) -> None:
    """Train a list of runs with their seeds and print the table. Repeated, it goes on where it stopped."""
    from trainer.ablate import ablate, markdown, read_plan, table
    from trainer.checkpoint import write_text

    read = read_plan(plan)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for rows in ablate(read, output, progress=not quiet):
        write_text(output / "table.md", markdown(rows))
    typer.echo(table(rows))
    failed = [f"{row.name}, {reason}" for row in rows for reason in row.failed]
    _print_lines(failed)
    if failed:
        raise typer.Exit(1)
