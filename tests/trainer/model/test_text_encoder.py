"""Texts of nodes from spans of tokens, and text encoders from a folder."""

from __future__ import annotations

from pathlib import Path

import hand_batches as hand
import pytest
import torch
from transformers import BertConfig, BertModel

from trainer.errors import UserError
from trainer.model.text import NodeTexts, TextEncoder, report_means, span_means

REPORTS = hand.random_reports(5, seed=2)


def test_means_over_spans_against_a_loop() -> None:
    batch = hand.pack(REPORTS)
    batch.span_node = torch.cat([batch.span_node, batch.span_node[:2]])  # two nodes with two spans
    batch.span_start = torch.cat([batch.span_start, torch.tensor([0, 3])])
    batch.span_end = torch.cat([batch.span_end, torch.tensor([2, 3])])  # and the second of them empty
    tokens = torch.randn(batch.size, 12, 6)
    means, counts = span_means(tokens, batch)
    for node in range(len(batch.node_report)):
        rows = []
        for at in torch.nonzero(batch.span_node == node).flatten():
            rows.append(tokens[batch.node_report[node], batch.span_start[at] : batch.span_end[at]])
        states = torch.cat(rows)
        assert int(counts[node]) == len(states)
        torch.testing.assert_close(means[node], states.mean(0))


def test_a_node_without_text_has_a_text_of_its_own() -> None:
    batch = hand.pack(REPORTS)
    last = len(batch.node_report) - 1
    kept = batch.span_node != last
    batch.span_node, batch.span_start, batch.span_end = (
        column[kept] for column in (batch.span_node, batch.span_start, batch.span_end)
    )
    texts = NodeTexts(6, 8)
    tokens = torch.randn(batch.size, 12, 6)
    assert torch.equal(texts(tokens, batch)[last], texts(-tokens, batch)[last])
    assert not torch.equal(texts(tokens, batch)[:last], texts(-tokens, batch)[:last])


def test_a_report_is_the_mean_of_its_tokens() -> None:
    tokens = torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    expected = torch.stack([tokens[0].mean(0), tokens[1, 0]])
    torch.testing.assert_close(report_means(tokens, mask), expected)


def test_padding_changes_no_token() -> None:
    encoder = TextEncoder(50, layers=1, width=8, heads=2).eval()
    ids = torch.randint(5, 50, (2, 6))
    mask = torch.ones_like(ids)
    longer, longer_mask = (torch.cat([x, torch.zeros(2, 3, dtype=torch.long)], 1) for x in (ids, mask))
    torch.testing.assert_close(encoder(longer, longer_mask)[:, :6], encoder(ids, mask))


def test_an_encoder_from_a_folder(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=60, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    BertModel(config).save_pretrained(tmp_path)
    encoder = TextEncoder(60, folder=str(tmp_path))
    assert encoder.width == 12
    states = encoder(torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long))
    assert states.shape == (1, 4, 12)
    states.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters()), "a parameter takes no part, so that DDP would stop"
    with pytest.raises(UserError, match="knows 60"):
        TextEncoder(61, folder=str(tmp_path))


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        TextEncoder(60, folder=str(tmp_path / "none"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds no text encoder"):
        TextEncoder(60, folder=str(tmp_path))


def test_texts_of_different_lengths_are_read_as_they_are_alone() -> None:
    """They are encoded in groups of about the same length, which must show in nothing but the time."""
    encoder = TextEncoder(50, layers=1, width=8, heads=2, max_tokens=30).eval()
    lengths = torch.tensor([9, 2, 30, 1, 17, 2, 11])
    mask = (torch.arange(30) < lengths[:, None]).long()
    ids = torch.randint(5, 50, mask.shape) * mask
    together = encoder(ids, mask)
    assert together.shape == (7, 30, 8)
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(ids[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1, :length], alone)


def test_weights_of_half_precision_are_trained_in_full(tmp_path: Path) -> None:
    config = BertConfig(
        **{"vocab_size": 60, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2},
        intermediate_size=24,
        max_position_embeddings=20,
    )
    BertModel(config).half().save_pretrained(tmp_path)
    encoder = TextEncoder(60, folder=str(tmp_path), max_tokens=20)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    with pytest.raises(UserError, match=r"at most 20 tokens; set data\.max_tokens"):
        TextEncoder(60, folder=str(tmp_path), max_tokens=21)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="holds no text encoder"):
        TextEncoder(60, folder=str(tmp_path), max_tokens=20)
