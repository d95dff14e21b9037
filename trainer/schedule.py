"""The learning rate of a step, and the parameters that it goes to."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from trainer.config import OptimizationConfig


def learning_rate_scale(step: int, total: int, config: OptimizationConfig) -> float:
    """Share of the peak learning rate at a step from 0: a linear rise, then a cosine down to `final_scale`."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    return config.final_scale + (1 - config.final_scale) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def parameter_groups(module: nn.Module, config: OptimizationConfig, text_prefix: str) -> list[dict[str, Any]]:
    """Groups for AdamW: text encoder (names that begin with `text_prefix`) or not, decayed or not.

    Matrices and kernels decay; biases, norms and embeddings do not, nor what a part names in its `no_weight_decay()`, as
    timm's models do. Each group has `peak`, the learning rate that `learning_rate_scale` is a share of.
    """
    spared = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Embedding)}
    for name, part in module.named_modules():
        if hasattr(part, "no_weight_decay"):
            spared |= {f"{name}.{own}".removeprefix(".") for own in part.no_weight_decay()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim >= 2 and name not in spared and "pos_embed" not in name
            groups.setdefault((name.startswith(text_prefix), decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": 0.0,
            "peak": config.learning_rate * (config.text_learning_rate_scale if of_text else 1.0),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (of_text, decayed), parameters in sorted(groups.items())
    ]
