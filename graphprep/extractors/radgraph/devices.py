"""Where a model runs, and how many processes share it."""

from __future__ import annotations

import os
import re
from multiprocessing import current_process

import torch

from graphprep.errors import UserError

_WORKERS_PER_GPU = 3
"""One feeds the GPU while the others cut sections, link and write."""
_PROCESSORS_PER_WORKER = 4
"""On processors a network uses several by itself, and every worker holds the weights once more."""


def choose_device(name: str) -> torch.device:
    """The device of a name: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`. Workers take turns at the GPUs.

    Raises:
        UserError: there is no such device.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"There is no device {name!r}. Expected auto, cpu, cuda or cuda:N.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if not count:
        raise UserError(f"There is no GPU that PyTorch can use, and --device {name} asks for one. Give --device cpu.")
    if name in ("auto", "cuda"):
        return torch.device("cuda", _worker_number() % count)
    device = torch.device(name)
    if device.index >= count:
        raise UserError(f"There is no {name}: this machine has {count} GPUs, numbered from 0.")
    return device


def default_workers(name: str, processors: int) -> int:
    """How many worker processes are sensible on a device of `choose_device`."""
    if choose_device(name).type == "cpu":
        return max(1, min(processors // _PROCESSORS_PER_WORKER, 8))
    gpus = torch.cuda.device_count() if name in ("auto", "cuda") else 1
    return max(1, min(processors, _WORKERS_PER_GPU * gpus))


def share_processors(processes: int) -> None:
    """Let this process compute with its share of the processors: threads of several that each take all hinder each other."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, processors // processes))


def _worker_number() -> int:
    """Worker processes are numbered in their names, from 1; the process that starts them has none."""
    number = re.search(r"\d+$", current_process().name)
    return int(number[0]) - 1 if number else 0
