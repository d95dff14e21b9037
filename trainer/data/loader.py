"""Batches of image-report pairs from a pack and an image store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from trainer.data.cache import ImageStore, image_store
from trainer.data.config import DataConfig
from trainer.data.graphs import GraphFolder, Split, Splits
from trainer.data.order import Order, choice
from trainer.data.pack import FRONTAL, Pack, pack_graphs
from trainer.data.ragged import Rows, offsets_of, owners, padded
from trainer.data.tokenizer import Tokenizer
from trainer.errors import UserError
from trainer.graph.batch import GraphBatch

_PAD_TO = 8  # few lengths of texts, so that compiled code is not compiled for each


class Pairs:
    """Reports with their images: what a loader takes its batches from.

    A report with several images has one at a time: PA before AP before other frontal views, then unknown ones, then others.
    Training takes any of its frontal images (or any of the best kind that it has), by seed and epoch; evaluation the first.
    """

    def __init__(self, pack: Pack, store: ImageStore, image_rows: NDArray[np.int64], splits: Splits) -> None:
        """`image_rows`: for each image of the pack its row in the store, −1 where it cannot be used."""
        self.pack, self.store, self.splits = pack, store, splits
        images = pack.tables["images"]
        usable = image_rows >= 0
        report = owners(np.diff(images.offsets))[usable]
        rank, rows = images.columns["rank"][usable], image_rows[usable]
        order = np.lexsort((rank, report))  # stable: equal views stay in the order of the report
        report, rank, rows = report[order], rank[order], rows[order]
        kind = np.maximum(rank, FRONTAL - 1)
        first = np.searchsorted(report, np.arange(len(pack)))
        best = kind[first[report]] == kind
        self._candidates = rows[best]
        self._first = offsets_of(np.bincount(report[best], minlength=len(pack)))

    def __len__(self) -> int:
        """Reports, with images or without."""
        return len(self.pack)

    @cached_property
    def has_image(self) -> NDArray[np.bool_]:
        """(reports,) whether each has an image that can be used."""
        return np.diff(self._first) > 0

    def rows(self, split: Split) -> Rows:
        """The reports of a part of the data that have an image."""
        return np.flatnonzero((self.splits.codes == split) & self.has_image)

    def images(self, rows: Rows) -> Rows:
        """Row in the store of the image with which each of these reports is evaluated; they must have one."""
        images: Rows = self._candidates[self._first[rows]]
        return images

    def images_for_training(self, rows: Rows, epochs: Rows, seed: int) -> Rows:
        """Row in the store of the image that each report has in an epoch; they must have one."""
        counts = self._first[rows + 1] - self._first[rows]
        images: Rows = self._candidates[self._first[rows] + choice(counts, rows, epochs, seed)]
        return images

    def paths(self, rows: Rows) -> list[str]:
        """Path of the image with which each of these reports is evaluated, relative to the image root."""
        paths: list[str] = self._paths.take(self.images(rows)).to_pylist()
        return paths

    @cached_property
    def _paths(self) -> pa.Array:
        return self.store.column("path").combine_chunks()

    def concept_counts(self, rows: Rows) -> NDArray[np.int64]:
        """Stated nodes of each concept in these reports, (concepts of the graphs,)."""
        nodes = self.pack.tables["nodes"]
        chosen = np.zeros(len(self), bool)
        chosen[rows] = True
        concepts = nodes.columns["concept"][np.repeat(chosen, np.diff(nodes.offsets))]
        return np.bincount(concepts, minlength=self.pack.concepts)

    @property
    def summary(self) -> dict[str, int]:
        """Counts for the log and the model card."""
        return {
            "reports": len(self),
            "without_image": int((~self.has_image).sum()),
            "images_rejected": sum(self.store.rejected.values()),
            **{split.name.lower(): len(self.rows(split)) for split in Split},
        }

    def batch(self, rows: Rows, images: Rows, concept_rows: NDArray[np.int64] | None = None) -> GraphBatch:
        """The pairs of these reports, with these rows of the store as their images.

        Args:
            rows: reports, (B,).
            images: rows of the store, (B,).
            concept_rows: for each concept of the graphs its row in another concept table, −1 where that lacks it; nodes of
                such concepts are left out, with their spans and edges.
        """
        tables = self.pack.tables
        nodes, node_counts = tables["nodes"].take(rows)
        spans, span_counts = tables["spans"].take(rows)
        edges, edge_counts = tables["edges"].take(rows)
        tokens, token_counts = tables["tokens"].take(rows)
        first_node = offsets_of(node_counts)[:-1]
        span_node = spans["node"] + np.repeat(first_node, span_counts)
        source, target = (edges[end] + np.repeat(first_node, edge_counts) for end in ("source", "target"))
        node_report, concept = owners(node_counts), nodes["concept"].astype(np.int64)
        is_pathology = concept >= self.pack.anatomies

        if concept_rows is not None:
            concept = concept_rows[concept]
            kept = concept >= 0
            if not kept.all():
                number = np.cumsum(kept) - 1
                kept_spans, kept_edges = kept[span_node], kept[source] & kept[target]
                nodes = {name: column[kept] for name, column in nodes.items()}
                spans = {name: column[kept_spans] for name, column in spans.items()}
                edges = {name: column[kept_edges] for name, column in edges.items()}
                node_report, concept, is_pathology = node_report[kept], concept[kept], is_pathology[kept]
                span_node = number[span_node[kept_spans]]
                source, target = number[source[kept_edges]], number[target[kept_edges]]

        input_ids, attention_mask = padded(tokens["id"], token_counts, self.pack.pad_id, _PAD_TO)
        return GraphBatch(
            report_ids=self.pack.report_ids(rows),
            images=torch.from_numpy(self.store[images]).unsqueeze(1),
            input_ids=input_ids,
            attention_mask=attention_mask,
            node_report=_tensor(node_report),
            node_concept=_tensor(concept),
            node_side=_tensor(nodes["side"]),
            node_state=_tensor(nodes["state"]),
            node_is_pathology=torch.from_numpy(is_pathology),
            node_content=_tensor(nodes["content"]),
            span_node=_tensor(span_node),
            span_start=_tensor(spans["start"]),
            span_end=_tensor(spans["end"]),
            edge_source=_tensor(source),
            edge_target=_tensor(target),
            edge_kind=_tensor(edges["kind"]),
            report_content=_tensor(self.pack.content[rows]),
        )


def open_pairs(
    graphs: GraphFolder,
    tokenizer: Tokenizer,
    cache: Path,
    config: DataConfig,
    images: Path | None = None,
    workers: int = 1,
) -> Pairs:
    """Pack the graphs and decode the images below `cache`, as far as that is not done.

    Args:
        images: image root, where it is not the manifest's.
        workers: processes that pack and decode.

    Raises:
        UserError: the graphs have no images, none can be used, or what `GraphFolder` and the stores say.
    """
    root = graphs.image_root(images)
    splits = graphs.splits(config.validation_fraction)
    pack = pack_graphs(graphs, tokenizer, cache, workers)
    paths = image_paths(graphs)
    store = image_store(root, paths, cache, config.image_size, config.fit, workers)
    pairs = Pairs(pack, store, store.rows_of(paths), splits)
    if not len(pairs.rows(Split.TRAIN)):
        raise UserError(
            f"{graphs.path}: no training report has an image that can be used, of {len(store):,} images under {root}; "
            f"{store.folder / 'rejects.csv'} says why."
        )
    return pairs


def image_paths(graphs: GraphFolder) -> pa.ChunkedArray:
    """The path of every image of the graphs, in report order, as an Arrow array. UserError where there is none."""
    paths = pc.struct_field(pc.list_flatten(graphs.column("images")), "path")
    if not len(paths):
        raise UserError(
            f"{graphs.path}: no report names an image. Extract again from a table with a column of image paths."
        )
    return paths


class _Request(NamedTuple):
    rows: Rows
    images: Rows


class _Training(Sampler[_Request]):
    """The batches of an epoch in random order; see `trainer.data.order`."""

    def __init__(self, pairs: Pairs, rows: Rows, order: Order) -> None:
        self.pairs, self.rows, self.order = pairs, rows, order
        self.epoch = self.begin = 0

    def steps(self, epoch: int) -> range:
        return range(self.order.first_step(epoch), self.order.first_step(epoch + 1))

    def __iter__(self) -> Iterator[_Request]:
        for step in self.steps(self.epoch)[self.begin :]:
            items, epochs = self.order.batch(step)
            rows = self.rows[items]
            yield _Request(rows, self.pairs.images_for_training(rows, epochs, self.order.seed))


class _Evaluation(Sampler[_Request]):
    """All reports in their order, the last batch shorter; each rank takes every world_size-th batch."""

    def __init__(self, pairs: Pairs, rows: Rows, batch_size: int, rank: int, world_size: int) -> None:
        self.pairs, self.batch_size = pairs, batch_size
        self.pieces = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)][rank::world_size]
        self.epoch = self.begin = 0

    def steps(self, epoch: int) -> range:  # noqa: ARG002 -- every epoch is the same
        return range(len(self.pieces))

    def __iter__(self) -> Iterator[_Request]:
        for rows in self.pieces[self.begin :]:
            yield _Request(rows, self.pairs.images(rows))


class _Batches(Dataset[GraphBatch]):
    def __init__(self, pairs: Pairs, concept_rows: NDArray[np.int64] | None) -> None:
        self.pairs, self.concept_rows = pairs, concept_rows

    def __getitem__(self, request: _Request) -> GraphBatch:
        return self.pairs.batch(request.rows, request.images, self.concept_rows)


class PairLoader:
    """Iterates over the batches of one epoch that are still to come; made by `make_loader`.

    The batches depend neither on the number of workers nor on whether they were interrupted.
    """

    def __init__(self, requests: _Training | _Evaluation, loader: DataLoader[GraphBatch]) -> None:
        self._requests, self._loader = requests, loader
        self._epoch = self._given = 0

    @property
    def epoch(self) -> int:
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; where it is the present one, stay."""
        if epoch != self._epoch:
            self._epoch, self._given = epoch, 0

    def __len__(self) -> int:
        """Batches of this epoch, those given out included."""
        return len(self._requests.steps(self._epoch))

    def steps(self, epochs: int) -> int:
        """Batches of the first `epochs` epochs together."""
        if isinstance(self._requests, _Training):
            return self._requests.order.first_step(epochs)
        return epochs * len(self)

    def __iter__(self) -> Iterator[GraphBatch]:
        self._requests.epoch, self._requests.begin = self._epoch, self._given
        for batch in self._loader:
            self._given += 1
            if self._given == len(self):
                self._epoch, self._given = self._epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where it stands: the batches given out are behind it."""
        return {"epoch": self._epoch, "batch": self._given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self._epoch, self._given = state["epoch"], state["batch"]


def make_loader(
    pairs: Pairs,
    split: Split,
    batch_size: int,
    *,
    training: bool,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    concept_rows: NDArray[np.int64] | None = None,
) -> PairLoader:
    """Batches of the reports of a split that have images.

    Args:
        pairs: made by `open_pairs`.
        split: part of the data.
        batch_size: pairs in a batch of one rank.
        training: in random order, epoch after epoch (see `trainer.data.order`); else once, in report order.
        seed: of the order, and of the choice among the images of a report.
        rank, world_size: which of how many processes this is.
        workers: processes that make the batches; 0: this one.
        concept_rows: see `Pairs.batch`.
    """
    rows = pairs.rows(split)
    requests: _Training | _Evaluation
    if training:
        if not len(rows):
            raise UserError(f"There is no report with an image in the split {split.name.lower()}.")
        requests = _Training(pairs, rows, Order(len(rows), batch_size, seed, rank, world_size))
    else:
        requests = _Evaluation(pairs, rows, batch_size, rank, world_size)
    loader: DataLoader[GraphBatch] = DataLoader(
        _Batches(pairs, concept_rows),
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its seeds for workers would else be drawn from the generator of the training
    )
    return PairLoader(requests, loader)


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.int64))
