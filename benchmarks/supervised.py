"""An encoder trained end to end on labels, as the configuration says: what pre-training is measured against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.config import Config
from trainer.data.augment import augment, normalise
from trainer.model.image import create_backbone, load_backbone
from trainer.schedule import learning_rate_scale, parameter_groups

Images = npt.NDArray[np.uint8]  # (n, size, size)
Rows = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Supervised:
    """A backbone and a linear layer on its pooled features."""

    backbone: nn.Module
    head: nn.Linear
    config: Config

    def features(self, images: Images) -> Numbers:
        """(n, d_enc)"""
        return self._of_all(images, self.backbone)

    def scores(self, images: Images) -> Numbers:
        """(n, classes) logits"""
        return self._of_all(images, nn.Sequential(self.backbone, self.head))

    @torch.no_grad()
    def _of_all(self, images: Images, module: nn.Module) -> Numbers:
        module.eval()
        data, parts = self.config.data, []
        for part in np.array_split(images, max(1, len(images) // 64)):
            pixels = normalise(torch.tensor(part)[:, None], data.mean, data.std)
            with half(self.config):
                parts.append(module(pixels).float())
        return torch.cat(parts).numpy()


def fit_supervised(
    config: Config,
    images: Images,
    labels: Numbers,
    train: Rows,
    *,
    batch_size: int,
    seed: int,
    weights: Path | None = None,
    moments: int = 1,
) -> Iterator[tuple[int, Supervised]]:
    """Train with the rate, decay, schedule, augmentation, precision and steps of the configuration.

    Args:
        labels: (n, classes): 1, 0, or NaN where it is not known.
        train: the rows to train on.
        weights: where to start from; None: untrained.
        moments: how often, evenly spaced, training pauses to be judged.
    Yields:
        the steps done and the network, which goes on changing when the next is asked for.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model, data, optimization, steps = config.model, config.data, config.optimization, config.run.max_steps or 1
    backbone = create_backbone(model.backbone, model.in_chans, data.image_size)
    if weights is not None:
        load_backbone(backbone, weights)
    network = nn.Sequential(backbone, nn.Linear(backbone.num_features, labels.shape[1]))
    network.to(memory_format=torch.channels_last)
    found = Supervised(backbone, network[1], config)
    groups = parameter_groups(network, optimization, text_prefix="text")
    optimizer = torch.optim.AdamW(groups, betas=(optimization.beta1, optimization.beta2))
    for step, rows in enumerate(batches(train, batch_size, steps, generator)):
        network.train()
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * learning_rate_scale(step, steps, optimization)
        pixels = augment(torch.tensor(images[rows])[:, None], generator, config.augment, data.mean, data.std)
        with half(config):
            logits: Tensor = network(pixels.contiguous(memory_format=torch.channels_last)).float()
        wanted = torch.from_numpy(labels[rows])
        known = ~wanted.isnan()
        loss = functional.binary_cross_entropy_with_logits(logits[known], wanted[known])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if optimization.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), optimization.clip_norm)
        optimizer.step()
        if (moments * (step + 1)) // steps > (moments * step) // steps:
            yield step + 1, found


def half(config: Config) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=config.run.precision == "bf16")


def batches(rows: Rows, size: int, steps: int, generator: torch.Generator) -> Iterator[Rows]:
    """`steps` batches of the rows, each row once before any comes again."""
    waiting = np.zeros(0, np.int64)
    for _ in range(steps):
        while len(waiting) < size:
            waiting = np.concatenate([waiting, rows[torch.randperm(len(rows), generator=generator).numpy()]])
        yield waiting[:size]
        waiting = waiting[size:]
