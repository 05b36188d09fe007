"""What each layer of a network answers to an image."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.batches import in_mode
from helpers.show import AMOUNT, SIGNED, image_grid


def record(model: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Return the output of each named layer for these images.

    Args:
        model: any module; used in eval mode without gradients, left in its own mode and without hooks.
        images: what the model takes, (N, 1, 28, 28) for the course's network.
        layers: names as in `model.named_modules()`, such as `["relu1", "relu2"]`.

    Returns:
        Each name with its layer's output, (N, channels, height, width) for a convolution.

    Raises:
        ValueError: a layer that the model does not have or did not use, or images that the model refuses.
    """
    outputs: dict[str, Tensor] = {}
    with in_mode(model, training=False), torch.no_grad(), _hooks(model, layers, outputs):
        model(images)
    silent = [name for name in layers if name not in outputs]
    if silent:
        raise ValueError(f"expected layers that the model uses, got {', '.join(silent)}, which it did not call")
    return outputs


@contextmanager
def _hooks(model: nn.Module, layers: Sequence[str], outputs: dict[str, Tensor]) -> Iterator[None]:
    """Let the named layers store their output; take the hooks off at the end, also after an exception."""
    modules = dict(model.named_modules())
    if isinstance(layers, str):
        raise ValueError(f"expected a list of layers, got the text {layers!r}; write [{layers!r}]")
    unknown = [name for name in layers if name not in modules or not name]
    if unknown:
        raise ValueError(f"expected layers among {', '.join(filter(None, modules))}; got {', '.join(unknown)}")

    def storing(name: str):
        """A hook that stores a copy: a later layer that works in place cannot change it."""

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001 torch's signature
            outputs[name] = output.detach().clone()

        return hook

    handles = [modules[name].register_forward_hook(storing(name)) for name in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def show_activations(activation: Tensor, *, columns: int = 8, zoom: int = 2) -> Figure:
    """Draw the channels of one layer's output for one image, on one scale.

    Args:
        activation: (channels, height, width), one image's part of what `record` returns.
        columns: channels in a row.
        zoom: screen pixels for a value.

    Returns:
        The figure: one image a channel, numbered from 0, and the colour bar. After a ReLU, where nothing is
        negative, the scale runs from 0 to the largest value; otherwise it is symmetric around 0.

    Raises:
        ValueError: a wrong shape.
    """
    if activation.ndim != 3:
        raise ValueError(f"expected an activation of shape (channels, height, width), got {tuple(activation.shape)}")
    limit = activation.abs().max().item() or 1.0
    signed = activation.min().item() < 0
    return image_grid(
        activation,
        columns=columns,
        titles=[str(number) for number in range(len(activation))],
        limits=(-limit, limit) if signed else (0, limit),
        cmap=SIGNED if signed else AMOUNT,
        zoom=zoom,
        colorbar="activation",
    )
