"""What every ascent on the pixels shares: its gradient and the faults of it, its batches, its ball."""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.batches import in_chunks, in_mode

CHUNK = 64  # images at a time: few enough to stay in a processor's cache, and a bound on the memory


def by_chunks(
    model: nn.Module, attack: Callable[..., tuple[Tensor, Tensor, Tensor]], *tensors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the attack on at most `CHUNK` images at a time in eval mode; join images (N, ...) and rows (..., N)."""

    def with_gradients(*chunk: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            return attack(*(tensor.detach().clone() for tensor in chunk))

    with in_mode(model, training=False):
        parts = in_chunks(with_gradients, *tensors, size=CHUNK)
    images, *rows = zip(*parts, strict=True)
    return torch.cat(images), *(torch.cat(row, dim=1) for row in rows)


def gradient_of(values: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of each image's value (N,) by that image, (N, ...), and its faults.

    Returns:
        The gradient, and (2, N): which images have a value or a gradient that is not finite, and which a zero gradient.
    """
    (gradient,) = torch.autograd.grad(values.sum(), x)  # each image's value depends on that image alone
    pixels = gradient.flatten(1)  # (N, pixels)
    return gradient, torch.stack([~(values + pixels.sum(1)).isfinite(), (pixels == 0).all(1)])


def no_faults(images: Tensor) -> Tensor:
    """Return the faults (2, N) of no step at all, to which `_add` adds those of each step."""
    return torch.tensor([[False], [True]], device=images.device).repeat(1, len(images))


def add_faults(faults: Tensor, found: Tensor) -> Tensor:
    """Return the faults of several steps: not finite in one of them, and a zero gradient in all."""
    return torch.stack([faults[0] | found[0], faults[1] & found[1]])


def report(faults: Tensor) -> None:
    """Raise or warn if gradients had faults (2, N), as `fgsm` says: who stood still is not called robust."""
    broken, still = faults.sum(1).tolist()
    count = faults.shape[1]
    if broken:
        raise ValueError(f"expected finite logits and gradients, got NaN or infinity for {broken} of {count} images")
    if still:
        said = f"the gradient of {still} of {count} images is zero in every pixel, so that no step could move them"
        if still == count:
            raise ValueError(f"expected a model with gradients, but {said}; that does not make it robust")
        warnings.warn(f"{said}; that does not make the model robust there", stacklevel=4)


def ball_around(images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest image within eps and [0, 1]: never a bit further away, in any dtype."""
    radius = images.new_tensor(min(eps, 1))  # a larger ball holds no more images
    if radius.item() > eps:  # the dtype has no such number: the one below
        radius = radius.nextafter(torch.zeros_like(radius))

    def edge(shift: Tensor) -> Tensor:
        total = images + shift
        part = total - images
        error = (images - (total - part)) + (shift - part)  # of the sum, exactly (Knuth's TwoSum)
        outside = error * shift.sign() < 0  # it was rounded away from the image
        return torch.where(outside, total.nextafter(images), total).clamp(0, 1)

    return edge(-radius), edge(radius)


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return the model's logits (N, 10); ValueError unless they have a gradient by the pixels."""
    logits = model(images)
    if not logits.requires_grad:
        raise ValueError("expected logits that depend on the pixels, got some without a gradient")
    return logits


def check_numbers(*, steps: int, jitter: int = 0, **others: float) -> None:
    """Raise ValueError unless steps and jitter are whole numbers and every number is finite (eps may not be), >= 0."""
    for name, number in {"steps": steps, "jitter": jitter}.items():
        if not isinstance(number, int):
            raise ValueError(f"expected {name} to be a whole number, got {number!r}")
    for name, number in {"steps": steps, "jitter": jitter, **others}.items():
        if not isinstance(number, int | float) or not number >= 0:  # written so that NaN fails too
            raise ValueError(f"expected {name} to be at least 0, got {number!r}")
        if name != "eps" and math.isinf(number):
            raise ValueError(f"expected {name} to be finite, got {number!r}")
