"""Options of the model and of the objective. No torch here: the command line reads these classes for its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    backbone: str = field(default="resnet50", metadata={"help": "timm model of the image encoder"})
    weights: str = field(
        default="none", metadata={"help": "weights to start from: none, or a .safetensors or .pth file"}
    )
    in_chans: int = field(default=1, metadata={"help": "channels of the first layer: 1 (grey) or 3 (grey three times)"})
    min_patches: int = field(
        default=16,
        metadata={"help": "a CNN adds finer feature maps until an image has this many patches"},
    )
    dim: int = field(default=256, metadata={"help": "width of the shared space of image and text"})
    heads: int = field(default=1, metadata={"help": "attention heads of a query"})
    guidance: Literal["none", "detached", "attached"] = field(
        default="none",
        metadata={"help": "lead a finding's attention by that of its site; detached: without gradient into the site's"},
    )
    text_model: str = field(
        default="", metadata={"help": "folder of a transformers encoder; empty: a small one, from scratch"}
    )
    text_layers: int = field(default=2, metadata={"help": "layers of the text encoder from scratch"})
    text_width: int = field(default=128, metadata={"help": "width of the text encoder from scratch"})
    text_heads: int = field(default=4, metadata={"help": "attention heads of the text encoder from scratch"})
    text_dropout: float = field(default=0.1, metadata={"help": "dropout of the text encoder from scratch"})
    message_layers: int = field(default=1, metadata={"help": "layers of message passing over a graph"})
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "recompute the encoders' activations in the backward pass to save memory"}
    )


@dataclass(frozen=True)
class ObjectiveConfig:
    name: str = field(
        default="cga",
        metadata={"help": "cga, clip, local, graph, state, or a weighted sum such as state+clip or cga+0.3*local"},
    )
    anatomy: float = field(default=0.2, metadata={"help": "cga: weight of the anatomy stage, 0 switches it off"})
    pathology: float = field(default=1.0, metadata={"help": "cga: weight of the pathology stage"})
    relation: float = field(default=0.2, metadata={"help": "cga: weight of the relation stage"})
    summary: float = field(default=0.2, metadata={"help": "cga: weight of the graph summary stage"})
    whole: float = field(default=0.3, metadata={"help": "cga: weight of the global term, whole image to whole report"})
    schedule: Literal["joint", "staged"] = field(
        default="joint", metadata={"help": "cga: all stages from the start, or one after the other"}
    )
    stage_start: float = field(
        default=0.1, metadata={"help": "staged: share of training after which each further stage enters"}
    )
    statements: bool = field(
        default=True,
        metadata={"help": "cga: compare what follows of each query as a text without words, too"},
    )
    closure: bool = field(default=True, metadata={"help": "derive states of sides, hierarchy and opposites"})
    unknown_weight: float = field(
        default=0.25,
        metadata={"help": "weight of an image of which nothing is said, as a negative of a finding; 0 leaves it out"},
    )
    unknown_weight_absent: float = field(
        default=0.0, metadata={"help": "the same as a negative of a denial, which silence rather confirms"}
    )
    uncertain: Literal["own", "ignore", "present"] = field(
        default="own", metadata={"help": "an uncertain finding is a state of its own, unknown, or present"}
    )
    content_keys: bool = field(default=True, metadata={"help": "equal reports are never each other's negatives"})
    count_weights: bool = field(default=False, metadata={"help": "weigh the items of a concept by count^-1/2"})
    bank: bool = field(default=True, metadata={"help": "add the concept bank's texts to the candidates of an image"})
    bank_momentum: float = field(default=0.9, metadata={"help": "how slowly the bank's running means move"})
    both_directions: bool = field(default=True, metadata={"help": "compare image to text, too, not only text to image"})
    temperature: float = field(default=0.05, metadata={"help": "temperature of all comparisons at the start"})
    learn_temperature: bool = field(default=True, metadata={"help": "learn the temperatures"})
    items_per_state: int = field(
        default=16, metadata={"help": "texts of one query and state that a step compares, drawn at random"}
    )
    max_queries: int = field(default=512, metadata={"help": "distinct queries of a step; the most informative stay"})
    max_pairs: int = field(default=256, metadata={"help": "distinct pair queries of a step"})
    summary_others: int = field(default=4, metadata={"help": "other images over which a report's graph is summed up"})
    chunk: int = field(
        default=0,
        metadata={"help": "queries (reports, for the global terms) compared at once, recomputed backward; 0: all"},
    )
