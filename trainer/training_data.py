"""All that a run takes from its graphs and images: pairs, tokenizer, table of concepts, and the loaders over them."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.config import Config
from trainer.data.graphs import GraphFolder, Split
from trainer.data.loader import PairLoader, Pairs, make_loader, open_pairs
from trainer.data.tokenizer import Tokenizer, load_tokenizer
from trainer.errors import UserError
from trainer.graph.concepts import ConceptTable


@dataclass
class TrainingData:
    """`train` is this process's share of the training pairs, without end; `notes` are sentences for the user."""

    config: Config
    graphs: GraphFolder
    tokenizer: Tokenizer
    table: ConceptTable
    pairs: Pairs
    train: PairLoader
    notes: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of graphs, tokens and images: a run goes on with the same ones only."""
        parts = (self.graphs.fingerprint, self.tokenizer.fingerprint, str(sorted(self.pairs.store.settings.items())))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @cached_property
    def validation_rows(self) -> npt.NDArray[np.int64]:
        """The reports that validation uses, evenly spaced over the validation split."""
        rows = self.pairs.rows(Split.VALIDATION)
        wanted = self.config.validation.reports
        if wanted is None or wanted >= len(rows):
            return rows
        return rows[np.linspace(0, len(rows) - 1, wanted).astype(np.int64)]


def open_training_data(
    config: Config, output: Path, rank: int = 0, world_size: int = 1, *, progress: bool = True
) -> TrainingData:
    """Open the graphs of a configuration; learn its tokenizer, pack it and decode its images where that is not done yet.

    Raises:
        UserError: the graphs have no images or cannot be read, or the images cannot be.
    """
    graphs, run = open_graphs(config), config.run
    tokenizer = _tokenizer(config, graphs, output, write=rank == 0)
    pairs = open_pairs(
        graphs, tokenizer, cache_folder(config, output), config.data, run.images, decoders(config, graphs.count)
    )
    table = ConceptTable.from_rows(graphs.concepts["anatomy"], graphs.concepts["pathology"])
    table = table.with_counts(pairs.concept_counts(pairs.rows(Split.TRAIN)).tolist())  # of what training may know
    train = make_loader(
        pairs,
        Split.TRAIN,
        run.batch_size,
        training=True,
        seed=run.seed,
        rank=rank,
        world_size=world_size,
        workers=run.workers,
    )
    notes = tuple(graphs.splits(config.data.validation_fraction).notes)
    if rank == 0 and progress:
        for note in notes:
            print(note, file=sys.stderr)
        _say_rejects(pairs)
    return TrainingData(config, graphs, tokenizer, table, pairs, train, notes)


def open_graphs(config: Config) -> GraphFolder:
    """The graphs of a configuration, with what can be checked of them at once. UserError as `open_training_data`."""
    run = config.run
    if run.graphs is None:
        raise UserError("Which graphs? Give --graphs GRAPHS, a folder that `graphprep extract` wrote.")
    if config.model.in_chans != len(config.data.mean):
        raise UserError(
            f"`model.in_chans` is {config.model.in_chans}, but data.mean has {len(config.data.mean)} values; "
            "set as many as the images have channels."
        )
    graphs = GraphFolder(run.graphs)
    graphs.image_root(run.images)
    return graphs


def cache_folder(config: Config, output: Path) -> Path:
    """Where decoded images and packed graphs are kept: as configured, or beside the run folder, for other runs too."""
    return config.run.cache if config.run.cache is not None else output.parent / "cache"


def decoders(config: Config, images: int) -> int:
    """Processes that decode so many images where the cache lacks them; few images are not worth their start."""
    return 1 if images < 1000 else max(config.run.workers, min(8, os.cpu_count() or 1))


def _tokenizer(config: Config, graphs: GraphFolder, output: Path, write: bool) -> Tokenizer:
    """The tokenizer of the text model, or the one that this run or the run it starts from has learnt, or a newly learnt one."""
    data = config.data
    if config.model.text_model:
        return load_tokenizer(config.model.text_model, graphs, data.vocabulary_size, data.max_tokens)
    folder = output / "tokenizer"
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.load(folder, data.max_tokens)
    if config.run.start_from is not None:
        learnt = Tokenizer.load(config.run.start_from / "tokenizer", data.max_tokens)
    else:
        learnt = load_tokenizer(None, graphs, data.vocabulary_size, data.max_tokens, data.validation_fraction)
    if write:
        learnt.save(folder)
    return learnt


def _say_rejects(pairs: Pairs) -> None:
    rejected = pairs.store.rejected
    if rejected:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.items())
        print(
            f"Images that cannot be used: {reasons}. {pairs.store.folder / 'rejects.csv'} lists them.", file=sys.stderr
        )
