#!/usr/bin/env python
"""A pre-training step of `cga` beside its two encoders alone and beside `clip`: time, memory, growth, and what the loader gives.

    graphprep phantom -o runs/phantom --n 8000 --size 64 --no-masks
    graphprep extract runs/phantom/reports.csv -o runs/phantom/graphs
    python benchmarks/pretrain_step.py runs/phantom --setup resnet50                 # a GPU where there is one
    python benchmarks/pretrain_step.py runs/phantom --setup vit-b16 --append
    OMP_NUM_THREADS=1 python benchmarks/pretrain_step.py runs/phantom --setup small --threads 1

A step is the loop of `trainer.pretrain` itself: its loader is replaced by one that hands out some batches that lie ready, and then
breaks the loop off, which goes on from there at its next turn. So it holds all that training does: the way to the device,
augmentation, model, loss, backward, checks, clipping, optimizer, and the figures of every 20th step. The encoders alone are the
modules of that same run, under the same precision and compiled or not as they are there: forward to patches, pooled features and
token states, the mean of their squares as loss, and backward; the inputs are the same batches, augmented before.

All that is compared takes turns in one process, and the next round goes the other way round; ratios are of the two turns of the
same round, given as their median with the quartiles. They are of time by the clock on a GPU, which is waited for before and after
a turn, and of processor time on a CPU, where other programs would count otherwise. Memory is measured in a turn of its own, not timed.

Reports with 2 or 4 times the nodes are made of the graphs of as many reports: image and text are those of the first, the
spans of the other nodes are moved into that text. So the encoders' work stays as it is, and the graph alone grows.

resnet50 and vit-b16 are the configurations mimic-cxr-*, with a text encoder in the shape of BERT-base, random weights and a vocabulary
learnt from the reports, made in a temporary folder and given as `--text-model`; small is phantom-cpu. Needs nothing of graphprep.
The table is written to benchmarks/results/pretrain_step_DEVICE.md.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import os
import platform
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from trainer.config import Config, load_config  # noqa: E402
from trainer.data.graphs import GraphFolder, Split  # noqa: E402
from trainer.data.loader import PairLoader, make_loader  # noqa: E402
from trainer.data.tokenizer import load_tokenizer  # noqa: E402
from trainer.errors import UserError  # noqa: E402
from trainer.graph.batch import GraphBatch  # noqa: E402
from trainer.graph.states import close_states  # noqa: E402
from trainer.pretrain import _fit, _Run, _setup, make_fabric, prepare_images  # noqa: E402
from trainer.signals import StopSignals  # noqa: E402

if TYPE_CHECKING:
    from lightning.fabric import Fabric

SETUPS = {"resnet50": "mimic-cxr-resnet50", "vit-b16": "mimic-cxr-vit-b16", "small": "phantom-cpu"}
# Dense bf16, of the SXM cards; the first name that the card's own begins with or holds.
PEAK_TFLOPS = {"H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "H200": 989.0, "A100": 312.0}
BATCHES = 4  # different ones, which turns go through
STEPS_TO_COME = 10**6  # so many that no turn comes to the end of the training, to a checkpoint or to a validation
FLOP_PAIRS = 16  # counted at once on a GPU, where this takes memory without checkpointing
LOADER_SECONDS, LOADER_BATCHES = 3.0, 20

_STATUS, _FORGET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")

Array = npt.NDArray[np.float64]
Turn = Callable[[int, int], None]
"""Called with the number of the first step, which says with which of the batches it begins, and with the number of steps."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a graphs folder, or a folder with graphs/ in it")
    parser.add_argument(
        "--images", type=Path, help="the folder that image paths are relative to, if not the graphs' own"
    )
    parser.add_argument("--setup", choices=tuple(SETUPS), default="resnet50")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the configuration")
    parser.add_argument("--batch", type=int, help="pairs of a step; by default the configuration's")
    parser.add_argument("--batches", type=int, nargs="*", help="other sizes; by default a quarter, half, twice as many")
    parser.add_argument("--nodes", type=int, nargs="*", default=[2, 4], help="reports whose graphs are made one")
    parser.add_argument("--workers", type=int, help="of the loader; by default the configuration's")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each")
    parser.add_argument("--steps", type=int, help="steps of a turn; by default 20 on a GPU, 1 on a CPU")
    parser.add_argument("--peak-tflops", type=float, help="of the device, dense, in the precision of the setup")
    parser.add_argument("--cache", type=Path, help="a folder that keeps decoded images; by default a temporary one")
    parser.add_argument(
        "--output", type=Path, help="file to write; by default benchmarks/results/pretrain_step_DEVICE.md"
    )
    parser.add_argument("--append", action="store_true", help="add to the file instead of writing it anew")
    options = parser.parse_args(arguments)
    command = shlex.join(["python", "benchmarks/pretrain_step.py", *(sys.argv[1:] if arguments is None else arguments)])
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            config = configuration(options, Path(scratch))
            fabric = make_fabric(config)
            fabric.launch()
            section = f"## {options.setup}\n\n    {command}\n\n" + measure(fabric, config, options)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    print(section)
    device = fabric.device.type
    output: Path = options.output or ROOT / "benchmarks" / "results" / f"pretrain_step_{device}.md"
    output.parent.mkdir(parents=True, exist_ok=True)
    before = output.read_text(encoding="utf-8") if options.append and output.is_file() else "# Pre-training step\n"
    output.write_text(f"{before}\n{section}\n", encoding="utf-8")


# What is measured


def configuration(options: argparse.Namespace, scratch: Path) -> Config:
    """The configuration of a setup on these data. UserError where it is none."""
    graphs = options.data / "graphs" if (options.data / "graphs").is_dir() else options.data
    given = {
        "run.graphs": graphs,
        "run.images": options.images,
        "run.output": scratch / "run",
        "run.cache": options.cache or scratch / "cache",
        "run.batch_size": options.batch,
        "run.workers": options.workers,
        "run.accelerator": options.device,
        "run.devices": "1",
        "run.max_steps": STEPS_TO_COME,
        "checkpoints.every": STEPS_TO_COME,
        "validation.every": STEPS_TO_COME,
        "validation.states": False,  # nothing is validated, so nothing need be prepared for it
    }
    if options.device == "cpu" or not torch.cuda.is_available():
        given["run.compile"] = False  # --set may say otherwise
    config = load_config(SETUPS[options.setup], given, options.set)
    if options.setup != "small" and not config.model.text_model:
        folder = scratch / "bert-base"
        make_bert_base(GraphFolder(graphs), config, folder)
        config = replace(config, model=replace(config.model, text_model=str(folder)))
    return config


def make_bert_base(graphs: GraphFolder, config: Config, folder: Path) -> None:
    """A transformers folder: BERT-base's shape, random weights, and a vocabulary learnt from the training reports."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig(), add_pooling_layer=False).save_pretrained(folder)  # type: ignore[no-untyped-call]
    load_tokenizer(None, graphs, config.data.vocabulary_size, config.data.max_tokens).save(folder)


@dataclass
class Subject:
    """Something that takes turns: seconds of its steps by the clock and of processors, one of each for each turn."""

    turn: Turn
    holds: float  # GB of weights, buffers and AdamW's state
    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    memory: float = math.nan  # GB, the most that a turn needed besides

    def cost(self, device: torch.device) -> Array:
        """What ratios are of."""
        return np.array(self.clock if device.type == "cuda" else self.processor)


class TurnOver(Exception):
    """Breaks a loop off where it asks for a batch that it shall not have yet."""


@dataclass
class Handout:
    """In place of a run's loader: `steps` of the batches, in turn from the one of number `first`, then `TurnOver`."""

    batches: Sequence[GraphBatch]
    first: int
    steps: int
    epoch: int = 0  # it never ends

    def __iter__(self) -> Iterator[GraphBatch]:
        for number in range(self.first, self.first + self.steps):
            yield self.batches[number % len(self.batches)]
        raise TurnOver


def training_turn(run: _Run, batches: Sequence[GraphBatch]) -> Turn:
    """Steps of the training itself."""

    def turn(first: int, steps: int) -> None:
        run.data.train = cast(PairLoader, Handout(batches, first, steps * run.config.run.accumulate))
        with suppress(TurnOver):
            _fit(run, StopSignals(), progress=False)

    return turn


def encoder_turn(run: _Run, batches: Sequence[GraphBatch]) -> Turn:
    """Forward and backward of a run's two encoders."""
    device, model = run.fabric.device, run.plain.model
    moved = [batch.to(device) for batch in batches]
    generator = torch.Generator(device).manual_seed(0)
    images = [prepare_images(batch.images, run.config, generator) for batch in moved]

    def turn(first: int, steps: int) -> None:
        run.plain.train()
        for number in range(first, first + steps):
            at = number % len(moved)
            with run.fabric.autocast():
                features, tokens = model.encode_images(images[at]), model.encode_texts(moved[at])
            run.fabric.backward(mean_square(features.keys, features.pooled, tokens))
            run.plain.zero_grad(set_to_none=True)

    return turn


def mean_square(*outputs: Tensor) -> Tensor:
    return torch.stack([output.float().square().mean() for output in outputs]).sum()


def draw_batches(run: _Run, size: int) -> list[GraphBatch]:
    """The first batches of a training with that batch size, as its loader gives them."""
    loader = make_loader(run.data.pairs, Split.TRAIN, size, training=True, seed=run.config.run.seed)
    batches: list[GraphBatch] = []
    while len(batches) < BATCHES:
        for batch in loader:
            batches.append(batch)
            if len(batches) == BATCHES:
                break
    return batches


def with_graphs_of(batches: Sequence[GraphBatch], count: int) -> list[GraphBatch]:
    """Each batch with the graphs of the `count` batches from it on: pair by pair, their nodes and edges become one graph."""
    return [
        merged([batches[(number + more) % len(batches)] for more in range(count)]) for number in range(len(batches))
    ]


def merged(batches: Sequence[GraphBatch]) -> GraphBatch:
    """The pairs of the first batch, each with the nodes, spans and edges of its fellows in all batches, packed by report.

    Spans that lie beyond the text are moved into it, so that a span of w tokens is one of w tokens as far as the text has so many.
    """
    first = batches[0]
    offsets = np.cumsum([0, *(len(batch.node_report) for batch in batches)]).tolist()
    joined: dict[str, Tensor] = {}
    for column in fields(GraphBatch):
        if column.name.startswith(("node_", "span_", "edge_")):
            refers = column.name in ("span_node", "edge_source", "edge_target")
            parts = [getattr(batch, column.name) for batch in batches]
            joined[column.name] = torch.cat(
                [part + offset if refers else part for part, offset in zip(parts, offsets, strict=False)]
            )
    order = joined["node_report"].argsort(stable=True)
    place = order.argsort()
    for name in joined:
        if name.startswith("node_"):
            joined[name] = joined[name][order]
        elif name in ("span_node", "edge_source", "edge_target"):
            joined[name] = place[joined[name]]
    length = first.attention_mask.sum(1)[joined["node_report"][joined["span_node"]]]
    width = torch.minimum(joined["span_end"] - joined["span_start"], length)
    joined["span_start"] = joined["span_start"] % (length - width + 1)
    joined["span_end"] = joined["span_start"] + width
    whole = replace(first, **cast(dict[str, Any], joined))
    return whole.pin_memory() if first.images.is_pinned() else whole


# Measuring


def measure(fabric: Fabric, config: Config, options: argparse.Namespace) -> str:
    """The section of a setup."""
    device, size = fabric.device, config.run.batch_size
    steps = options.steps or (20 if device.type == "cuda" else 1)
    sizes = [size // 4, size // 2, 2 * size] if options.batches is None else options.batches
    sizes = sorted({size, *(other for other in sizes if other > 1)})
    assert config.run.output is not None
    config.run.output.mkdir(parents=True)

    runs = {
        name: _setup(fabric, replace(config, objective=replace(config.objective, name=name)), config.run.output, False)
        for name in ("clip", "cga")
    }
    cga = runs["cga"]
    loader = cga.data.train
    batches = {other: draw_batches(cga, other) for other in sizes}
    graphs = {1: batches[size]} | {more: with_graphs_of(batches[size], more) for more in options.nodes}
    encoder_weights = [*cga.plain.model.image.parameters(), *cga.plain.model.text.parameters()]

    subjects: dict[str, Subject] = {}
    for other in sizes:
        subjects[f"encoders {other}"] = Subject(encoder_turn(cga, batches[other]), gigabytes(encoder_weights))
        subjects[f"cga {other}"] = Subject(training_turn(cga, batches[other]), 0.0)
    for more in options.nodes:
        subjects[f"nodes {more}"] = Subject(training_turn(cga, graphs[more]), 0.0)
    subjects["clip"] = Subject(training_turn(runs["clip"], batches[size]), 0.0)

    missing = {name for name, subject in subjects.items() if not warm_up(name, subject.turn, steps, [*runs.values()])}
    if needed := missing & {"clip", f"cga {size}", f"encoders {size}"}:
        raise UserError(f"A batch of {size} does not fit into the GPU's memory ({', '.join(sorted(needed))}).")
    subjects = {name: subject for name, subject in subjects.items() if name not in missing}
    sizes = [other for other in sizes if not missing & {f"cga {other}", f"encoders {other}"}]
    graphs = {count: of_count for count, of_count in graphs.items() if f"nodes {count}" not in missing}
    for name, subject in subjects.items():
        subject.memory = peak_memory(subject.turn, steps, device)
        if not name.startswith("encoders"):
            subject.holds = held(runs["clip" if name == "clip" else "cga"])
    for number in range(options.rounds):
        for subject in list(subjects.values())[:: 1 if number % 2 == 0 else -1]:
            time_turn(subject, number * steps, steps, device)
        median = np.median(subjects[f"cga {size}"].cost(device) / subjects[f"encoders {size}"].cost(device))
        say(f"round {number + 1} of {options.rounds}: cga {median:.3f} × the encoders")

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    peak = options.peak_tflops
    if peak is None and config.run.precision == "bf16":
        peak = next((of_card for card, of_card in PEAK_TFLOPS.items() if card in name), None)
    flops = encoder_flops(cga, batches[size]) if peak is not None else None
    parts = [
        describe(cga, batches[size], device, options, steps),
        render_comparison(subjects, size, device, peak, flops),
        *([render_growth(subjects, sizes, device)] if len(sizes) > 1 else []),
        render_nodes(subjects, graphs, cga, device),
        render_loader(loader_rate(loader), subjects, size, config.run.workers),
    ]
    return "\n\n".join(parts)


def warm_up(name: str, turn: Turn, steps: int, runs: Sequence[_Run]) -> bool:
    """A first turn, in which code is compiled and memory taken; whether it fits into the GPU's memory."""
    say(f"warming up: {name}")
    try:
        turn(0, steps)
    except torch.cuda.OutOfMemoryError:
        say(f"out of memory: {name}")
    else:
        return True
    for run in runs:
        run.plain.zero_grad(set_to_none=True)
    gc.collect()
    torch.cuda.empty_cache()
    return False


def time_turn(subject: Subject, first: int, steps: int, device: torch.device) -> None:
    synchronise(device)
    clock, processor = time.perf_counter(), time.process_time()
    subject.turn(first, steps)
    synchronise(device)
    subject.clock.append((time.perf_counter() - clock) / steps)
    subject.processor.append((time.process_time() - processor) / steps)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(turn: Turn, steps: int, device: torch.device) -> float:
    """GB that a turn needed at most beyond what was there before: of the GPU's allocator, or resident; NaN where that is not known."""
    gc.collect()
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        turn(0, steps)
        synchronise(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e9
    with suppress(AttributeError, OSError, TypeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _FORGET_PEAK.write_text("5")
    except OSError:
        return math.nan
    before = resident("VmRSS")
    turn(0, steps)
    return (resident("VmHWM") - before) / 1e9


def resident(which: str) -> int:
    """Bytes of this process, now (VmRSS) or at most since the peak was forgotten (VmHWM)."""
    return 1024 * int(re.findall(rf"{which}:\s+(\d+)", _STATUS.read_text())[0])


def gigabytes(tensors: Sequence[Tensor]) -> float:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e9


def held(run: _Run) -> float:
    """GB of a run between its steps: weights, buffers, the bank, and AdamW's state of the parameters that it trains."""
    state = [value for of_one in run.optimizer.state.values() for value in of_one.values() if isinstance(value, Tensor)]
    return gigabytes([*run.plain.state_dict().values(), *run.bank.state_dict().values(), *state])


def encoder_flops(run: _Run, batches: Sequence[GraphBatch]) -> float:
    """Floating point operations of the encoders' forward and backward on a batch, in the mean of the batches.

    A multiplication with its addition counts two. What gradient checkpointing computes a second time does not count: it is left
    off here, and, since the work is proportional to the pairs, few of them are taken at once.
    """
    model, device = run.plain.model, run.fabric.device
    if run.config.model.gradient_checkpointing:
        model.image.backbone.set_grad_checkpointing(False)
        model.text.encoder.gradient_checkpointing_disable()
    run.plain.train()
    generator = torch.Generator(device).manual_seed(0)
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            images = prepare_images(batch.images.to(device), run.config, generator)
            tokens, mask = batch.input_ids.to(device), batch.attention_mask.to(device)
            pairs = FLOP_PAIRS if device.type == "cuda" else batch.size
            for start in range(0, batch.size, pairs):
                rows = slice(start, start + pairs)
                with run.fabric.autocast():
                    features = model.image.forward(images[rows])  # not the compiled one, which would not be counted
                    states = model.text(tokens[rows], mask[rows])
                run.fabric.backward(mean_square(features.keys, features.pooled, states))
                run.plain.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / len(batches)


def loader_rate(loader: PairLoader) -> float:
    """Images per second that the loader gives while nothing else is done, epoch after epoch, after some batches."""
    images, given, started = 0, 0, 0.0
    warm = 4 + 2 * loader._loader.num_workers  # the batches that workers have ready
    while True:
        epoch = loader.epoch
        for batch in loader:
            given += 1
            images += batch.size if given > warm else 0
            if given == warm:
                started = time.perf_counter()
            elif given >= warm + LOADER_BATCHES and time.perf_counter() - started > LOADER_SECONDS:
                return images / (time.perf_counter() - started)
        loader.set_epoch(max(loader.epoch, epoch + 1))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Tables


def describe(
    run: _Run, batches: Sequence[GraphBatch], device: torch.device, options: argparse.Namespace, steps: int
) -> str:
    config, text = run.config, run.plain.model.text.encoder.config
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} processors"
    parameters = [
        sum(p.numel() for p in part.parameters()) / 1e6 for part in (run.plain.model.image, run.plain.model.text)
    ]
    lengths = torch.cat([batch.attention_mask.sum(1) for batch in batches]).double()
    padded = np.mean([batch.input_ids.shape[1] for batch in batches])
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "transformers"))
    return (
        f"{where}; {versions}; {counted(options.rounds, 'round')}, turns of {counted(steps, 'step')}.\n\n"
        f"{config.model.backbone} at {config.data.image_size} pixels ({parameters[0]:.1f} million parameters), text encoder of "
        f"{counted(text.num_hidden_layers, 'layer')} of width {text.hidden_size} ({parameters[1]:.1f} million), {config.run.precision} "
        f"precision, {'image encoder compiled' if config.run.compile else 'not compiled'}"
        f"{', gradient checkpointing' if config.model.gradient_checkpointing else ''}; batches of {config.run.batch_size} pairs, "
        f"texts of {lengths.mean():.0f} tokens, the longest of a batch {padded:.0f}."
    )


def render_comparison(
    subjects: dict[str, Subject], size: int, device: torch.device, peak: float | None, flops: float | None
) -> str:
    """Encoders, `clip` and `cga` at the batch of the setup."""
    rows = {
        "the two encoders, forward and backward": subjects[f"encoders {size}"],
        "`clip`, whole step": subjects["clip"],
        "`cga`, whole step": subjects[f"cga {size}"],
    }
    used = flops is not None and peak is not None
    lines = [
        "| | ms | processor ms | images/s | × encoders | × `clip` | holds, GB | needs besides, GB |"
        + (" utilisation |" if used else ""),
        "|---|---:|---:|---:|---:|---:|---:|---:|" + ("---:|" if used else ""),
    ]
    encoders, clip, _ = rows.values()
    for name, subject in rows.items():
        seconds = float(np.median(subject.clock))
        cells = [
            name,
            spread(np.array(subject.clock) * 1000.0, 1),
            f"{1000 * np.median(subject.processor):,.1f}",
            rate(size / seconds),
            spread(subject.cost(device) / encoders.cost(device)),
            spread(subject.cost(device) / clip.cost(device)),
            f"{subject.holds:.2f}",
            known(subject.memory),
        ]
        if flops is not None and peak is not None:
            cells.append(f"{flops / seconds / peak / 1e12:.1%}")
        lines.append(f"| {' | '.join(cells)} |")
    of_time = "the clock" if device.type == "cuda" else "processors"
    lines += [
        "",
        f"Median (quartiles) of the rounds; ratios are of time of {of_time}. It holds weights, buffers and, where it trains, AdamW's "
        + (
            "state; it needs besides what the GPU's allocator had in use at most: activations, gradients, buffers."
            if device.type == "cuda"
            else "state; it needs besides what the resident memory of the process grew by at most, after the memory that was free "
            "had been given back: less where the C library did not give it back."
        ),
    ]
    if flops is not None and peak is not None:
        lines.append(
            f"Utilisation: {flops / 1e12:.2f} TFLOP of the encoders in a step, without what checkpointing computes twice, in all "
            f"three rows, of {peak:,.0f} TFLOP/s."
        )
    return "\n".join(lines)


def render_growth(subjects: dict[str, Subject], sizes: Sequence[int], device: torch.device) -> str:
    lines = [
        "| batch | encoders, ms | `cga`, ms | × encoders | `cga`, images/s | needs besides, GB |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for size in sizes:
        encoders, cga = subjects[f"encoders {size}"], subjects[f"cga {size}"]
        seconds = float(np.median(cga.clock))
        lines.append(
            f"| {size} | {1000 * np.median(encoders.clock):,.1f} | {1000 * seconds:,.1f} | "
            f"{spread(cga.cost(device) / encoders.cost(device))} | {rate(size / seconds)} | {known(cga.memory)} |"
        )
    return "\n".join(lines)


def render_nodes(
    subjects: dict[str, Subject], graphs: dict[int, list[GraphBatch]], run: _Run, device: torch.device
) -> str:
    size, objective = run.config.run.batch_size, run.config.objective
    lines = [
        "| graphs in one | nodes of a report | edges | queries of a batch | pair queries | `cga`, ms | × encoders | needs besides, GB |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    encoders = subjects[f"encoders {size}"]
    for count, batches in graphs.items():
        cga = subjects[f"cga {size}" if count == 1 else f"nodes {count}"]
        limits = objective.max_queries, objective.max_pairs, objective.closure
        asked = [close_states(batch, run.data.table, *limits) for batch in batches]
        nodes = np.mean([len(batch.node_report) / batch.size for batch in batches])
        edges = np.mean([len(batch.edge_source) / batch.size for batch in batches])
        lines.append(
            f"| {count} | {nodes:.1f} | {edges:.1f} | {np.mean([one.size for one in asked]):.0f} | "
            f"{np.mean([len(one.pairs) for one in asked]):.0f} | {1000 * np.median(cga.clock):,.1f} | "
            f"{spread(cga.cost(device) / encoders.cost(device))} | {known(cga.memory)} |"
        )
    lines += [
        "",
        f"At most {objective.max_queries} queries and {objective.max_pairs} pair queries are asked, "
        f"and {objective.items_per_state} texts of a query and state compared.",
    ]
    return "\n".join(lines)


def render_loader(given: float, subjects: dict[str, Subject], size: int, workers: int) -> str:
    consumed = {name: size / float(np.median(subjects[f"{name} {size}"].clock)) for name in ("cga", "encoders")}
    made = "in the training process" if workers == 0 else f"in {counted(workers, 'process')}"
    return (
        f"The loader, batches of {size} made {made}, alone, from the decoded cache: {rate(given)} images/s, "
        f"{1000 * size / given:,.1f} ms for a batch; that is {given / consumed['cga']:,.1f} × what the `cga` step consumes, and "
        f"{given / consumed['encoders']:,.1f} × what the encoders alone would."
    )


def spread(values: Array, digits: int = 2) -> str:
    """The median with the quartiles."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return f"{median:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def rate(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def known(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


if __name__ == "__main__":
    main()
