"""Pre-training, top to bottom: `pretrain` → `_setup` → `_fit` → `validate` → `_finish`.

One process or several (`--devices`, torchrun) run the same lines; Lightning Fabric moves data, scales precision and averages
gradients. A run that was broken off, at any moment, goes on from its last checkpoint and ends as it would have ended undisturbed:
the checkpoint holds weights, optimizer, position in the data, random states and the figures that are not logged yet.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from trainer import checkpoint, settings
from trainer.bank import ConceptBank
from trainer.config import Config, changes_on_resume, default_output, read_config
from trainer.data.augment import augment
from trainer.ema import MovingAverage
from trainer.errors import Diverged, UserError
from trainer.graph.batch import GraphBatch
from trainer.labels import read_labels
from trainer.metrics import MetricsLog
from trainer.model.image import create_backbone
from trainer.model.model import Model
from trainer.objectives import Context, Objective, Step, make_objective, parse, term_of
from trainer.run_folder import write_figures, write_results
from trainer.schedule import learning_rate_scale, parameter_groups
from trainer.signals import StopSignals
from trainer.start import check_start, start_from
from trainer.training_data import TrainingData, cache_folder, open_graphs, open_training_data
from trainer.validate import Validator
from trainer.window import Window

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_REMEMBERED_NORMS = 100
_SETTLING_STEPS = 20  # in which gradients may still grow


@dataclass(frozen=True)
class Outcome:
    """How a call of `pretrain` ended: `stopped` is the signal that broke it off, `already` says that nothing was to do.

    `first` is false in all processes of a distributed training but one.
    """

    output: Path
    step: int
    total_steps: int
    stopped: int | None = None
    already: bool = False
    figures: dict[str, float] = field(default_factory=dict)
    first: bool = True


class TrainingStep(nn.Module):
    """Model and objective as one module, so that distributed training sees one forward pass."""

    def __init__(self, model: Model, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: GraphBatch, images: Tensor, context: Context) -> Step:
        step: Step = self.objective(self.model, batch, images, context)
        return step


@dataclass
class _Run:
    """All parts of a run, and how far it is."""

    fabric: Fabric
    config: Config
    output: Path
    data: TrainingData
    plain: TrainingStep  # as it is saved
    module: Any  # the same, wrapped by Fabric
    optimizer: Any
    bank: ConceptBank  # running means; the one that is saved is made at the end
    average: MovingAverage | None
    generator: torch.Generator  # of augmentation
    total_steps: int
    step: int = 0
    epoch: int = 0
    window: Window = field(default_factory=Window)
    norms: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_NORMS))
    unchecked: list[tuple[int, list[str], Tensor, Tensor]] = field(default_factory=list)
    log: MetricsLog | None = None  # of the first process
    validator: Validator | None = None
    validated: int = -1  # step of the last validation
    is_best: bool = False  # whether it was the best so far
    best: float | None = None  # its figure that says which checkpoint is best
    stop: Tensor | None = None  # above 0 where a process had been told to stop at the last step

    @property
    def checkpoints(self) -> Path:
        return self.output / "checkpoints"


def pretrain(config: Config, *, resume: str = "auto", overwrite: bool = False, progress: bool = True) -> Outcome:
    """Train an image encoder on graphs and images, and write the run folder.

    Args:
        resume: `auto` goes on where the run folder has a checkpoint, `never` starts anew in an empty folder, a path takes
            the weights and all else from that checkpoint.
        overwrite: start anew where another run is.
        progress: tell on standard error how far it is.
    Raises:
        UserError: graphs, images or options cannot be used.
        Diverged: the loss or a gradient is no number, or has exploded.
    """
    output = config.run.output or default_output(config)
    config = replace(config, run=replace(config.run, output=output))
    _check_options(config)
    fabric = make_fabric(config)
    fabric.launch()
    with fabric.rank_zero_first():
        resume_from = _prepare_folder(config, output, resume, overwrite, first=fabric.is_global_zero)
    if resume_from is _FINISHED:
        return Outcome(output, 0, 0, already=True, first=fabric.is_global_zero)
    run = _setup(fabric, config, output, progress, resumed=resume_from is not None)
    if resume_from is not None:
        _restore(run, resume_from)
    with _open_log(run, resume_from is not None):
        with StopSignals() as signals:
            _fit(run, signals, progress)
        outcome = Outcome(output, run.step, run.total_steps, stopped=signals.received, first=fabric.is_global_zero)
        if run.step < run.total_steps:
            return outcome
        return replace(outcome, stopped=None, figures=_finish(run))


# Setup


def _check_options(config: Config) -> None:
    """UserError for what is wrong at first sight, before processes are started and images decoded."""
    open_graphs(config)
    for _, name in parse(config.objective.name):
        term_of(name)
    with torch.device("meta"):
        create_backbone(config.model.backbone, config.model.in_chans, config.data.image_size)
    if config.run.labels is not None:
        read_labels(config.run.labels)
    if config.run.start_from is not None:
        check_start(config.run.start_from)
        if config.model.weights != "none":
            raise UserError("--start-from and --weights both say what the encoder starts with; give --weights none.")


def make_fabric(config: Config) -> Fabric:
    """Fabric for the devices and the precision of a configuration. UserError where they are not there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that Lightning imports
        from lightning.fabric import Fabric

    run = config.run
    accelerator = run.accelerator if run.accelerator != "auto" else ("gpu" if torch.cuda.is_available() else "cpu")
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("`run.accelerator` is gpu, but PyTorch finds no GPU here.")
    if run.devices != "auto":
        devices = int(run.devices)
    else:
        devices = torch.cuda.device_count() if accelerator == "gpu" else 1
    if accelerator == "gpu" and devices > torch.cuda.device_count():
        raise UserError(f"`run.devices` is {devices}, but this machine has {torch.cuda.device_count()} GPUs.")
    if accelerator == "gpu":
        torch.set_float32_matmul_precision("high")
    several = devices * run.num_nodes > 1
    return Fabric(
        accelerator="cuda" if accelerator == "gpu" else "cpu",
        devices=devices,
        num_nodes=run.num_nodes,
        strategy="ddp" if several else "auto",
        precision="bf16-mixed" if run.precision == "bf16" else "32-true",
    )


_FINISHED = Path("finished")


def _prepare_folder(config: Config, output: Path, resume: str, overwrite: bool, first: bool) -> Path | None:
    """The checkpoint to go on from, None for a fresh start, `_FINISHED` where nothing is to do."""
    saved = output / "config.yaml"
    if first and overwrite and saved.is_file():
        _remove_run(output)  # a folder that holds no run is left as it is, and refused
    finished = (output / "README.md").is_file()
    if finished or checkpoint.list_checkpoints(output / "checkpoints"):
        if resume == "never":
            raise UserError(f"{output} holds a run. Name another --output, or give --overwrite or --resume auto.")
        if changed := changes_on_resume(read_config(saved), config):
            raise UserError(
                f"{output} holds a run with another {', '.join(changed[:5])}. Name another --output, or give --overwrite."
            )
        if finished:
            return _FINISHED
    elif first and saved.is_file():
        _remove_run(output)  # it ended before its first checkpoint; its tokenizer may be of other graphs
    elif first and output.is_dir() and any(output.iterdir()):
        raise UserError(f"{output} is not empty and holds no run. Name another --output.")
    if first:
        output.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(saved, settings.to_yaml(config))
    return checkpoint.choose(resume, output / "checkpoints")


def _remove_run(output: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    import shutil

    for name in ("checkpoints", "tensorboard", "tokenizer"):
        shutil.rmtree(output / name, ignore_errors=True)
    names = ("config.yaml", "metrics.csv", "README.md", "encoder.safetensors", "concepts.safetensors", "concepts.json")
    for name in (*names, "validation.json"):
        (output / name).unlink(missing_ok=True)
    for path in output.glob("failed-batch*.json"):
        path.unlink()


def _setup(fabric: Fabric, config: Config, output: Path, progress: bool, resumed: bool = False) -> _Run:
    with fabric.rank_zero_first():
        data = open_training_data(config, output, fabric.global_rank, fabric.world_size, progress=progress)
    torch.manual_seed(config.run.seed)
    model = Model(config.model, data.table, len(data.tokenizer), config.data.image_size, data.tokenizer.max_tokens)
    objective = make_objective(config.objective, model)
    if config.run.start_from is not None and not resumed:
        start_from(config.run.start_from, model, objective)
    plain = TrainingStep(model, objective)
    if config.run.channels_last:
        model.image.backbone.to(memory_format=torch.channels_last)
    groups = parameter_groups(plain, config.optimization, text_prefix="model.text")
    betas = (config.optimization.beta1, config.optimization.beta2)
    optimizer = torch.optim.AdamW(groups, betas=betas, fused=True)
    if config.run.compile:
        model.image.compile(dynamic=False)
    module, wrapped = fabric.setup(plain, optimizer)
    total = config.run.max_steps
    if total is None:
        total = data.train.steps(config.run.epochs) // config.run.accumulate
    run = _Run(
        fabric=fabric,
        config=config,
        output=output,
        data=data,
        plain=plain,
        module=module,
        optimizer=wrapped,
        bank=ConceptBank(data.table, config.model.dim).to(fabric.device),
        average=MovingAverage(plain, config.optimization.ema) if config.optimization.ema is not None else None,
        generator=torch.Generator(fabric.device),
        total_steps=total,
    )
    # Weights are drawn with one seed everywhere, dropout and augmentation differ between processes.
    torch.manual_seed(config.run.seed + 1_000_003 * (1 + fabric.global_rank))
    run.generator.manual_seed(config.run.seed + 1_000_033 * (1 + fabric.global_rank))
    with fabric.rank_zero_first():
        run.validator = Validator(config, data, fabric.device, cache_folder(config, output))
    if (note := run.validator.warning) is not None:
        data.notes += (note,)
        if progress and fabric.is_global_zero:
            print(note, file=sys.stderr)
    return run


def _open_log(run: _Run, resumed: bool) -> Any:
    if not run.fabric.is_global_zero:
        return nullcontext()
    run.log = MetricsLog(run.output, resume_step=run.step if resumed else None, tensorboard=run.config.run.tensorboard)
    return run.log


# The loop


def _fit(run: _Run, signals: StopSignals, progress: bool) -> None:
    config, device = run.config, run.fabric.device
    batches = _endless(run)
    clock = _Clock(run.fabric.world_size)
    say = _Say(progress and run.fabric.is_global_zero)
    while run.step < run.total_steps:
        scale = learning_rate_scale(run.step, run.total_steps, config.optimization)
        for group in run.optimizer.param_groups:
            group["lr"] = group["peak"] * scale

        # Forward and backward
        loss = torch.zeros((), device=device)
        report_ids: list[str] = []
        run.module.train()
        for part in range(config.run.accumulate):
            batch = clock.next(batches).to(device)
            images = prepare_images(batch.images, config, run.generator)
            with run.fabric.no_backward_sync(run.module, enabled=part + 1 < config.run.accumulate):
                context = _context(run)
                result: Step = run.module(batch, images, context)
                run.fabric.backward(result.loss / config.run.accumulate)
            loss = loss + result.loss.detach() / config.run.accumulate
            run.window.add(_figures_of(result))
            report_ids += batch.report_ids

        # Check, then move
        done = run.step + 1 == run.total_steps
        logged = done or (run.step + 1) % config.run.log_every == 0
        stop = _stop_wanted(run, signals)
        saved = done or stop or (run.step + 1) % config.checkpoints.every == 0
        norm = _clip(run)
        run.window.add({"norm/gradient": norm})
        run.unchecked.append((run.step + 1, report_ids, loss, norm))
        if logged or device.type == "cpu":  # elsewhere a check would make the device wait
            _check(run, batch, images)
        before_update = [parameter.detach().clone() for parameter in run.plain.parameters()] if logged else []
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.plain.objective.limit_temperatures()
        run.step += 1
        if run.average is not None:
            run.average.update(run.plain, run.step)

        # Log, validate, save
        if logged:
            figures = {"epoch": run.epoch, "learning_rate": config.optimization.learning_rate * scale}
            figures |= run.window.means() | _norms(run.plain, before_update) | _memory(device) | clock.figures()
            run.window.clear()
            clock.start()
            if run.log is not None:
                run.log.log(run.step, figures)
        say(run)
        if _ends_epoch(run) or done or (config.validation.every and run.step % config.validation.every == 0):
            _check(run, batch, images)
            _validate(run, final=done)
            saved = saved or run.is_best
            clock.start()
        if saved:
            _check(run, batch, images)
            _save(run)
            clock.start()
        if stop:
            return


class _Clock:
    """Images per second, and the share of the time in which the step waits for data."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self.start()

    def start(self) -> None:
        self._images, self._waiting, self._started = 0, 0.0, time.perf_counter()

    def next(self, batches: Iterator[GraphBatch]) -> GraphBatch:
        before = time.perf_counter()
        batch = next(batches)
        self._waiting += time.perf_counter() - before
        self._images += batch.size
        return batch

    def figures(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._started
        return {
            "speed/images_per_second": self._images * self._processes / seconds,
            "speed/waiting_for_data": self._waiting / seconds,
        }


def _endless(run: _Run) -> Iterator[GraphBatch]:
    """Batches of one epoch after the other, from where the loader stands; an epoch may be shorter than a batch."""
    loader = run.data.train
    while True:
        epoch = loader.epoch
        yield from loader
        loader.set_epoch(max(loader.epoch, epoch + 1))


def prepare_images(images: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Augmented and normalised images of a training batch, (B, C, H, W) on their device."""
    prepared = augment(images, generator, config.augment, config.data.mean, config.data.std)
    if config.run.constant_images:
        prepared = torch.zeros_like(prepared)
    return prepared.contiguous(memory_format=torch.channels_last) if config.run.channels_last else prepared


def _context(run: _Run) -> Context:
    return Context(step=run.step, total_steps=run.total_steps, bank=run.bank, seed=run.config.run.seed)


def _figures_of(result: Step) -> dict[str, Tensor]:
    figures = {"train/loss": result.loss}
    figures |= {f"train/loss/{name}": value for name, value in result.parts.items()}
    for stage, accuracy in result.accuracies.items():
        figures |= {f"train/accuracy/{stage}": accuracy.real, f"train/accuracy_blind/{stage}": accuracy.blind}
        figures[f"train/prior/{stage}"] = accuracy.prior
    return figures | {f"train/{name}": value for name, value in result.metrics.items()}


def _clip(run: _Run) -> Tensor:
    """The norm of all gradients before they are clipped."""
    limit = run.config.optimization.clip_norm
    return torch.nn.utils.clip_grad_norm_(run.plain.parameters(), math.inf if limit is None else limit).detach()


def _check(run: _Run, batch: GraphBatch, images: Tensor) -> None:
    """Diverged, where a step since the last check gave no number or a gradient out of all proportion."""
    if not run.unchecked:
        return
    table = torch.stack([torch.stack([loss.float(), norm.float()]) for _, _, loss, norm in run.unchecked]).tolist()
    for (step, report_ids, _, _), (loss, norm) in zip(run.unchecked, table, strict=True):
        usual = statistics.median(run.norms) if len(run.norms) >= _SETTLING_STEPS else math.inf
        if not math.isfinite(loss) or not math.isfinite(norm):
            what = "The loss is not a number" if not math.isfinite(loss) else "The gradient is not a number"
            suspects = _not_finite(run, batch, images) if step == run.unchecked[-1][0] else []
            raise _diverged(run, step, what, suspects or report_ids, narrowed=bool(suspects))
        if norm > run.config.optimization.explosion * usual:
            what = f"The gradient has exploded: its norm is {norm:.3g}, where it was {usual:.3g}"
            raise _diverged(run, step, what, report_ids, narrowed=False)
        run.norms.append(norm)
    run.unchecked.clear()


@torch.no_grad()
def _not_finite(run: _Run, batch: GraphBatch, images: Tensor) -> list[str]:
    """The reports of a batch whose image or features are no numbers."""
    bad = ~images.flatten(1).isfinite().all(dim=1)
    features = run.plain.model.encode_images(images)
    bad |= ~features.pooled.flatten(1).isfinite().all(dim=1)
    found = [batch.report_ids[index] for index in bad.nonzero().flatten().tolist()]
    return found if len(found) < batch.size else []


def _diverged(run: _Run, step: int, what: str, report_ids: list[str], narrowed: bool) -> Diverged:
    last = checkpoint.choose("auto", run.checkpoints)
    path = run.output / "failed-batch.json"
    if run.fabric.global_rank:
        path = run.output / f"failed-batch-{run.fabric.global_rank}.json"
    checkpoint.write_text(path, json.dumps({"step": step, "what": what, "report_ids": report_ids}, indent=1) + "\n")
    named = ", ".join(report_ids[:8]) + (f" and {len(report_ids) - 8} more" if len(report_ids) > 8 else "")
    return Diverged(
        f"{what} (step {step}). {'Its reports' if narrowed else 'The reports of its batch'}: {named}; all are in {path}. "
        + (f"The last good checkpoint is {last}." if last is not None else "There is no checkpoint yet.")
        + " A lower --lr, a longer optimization.warmup or a smaller optimization.clip_norm may help."
    )


@torch.no_grad()
def _norms(module: nn.Module, before: list[Tensor]) -> dict[str, float]:
    parameters = [parameter.detach() for parameter in module.parameters()]
    updates = [now - then for now, then in zip(parameters, before, strict=True)]
    return {"norm/parameters": _total_norm(parameters), "norm/update": _total_norm(updates)}


def _total_norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]).norm())


def _memory(device: torch.device) -> dict[str, float]:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    figures = {"memory/process_gib": peak / 2**30}
    if device.type == "cuda":
        figures["memory/gpu_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return figures


def _stop_wanted(run: _Run, signals: StopSignals) -> bool:
    """Whether any process was told to stop; of several processes, before the step at hand."""
    wanted = signals.received is not None
    if run.fabric.world_size > 1:
        flag = torch.tensor(float(wanted), device=run.fabric.device)
        # All read the answer to the step before, so that none has to wait here for what its device still computes.
        before, run.stop = run.stop, cast(Tensor, run.fabric.all_reduce(flag, reduce_op="max"))
        wanted = before is not None and bool(before > 0)
        if wanted and signals.received is None:
            signals.received = 15
    return wanted


# Checkpoints


def _save(run: _Run) -> None:
    if run.unchecked:
        raise RuntimeError("Steps must be checked before they are saved.")
    ranks = run.fabric.world_size
    own = {**checkpoint.random_state(), "augment": run.generator.get_state()}
    states = [own] if ranks == 1 else _gather_states(run, own)
    if run.fabric.is_global_zero:
        weights = {"model": run.plain.state_dict()}
        if run.average is not None:
            weights["ema"] = run.average.average
        training = {
            "step": run.step,
            "epoch": run.epoch,
            "total_steps": run.total_steps,
            "ranks": ranks,
            "optimizer": run.optimizer.state_dict(),
            "data": run.data.train.state_dict(),
            "data_fingerprint": run.data.fingerprint,
            "bank": run.bank.state_dict(),
            "window": run.window.state_dict(),
            "norms": list(run.norms),
            "best": run.best,
        }
        folder = checkpoint.save_checkpoint(run.checkpoints, run.step, weights, training, dict(enumerate(states)))
        if run.is_best and run.validated == run.step and run.best is not None:
            checkpoint.mark_best(run.checkpoints, folder, run.config.validation.best, run.best)
        checkpoint.prune(run.checkpoints, run.config.checkpoints.keep, run.config.checkpoints.milestone)
    run.fabric.barrier()


def _gather_states(run: _Run, own: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The random states of all processes, on the first one."""
    states: list[Any] = [None] * run.fabric.world_size
    torch.distributed.all_gather_object(states, own)
    return states


def _restore(run: _Run, folder: Path) -> None:
    """Put everything where the checkpoint says. UserError where it is of other data or of another number of processes."""
    training = checkpoint.load_training(folder)
    if training["ranks"] != run.fabric.world_size:
        raise UserError(
            f"{folder} was written by {training['ranks']} processes, these are {run.fabric.world_size}: "
            "go on with as many (--devices, --num-nodes)."
        )
    if training["data_fingerprint"] != run.data.fingerprint:
        raise UserError(
            f"{folder} is of other graphs or images than {run.config.run.graphs}. Start anew with --overwrite."
        )
    run.plain.load_state_dict(checkpoint.load_weights(folder))
    run.optimizer.load_state_dict(training["optimizer"])
    _like_parameters(run.optimizer)
    if run.average is not None:
        run.average.load(checkpoint.load_weights(folder, "ema"))
    run.bank.load_state_dict(training["bank"])
    run.window.load_state_dict(training["window"], run.fabric.device)
    run.norms.extend(training["norms"])
    run.step, run.epoch, run.best = training["step"], training["epoch"], training["best"]
    run.data.train.load_state_dict(training["data"])
    state = checkpoint.load_rank_state(folder, run.fabric.global_rank)
    run.generator.set_state(state.pop("augment"))
    checkpoint.set_random_state(state)


def _like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Lay the optimizer's tensors out as their parameters are (channels last), as they were before they were saved."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


# Validation and the end


def _ends_epoch(run: _Run) -> bool:
    """Whether the step at hand was the last of its epoch; counts the epoch."""
    epoch = run.data.train.epoch
    ended = epoch > run.epoch
    run.epoch = epoch
    return ended and run.config.validation.every is None


def _validate(run: _Run, *, final: bool) -> None:
    """Validate with the averaged weights where there are any; all processes come to the same figures."""
    if run.validator is not None:
        state = checkpoint.random_state()
        probed = final or bool(run.config.validation.probe_every and run.step % run.config.validation.probe_every == 0)
        # All stages in full and the same draws each time, so that the figures of two validations can be compared.
        context = replace(_context(run), step=run.total_steps)
        with _final_weights(run):
            run.plain.eval()
            _share_buffers(run)
            figures = run.validator.validate(run.plain.model, run.plain.objective, context, probed=probed)
        figures = run.fabric.broadcast(figures)  # rounding may differ, and all must agree on what is best
        checkpoint.set_random_state(state)  # training goes on as if nobody had looked
        if run.log is not None:
            run.log.log(run.step, figures)
            write_figures({"step": run.step, "concepts": run.validator.per_concept}, run.output / "validation.json")
        run.is_best = _is_better(run, figures.get(run.config.validation.best))
        run.validated = run.step


def _is_better(run: _Run, value: float | None) -> bool:
    """Whether a figure is the best so far, which it then is for those that come."""
    if value is None or not math.isfinite(value):
        return False
    lower = "loss" in run.config.validation.best
    if run.best is not None and not (value < run.best if lower else value > run.best):
        return False
    run.best = value
    return True


def _final_weights(run: _Run) -> Any:
    return run.average.applied(run.plain) if run.average is not None else nullcontext()


def _share_buffers(run: _Run) -> None:
    """Give all processes the batch norm statistics of the first one: each has added those of its own last batch."""
    if run.fabric.world_size > 1:
        for buffer in run.plain.buffers():
            torch.distributed.broadcast(buffer, 0)


def _finish(run: _Run) -> dict[str, float]:
    """Write the results into the run folder. Returns the last figures."""
    with _final_weights(run):
        run.plain.eval()
        _share_buffers(run)
        figures = write_results(
            run.output,
            run.config,
            run.data,
            run.plain.model,
            run.plain.objective,
            run.step,
            first=run.fabric.is_global_zero,
        )
    run.fabric.barrier()
    return figures


class _Say:
    """A line on standard error now and then: a bar would be lost in the logs that training is watched in."""

    def __init__(self, enabled: bool, seconds: float = 15.0) -> None:
        self._enabled, self._seconds = enabled, seconds
        self._first: int | None = None
        self._started = self._last = time.monotonic()

    def __call__(self, run: _Run) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first, self._started = run.step, now
        done = run.step == run.total_steps
        if not self._enabled or (now - self._last < self._seconds and not done):
            return
        self._last = now
        rate = (run.step - self._first) / max(now - self._started, 1e-9)
        left = (run.total_steps - run.step) / rate if rate > 0 else 0.0
        loss = run.window.means().get("train/loss")
        said = f", loss {loss:.3f}" if loss is not None else ""
        print(
            f"pretrain: step {run.step:,} of {run.total_steps:,}{said}, {rate:.1f} steps/s, {left / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
