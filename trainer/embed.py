"""Features of images as a Parquet table: `image`, `subject_id?` and `features`, a list of float32.

- `pooled`:  what the encoder gives as a plain timm model, (d_enc,)
- `nodes`:   the answers to all findings that training reports state, one after the other, (findings · d,); the table's metadata
             names them in their order
- `patches`: the patches that queries attend to, (patches · d,) with the grid in the metadata
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.cache import ImageStore, image_store
from trainer.data.progress import progress
from trainer.errors import UserError
from trainer.features import image_batches
from trainer.graph.batch import QuerySide
from trainer.run_folder import TrainedRun
from trainer.training_data import cache_folder, decoders

FeatureKind = Literal["pooled", "nodes", "patches"]
_LEAST_STATEMENTS = 10  # present ones that a finding's answer needs to be a feature


class Embedder:
    """Features of one kind from a run. UserError for `nodes` where the objective trains no queries."""

    def __init__(self, run: TrainedRun, kind: FeatureKind) -> None:
        self._run, self._kind = run, kind
        self.concept, self.side = asked_findings(run) if kind == "nodes" else (torch.zeros(0), torch.zeros(0))

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W), normalised → (B, d)"""
        features = self._run.model.encode_images(images)
        if self._kind == "pooled":
            return features.pooled.float()
        if self._kind == "patches":
            return features.keys.float().flatten(1)
        answers = self._run.model.ask(features, self.concept, self.side).values.float()  # (U, B, d)
        return functional.normalize(answers, dim=-1).transpose(0, 1).flatten(1)

    def metadata(self) -> dict[str, str]:
        """What the features are, as JSON texts."""
        run = self._run
        found = {"run": run.folder.name, "features": self._kind, "backbone": run.config.model.backbone}
        if self._kind == "nodes":
            sides = {QuerySide.NONE: "", QuerySide.LEFT: "/left", QuerySide.RIGHT: "/right"}
            pairs = zip(self.concept.tolist(), self.side.tolist(), strict=True)
            found["findings"] = json.dumps([run.table.concepts[row].id + sides[QuerySide(at)] for row, at in pairs])
        return found


def asked_findings(run: TrainedRun) -> tuple[Tensor, Tensor]:
    """Concept and side, each (U,), of the findings whose presence training reports state often enough.

    UserError where the objective trains no queries.
    """
    if not any(term.score in ("answers", "state") for term in run.objective.terms):
        raise UserError(
            f"{run.folder} was trained with `{run.config.objective.name}`, which asks no questions of images: "
            "it has no features `nodes`. Take pooled or patches."
        )
    sides = len(QuerySide) - 1
    pathology = torch.tensor([concept.kind == "pathology" for concept in run.table.concepts]).repeat_interleave(sides)
    counts = run.bank.counts[:, 0].cpu()
    if not bool((counts > 0).any()):  # `state` reads no texts: the folder's counts tell what reports speak of
        by_concept = torch.tensor([float(concept.count) for concept in run.table.concepts])
        counts = torch.zeros(len(by_concept), sides)
        counts[:, 0] = by_concept
        counts = counts.flatten()
    keys = torch.nonzero((counts >= _LEAST_STATEMENTS) & pathology).flatten().to(run.device)
    if not len(keys):
        raise UserError(f"{run.folder}: no finding is stated {_LEAST_STATEMENTS} times; there are no features `nodes`.")
    return keys // sides, keys % sides


def open_images(run: TrainedRun, root: Path, images: Sequence[str], cache: Path | None) -> ImageStore:
    """The store of some images at the run's size, decoded where the cache lacks them."""
    config = run.config
    folder = cache if cache is not None else cache_folder(config, run.folder)
    return image_store(
        root, list(images), folder, config.data.image_size, config.data.fit, decoders(config, len(images))
    )


@torch.no_grad()
def compute_features(
    run: TrainedRun, store: ImageStore, rows: npt.NDArray[np.int64], kind: FeatureKind = "pooled", batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """(images, d)"""
    embed = Embedder(run, kind)
    found: list[npt.NDArray[np.float32]] = []
    with progress("encode images", len(rows)) as update:
        for part, images in image_batches(store, rows, run.config.data, run.device, batch_size):
            found.append(embed(images).cpu().numpy())
            update(part.stop)
    return np.concatenate(found)


@torch.no_grad()
def embed(
    run: TrainedRun,
    store: ImageStore,
    images: Sequence[str],
    output: Path,
    kind: FeatureKind = "pooled",
    *,
    subjects: Sequence[str] | None = None,
    batch_size: int = 64,
) -> tuple[int, int]:
    """Write the features of images to a Parquet file, a row group for each batch, so that any number fits into memory.

    Returns:
        Images written, and images left out because they cannot be used (their reasons are in the store's rejects.csv).
    """
    rows = store.rows_of(list(images))
    kept = np.flatnonzero(rows >= 0)
    if not len(kept):
        raise UserError(f"None of the {len(rows):,} images can be used; {store.folder / 'rejects.csv'} says why.")
    embedder = Embedder(run, kind)
    columns = [pa.field("image", pa.string())]
    columns += [pa.field("subject_id", pa.string())] if subjects is not None else []
    columns.append(pa.field("features", pa.list_(pa.float32())))
    schema = pa.schema(columns, metadata=embedder.metadata())
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    with pq.ParquetWriter(partial, schema) as writer, progress("encode images", len(kept)) as update:
        for part, batch in image_batches(store, rows[kept], run.config.data, run.device, batch_size):
            features = embedder(batch).cpu().numpy()
            values = pa.array(features.reshape(-1))
            offsets = pa.array(np.arange(len(features) + 1, dtype=np.int32) * features.shape[1])
            cells = [pa.array([images[row] for row in kept[part]], pa.string())]
            cells += [pa.array([subjects[row] for row in kept[part]], pa.string())] if subjects is not None else []
            writer.write_table(pa.Table.from_arrays([*cells, pa.ListArray.from_arrays(offsets, values)], schema=schema))
            update(part.stop)
    partial.replace(output)
    return len(kept), len(rows) - len(kept)
