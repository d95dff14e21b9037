"""Published weights, a pickle, to safetensors. Only tensors are unpickled; afterwards nothing is."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from graphprep.errors import UserError


def convert_weights(source: Path, target: Path) -> None:
    """Write the tensors of a PyTorch state as safetensors. Raises UserError where the file holds anything else, or is cut off."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats; what cannot be read is said below
            state = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{source.name} holds more than weights, or is damaged: it is not unpickled, since that could run code. "
            "Get the archive again from where it was published."
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError):
        raise UserError(f"{source.name} is cut off or damaged. Get the archive again.") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise UserError(f"{source.name}: expected the weights of a model by their names.")
    # Cloned, because safetensors refuses tensors that share memory.
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, target)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file by name. Raises UserError where it is none."""
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        raise UserError(f"{path} is no safetensors file, or is cut off. Make the model's folder again.") from None
