"""Images of a store through an encoder, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.data.augment import normalise
from trainer.data.cache import ImageStore
from trainer.data.config import DataConfig
from trainer.errors import UserError
from trainer.labels import Labels
from trainer.model.model import Model


def image_batches(
    store: ImageStore, rows: npt.NDArray[np.int64], data: DataConfig, device: torch.device, batch_size: int
) -> Iterator[tuple[slice, Tensor]]:
    """Places among `rows` and their images (B, C, H, W), normalised, on the device."""
    for start in range(0, len(rows), batch_size):
        part = slice(start, min(len(rows), start + batch_size))
        images = torch.from_numpy(store[rows[part]]).unsqueeze(1).to(device)
        yield part, normalise(images, data.mean, data.std)


@torch.no_grad()
def pooled_features(
    model: Model,
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    data: DataConfig,
    device: torch.device,
    batch_size: int = 64,
) -> npt.NDArray[np.float32]:
    """(images, d_enc), what the backbone gives as a plain timm model."""
    batches = image_batches(store, rows, data, device, batch_size)
    return np.concatenate([model.encode_images(images).pooled.float().cpu().numpy() for _, images in batches])


def rows_of_labels(store: ImageStore, labels: Labels) -> npt.NDArray[np.int64]:
    """The row in the store of each labelled image. UserError where one cannot be used."""
    rows = store.rows_of(list(labels.images))
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        raise UserError(
            f"{labels.path}: {len(missing):,} of {len(rows):,} images cannot be used, {labels.images[missing[0]]} first. "
            f"{store.folder / 'rejects.csv'} says why; the folder that they are relative to is by default that of the labels."
        )
    return rows
