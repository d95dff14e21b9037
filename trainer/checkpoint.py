"""Checkpoints: folders of safetensors and JSON, so that nothing is unpickled, and either whole or not there.

checkpoints/
  step-00001200/           complete, because it got its name last
    model.safetensors      weights of the model and of the objective
    ema.safetensors        their moving average, where there is one
    training.json          step, optimizer, schedule, position in the data, random state; tensors by name …
    training.safetensors   … and here
    rank-00000.safetensors random state of each process
  best.json                which folder is best, by which figure
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.errors import UserError

_STEP = re.compile(r"step-(\d{8,})")


def folder_of(checkpoints: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return checkpoints / f"step-{step:08d}"


def list_checkpoints(checkpoints: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    if not checkpoints.is_dir():
        return []
    found = [(int(match[1]), path) for path in checkpoints.iterdir() if (match := _STEP.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save_checkpoint(
    checkpoints: Path,
    step: int,
    weights: Mapping[str, Mapping[str, Tensor]],
    training: Any,
    rank_states: Mapping[int, Mapping[str, Tensor]],
) -> Path:
    """Write the checkpoint of a step, and return its folder.

    Args:
        weights: state dicts by file name: `model`, `ema`.
        training: all else, of dicts, lists, tuples, numbers, text and tensors.
        rank_states: random state by process.
    """
    folder = folder_of(checkpoints, step)
    partial = checkpoints / f".partial-{folder.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, state in weights.items():
        write_tensors(partial / f"{name}.safetensors", state)
    structure, tensors = pack(training)
    write_tensors(partial / "training.safetensors", tensors)
    write_text(partial / "training.json", json.dumps(structure, indent=1) + "\n")
    for rank, state in rank_states.items():
        write_tensors(partial / f"rank-{rank:05d}.safetensors", state)
    _sync_folder(partial)
    if folder.exists():  # the same step again, after a resume
        shutil.rmtree(folder)
    partial.rename(folder)
    _sync_folder(checkpoints)
    return folder


def load_weights(folder: Path, name: str = "model") -> dict[str, Tensor]:
    """The weights of a checkpoint. UserError where they cannot be read."""
    return read_tensors(folder / f"{name}.safetensors")


def load_training(folder: Path) -> Any:
    """What `save_checkpoint` got as `training`. UserError where it cannot be read."""
    path = folder / "training.json"
    try:
        structure = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path} cannot be read: this is no complete checkpoint. Name another with --resume.") from None
    return unpack(structure, read_tensors(folder / "training.safetensors"))


def load_rank_state(folder: Path, rank: int) -> dict[str, Tensor]:
    """The random state of a process. UserError where the checkpoint has none for it."""
    path = folder / f"rank-{rank:05d}.safetensors"
    if not path.is_file():
        count = len(list(folder.glob("rank-*.safetensors")))
        raise UserError(f"{folder} was written by {count} processes; go on with as many (--devices, --num-nodes).")
    return read_tensors(path)


def mark_best(checkpoints: Path, folder: Path, figure: str, value: float) -> None:
    """Note which checkpoint is the best."""
    text = json.dumps({"folder": folder.name, "figure": figure, "value": value}, indent=1) + "\n"
    write_text(checkpoints / "best.json", text)


def best_of(checkpoints: Path) -> tuple[Path, float] | None:
    """The best checkpoint and its figure, None where none is marked."""
    try:
        noted = json.loads((checkpoints / "best.json").read_text(encoding="utf-8"))
        folder, value = checkpoints / noted["folder"], float(noted["value"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (folder, value) if folder.is_dir() else None


def prune(checkpoints: Path, keep: int, milestone: int | None) -> None:
    """Remove all but the last `keep`, the best, and those of every `milestone`-th step."""
    best = best_of(checkpoints)
    for folder in list_checkpoints(checkpoints)[: -max(keep, 1)]:
        step = int(folder.name.removeprefix("step-"))
        if (best is None or folder != best[0]) and not (milestone and step % milestone == 0):
            shutil.rmtree(folder)


def choose(resume: str, checkpoints: Path) -> Path | None:
    """The checkpoint that `--resume auto|never|PATH` means, None for a fresh start.

    A path is a checkpoint, a folder of checkpoints, or a run. UserError where it holds no checkpoint.
    """
    if resume == "never":
        return None
    if resume == "auto":
        found = list_checkpoints(checkpoints)
        return found[-1] if found else None
    path = Path(resume)
    if (path / "training.json").is_file():
        return path
    found = list_checkpoints(path) or list_checkpoints(path / "checkpoints")
    if not found:
        raise UserError(
            f"--resume {resume}: there is no checkpoint; expected auto, never, a checkpoint or a run folder."
        )
    return found[-1]


def random_state() -> dict[str, Tensor]:
    """The state of this process's generators."""
    state = {"cpu": torch.get_rng_state()}
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    for index in range(torch.cuda.device_count() if started else 0):
        state[f"cuda-{index}"] = torch.cuda.get_rng_state(index)
    return state


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Put back what `random_state` gave; states of devices that are not here are left."""
    torch.set_rng_state(state["cpu"])
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda-{index}" in state:
            torch.cuda.set_rng_state(state[f"cuda-{index}"], index)


# Files


def write_text(path: Path, text: str) -> None:
    """Write a file that is either the old or the new one, whatever happens."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, in one piece or not at all. Views and tied weights are written in full."""
    partial = path.with_name(f".{path.name}.partial")
    whole = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    save_file(whole, partial, metadata=dict(metadata or {}) or None)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. UserError where it is missing or broken."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (OSError, SafetensorError):
        raise UserError(f"{path} is no whole safetensors file.") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Nested state as JSON and tensors


def pack(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """A nested state as a JSON document in which tensors are names, and the tensors by name. TypeError for other objects."""
    tensors: dict[str, Tensor] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = f"{len(tensors):06d}"
            tensors[name] = value
            return {"$tensor": name}
        if isinstance(value, Mapping):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: walk(item) for key, item in value.items()}
            return {"$items": [[walk(key), walk(item)] for key, item in value.items()]}
        if isinstance(value, tuple):
            return {"$tuple": [walk(item) for item in value]}
        if isinstance(value, list):
            return [walk(item) for item in value]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"A checkpoint cannot hold a {type(value).__name__}.")

    return walk(state), tensors


def unpack(structure: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `pack`."""
    if isinstance(structure, list):
        return [unpack(item, tensors) for item in structure]
    if not isinstance(structure, dict):
        return structure
    if "$tensor" in structure:
        return tensors[structure["$tensor"]]
    if "$tuple" in structure:
        return tuple(unpack(item, tensors) for item in structure["$tuple"])
    if "$items" in structure:
        return {unpack(key, tensors): unpack(item, tensors) for key, item in structure["$items"]}
    return {key: unpack(item, tensors) for key, item in structure.items()}
