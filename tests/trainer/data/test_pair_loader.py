"""Batches: what is in them, in which order, and that neither workers nor interruptions change them."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handmade_pairs import ANATOMY, PATHOLOGY, HandEdge, HandmadePairs, HandNode, HandReport, write_graphs, write_pairs
from PIL import Image

from trainer.data import pack
from trainer.data.config import DataConfig
from trainer.data.graphs import GraphFolder, Split, content_key
from trainer.data.loader import PairLoader, Pairs, make_loader, open_pairs
from trainer.data.pack import VIEW_RANKS, pack_graphs
from trainer.data.tokenizer import Tokenizer, learn_tokenizer, load_tokenizer
from trainer.errors import UserError
from trainer.graph.batch import EdgeKind, GraphBatch, QuerySide, State

CONFIG = DataConfig(image_size=64, max_tokens=64)
CONCEPTS = [*ANATOMY, *PATHOLOGY]
ROW = {row["concept"]: number for number, row in enumerate(CONCEPTS)}


@pytest.fixture(scope="module")
def tokenizer(pairs: HandmadePairs) -> Tokenizer:
    return load_tokenizer(None, GraphFolder(pairs.graphs), 200, CONFIG.max_tokens)


@pytest.fixture(scope="module")
def opened(pairs: HandmadePairs, tokenizer: Tokenizer, cache: Path) -> Pairs:
    return open_pairs(GraphFolder(pairs.graphs), tokenizer, cache, CONFIG)


def training(pairs: Pairs, batch_size: int = 16, **arguments: Any) -> PairLoader:
    return make_loader(pairs, Split.TRAIN, batch_size, training=True, **arguments)


def evaluation(pairs: Pairs, split: Split = Split.VALIDATION, **arguments: Any) -> list[GraphBatch]:
    return list(make_loader(pairs, split, 10, training=False, **arguments))


def epochs(loader: PairLoader, *numbers: int) -> list[GraphBatch]:
    result = []
    for number in numbers:
        loader.set_epoch(number)
        result += list(loader)
    return result


def assert_equal(one: list[GraphBatch], other: list[GraphBatch]) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        for field in fields(GraphBatch):
            left, right = getattr(a, field.name), getattr(b, field.name)
            assert torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right, field.name


def ids_of(batches: list[GraphBatch]) -> list[str]:
    return [report_id for batch in batches for report_id in batch.report_ids]


# What is in a batch


def test_a_batch_says_what_the_reports_say(pairs: HandmadePairs, opened: Pairs, tokenizer: Tokenizer) -> None:
    rows = np.array([5, 130, 7, 5])
    batch = opened.batch(rows, opened.images(rows))
    reports = [pairs.reports[row] for row in rows]
    assert batch.report_ids == [report.report_id for report in reports]
    assert batch.images.shape == (4, 1, 64, 64)
    assert batch.images.dtype == torch.uint8
    for image, row in zip(batch.images, rows, strict=True):
        assert np.array_equal(image[0].numpy(), pairs.pixels[row])
    assert batch.input_ids.shape[1] % 8 == 0

    node = edge = span = 0
    for b, report in enumerate(reports):
        [encoding] = tokenizer.backend.encode_batch([report.text])
        length = len(encoding.ids)
        assert batch.input_ids[b, :length].tolist() == encoding.ids
        assert batch.attention_mask[b].tolist() == [1] * length + [0] * (batch.input_ids.shape[1] - length)
        first = node
        for hand in report.nodes:
            assert batch.node_report[node] == b
            assert batch.node_concept[node] == ROW[hand.concept]
            assert batch.node_is_pathology[node] == (hand.kind == "pathology")
            assert batch.node_side[node] == QuerySide[(hand.side or "none").upper()]
            assert batch.node_state[node] == State[hand.assertion.upper()]
            for start, end in hand.spans:
                if start >= encoding.offsets[-2][1]:
                    continue  # cut off
                assert batch.span_node[span] == node
                covered = encoding.offsets[batch.span_start[span] : batch.span_end[span]]
                assert covered[0][0] == start
                assert covered[-1][1] == min(end, encoding.offsets[-2][1])
                span += 1
            node += 1
        for hand_edge in report.edges:
            assert batch.edge_source[edge] == first + hand_edge.source
            assert batch.edge_target[edge] == first + hand_edge.target
            assert batch.edge_kind[edge] == EdgeKind.LOCATED_AT
            edge += 1
        assert batch.report_content[b] == content_key(report.text)
    assert (node, edge, span) == (len(batch.node_report), len(batch.edge_source), len(batch.span_node))


def small_folder(folder: Path, reports: list[HandReport], **arguments: Any) -> Pairs:
    (folder / "images").mkdir(parents=True)
    for number, path in enumerate({path for report in reports for path, _ in report.images}):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / "images" / path)
    graphs = GraphFolder(write_graphs(folder / "graphs", [[reports]], **arguments))
    tokenizer = learn_tokenizer([report.text for report in reports], 100, 64)
    return open_pairs(graphs, tokenizer, folder / "cache", DataConfig(image_size=8, validation_fraction=0))


def statement(report_id: str, concept: str = "nodule", **fields: Any) -> HandReport:
    """A report with one node, whose words are its text."""
    text = fields.pop("text", "A nodule.")
    side, assertion, attributes = (
        fields.pop(name, default) for name, default in [("side", None), ("assertion", "present"), ("attributes", [])]
    )
    node = HandNode("pathology", concept, side, assertion, [(0, len(text))] if text else [], attributes)
    return HandReport(report_id, text, [node], images=[(f"{report_id}.png", "PA")], **fields)


def test_empty_and_large_graphs_are_normal(tmp_path: Path) -> None:
    words = " ".join(["nodule"] * 300)
    large = HandReport(
        "large",
        words,
        [HandNode("pathology", "nodule", spans=[(7 * number, 7 * number + 6)]) for number in range(200)],
        [HandEdge(number, number + 1, "suggestive_of") for number in range(199)],
        images=[("large.png", None)],
    )
    empty = HandReport("empty", "", images=[("empty.png", None)])
    pairs = small_folder(tmp_path, [empty, large, HandReport("text", "Nothing.", images=[("text.png", None)])])
    batch = pairs.batch(np.array([0, 1, 2, 0]), pairs.images(np.array([0, 1, 2, 0])))
    assert batch.node_report.tolist() == [1] * 200
    assert len(batch.edge_source) == 199
    assert len(batch.span_node) == 62  # 64 tokens, two of them special; the other nodes have no text
    only_empty = pairs.batch(np.array([0]), pairs.images(np.array([0])))
    assert only_empty.node_report.shape == only_empty.span_node.shape == only_empty.edge_source.shape == (0,)
    assert only_empty.attention_mask.sum() == 2


def test_equal_content_is_what_says_the_same(tmp_path: Path) -> None:
    reports = [
        statement("a"),
        statement("b"),
        statement("c", text="A Nodule."),
        statement("d", text="One nodule."),
        statement("e", side="left"),
        statement("f", assertion="absent"),
        statement("g", attributes=[("severity", "small")]),
        statement("h", concept="opacity"),
    ]
    batch = (pairs := small_folder(tmp_path, reports)).batch(rows := np.arange(8), pairs.images(rows))
    contents = batch.node_content.tolist()
    assert contents[0] == contents[1] == contents[2]
    assert len(set(contents)) == 6
    assert min(contents) >= 0
    reports_alike = batch.report_content.tolist()
    assert reports_alike[0] == reports_alike[1] == reports_alike[4]
    assert reports_alike[3] != reports_alike[0]


def test_concepts_that_a_table_lacks_are_left_out(opened: Pairs) -> None:
    rows = np.arange(40)
    whole = opened.batch(rows, opened.images(rows))
    lacking = ROW["nodule"], ROW["upper_zone"]
    table = np.array([-1 if number in lacking else 100 + number for number in range(len(CONCEPTS))])
    batch = opened.batch(rows, opened.images(rows), table)
    kept = ~torch.isin(whole.node_concept, torch.tensor(lacking))
    assert 0 < kept.sum() < len(kept)
    assert torch.equal(batch.node_concept, whole.node_concept[kept] + 100)
    assert torch.equal(batch.node_is_pathology, whole.node_is_pathology[kept])
    for name in ("node_report", "node_side", "node_state", "node_content"):
        assert torch.equal(getattr(batch, name), getattr(whole, name)[kept])
    edges = kept[whole.edge_source] & kept[whole.edge_target]
    for name in ("edge_source", "edge_target"):
        nodes, old = getattr(batch, name), getattr(whole, name)[edges]
        assert torch.equal(batch.node_content[nodes], whole.node_content[old])
        assert torch.equal(batch.node_report[nodes], whole.node_report[old])
    spans = kept[whole.span_node]
    assert torch.equal(batch.span_start, whole.span_start[spans])
    assert torch.equal(batch.node_content[batch.span_node], whole.node_content[whole.span_node[spans]])
    unchanged = opened.batch(rows, opened.images(rows), np.arange(len(CONCEPTS)))
    assert_equal([unchanged], [whole])


def test_counts_are_of_the_reports_asked_for(pairs: HandmadePairs, opened: Pairs) -> None:
    rows = opened.rows(Split.TRAIN)
    counts = opened.concept_counts(rows)
    expected = np.zeros(len(CONCEPTS), int)
    for row in rows:
        for node in pairs.reports[row].nodes:
            expected[ROW[node.concept]] += 1
    assert counts.tolist() == expected.tolist()
    assert counts.sum() < opened.concept_counts(np.arange(len(opened))).sum()


def test_ids_of_reports_subjects_and_images(pairs: HandmadePairs, opened: Pairs) -> None:
    rows = np.array([200, 3])
    assert opened.pack.report_ids(rows) == ["r00200", "r00003"]
    assert opened.pack.subject_ids(rows) == [pairs.reports[row].subject_id for row in rows]
    assert opened.paths(rows) == ["00200.png", "00003.png"]
    assert opened.summary["reports"] == 240
    assert opened.summary["train"] + opened.summary["validation"] + opened.summary["test"] == 240


# Images of a study


def test_one_frontal_image_at_a_time_and_the_first_for_evaluation(tmp_path: Path) -> None:
    images = [("lateral.png", "LATERAL"), ("ap.png", "AP SUPINE"), ("pa.png", "PA"), ("none.png", None)]
    reports = [HandReport(f"r{number}", images=images) for number in range(64)]
    reports += [HandReport("side", images=images[:1]), HandReport("unknown", images=[images[0], images[3]])]
    pairs = small_folder(tmp_path, reports)
    rows = np.arange(66)
    assert pairs.paths(rows[[0, 64, 65]]) == ["pa.png", "lateral.png", "none.png"]
    paths = pairs.store.column("path").to_pylist()
    chosen = [[paths[image] for image in pairs.images_for_training(rows, np.full(66, epoch), 0)] for epoch in range(2)]
    for of_epoch in chosen:
        assert set(of_epoch[:64]) == {"pa.png", "ap.png"}
        assert of_epoch[64:] == ["lateral.png", "none.png"]
    assert chosen[0] != chosen[1]


@pytest.mark.parametrize(
    ("view", "kind"),
    [
        ("PA", "PA"),
        ("pa_erect", "PA"),
        ("AP", "AP"),
        ("AP-horizontal", "AP"),
        ("APsupine", "AP"),
        ("Antero-posterior", "another frontal view"),
        ("frontal", "another frontal view"),
        (None, "unknown"),
        ("", "unknown"),
        ("UNKNOWN", "unknown"),
        ("LATERAL", "another view"),
        ("LL", "another view"),
    ],
)
def test_views(view: str | None, kind: str) -> None:
    assert VIEW_RANKS[pack._view_rank(view)] == kind


def test_reports_without_an_image_that_can_be_used_are_left_out_and_counted(tmp_path: Path) -> None:
    reports = [HandReport(f"r{number}", images=[(f"{number}.png", "PA")]) for number in range(5)]
    reports.append(HandReport("none"))
    reports.append(HandReport("second", images=[("broken.png", "PA"), ("good.png", "LATERAL")]))
    (tmp_path / "images").mkdir()
    for name in ("0", "1", "2", "3", "good"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    graphs = GraphFolder(write_graphs(tmp_path / "graphs", [[reports]]))
    pairs = open_pairs(
        graphs, learn_tokenizer(["x"], 100, 16), tmp_path / "cache", DataConfig(image_size=8, validation_fraction=0)
    )
    assert pairs.pack.report_ids(pairs.rows(Split.TRAIN)) == ["r0", "r1", "r2", "r3", "second"]
    assert pairs.summary["without_image"] == 2
    assert pairs.summary["images_rejected"] == 2
    assert pairs.paths(np.array([6])) == ["good.png"]


def test_graphs_whose_images_cannot_be_used_are_an_error(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = write_pairs(tmp_path / "gone", count=6, size=16)
    for file in folder.images.iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"rejects\.csv"):
        open_pairs(GraphFolder(folder.graphs), tokenizer, tmp_path / "cache", CONFIG)
    without = GraphFolder(write_graphs(tmp_path / "without", [[[HandReport("r")]]], image_root="."))
    with pytest.raises(UserError, match="no report names an image"):
        open_pairs(without, tokenizer, tmp_path / "cache", CONFIG)


# Order


def test_every_report_comes_once_an_epoch_over_all_ranks(opened: Pairs) -> None:
    expected = sorted(opened.pack.report_ids(opened.rows(Split.TRAIN)))
    count = len(expected)
    loaders = [training(opened, 4, rank=rank, world_size=2) for rank in range(2)]
    batches = [epochs(loader, *range(8)) for loader in loaders]
    stream = [report_id for pair in zip(*batches, strict=True) for batch in pair for report_id in batch.report_ids]
    assert {batch.size for of_rank in batches for batch in of_rank} == {4}
    for epoch in range(8):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == expected
    assert len(batches[0]) == loaders[0].steps(8)


def test_evaluation_is_in_order_whole_and_shared_among_ranks(opened: Pairs) -> None:
    expected = opened.pack.report_ids(opened.rows(Split.VALIDATION))
    assert ids_of(evaluation(opened)) == expected
    assert ids_of(evaluation(opened)) == expected
    ranks = [evaluation(opened, rank=rank, world_size=3) for rank in range(3)]
    assert sorted(ids_of([batch for rank in ranks for batch in rank])) == expected
    loader = make_loader(opened, Split.TEST, 10, training=False)
    assert sum(batch.size for batch in loader) == len(opened.rows(Split.TEST)) > 0
    assert loader.steps(2) == 2 * len(loader)


def test_workers_do_not_change_the_batches(opened: Pairs) -> None:
    alone = epochs(training(opened, seed=3), 0, 1)
    helped = training(opened, seed=3, workers=2)
    assert_equal(epochs(helped, 0, 1), alone)
    helped.set_epoch(0)
    for number, _ in enumerate(helped):  # left in the middle, and begun anew
        if number == 2:
            break
    helped.load_state_dict({"epoch": 0, "batch": 0})
    assert_equal(epochs(helped, 0, 1), alone)


def test_seeds_and_epochs_give_other_orders(opened: Pairs) -> None:
    orders = [ids_of(epochs(training(opened, seed=seed), epoch)) for seed in range(2) for epoch in range(2)]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_interrupted_is_uninterrupted(opened: Pairs, workers: int) -> None:
    whole = epochs(training(opened), 0, 1, 2)
    taken: list[GraphBatch] = []
    state: dict[str, int] = {"epoch": 0, "batch": 0}
    stop = 7  # within the first epoch, at its end (10 batches each), within the others
    while len(taken) < len(whole):
        loader = training(opened, workers=workers)
        loader.load_state_dict(pickle.loads(pickle.dumps(state)))
        for epoch in range(state["epoch"], 3):
            loader.set_epoch(epoch)
            for batch in loader:
                taken.append(batch)
                state = loader.state_dict()
                if len(taken) % stop == 0 or len(taken) == len(loader):
                    break
            else:
                continue
            break
    assert_equal(taken, whole)


def test_the_position_after_an_epoch_is_the_beginning_of_the_next(opened: Pairs) -> None:
    loader = training(opened)
    list(loader)
    assert loader.state_dict() == {"epoch": 1, "batch": 0}


def test_random_numbers_of_the_training_are_left_alone(opened: Pairs) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    epochs(training(opened), 0)
    epochs(training(opened, workers=1), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_pairs_go_to_another_process_as_their_folders(opened: Pairs) -> None:
    sent = pickle.dumps(opened)
    assert len(sent) < 20_000
    rows = np.array([1, 2])
    assert_equal([pickle.loads(sent).batch(rows, rows)], [opened.batch(rows, rows)])


# The pack


def test_an_interrupted_pack_is_finished(
    pairs: HandmadePairs, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = GraphFolder(pairs.graphs)
    whole = pack_graphs(graphs, tokenizer, tmp_path / "whole").folder
    make, asked, broken = pack._arrays, [], True

    def arrays(graphs: GraphFolder, part: int, tokenizer: Tokenizer) -> Any:
        asked.append(part)
        if part == 1 and broken:
            raise KeyboardInterrupt
        return make(graphs, part, tokenizer)

    monkeypatch.setattr(pack, "_arrays", arrays)
    with pytest.raises(KeyboardInterrupt):
        pack_graphs(graphs, tokenizer, tmp_path / "cache")
    broken = False
    finished = pack_graphs(graphs, tokenizer, tmp_path / "cache").folder
    assert asked == [0, 1, 1]  # what was finished is not made again
    assert finished.name == whole.name
    names = sorted(file.name for file in whole.iterdir())
    assert names == sorted(file.name for file in finished.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (finished / name).read_bytes()


def test_any_number_of_workers_makes_the_same_pack(pairs: HandmadePairs, tokenizer: Tokenizer, tmp_path: Path) -> None:
    graphs = GraphFolder(pairs.graphs)
    one, two = (pack_graphs(graphs, tokenizer, tmp_path / str(workers), workers).folder for workers in (1, 2))
    for file in one.glob("*.*"):
        assert file.read_bytes() == (two / file.name).read_bytes()


def test_other_graphs_or_tokens_have_another_pack(pairs: HandmadePairs, tokenizer: Tokenizer, tmp_path: Path) -> None:
    graphs = GraphFolder(pairs.graphs)
    one = pack_graphs(graphs, tokenizer, tmp_path)
    other = pack_graphs(graphs, learn_tokenizer(["other words"], 100, 16), tmp_path)
    third = pack_graphs(GraphFolder(write_pairs(tmp_path / "p", count=6, size=16).graphs), tokenizer, tmp_path)
    assert len({one.folder, other.folder, third.folder}) == 3
    assert len(third) == 6


def test_graphs_without_text_train_on_phrases(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path, count=20, size=16, text=False)
    graphs = GraphFolder(folder.graphs)
    tokenizer = load_tokenizer(None, graphs, 300, 128)
    pairs = open_pairs(graphs, tokenizer, tmp_path / "cache", DataConfig(image_size=16))
    rows = np.arange(20)
    batch = pairs.batch(rows, pairs.images(rows))
    assert len(batch.span_node) == len(batch.node_report)
    words = tokenizer.backend.decode(batch.input_ids[0].tolist())
    first = folder.reports[0].nodes[0]
    assert words.startswith(" ".join(filter(None, ["no" if first.assertion == "absent" else "", first.side])))
    assert first.concept.replace("_", " ") in words
