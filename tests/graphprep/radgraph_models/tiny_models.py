"""Builds models of the published layout with random weights, a few hundred kilobytes each, for all three names.

The weights are calibrated on some sentences, so that a few in a hundred spans and pairs get a label.

    OUT/published/NAME/      config.json, weights.th, vocabulary/      what the published archive holds
    OUT/encoder/             config.json and tokenizer                 what the hub holds of the encoder
"""

from __future__ import annotations

import json
import re
import tarfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from graphprep.extractors.radgraph.folder import ModelFolder
    from graphprep.extractors.radgraph.network import Network

ROOT = Path(__file__).resolve().parents[3]

SENTENCES = (
    "Heart size is normal. No pneumothorax or pleural effusion. The lungs are clear.",
    "Mild left basal atelectasis; possible small right pleural effusion, 2.5 cm.",
    "Stable cardiomegaly with pulmonary vascular congestion. No focal consolidation (unchanged).",
)
LABELS = tuple(
    f"{kind}::{measurement}{certainty}"
    for kind in ("Anatomy", "Observation")
    for measurement in ("", "measurement::")
    for certainty in ("definitely present", "definitely absent", "uncertain")
)
FIRST_LABELS = ("ANAT-DP", "OBS-DP", "OBS-DA", "OBS-U")
RELATIONS = ("modify", "located_at", "suggestive_of")
_SIZES = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}


def build(
    out: Path,
    name: str = "radgraph-xl",
    *,
    size: str = "tiny",
    max_length: int | None = 512,
    texts: Sequence[str] = SENTENCES,
    calibrate_on: int = 20,
    seed: int = 0,
) -> Path:
    """Build a model whose tokenizer knows the words of some texts, and return `out`."""
    modern = name == "modern-radgraph-xl"
    encoder, folder = out / "encoder", out / "published" / name
    encoder.mkdir(parents=True)
    (folder / "vocabulary").mkdir(parents=True)
    (_modernbert if modern else _bert)(encoder, texts, size)
    labels = FIRST_LABELS if name == "radgraph" else LABELS
    _lines(folder / "vocabulary" / "non_padded_namespaces.txt", "*labels", "*tags")
    _lines(folder / "vocabulary" / f"{name}__ner_labels.txt", "", *labels)  # the first is that of no label
    _lines(folder / "vocabulary" / f"{name}__relation_labels.txt", *RELATIONS)
    (folder / "config.json").write_text(json.dumps(_config(str(encoder), size, max_length)))
    torch.manual_seed(seed)
    torch.save(_model(folder, encoder, max_length).state_dict(), folder / "weights.th")
    _calibrate(out, name, texts[:calibrate_on])
    return out


def loop(out: Path, name: str) -> Any:
    """The package's own RadGraph on the CPU, from a folder that `build` made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from radgraph import RadGraph

        return RadGraph(model_type=name, model_cache_dir=str(out / "published"), cuda=-1)


@dataclass
class Tiny:
    """A model as published, as the package runs it, and as our folder and network."""

    name: str
    published: Path
    folder: ModelFolder
    network: Network
    _loop: Any = None

    def loop(self, texts: list[str]) -> list[dict[str, Any]]:
        """What the package's own loop says of texts, one call for all."""
        self._loop = self._loop or loop(self.published, self.name)
        found = self._loop(texts)
        return [found[str(number)] for number in range(len(texts))]


def archive(out: Path, name: str) -> Path:
    """Pack a model as it is published: the files at the root of a tar."""
    path = out / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for each in ("config.json", "weights.th", "vocabulary"):
            tar.add(out / "published" / name / each, each, filter=lambda m: None if m.name.endswith(".lock") else m)
    return path


def _lines(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _bert(folder: Path, texts: Sequence[str], size: str) -> None:
    words = sorted({word for text in texts for word in re.findall(r"[a-z]+", text.lower())})
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    known += [word for word in words if word not in known]
    if size == "base":
        known += [f"[unused{number}]" for number in range(30522 - len(known))]
    _lines(folder / "vocab.txt", *known)
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    config = {"model_type": "bert", "vocab_size": len(known), "max_position_embeddings": 512, **_SIZES[size]}
    (folder / "config.json").write_text(json.dumps(config))


def _modernbert(folder: Path, texts: Sequence[str], size: str) -> None:
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special.values()), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = {
        "model_type": "modernbert",
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": tokenizer.token_to_id("[PAD]"),
        "cls_token_id": ends[0][1],
        "sep_token_id": ends[1][1],
        "bos_token_id": ends[0][1],
        "eos_token_id": ends[1][1],
        "max_position_embeddings": 8192,
        "local_attention": 16,
        **_SIZES[size],
    }
    (folder / "config.json").write_text(json.dumps(config))


def _config(encoder: str, size: str, max_length: int | None) -> dict[str, Any]:
    bert = {"type": "pretrained_transformer_mismatched", "model_name": encoder, "max_length": max_length}
    spans = {"spans_per_word": 0.5}
    return {
        "dataset_reader": {"type": "dygie", "max_span_width": 8, "token_indexers": {"bert": bert}},
        "model": {
            "type": "dygie",
            "embedder": {"token_embedders": {"bert": bert}},
            "initializer": {"regexes": []},
            "module_initializer": {"regexes": []},
            "loss_weights": {"ner": 0.2, "relation": 1.0, "coref": 0.0, "events": 0.0},
            "feature_size": 20,
            "max_span_width": 8,
            "target_task": "relation",
            "feedforward_params": {"num_layers": 2, "hidden_dims": 150 if size == "base" else 16, "dropout": 0.4},
            "modules": {
                "coref": {"spans_per_word": 0.3, "max_antecedents": 100, "coref_prop": 0},
                "ner": {},
                "relation": spans,
                "events": {
                    "trigger_spans_per_word": 0.3,
                    "argument_spans_per_word": 0.8,
                    "loss_weights": {"trigger": 1.0, "arguments": 1.0},
                },
            },
        },
    }


def _model(folder: Path, encoder: Path, max_length: int | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from radgraph.allennlp.data import Vocabulary
        from radgraph.allennlp.modules.text_field_embedders import BasicTextFieldEmbedder
        from radgraph.allennlp.modules.token_embedders import PretrainedTransformerMismatchedEmbedder
        from radgraph.dygie.models.dygie import DyGIE

        settings = json.loads((folder / "config.json").read_text())["model"]
        for name in ("type", "embedder", "initializer", "module_initializer"):
            del settings[name]
        embedder = PretrainedTransformerMismatchedEmbedder(model_name=str(encoder), max_length=max_length)
        vocabulary = Vocabulary.from_files(str(folder / "vocabulary"))
        return DyGIE(vocab=vocabulary, embedder=BasicTextFieldEmbedder({"bert": embedder}), **settings)


def _calibrate(out: Path, name: str, texts: Sequence[str]) -> None:
    """Widen the scores, and set every label's bias so that some spans and pairs get it."""
    package = loop(out, name)
    model = package.model
    spans = model._ner._ner_scorers[f"{name}__ner_labels"][1]._module
    pairs = model._relation._relation_scorers[f"{name}__relation_labels"]
    seen: dict[Any, list[torch.Tensor]] = {spans: [], pairs: []}
    hooks = [
        layer.register_forward_hook(lambda layer, _, scores: seen[layer].append(scores.reshape(-1, scores.size(-1))))
        for layer in seen
    ]
    with torch.no_grad():
        for layer in seen:
            layer.weight *= 20.0
        package(list(texts))
        for hook in hooks:
            hook.remove()
        for layer, found in seen.items():
            scores = torch.cat(found)
            layer.bias -= torch.quantile(scores[:100_000], 1 - 0.15 / scores.size(1), dim=0)
    torch.save(model.state_dict(), out / "published" / name / "weights.th")
