"""Start a training with the weights of a finished run, on graphs of other reports or with another objective.

All that both models have goes over: encoders, queries, projections, what the objectives share. Concepts are matched by kind and
name, so a vocabulary may have grown; what the run lacks begins as in any other training. The running means of the concept bank,
optimizer and schedule start anew.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from trainer import checkpoint
from trainer.errors import UserError
from trainer.graph.concepts import ConceptTable
from trainer.model.model import Model

_CONCEPTS, _PLACES = "queries.concept.weight", "image.place"


def check_start(run: Path) -> None:
    """UserError where a folder is no finished run that still has a checkpoint."""
    if not (run / "README.md").is_file() or not (run / "concepts.json").is_file():
        raise UserError(f"--start-from {run}: expected the folder of a finished run, as `trainer pretrain` writes it.")
    if not checkpoint.list_checkpoints(run / "checkpoints"):
        raise UserError(f"--start-from {run}: its checkpoints/ is gone, and with it the weights of the text encoder.")


def start_from(run: Path, model: Model, objective: nn.Module) -> None:
    """Give a model and an objective the weights of a run's last checkpoint, their moving average where it kept one.

    Raises:
        UserError: the run is not finished, or its model is of another shape.
    """
    check_start(run)
    folder = checkpoint.list_checkpoints(run / "checkpoints")[-1]
    name = "ema" if (folder / "ema.safetensors").is_file() else "model"
    state = checkpoint.load_weights(folder, name)
    of_model = adapted(_part(state, "model."), model, ConceptTable.load(run / "concepts.json"))
    own = model.state_dict()
    if wrong := [key for key, value in own.items() if key not in of_model or of_model[key].shape != value.shape]:
        raise UserError(
            f"--start-from {run}: its model is another one, {wrong[0]} first. Give --config {run / 'config.yaml'}, or the "
            "model.* and data.* keys that it has."
        )
    model.load_state_dict({key: of_model[key] for key in own})
    shapes = {key: value.shape for key, value in objective.state_dict().items()}
    of_objective = _part(state, "objective.").items()
    objective.load_state_dict(
        {key: value for key, value in of_objective if shapes.get(key) == value.shape}, strict=False
    )


def adapted(state: dict[str, Tensor], model: Model, table: ConceptTable) -> dict[str, Tensor]:
    """The state of a model whose queries are about `table`, for the table and the grid of patches of `model`.

    Concepts that `table` lacks keep what they have in `model` (their ancestors are shared all the same).
    """
    rows = model.table.rows_in(table)
    concepts, places = model.queries.concept.weight.detach().cpu().clone(), state[_PLACES]
    size = model.image.place.shape[2:]
    if concepts.shape[1] != state[_CONCEPTS].shape[1]:
        return state  # of another width: it will not fit
    concepts[rows >= 0] = state[_CONCEPTS].cpu()[rows[rows >= 0]].to(concepts.dtype)
    if places.shape[2:] != size:  # another image size
        places = functional.interpolate(places.float(), size=size, mode="bicubic", align_corners=False)
    return {**state, _CONCEPTS: concepts, _PLACES: places}


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
