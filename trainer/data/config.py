"""The settings of the data: how images and texts are prepared, and how images are augmented."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.errors import UserError


@dataclass(frozen=True)
class DataConfig:
    image_size: int = field(default=224, metadata={"help": "Side of the square images in pixels."})
    fit: Literal["letterbox", "crop"] = field(
        default="letterbox",
        metadata={"help": "How an image becomes square: padded with black, or cut to its middle. Never distorted."},
    )
    mean: tuple[float, ...] = field(
        default=(0.5,),
        metadata={"help": "Mean of the pixels (0 to 1) that is subtracted; one value, or one per channel."},
    )
    std: tuple[float, ...] = field(
        default=(0.25,), metadata={"help": "Deviation of the pixels that is divided by; as many values as mean has."}
    )
    validation_fraction: float = field(
        default=0.1, metadata={"help": "Share of the subjects held out where the graphs have no validation split."}
    )
    max_tokens: int = field(default=256, metadata={"help": "Longest text in tokens; what comes after is cut off."})
    vocabulary_size: int = field(
        default=8000,
        metadata={"help": "Entries of the word piece vocabulary that is learnt where no text model is given."},
    )

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise UserError(
                f"data.mean has {len(self.mean)} values and data.std {len(self.std)}; they belong together."
            )
        if min(self.std, default=0) <= 0 or len(self.mean) not in (1, 3):
            raise UserError("data.mean and data.std must have one or three values, and those of std must be above 0.")
        for name, low in (("image_size", 8), ("max_tokens", 8), ("vocabulary_size", 100)):
            if getattr(self, name) < low:
                raise UserError(f"data.{name} is {getattr(self, name)}; it must be at least {low}.")
        if not 0 <= self.validation_fraction < 1:
            raise UserError(f"data.validation_fraction is {self.validation_fraction}; it must be from 0 to below 1.")


@dataclass(frozen=True)
class AugmentConfig:
    """Limits of random changes. There is no flip: left is left."""

    scale: float = field(
        default=0.6, metadata={"help": "Least share of the image's area that a random crop keeps; 1: no crop."}
    )
    aspect: float = field(
        default=0.1, metadata={"help": "Largest relative change of a crop's width against its height."}
    )
    rotation: float = field(default=10.0, metadata={"help": "Largest rotation in degrees."})
    translation: float = field(default=0.05, metadata={"help": "Largest shift as a share of the image's side."})
    shear: float = field(default=5.0, metadata={"help": "Largest shear in degrees."})
    brightness: float = field(default=0.15, metadata={"help": "Largest change of brightness (pixels are 0 to 1)."})
    contrast: float = field(default=0.2, metadata={"help": "Largest relative change of contrast."})
    gamma: float = field(default=0.2, metadata={"help": "Largest logarithm of the gamma exponent."})
    noise: float = field(default=0.0, metadata={"help": "Largest deviation of Gaussian noise (pixels are 0 to 1)."})

    def __post_init__(self) -> None:
        limits = {
            "scale": (0.01, 1.0),
            "aspect": (0.0, 1.0),
            "rotation": (0.0, 45.0),
            "translation": (0.0, 0.5),
            "shear": (0.0, 30.0),
            "brightness": (0.0, 1.0),
            "contrast": (0.0, 1.0),
            "gamma": (0.0, 3.0),
            "noise": (0.0, 1.0),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(f"augment.{name} is {getattr(self, name)}; it must be from {low} to {high}.")
