"""The configuration of a run: defaults, then a YAML file, then flags, then `--set key=value`.

A configuration file names only what differs from the defaults. The help of a flag is the help of the field that it sets.
No module that this one imports loads torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from trainer import settings
from trainer.data.config import AugmentConfig, DataConfig
from trainer.errors import UserError
from trainer.model.config import ModelConfig, ObjectiveConfig


@dataclass(frozen=True)
class RunConfig:
    graphs: Path | None = field(default=None, metadata={"help": "The graphs folder that `graphprep extract` wrote."})
    images: Path | None = field(
        default=None,
        metadata={"help": "The folder that image paths are relative to, where the graphs' own is not right."},
    )
    output: Path | None = field(
        default=None,
        metadata={"help": "The run folder to write; by default one under runs/ named after graphs and objective."},
    )
    cache: Path | None = field(
        default=None, metadata={"help": "Folder of decoded images and tokens; by default cache/ beside the run folder."}
    )
    labels: Path | None = field(
        default=None, metadata={"help": "A labels.csv: validation then judges zero-shot and a linear probe by it."}
    )
    label_images: Path | None = field(
        default=None, metadata={"help": "The folder that images of labels.csv are relative to; by default its own."}
    )
    start_from: Path | None = field(
        default=None,
        metadata={"help": "A finished run whose weights and tokenizer to start with, on these graphs and anew."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of everything random."})
    epochs: int = field(default=20, metadata={"help": "Passes over the training reports."})
    max_steps: int | None = field(
        default=None,
        metadata={"help": "Optimizer steps, instead of epochs; 0 writes the run folder of an untrained encoder."},
    )
    batch_size: int = field(default=64, metadata={"help": "Pairs of a step on each device."})
    accumulate: int = field(
        default=1,
        metadata={"help": "Batches whose gradients are averaged for a step; pairs are compared within a batch alone."},
    )
    workers: int = field(
        default=0,
        metadata={
            "help": "Processes that load data, for each device; 0: the training process, the fastest with a cache."
        },
    )
    accelerator: Literal["auto", "cpu", "gpu"] = field(default="auto", metadata={"help": "What to train on."})
    devices: str = field(
        default="auto", metadata={"help": "How many GPUs (or processes on the CPU) on each node, or auto."}
    )
    num_nodes: int = field(default=1, metadata={"help": "Machines that train together, each started with torchrun."})
    precision: Literal["32", "bf16"] = field(
        default="32", metadata={"help": "Numbers of the forward pass: 32 bits, or bfloat16 where it is safe."}
    )
    compile: bool = field(
        default=False, metadata={"help": "Compile the image encoder; pays on GPUs after some minutes."}
    )
    channels_last: bool = field(
        default=True, metadata={"help": "Keep images with channels last, which is faster for convolutions."}
    )
    constant_images: bool = field(
        default=False,
        metadata={"help": "Train on images that are all grey: what a stage learns then, it learns blindly."},
    )
    log_every: int = field(default=20, metadata={"help": "Steps between rows of metrics.csv."})
    tensorboard: bool = field(default=True, metadata={"help": "Write TensorBoard events too."})


@dataclass(frozen=True)
class OptimizationConfig:
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of AdamW."})
    text_learning_rate_scale: float = field(
        default=1.0, metadata={"help": "Factor on it for the text encoder; below 1 where it was pretrained."}
    )
    weight_decay: float = field(
        default=0.05,
        metadata={"help": "Decoupled weight decay of matrices and kernels; biases, norms and embeddings have none."},
    )
    beta1: float = field(default=0.9, metadata={"help": "Decay of AdamW's mean of gradients."})
    beta2: float = field(default=0.98, metadata={"help": "Decay of AdamW's mean of squared gradients."})
    warmup: float = field(default=0.05, metadata={"help": "Share of the steps in which the learning rate rises."})
    final_scale: float = field(
        default=0.01, metadata={"help": "Share of the peak learning rate that the cosine ends at."}
    )
    clip_norm: float | None = field(
        default=1.0, metadata={"help": "Largest norm of the gradients, to which longer ones are scaled."}
    )
    ema: float | None = field(
        default=None,
        metadata={"help": "Decay of a moving average of the weights, which then is what the run folder holds."},
    )
    explosion: float = field(
        default=1000.0,
        metadata={"help": "Stop when a gradient's norm is this many times the median of the steps before it."},
    )


@dataclass(frozen=True)
class CheckpointConfig:
    every: int = field(
        default=500, metadata={"help": "Steps between checkpoints; the end of a run, and SIGTERM, write one too."}
    )
    keep: int = field(default=2, metadata={"help": "Last checkpoints to keep, the best one besides."})
    milestone: int | None = field(
        default=None, metadata={"help": "Checkpoints of every so many steps are kept for good."}
    )


@dataclass(frozen=True)
class ValidationConfig:
    every: int | None = field(
        default=None, metadata={"help": "Steps between validations; by default after every epoch."}
    )
    reports: int | None = field(
        default=2000, metadata={"help": "Validation reports to use, evenly spaced over the split; all where null."}
    )
    batch_size: int | None = field(
        default=None, metadata={"help": "Pairs of a validation batch; by default that of training."}
    )
    retrieval: bool = field(default=True, metadata={"help": "Find images by reports and reports by images."})
    states: bool = field(
        default=True,
        metadata={"help": "Accuracy of what the images' answers say of the reports' concepts, and zero-shot AUROC."},
    )
    probe_every: int | None = field(
        default=None, metadata={"help": "Steps between linear probes on --labels; by default only at the end."}
    )
    best: str = field(
        default="validation/loss",
        metadata={"help": "The column of metrics.csv that says which checkpoint is best; a loss is best low."},
    )


@dataclass(frozen=True)
class Config:
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)


#: Keys that may differ when a run goes on: they change where and how it runs, not what comes out.
FREE_ON_RESUME = frozenset(
    {"run.graphs", "run.images", "run.output", "run.cache", "run.labels", "run.label_images", "run.workers"}
    | {"run.log_every", "run.tensorboard", "checkpoints.every", "checkpoints.keep", "checkpoints.milestone"}
)

_LEAST: dict[str, float] = {
    **dict.fromkeys(("run.epochs", "run.batch_size", "run.accumulate", "run.num_nodes", "run.log_every"), 1),
    **dict.fromkeys(("run.max_steps", "run.workers", "optimization.weight_decay"), 0),
    **dict.fromkeys(("checkpoints.every", "validation.every", "validation.batch_size", "validation.probe_every"), 1),
    **{f"model.{name}": 1 for name in ("min_patches", "dim", "heads", "text_layers", "text_width", "text_heads")},
    "model.message_layers": 0,
    **{f"objective.{name}": 1 for name in ("items_per_state", "max_queries", "max_pairs", "summary_others")},
    **{f"objective.{name}": 0 for name in ("anatomy", "pathology", "relation", "summary", "whole", "chunk")},
    **{f"objective.{name}": 0 for name in ("unknown_weight", "unknown_weight_absent", "stage_start")},
    "objective.temperature": 0.01,
}


def load_config(
    file: str | Path | None = None, flags: Mapping[str, Any] | None = None, assignments: Iterable[str] = ()
) -> Config:
    """Defaults, overridden by a file, by flags (key → value, None: not given) and by `KEY=VALUE` texts, in this order.

    Args:
        file: a YAML file, or the name of one that is installed: `phantom-cpu`.
    Raises:
        UserError: an unknown key (with the nearest known one), a value of another type, or one out of range.
    """
    config = Config()
    if file is not None:
        path = find_config(file)
        config = settings.merged(config, settings.read_yaml(path), str(path))
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    config = settings.updated(config, given, "The command line")
    config = settings.updated(config, settings.parse_assignments(assignments), "--set")
    check_config(config)
    return config


def read_config(path: Path) -> Config:
    """The configuration that a run saved. UserError as `load_config`."""
    config = settings.merged(Config(), settings.read_yaml(path), str(path))
    check_config(config)
    return config


def find_config(name: str | Path) -> Path:
    """The path of a configuration file: as given, or one of those installed. UserError where there is neither."""
    path = Path(name)
    if path.is_file():
        return path
    known = installed_configs()
    if str(name) in known:
        return known[str(name)]
    raise UserError(f"--config {name}: no such file, and not one of {', '.join(known)}.")


def installed_configs() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    folder = Path(str(files("trainer") / "configs"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def check_config(config: Config) -> None:
    """UserError for values that no run can have."""
    for key, least in _LEAST.items():
        value = settings.get(config, key)
        if value is not None and value < least:
            raise UserError(f"`{key}` must be at least {least:g}.")
    model = config.model
    for width, heads in (("dim", "heads"), ("text_width", "text_heads")):
        if getattr(model, width) % getattr(model, heads):
            raise UserError(f"`model.{width}` must be a multiple of `model.{heads}`, {getattr(model, heads)}.")
    if not config.validation.best.startswith("validation/"):
        raise UserError("`validation.best` must be a column of metrics.csv that begins with validation/.")
    if config.run.devices != "auto" and not config.run.devices.isdigit():
        raise UserError("`run.devices` must be a number or auto.")
    for key in ("optimization.warmup", "optimization.final_scale", "objective.bank_momentum", "model.text_dropout"):
        if not 0 <= settings.get(config, key) <= 1:
            raise UserError(f"`{key}` must be between 0 and 1.")
    for key in ("optimization.beta1", "optimization.beta2"):
        if not 0 <= settings.get(config, key) < 1:
            raise UserError(f"`{key}` must be at least 0 and below 1.")
    for key in ("optimization.learning_rate", "optimization.clip_norm", "optimization.explosion"):
        value = settings.get(config, key)
        if value is not None and value <= 0:
            raise UserError(f"`{key}` must be above 0.")
    if config.optimization.ema is not None and not 0 < config.optimization.ema < 1:
        raise UserError("`optimization.ema` must be between 0 and 1.")


def changes_on_resume(before: Config, after: Config) -> list[str]:
    """Keys that differ between two configurations and must not when a run goes on."""
    return [
        key
        for key in settings.keys(Config)
        if key not in FREE_ON_RESUME and settings.get(before, key) != settings.get(after, key)
    ]


def default_output(config: Config) -> Path:
    """`runs/<graphs>-<objective>-<backbone>-seed<seed>`."""
    graphs = (config.run.graphs or Path("graphs")).resolve()
    name = graphs.name if graphs.name != "graphs" else f"{graphs.parent.name}-graphs"
    return Path("runs") / f"{name}-{config.objective.name}-{config.model.backbone}-seed{config.run.seed}".replace(
        "/", "-"
    )
