"""The image encoder: any timm model that has feature maps or patch tokens, and the patch features that queries attend to."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import UserError


@dataclass
class PatchFeatures:
    """What the encoder makes of B images."""

    keys: Tensor  # (B, L, d) patches with their places, layer-normalised
    pooled: Tensor  # (B, d_enc) what `timm.create_model(…, num_classes=0)` gives
    grid: tuple[int, int]  # h, w with h · w = L
    cells: Tensor  # (B, C, h', w') the backbone's last map


class ImageEncoder(nn.Module):
    """A timm backbone, untouched so that its weights load into plain timm, and beside it what makes patches of its feature maps.

    A CNN on a small image ends in very few cells; then the maps before the last are added, each projected to width d and the
    coarser ones enlarged, until there are `min_patches` cells. So every stage of the backbone gets its gradient from the patches.
    A learnt vector for each place is added: without it left and right would look alike.
    """

    def __init__(
        self,
        backbone: str,
        image_size: int,
        dim: int,
        in_chans: int = 1,
        min_patches: int = 16,
        weights: str = "none",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = create_backbone(backbone, in_chans, image_size)
        if weights != "none":
            load_backbone(self.backbone, Path(weights))
        if gradient_checkpointing:
            self.backbone.set_grad_checkpointing(True)
        was_training = self.backbone.training
        with torch.no_grad():
            maps, pooled = self.eval()._maps(torch.zeros(1, in_chans, image_size, image_size), levels=None)
        self.train(was_training)
        cells = [one.shape[2] * one.shape[3] for one in maps]
        enough = [level for level, count in enumerate(cells) if count >= min_patches]
        first = enough[-1] if enough else 0
        self.levels = len(maps) - first  # how many of the last maps make the patches
        self.features = pooled.shape[1]
        self.project = nn.ModuleList(nn.Conv2d(one.shape[1], dim, 1) for one in maps[first:])
        self.norm = nn.LayerNorm(dim)
        self.place = nn.Parameter(torch.randn(1, dim, *maps[first].shape[2:]) * 0.5)

    def no_weight_decay(self) -> set[str]:
        """Parameters that are embeddings."""
        return {"place"}

    def forward(self, images: Tensor) -> PatchFeatures:
        maps, pooled = self._maps(images, self.levels)  # (B, C_i, h_i, w_i) each, (B, d_enc)
        h, w = maps[0].shape[2:]
        patches = self.project[0](maps[0])  # (B, d, h, w)
        for project, coarser in zip(list(self.project)[1:], maps[1:], strict=True):
            patches = patches + functional.interpolate(project(coarser), size=(h, w), mode="bilinear")
        patches = self.norm(patches.flatten(2).transpose(1, 2))  # (B, L, d)
        place: Tensor = self.place
        if place.shape[2:] != (h, w):  # another image size than in training
            place = functional.interpolate(place, size=(h, w), mode="bicubic", align_corners=False)
        return PatchFeatures(
            keys=patches + place.flatten(2).transpose(1, 2), pooled=pooled, grid=(h, w), cells=maps[-1]
        )

    def _maps(self, images: Tensor, levels: int | None) -> tuple[list[Tensor], Tensor]:
        """The last `levels` feature maps (None: those of all stages), finest first, and the pooled features."""
        if hasattr(self.backbone, "patch_embed") or levels == 1 or not hasattr(self.backbone, "forward_intermediates"):
            last = self.backbone.forward_features(images)
            maps = [self._as_map(last, images)]
        else:
            last, found = self.backbone.forward_intermediates(images, indices=levels)
            maps = [*found[:-1], self._as_map(last, images)]
        return maps, self.backbone.forward_head(last, pre_logits=True)

    def _as_map(self, last: Tensor, images: Tensor) -> Tensor:
        """(B, C, h, w) of what a backbone's `forward_features` gives: a map, a map with channels last, or tokens."""
        if last.dim() == 3:  # (B, prefix + L, C)
            tokens = last[:, getattr(self.backbone, "num_prefix_tokens", 0) :]
            patch_embed = self.backbone.patch_embed
            h, w = patch_embed.dynamic_feat_size(images.shape[2:])
            return tokens.transpose(1, 2).reshape(len(tokens), -1, h, w)
        if last.shape[1] != self.backbone.num_features and last.shape[3] == self.backbone.num_features:
            return last.permute(0, 3, 1, 2)
        return last


def create_backbone(name: str, in_chans: int, image_size: int) -> Any:
    """A timm model without classifier and without weights. UserError for a name that timm does not know."""
    if name not in timm.list_models():
        near = get_close_matches(name, timm.list_models(), n=3)
        raise UserError(
            f"timm has no model {name!r}."
            + (f" Did you mean {', '.join(near)}?" if near else "")
            + " Weights are given as a file, with --weights."
        )
    try:
        return timm.create_model(name, pretrained=False, in_chans=in_chans, num_classes=0, img_size=image_size)
    except TypeError:  # most CNNs take any size and know no such option
        return timm.create_model(name, pretrained=False, in_chans=in_chans, num_classes=0)


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Weights from a file: .safetensors, or what torch.load reads without unpickling code.

    Prefixes of wrappers and a classifier are dropped, a first layer for colour is summed up for grey, position embeddings of a
    vision transformer are resampled. UserError where the file cannot be read or is of another model.
    """
    state: Any
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}; --weights is none or a file of weights.") from error
    except Exception as error:  # the readers raise what they like
        raise UserError(f"{path} holds no weights that can be read without running code from it.") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no weights by name.")
    for key in ("state_dict", "model", "model_state_dict", "teacher"):
        if isinstance(state.get(key), dict):
            state = state[key]
    wanted = backbone.state_dict()
    state = {_without_prefix(key): value for key, value in state.items() if isinstance(value, Tensor)}
    fitted: dict[str, Tensor] = {}
    for key, own in wanted.items():
        value = state.get(key)
        if value is None:
            continue
        if value.dim() == own.dim() == 4 and (own.shape[1], value.shape[1]) == (1, 3):
            value = adapt_input_conv(1, value)
        if key == "pos_embed" and value.shape != own.shape:
            prefix: int = getattr(backbone, "num_prefix_tokens", 1)
            side = round((own.shape[1] - prefix) ** 0.5)
            value = resample_abs_pos_embed(value, new_size=[side, side], num_prefix_tokens=prefix)
        if value.shape == own.shape:
            fitted[key] = value
    missing = [key for key in wanted if key not in fitted and not key.endswith("num_batches_tracked")]
    if missing:
        raise UserError(
            f"{path} does not fit the backbone: {len(missing)} of {len(wanted)} tensors are missing or of another shape, "
            f"{missing[0]} first. Choose the --backbone that the file is of."
        )
    backbone.load_state_dict(fitted, strict=False)


def _without_prefix(key: str) -> str:
    for prefix in ("module.", "_orig_mod.", "backbone.", "encoder.", "model."):
        key = key.removeprefix(prefix)
    return key
