"""A model of a few thousand parameters over the concepts of `hand_batches`, and pictures of what its reports say."""

from __future__ import annotations

from typing import Any

import hand_batches as hand
import pytest
import torch
from torch import Tensor, nn

from trainer.model.config import ModelConfig
from trainer.model.model import Model

SIZE = 16
VOCABULARY = 50


class TinyBackbone(nn.Module):
    """Two convolutions in the form of a timm model, without batch statistics, which ranks would not share."""

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 4, stride=4)
        self.mix = nn.Conv2d(16, 16, 1)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.mix(self.stem(images).relu()).relu()
        return features

    def forward_head(self, features: Tensor, pre_logits: bool) -> Tensor:
        assert pre_logits
        return features.mean((2, 3))


def tiny_model(seed: int = 0, **options: Any) -> Model:
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.model.image.create_backbone", lambda *_: TinyBackbone())
        config = ModelConfig(
            **{"dim": 16, "text_layers": 1, "text_width": 16, "text_heads": 2, "text_dropout": 0.0} | options
        )
        return Model(config, hand.table(), VOCABULARY, SIZE, max_tokens=16)


def blob_pairs(count: int, seed: int) -> tuple[list[hand.Report], Tensor]:
    """Reports that say or deny an effusion of each side, and images (count, 1, 16, 16) with a bright square where it is.

    The patient's left is on the right of the picture.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, SIZE, SIZE, generator=generator) * 0.1
    reports: list[hand.Report] = []
    for image, present in zip(images, torch.randint(0, 2, (count, 2), generator=generator).tolist(), strict=True):
        for there, column in zip(present, (8, 4), strict=True):
            image[:, 8:12, column : column + 4] += 2 * there
        sides = zip(("left", "right"), present, strict=True)
        reports.append(([("effusion", side, "+" if there else "-") for side, there in sides], []))
    return reports, images
