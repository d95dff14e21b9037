"""The settings of runs that train in seconds."""

from __future__ import annotations

TINY = {
    "data.image_size": 32,
    "data.vocabulary_size": 200,
    "data.max_tokens": 48,
    "model.backbone": "resnet10t",
    "model.dim": 16,
    "model.text_layers": 1,
    "model.text_width": 16,
    "model.text_heads": 2,
    "run.batch_size": 8,
    "run.log_every": 2,
    "run.tensorboard": False,
    "validation.reports": 16,
}
