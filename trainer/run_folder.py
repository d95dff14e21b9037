"""The run folder: what training leaves, and how other commands read it.

    config.yaml            the whole configuration
    encoder.safetensors    the backbone as plain timm weights
    concepts.safetensors   the concept bank (`bank.*`), and what asks images about concepts (`model.*`, `objective.*`)
    concepts.json          the table of concepts that the rows of the bank are
    metrics.csv            figures by step
    validation.json        accuracy and AUROC by concept, of the last validation
    checkpoints/           to go on from
    README.md              the model card; written last, so that it says `finished`

Nothing of the text encoder is needed to read images: the bank holds its texts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.bank import ConceptBank
from trainer.checkpoint import read_tensors, write_tensors, write_text
from trainer.config import Config, read_config
from trainer.data.files import read_json
from trainer.data.graphs import Split
from trainer.errors import UserError
from trainer.graph.concepts import SIDES_OF_A_QUERY, ConceptTable
from trainer.metrics import read_metrics
from trainer.model.model import Model
from trainer.objectives import Objective, make_objective
from trainer.readout import fill_bank
from trainer.training_data import TrainingData
from trainer.validate import evenly, own_share, report_batches

FINAL_BANK_REPORTS = 50_000  # more texts change no mean that matters
_TEXT_SIDE = (
    "text.",
    "nodes.",
    "statement.",
    "words.",
    "whole_report.",
    "image.backbone.",
)  # of the model, not needed to read images


# Writing


@torch.no_grad()
def write_results(
    output: Path,
    config: Config,
    data: TrainingData,
    model: Model,
    objective: Objective,
    step: int,
    *,
    first: bool = True,
) -> dict[str, float]:
    """Write encoder, concepts and model card of a trained model, in evaluation mode. Returns the last figures.

    Every process calls it, since all make the concept bank together; the `first` one writes.
    """
    device = next(model.parameters()).device
    bank = ConceptBank(data.table, config.model.dim).to(device)
    rows = own_share(evenly(data.pairs.rows(Split.TRAIN), FINAL_BANK_REPORTS))
    batches = (batch.to(device) for batch in report_batches(data, rows, images=False))
    fill_bank(bank, model, objective, batches, data.tokenizer)
    if not first:
        return {}
    write_tensors(output / "encoder.safetensors", model.image.backbone.state_dict())
    tensors = {f"bank.{name}": value for name, value in bank.state_dict().items()}
    tensors |= {f"model.{name}": value for name, value in model.state_dict().items() if not name.startswith(_TEXT_SIDE)}
    tensors |= {f"objective.{name}": value for name, value in objective.state_dict().items()}
    write_tensors(output / "concepts.safetensors", tensors)
    data.table.save(output / "concepts.json")
    figures = last_figures(output)
    concepts = read_json(output / "validation.json")["concepts"] if (output / "validation.json").is_file() else {}
    write_text(output / "README.md", model_card(config, data, bank, step, figures, concepts, model))
    return figures


def last_figures(output: Path) -> dict[str, float]:
    """The last value of every validation figure."""
    figures: dict[str, float] = {}
    for row in read_metrics(output / "metrics.csv"):
        figures |= {name: float(value) for name, value in row.items() if value and name.startswith("validation/")}
    return figures


def model_card(
    config: Config,
    data: TrainingData,
    bank: ConceptBank,
    step: int,
    figures: Mapping[str, float],
    concepts: Mapping[str, Mapping[str, float | None]],
    model: Model,
) -> str:
    """The model card: what it is, what it was made from, what it can do, how it is loaded."""
    vocabulary = data.graphs.manifest["vocabulary"]
    extractor = data.graphs.manifest["extractor"]
    counts = data.pairs.summary
    parameters = sum(value.numel() for value in model.image.backbone.parameters())
    shown = {name.removeprefix("validation/"): value for name, value in figures.items() if math.isfinite(value)}
    arguments = f"in_chans={config.model.in_chans}, num_classes=0"
    if hasattr(model.image.backbone, "patch_embed"):
        arguments += f", img_size={config.data.image_size}"
    known = int((bank.counts > 0).sum())
    lines = [
        f"# {config.model.backbone}, trained with `{config.objective.name}`",
        "",
        "An encoder of chest radiographs, trained on images and the graphs of their reports by cascading graph alignment.",
        "For research; it is no medical device, and nothing it says of an image is a diagnosis.",
        "",
        "```python",
        "import timm",
        f'encoder = timm.create_model("{config.model.backbone}", {arguments}, checkpoint_path="encoder.safetensors")',
        "```",
        "",
        f"Input: {config.model.in_chans} channel(s), {config.data.image_size} × {config.data.image_size} pixels "
        f"({config.data.fit}), from 0 to 1, less {_list(config.data.mean)}, divided by {_list(config.data.std)}. "
        f"Output: {model.image.features} features. {parameters:,} parameters. The image must not be mirrored.",
        "",
        "`trainer zeroshot`, `embed`, `probe` and `ground` read this folder.",
        "",
        "## Data",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {count:,} |" for name, count in counts.items()),
        f"| extractor | {extractor['name']} |",
        *(
            f"| {kind} vocabulary | {entry['concepts']:,} concepts, sha256 `{entry['sha256']}` |"
            for kind, entry in sorted(vocabulary.items())
        ),
        f"| graphs | sha256 of manifest.json `{data.graphs.fingerprint}` |",
        f"| concept bank | {known:,} statements seen, of {SIDES_OF_A_QUERY * len(data.table):,} questions |",
        *_started_from(config.run.start_from),
        "",
        *data.notes,
        *([""] if data.notes else []),
        "## Training",
        "",
        f"{step:,} steps of {config.run.batch_size} × {config.run.accumulate} pairs on each device, seed {config.run.seed}, "
        f"AdamW at {config.optimization.learning_rate:g}, precision {config.run.precision}. config.yaml has everything, "
        "metrics.csv its course.",
        "",
        "## Figures on the validation split",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value:.4f} |" for name, value in shown.items()),
        "",
        "By concept, present against absent as the validation reports say (zero-shot; accuracy is balanced, at score 0):",
        "",
        "| concept | accuracy | AUROC |",
        "|---|---:|---:|",
        *(f"| {name} | {_share(each['accuracy'])} | {_share(each['auroc'])} |" for name, each in concepts.items()),
        "",
    ]
    return "\n".join(lines)


def _started_from(run: Path | None) -> list[str]:
    """Which run the weights are from that this one began with, and by its hash which encoder."""
    if run is None:
        return []
    encoder = run / "encoder.safetensors"
    known = f", encoder sha256 `{hashlib.sha256(encoder.read_bytes()).hexdigest()}`" if encoder.is_file() else ""
    return [f"| started from | {run.resolve().name}{known} |"]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


# Reading


@dataclass
class TrainedRun:
    """A finished run, ready to read images. `model` has no text encoder."""

    folder: Path
    config: Config
    table: ConceptTable
    model: Model
    objective: Objective
    bank: ConceptBank
    device: torch.device


def open_run(folder: Path, device: str = "auto") -> TrainedRun:
    """Open a run folder that `pretrain` has finished.

    Raises:
        UserError: it is none, it is not finished, or a file of it is damaged.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is no run folder: it has no config.yaml. `trainer pretrain` writes one.")
    if not (folder / "README.md").is_file():
        raise UserError(f"{folder} is not finished. The `trainer pretrain` that began it goes on when it is repeated.")
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    config = read_config(folder / "config.yaml")
    table = ConceptTable.load(folder / "concepts.json")
    # The text side is built as small as can be and thrown away: its weights are not here, nor its folder perhaps.
    image_side = replace(config.model, weights="none", text_model="", text_layers=1, text_width=8, text_heads=1)
    model = Model(image_side, table, 16, config.data.image_size, 16)
    objective = make_objective(config.objective, model)
    tensors = read_tensors(folder / "concepts.safetensors")
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    encoder = read_tensors(folder / "encoder.safetensors")
    weights |= {f"image.backbone.{name}": value for name, value in encoder.items()}
    _load(model, weights, folder, left_out=_TEXT_SIDE[:-1])
    _load(objective, _part(tensors, "objective."), folder)
    bank = ConceptBank(table, config.model.dim)
    _load(bank, _part(tensors, "bank."), folder)
    for module in (model, objective, bank):
        module.to(where).eval()
    return TrainedRun(folder, config, table, model, objective, bank, where)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _load(module: torch.nn.Module, state: dict[str, Tensor], folder: Path, left_out: tuple[str, ...] = ()) -> None:
    wanted = {
        name: value.shape for name, value in module.state_dict().items() if not name.startswith(left_out or ("\0",))
    }
    if wrong := [name for name, shape in wanted.items() if name not in state or state[name].shape != shape]:
        raise UserError(f"{folder}: the weights do not fit its config.yaml, {wrong[0]} first. Train it again.")
    module.load_state_dict({name: state[name] for name in wanted}, strict=False)


def write_figures(document: Any, path: Path) -> None:
    """Write figures as JSON, with null for what is no number."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(name): plain(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, (float, np.floating)):
            return float(value) if math.isfinite(value) else None
        return value

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(plain(document), indent=2) + "\n")
