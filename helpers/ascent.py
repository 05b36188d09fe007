"""What every ascent on the pixels shares: its gradient and the faults of it, its chunks, the ball it stays in."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.batches import check_logits, device_of, images_at_once, in_chunks, in_mode


def by_chunks(
    model: nn.Module, attack: Callable[..., tuple[Tensor, ...]], images: Tensor, *others: Tensor
) -> tuple[Tensor, ...]:
    """Attack a few images at a time, with the model in eval mode and where it lives; join what came of it.

    Args:
        model: any classifier.
        attack: takes a chunk of the images and of the others, copies that it may change; returns images (N, ...) and
            any number of rows (..., N).
        images: (N, C, H, W).
        others: each (N, ...), on the images' device.

    Returns:
        What the attack returns, for all images, on their device.
    """

    def with_gradients(*chunk: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(False), torch.enable_grad():
            return attack(*(tensor.detach().clone() for tensor in chunk))

    device = device_of(model, images)
    size = images_at_once(images, device, "attack")
    with in_mode(model, training=False):
        parts = in_chunks(with_gradients, images, *others, size=size, device=device)
    images, *rows = zip(*parts, strict=True)
    return torch.cat(images), *(torch.cat(row, dim=-1) for row in rows)


def climb(
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    *,
    alpha: float,
    steps: int,
    shown: Callable[[Tensor], Tensor],
    penalty: Callable[[Tensor], Tensor],
    project: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Repeat x <- project(x + alpha * g / std(g)), g = dC/dx, C = logit[target] of shown(x) - penalty(x).

    Returns:
        The last x, the costs C (steps, N) met, and the faults (2, N) of the gradients.
    """
    costs = [x.new_empty(0, len(x))]
    faults = no_faults(x)
    for _ in range(steps):
        x = x.detach().requires_grad_()
        logits = logits_of(model, shown(x))
        values = logits.gather(1, targets[:, None])[:, 0] - penalty(x)  # (N,)
        gradient, found = gradient_of(values, logits, x)
        faults = add_faults(faults, found)
        costs.append(values.detach()[None])
        x = project(x.detach() + alpha * _normalise(gradient))
    return x.detach(), torch.cat(costs), faults if steps else torch.zeros_like(faults)


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return the model's logits (N, classes); ValueError unless they are that, with a gradient by the pixels."""
    logits = model(images.clone())  # which the model may change
    check_logits(logits, len(images))
    if not logits.requires_grad:
        raise ValueError("expected logits that depend on the pixels, got some without a gradient")
    return logits


def gradient_of(values: Tensor, logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of each image's value (N,) by that image, (N, ...), and its faults.

    Returns:
        The gradient, and (2, N): which images have a logit, a value or a gradient that is not finite (a class may be
        ruled out by a logit of minus infinity), and which a zero gradient.
    """
    (gradient,) = torch.autograd.grad(values.sum(), x)  # each image's value depends on that image alone
    pixels = gradient.flatten(1)  # (N, pixels)
    finite = (values + pixels.sum(1)).isfinite() & logits.amax(1).isfinite()
    return gradient, torch.stack([~finite, (pixels == 0).all(1)])


def no_faults(images: Tensor) -> Tensor:
    """Return the faults (2, N) of no step at all, to which `add_faults` adds those of each step."""
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
        warnings.warn(f"{said}; that does not make the model robust there", stacklevel=3)


def radius_within(eps: float, images: Tensor) -> Tensor:
    """Return eps in the images' type, or where that has no such number the next below."""
    radius = images.new_tensor(eps)
    return radius.nextafter(torch.zeros_like(radius)) if radius.item() > eps else radius


def ball_around(images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest image within eps and [0, 1]: never a bit further away, in any dtype."""
    radius = radius_within(min(eps, 1), images)  # a larger ball holds no more images

    def edge(shift: Tensor) -> Tensor:
        total = images + shift
        part = total - images
        error = (images - (total - part)) + (shift - part)  # of the sum, exactly (Knuth's TwoSum)
        outside = error * shift.sign() < 0  # it was rounded away from the image
        return torch.where(outside, total.nextafter(images), total).clamp(0, 1)

    return edge(-radius), edge(radius)


def home_of(generator: torch.Generator | None) -> torch.device:
    """Return where random numbers are drawn: by a processor's generator, unless another is given."""
    return generator.device if generator is not None else torch.device("cpu")


def _normalise(gradient: Tensor) -> Tensor:
    """Divide each image's gradient by its standard deviation over the pixels; a zero gradient stays zero."""
    return gradient / gradient.std((1, 2, 3), keepdim=True).clamp_min(1e-20)
