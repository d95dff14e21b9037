"""The text encoder: a transformers model from a folder, or a small one from scratch, and the texts of nodes and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, BertModel

from trainer.errors import UserError
from trainer.graph.batch import GraphBatch
from trainer.model.take import take

_LENGTHS = 4  # groups of texts of about the same length


class TextEncoder(nn.Module):
    """Token states of report texts; `width` is theirs."""

    def __init__(
        self,
        vocabulary_size: int,
        folder: str = "",
        layers: int = 2,
        width: int = 128,
        heads: int = 4,
        dropout: float = 0.1,
        max_tokens: int = 512,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if folder:
            self.encoder = _load(Path(folder))
            known = self.encoder.get_input_embeddings().num_embeddings
            if vocabulary_size > known:
                raise UserError(f"The tokenizer has {vocabulary_size} tokens, the model in {folder} knows {known}.")
            longest = getattr(self.encoder.config, "max_position_embeddings", max_tokens)
            if 0 < longest < max_tokens:
                raise UserError(
                    f"The model in {folder} reads at most {longest} tokens; set data.max_tokens to {longest} or less."
                )
        else:
            config = BertConfig(  # type: ignore[no-untyped-call]
                vocab_size=vocabulary_size,
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=4 * width,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
                max_position_embeddings=max_tokens,
            )
            self.encoder = BertModel(config, add_pooling_layer=False)  # type: ignore[no-untyped-call]
        if gradient_checkpointing:
            self.encoder.gradient_checkpointing_enable({"use_reentrant": False})
        self.width: int = self.encoder.config.hidden_size

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) token numbers and mask, with the padding behind → (B, T, width); states of padding mean nothing."""
        if input_ids.device.type != "cpu":
            return self._encode(input_ids, attention_mask)
        # On a processor padding costs as much as text, and reports differ in length: few at once, of about the same length.
        lengths = attention_mask.sum(1)
        order = lengths.argsort(stable=True)
        parts = []
        for rows in order.tensor_split(min(_LENGTHS, len(order))):
            longest = max(1, int(lengths[rows].max()))
            states = self._encode(input_ids[rows, :longest], attention_mask[rows, :longest])
            parts.append(nn.functional.pad(states, (0, 0, 0, input_ids.shape[1] - longest)))
        return take(torch.cat(parts), order.argsort())

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def _load(folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no folder of a transformers model: it has no config.json.")
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        try:
            encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False, **options)
        except TypeError:  # not every encoder has a pooling layer to leave out
            encoder = AutoModel.from_pretrained(folder, **options)
        return encoder.float()  # since transformers 5 it comes in the precision that it was saved in
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder} holds no text encoder that transformers can load: {error}") from error


def span_means(tokens: Tensor, batch: GraphBatch) -> tuple[Tensor, Tensor]:
    """Mean token state over the spans of every node, and the number of its tokens.

    Equation: m_n = Σ_{(s, e) of n} Σ_{s ≤ t < e} H[b(n), t] / Σ (e − s); 0 for a node without spans.

    Args:
        tokens: (B, T, w)
    Returns:
        (N, w) means, (N,) token counts
    """
    # Sums over spans from running sums along the text: one gather for each end of a span, whatever its length.
    running = nn.functional.pad(tokens.float().cumsum(1), (0, 0, 1, 0))  # (B, T + 1, w)
    first = batch.node_report[batch.span_node] * running.shape[1]
    running = running.flatten(0, 1)
    sums = take(running, first + batch.span_end) - take(running, first + batch.span_start)  # (M, w)
    nodes = len(batch.node_report)
    total = sums.new_zeros(nodes, sums.shape[1]).index_add(0, batch.span_node, sums)
    lengths = (batch.span_end - batch.span_start).to(sums.dtype)
    count = sums.new_zeros(nodes).index_add(0, batch.span_node, lengths)
    return total / count.clamp(min=1)[:, None], count


def report_means(tokens: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean token state of each report: (B, T, w), (B, T) → (B, w)."""
    weight = attention_mask.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)


class NodeTexts(nn.Module):
    """t_n = W m_n + kind + side (+ assertion, which `forward` leaves to the caller: an anatomy has another one for each query)."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, dim)
        self.kind = nn.Embedding(2, dim)
        self.side = nn.Embedding(4, dim)
        self.assertion = nn.Embedding(4, dim)
        self.silent = nn.Parameter(torch.zeros(dim))  # of a node without text
        for table, spread in ((self.kind, 0.02), (self.side, 0.02), (self.assertion, 0.3)):
            nn.init.normal_(table.weight, std=spread)  # what is said and what is denied begin apart

    def forward(self, tokens: Tensor, batch: GraphBatch) -> Tensor:
        """(B, T, w) → (N, d)"""
        means, count = span_means(tokens, batch)
        text = self.project(means.to(self.project.weight.dtype))
        text = torch.where((count > 0)[:, None], text, self.silent.to(text.dtype))
        context: Tensor = self.kind(batch.node_is_pathology.long()) + self.side(batch.node_side)
        return text + context
