"""Random changes of a batch of images on their device, and their normalisation. Nothing here mirrors: left is left.

An image keeps its sides because the linear part of every map is a small rotation and shear times a positive scale, whose
determinant is positive; `AugmentConfig` allows no angle with which that would not hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.config import AugmentConfig


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 images (B, 1, H, W), or floats from 0 to 1, as the encoder takes them: (B, len(mean), H, W)."""
    pixels = images if images.is_floating_point() else images.float() / 255.0
    shape = (1, -1, 1, 1)
    means = torch.tensor(mean, dtype=pixels.dtype, device=pixels.device).view(shape)
    deviations = torch.tensor(std, dtype=pixels.dtype, device=pixels.device).view(shape)
    return (pixels - means) / deviations


@torch.no_grad()
def augment(
    images: Tensor, generator: torch.Generator, config: AugmentConfig, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Crop, turn, shift and shear each image by its own random amounts, change its grey values, and normalise it.

    Args:
        images: (B, 1, H, H), uint8.
        generator: of the images' device; all randomness comes from it.
        config: limits of the changes.
        mean, std: see `normalise`.

    Returns:
        (B, len(mean), H, H), float32.
    """
    pixels = images.float() / 255.0
    maps = random_maps(len(images), generator, config, images.device)
    if maps is not None:
        grid = functional.affine_grid(maps, list(pixels.shape), align_corners=False)
        pixels = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return normalise(_change_grey(pixels, generator, config), mean, std)


def random_maps(count: int, generator: torch.Generator, config: AugmentConfig, device: torch.device) -> Tensor | None:
    """Affine maps from places in the new image to places in the old one, both from −1 to 1: (B, 2, 3). None: no change is allowed."""
    if config.scale == 1 and not (config.aspect or config.rotation or config.translation or config.shear):
        return None

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator, device=device) * (high - low) + low

    # A crop: its sides as shares of the image's, and its middle where it stays inside.
    area, aspect = uniform(config.scale, 1.0), uniform(-config.aspect, config.aspect)
    width = (area.sqrt() * torch.exp(aspect / 2)).clamp(max=1.0)
    height = (area.sqrt() * torch.exp(-aspect / 2)).clamp(max=1.0)
    middle_x = uniform(-1.0, 1.0) * (1 - width) + 2 * uniform(-config.translation, config.translation)
    middle_y = uniform(-1.0, 1.0) * (1 - height) + 2 * uniform(-config.translation, config.translation)

    angle = uniform(-config.rotation, config.rotation) * (math.pi / 180)
    shear = torch.tan(uniform(-config.shear, config.shear) * (math.pi / 180))
    cos, sin = torch.cos(angle), torch.sin(angle)
    # rotation · shear · scale; its determinant is width · height
    first = torch.stack([cos * width, (cos * shear - sin) * height, middle_x], dim=1)
    second = torch.stack([sin * width, (sin * shear + cos) * height, middle_y], dim=1)
    return torch.stack([first, second], dim=1)


def _change_grey(pixels: Tensor, generator: torch.Generator, config: AugmentConfig) -> Tensor:
    """Gamma, contrast, brightness and noise of pixels from 0 to 1."""

    def uniform(limit: float) -> Tensor:
        shape = (len(pixels), 1, 1, 1)
        return torch.rand(shape, generator=generator, device=pixels.device) * (2 * limit) - limit

    if config.gamma:
        pixels = pixels.clamp(min=1e-6).pow(torch.exp(uniform(config.gamma)))
    if config.contrast:
        average = pixels.mean(dim=(1, 2, 3), keepdim=True)
        pixels = (pixels - average) * (1 + uniform(config.contrast)) + average
    if config.brightness:
        pixels = pixels + uniform(config.brightness)
    if config.noise:
        noise = torch.randn(pixels.shape, generator=generator, device=pixels.device)
        pixels = pixels + noise * uniform(config.noise).abs()
    return pixels.clamp(0.0, 1.0)
