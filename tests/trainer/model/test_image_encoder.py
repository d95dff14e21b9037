"""The image encoder: patches of CNNs and vision transformers, weights from files, names that timm does not know."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from trainer.errors import UserError
from trainer.model.image import ImageEncoder, create_backbone, load_backbone

TINY_VIT = "test_vit"
TINY_CNN = "test_resnet"


@pytest.mark.parametrize("backbone", [TINY_CNN, TINY_VIT, "test_convnext", "test_efficientnet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_patches_and_pooled_features(backbone: str, channels: int) -> None:
    encoder = ImageEncoder(backbone, image_size=64, dim=8, in_chans=channels, min_patches=16).eval()
    images = torch.randn(2, channels, 64, 64)
    features = encoder(images)
    h, w = features.grid
    assert h * w >= 16
    assert features.keys.shape == (2, h * w, 8)
    torch.testing.assert_close(features.pooled, encoder.backbone(images))
    assert features.cells.shape[:1] == (2,)


@pytest.mark.parametrize("backbone", [TINY_CNN, TINY_VIT])
def test_the_weights_are_those_of_plain_timm(backbone: str, tmp_path: Path) -> None:
    encoder = ImageEncoder(backbone, image_size=64, dim=8).eval()
    path = tmp_path / "encoder.safetensors"
    save_file(encoder.backbone.state_dict(), path)
    options = {"img_size": 64} if backbone == TINY_VIT else {}
    plain = timm.create_model(backbone, in_chans=1, num_classes=0, checkpoint_path=str(path), **options).eval()
    images = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(plain(images), encoder(images).pooled)


def test_every_map_that_makes_patches_reaches_the_last_stage() -> None:
    encoder = ImageEncoder(TINY_CNN, image_size=64, dim=8, min_patches=16)
    assert encoder.levels > 1
    encoder(torch.randn(2, 1, 64, 64)).keys.sum().backward()
    last = [p for name, p in encoder.backbone.named_parameters() if name.startswith("layer4")]
    assert last
    assert all(p.grad is not None for p in last)


def test_left_is_not_right() -> None:
    """The same patch at two places gives two features, and a mirrored image is not a mirrored set of features."""
    encoder = ImageEncoder(TINY_CNN, image_size=64, dim=8).eval()
    h, w = encoder(torch.zeros(1, 1, 64, 64)).grid
    keys = encoder(torch.zeros(1, 1, 64, 64)).keys.unflatten(1, (h, w))
    assert (keys[:, :, 0] - keys[:, :, -1]).abs().max() > 0.1


def test_another_image_size_than_in_training() -> None:
    encoder = ImageEncoder(TINY_CNN, image_size=64, dim=8).eval()
    assert encoder(torch.randn(1, 1, 96, 96)).grid == (6, 6)


def test_gradient_checkpointing_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = ImageEncoder(TINY_CNN, 64, 8)
    saving = ImageEncoder(TINY_CNN, 64, 8, gradient_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(saving.eval()(images).keys, plain.eval()(images).keys)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(suffix: str, tmp_path: Path) -> None:
    source = timm.create_model(TINY_CNN, in_chans=3, num_classes=10)
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)
    backbone = create_backbone(TINY_CNN, 1, 64)
    load_backbone(backbone, path)
    own = backbone.state_dict()
    torch.testing.assert_close(own["layer1.0.conv1.weight"], source.state_dict()["layer1.0.conv1.weight"])
    grey = source.state_dict()["conv1.0.weight" if "conv1.0.weight" in own else "conv1.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(own["conv1.0.weight" if "conv1.0.weight" in own else "conv1.weight"], grey)


def test_position_embeddings_are_resampled(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    save_file(create_backbone(TINY_VIT, 1, 64).state_dict(), path)
    load_backbone(create_backbone(TINY_VIT, 1, 96), path)


class Payload:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    backbone = create_backbone(TINY_CNN, 1, 64)
    with pytest.raises(UserError, match="There is no file"):
        load_backbone(backbone, tmp_path / "none.pth")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(UserError, match="holds no weights"):
        load_backbone(backbone, broken)
    torch.save({"model": Payload()}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="without running code"):
        load_backbone(backbone, tmp_path / "code.pth")
    other = tmp_path / "other.safetensors"
    save_file(create_backbone(TINY_VIT, 1, 64).state_dict(), other)
    with pytest.raises(UserError, match="does not fit the backbone"):
        load_backbone(backbone, other)


@pytest.mark.parametrize("name", ["resnet5", "hf-hub:timm/resnet18.a1_in1k", "resnet18.a1_in1k"])
def test_names_that_are_no_model_here(name: str) -> None:
    with pytest.raises(UserError, match="has no model"):
        create_backbone(name, 1, 64)


def test_a_file_of_another_model_of_the_family_is_an_error_of_the_user(tmp_path: Path) -> None:
    """Layers of the same outputs and other inputs, which are no first layer for colour; and a file without names."""
    backbone = create_backbone(TINY_CNN, 1, 64)
    state = backbone.state_dict()
    name = next(name for name, value in state.items() if value.dim() == 4 and value.shape[1] > 3)
    torch.save({**state, name: state[name][:, :-1]}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not fit the backbone"):
        load_backbone(backbone, tmp_path / "other.pth")
    torch.save(list(state.values()), tmp_path / "list.pth")
    with pytest.raises(UserError, match="no weights by name"):
        load_backbone(backbone, tmp_path / "list.pth")
