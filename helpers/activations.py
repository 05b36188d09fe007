"""What each layer of a network answers to an image."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.answers import run
from helpers.batches import in_mode
from helpers.device import device_of
from helpers.show import AMOUNT, SIGNED, image_grid


def record(model: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Return the output of each named layer for these images.

    Each layer has one output here. PyTorch calls a hook whenever a layer runs; of one that runs twice, such as a ReLU
    that several places of a network share, no name could say which output is meant, and so it is refused.

    Args:
        model: any module; used in eval mode without gradients, left in its own mode and without hooks. One that
            `torch.compile` made runs uncompiled here.
        images: what the model takes, (N, 1, 28, 28) for the course's network; it works on a copy, where it is.
        layers: names as in `model.named_modules()`, such as `["relu1", "relu2"]`; a layer with two names has both, and
            in a compiled model the name it had.

    Returns:
        Each name with its layer's output, (N, channels, height, width) for a convolution, on the images' device.

    Raises:
        TypeError: no tensor of images, no list of names, a layer that returns something other than one tensor, or one
            of a scripted or traced model, which PyTorch runs as a whole.
        ValueError: a layer that the model does not have, did not use or used twice, or images that the model refuses.
    """
    if not torch.is_tensor(images):
        raise TypeError(f"expected images as a tensor, got {type(images).__name__}")
    if isinstance(layers, str):
        raise TypeError(f"expected a list of layers, got the text {layers!r}; write [{layers!r}]")
    layers = list(layers) if isinstance(layers, Iterable) else [layers]
    if not all(isinstance(name, str) for name in layers):
        raise TypeError(f"expected a list of layers' names, got {layers!r}")
    outputs: dict[str, list[Tensor]] = {}
    # A compiled model would call no hook; where nothing was compiled, asking for that would load the compiler.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    with in_mode(model, training=False), torch.no_grad(), _hooks(model, layers, outputs), eager:
        run(model, images.to(device_of(model, images)))
    for name, found in outputs.items():
        if len(found) != 1:
            calls = f"called {len(found)} times" if found else "which it did not call"
            raise ValueError(f"expected layers that the model calls once, got {name}, {calls}")
    return {name: output.to(images.device) for name, (output,) in outputs.items()}


@contextmanager
def _hooks(model: nn.Module, layers: Sequence[str], outputs: dict[str, list[Tensor]]) -> Iterator[None]:
    """Let the named layers store their outputs; take the hooks off at the end, also after an exception."""
    # `torch.compile` wraps a module in one whose only part is `_orig_mod`.
    named = model.named_modules(remove_duplicate=False)
    modules = {name.replace("_orig_mod.", ""): module for name, module in named if name != "_orig_mod"}
    unknown = [name for name in layers if name not in modules or not name]
    if unknown:
        raise ValueError(f"expected layers among {', '.join(filter(None, modules))}; got {', '.join(unknown)}")
    scripted = [name for name in layers if isinstance(modules[name], torch.jit.ScriptModule)]
    if scripted:
        raise TypeError(
            f"expected layers of a model that runs in Python, got {', '.join(scripted)} of one that is scripted or "
            "traced; record the model it was made from"
        )

    def storing(name: str):
        """A hook that stores a copy: a later layer that works in place cannot change it."""

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001 torch's signature
            if not torch.is_tensor(output):
                came = type(output).__name__
                raise TypeError(f"expected layers that return a tensor, got {name}, which returned a {came}")
            outputs[name].append(output.detach().clone())

        return hook

    outputs.update({name: [] for name in layers})
    handles = [modules[name].register_forward_hook(storing(name)) for name in outputs]
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
        TypeError: no tensor.
        ValueError: a wrong shape, NaN or infinity.
    """
    if not torch.is_tensor(activation):
        raise TypeError(f"expected an activation as a tensor, got {type(activation).__name__}")
    if activation.ndim != 3 or activation.numel() == 0:
        raise ValueError(f"expected an activation of shape (channels, height, width), got {tuple(activation.shape)}")
    if not activation.is_floating_point():
        activation = activation.float()
    if not activation.isfinite().all():
        raise ValueError("expected finite activations, got NaN or infinity")
    limit = activation.abs().max().item() or 1.0
    signed = activation.min().item() < 0
    return image_grid(
        activation,
        columns=columns,
        titles=range(len(activation)),
        limits=(-limit, limit) if signed else (0, limit),
        cmap=SIGNED if signed else AMOUNT,
        zoom=zoom,
        colorbar="activation",
    )
