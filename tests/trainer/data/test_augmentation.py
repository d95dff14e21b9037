"""Augmentation: within its limits, by its generator alone, and left stays left."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.augment import augment, normalise, random_maps
from trainer.data.config import AugmentConfig, DataConfig
from trainer.errors import UserError

STRONGEST = AugmentConfig(scale=0.5, aspect=0.3, rotation=25, translation=0.1, shear=15, noise=0.1)
STILL = AugmentConfig(scale=1, aspect=0, rotation=0, translation=0, shear=0, brightness=0, contrast=0, gamma=0, noise=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(left: bool, count: int = 400, size: int = 64) -> torch.Tensor:
    """A bright blob in the middle of one half and, dimmer, a bar at the top."""
    images = torch.full((count, 1, size, size), 20, dtype=torch.uint8)
    middle = size // 4 if left else 3 * size // 4
    images[:, :, size // 2 - 6 : size // 2 + 6, middle - 6 : middle + 6] = 250
    return images


def middle_x(images: torch.Tensor) -> torch.Tensor:
    """Where the brightest pixels of each image lie, from −1 to 1; nan where none is left."""
    bright = (images > images.amax(dim=(1, 2, 3), keepdim=True) * 0.8).float()
    x = torch.linspace(-1, 1, images.shape[-1])
    return (bright * x).sum(dim=(1, 2, 3)) / bright.sum(dim=(1, 2, 3))


def test_nothing_is_mirrored() -> None:
    for left in (True, False):
        images = augment(blobs(left), generator(), AugmentConfig(), (0.0,), (1.0,))
        seen = images.amax(dim=(1, 2, 3)) > 0.5
        x = middle_x(images)[seen]
        assert seen.float().mean() > 0.95
        assert ((x < 0) == left).float().mean() > 0.95  # a crop may move the middle line, a flip would give one half


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        AugmentConfig,
        scale=st.floats(0.01, 1),
        aspect=st.floats(0, 1),
        rotation=st.floats(0, 45),
        translation=st.floats(0, 0.5),
        shear=st.floats(0, 30),
    ),
    st.integers(0, 2**31),
)
def test_no_map_mirrors_whatever_the_limits(config: AugmentConfig, seed: int) -> None:
    maps = random_maps(64, generator(seed), config, torch.device("cpu"))
    if maps is None:
        return
    assert (torch.linalg.det(maps[:, :, :2]) > 0).all()
    assert (maps[:, 0, 0] > 0).all()  # what is right of a point stays right of it


def test_crops_stay_inside_the_image() -> None:
    config = replace(STILL, scale=0.3, aspect=0.5)
    maps = random_maps(500, generator(), config, torch.device("cpu"))
    assert maps is not None
    corners = torch.tensor([[-1.0, -1, 1], [1, 1, 1], [-1, 1, 1], [1, -1, 1]]).T
    places = maps @ corners
    assert places.abs().max() <= 1 + 1e-6
    area = torch.linalg.det(maps[:, :, :2])
    assert area.min() > 0.25
    assert area.max() <= 1
    assert area.std() > 0.05


def test_without_any_change_it_is_the_normalisation() -> None:
    images = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8, generator=generator())
    torch.testing.assert_close(augment(images, generator(), STILL, (0.5,), (0.25,)), normalise(images, (0.5,), (0.25,)))


def test_one_value_for_each_channel() -> None:
    images = torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
    pixels = normalise(images, (0.5, 0.4, 0.0), (0.5, 0.2, 1.0))
    assert pixels.shape == (2, 3, 4, 4)
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([1.0, 3.0, 1.0]))


def test_only_the_generator_decides() -> None:
    images = blobs(True, 8)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = augment(images, generator(3), STRONGEST, (0.5,), (0.25,))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, augment(images, generator(3), STRONGEST, (0.5,), (0.25,)))
    assert not torch.equal(one, augment(images, generator(4), STRONGEST, (0.5,), (0.25,)))
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize(
    "name", ["scale", "rotation", "translation", "shear", "brightness", "contrast", "gamma", "noise"]
)
def test_every_limit_does_something(name: str) -> None:
    images = blobs(True, 4)
    changed = augment(images, generator(), replace(STILL, **{name: getattr(STRONGEST, name)}), (0.0,), (1.0,))
    assert not torch.allclose(changed, normalise(images, (0.0,), (1.0,)), atol=1e-3)
    assert changed.min() >= 0
    assert changed.max() <= 1


@pytest.mark.parametrize(
    "change", [{"rotation": 90.0}, {"shear": 45.0}, {"scale": 0.0}, {"noise": -1.0}, {"brightness": float("nan")}]
)
def test_limits_that_could_mirror_or_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        AugmentConfig(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.5, 0.5)},
        {"std": (0.0,)},
        {"mean": (), "std": ()},
        {"image_size": 0},
        {"validation_fraction": 1.0},
        {"max_tokens": 1},
    ],
)
def test_settings_of_the_data_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(UserError, match="data"):
        DataConfig(**change)  # type: ignore[arg-type]
