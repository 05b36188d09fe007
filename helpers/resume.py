"""A training that was interrupted goes on: where it is, written to a file after each epoch and read again."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def keep(
    path: Path, recipe: list[float], parts: dict[str, Any], generator: torch.Generator, losses: list[Tensor], seen: list
) -> None:
    """Write where a training is into the file, which is whole at any time.

    Args:
        path: the file.
        recipe: what the training was asked for, which must be the same when it goes on.
        parts: the model, the optimizer and so on: whatever has a `state_dict`.
        generator: of the order of the images.
        losses: one a step, so far.
        seen: whatever else was recorded, of plain numbers.
    """
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {"recipe": recipe, "generator": generator.get_state(), "losses": losses, "seen": seen}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, f"{path}.new")
    Path(f"{path}.new").replace(path)


def go_on(
    path: Path, recipe: list[float], parts: dict[str, Any], generator: torch.Generator, device: torch.device
) -> tuple[list[Tensor], list]:
    """Set the parts and the generator as the file has them, return the losses, on the device, and what was recorded.

    Raises:
        ValueError: the file holds a training of another recipe.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)  # it may come from another device
    if state["recipe"] != recipe:
        raise ValueError(f"expected {path} to hold a training of {recipe}, got one of {state['recipe']}: remove it")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    generator.set_state(state["generator"])
    return [loss.to(device) for loss in state["losses"]], state["seen"]
