"""What every ascent on the pixels shares: its gradient and the faults of it, its chunks, the ball it stays in."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.answers import asking
from helpers.batches import images_at_once, in_chunks
from helpers.checks import check_labels, check_model, number, warn
from helpers.device import device_of


def by_chunks(
    model: nn.Module, attack: Callable[..., tuple[Tensor, ...]], images: Tensor, *others: Tensor
) -> tuple[Tensor, ...]:
    """Attack a few images at a time where the model lives, and join what came of it.

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
    images, *rows = zip(*in_chunks(with_gradients, images, *others, size=size, device=device), strict=True)
    return torch.cat(images), *(torch.cat(row, dim=-1) for row in rows)


def climb(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    alpha: float,
    steps: int,
    begin: Callable[[Tensor], Tensor] = torch.clone,
    shown: Callable[[Tensor, Tensor, int], Tensor] = lambda x, _image, _step: x,
    penalty: Callable[[Tensor, Tensor], Tensor | float] = lambda _x, _image: 0,
    project: Callable[[Tensor], Tensor] = lambda x: x.clamp(0, 1),
) -> tuple[Tensor, Tensor]:
    """Repeat x <- project(x + alpha * g / std(g)), g = dC/dx, C = logit[target] of shown(x) - penalty(x).

    Args:
        model: any classifier.
        images: (N, C, H, W), of two pixels at least.
        targets: (N,) int64 of at least 0.
        alpha: size of a step.
        steps: number of steps, at least 0.
        begin: takes some of the images, returns where x begins.
        shown: takes x, its images and the number of the step; returns what the network sees.
        penalty: takes x and its images; returns (n,), or 0.
        project: takes x after a step, returns the nearest x that is allowed.

    Returns:
        The last x, (N, C, H, W), and the costs C before each step, (steps, N).

    Raises:
        TypeError: as in `fgsm`, and so are ValueError, for images of one pixel as well, and UserWarning.
    """
    check_model(model)
    check_labels(targets, len(images))
    steps = number("steps", steps, whole=True)
    if images[0].numel() < 2:
        raise ValueError(f"expected images of two pixels at least, whose gradients deviate, got {tuple(images.shape)}")
    with asking(model, targets) as ask:

        def attack(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            x, costs, faults = begin(image), [image.new_empty(0, len(image))], no_faults(image)
            for step in range(steps):
                x = x.detach().requires_grad_()
                logits = ask(shown(x, image, step))
                values = logits.gather(1, target[:, None])[:, 0] - penalty(x, image)  # (n,)
                gradient, found = gradient_of(values, logits, x)
                faults = add_faults(faults, found)
                costs.append(values.detach()[None])
                x = project(x.detach() + alpha * _normalise(gradient))
            return x.detach(), torch.cat(costs), faults

        x, costs, faults = by_chunks(model, attack, images, targets.to(images.device))
    if steps:
        report(faults)
    return x, costs


def gradient_of(values: Tensor, logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of each image's value (N,) by that image, (N, ...), and its faults.

    Returns:
        The gradient, and (2, N): which images have a logit, a value or a gradient that is not finite (a class may be
        ruled out by a logit of minus infinity), and which a zero gradient.

    Raises:
        ValueError: the logits do not depend on the images.
    """
    if not logits.requires_grad:
        raise ValueError("expected logits that depend on the pixels, got some without a gradient")
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
        warn(f"{said}; that does not make the model robust there")


def _normalise(gradient: Tensor) -> Tensor:
    """Divide each image's gradient by its standard deviation over the pixels; a zero gradient stays zero."""
    return gradient / gradient.std((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
