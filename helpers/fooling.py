"""Images that a network takes for what we name: ascents on a logit, with the weights left alone.

Pixels are in [0, 1], `alpha` in the same units. Images share a batch, never a gradient: what one becomes does not
depend on the others.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.ascent import add_faults, by_chunks, check_numbers, gradient_of, logits_of, no_faults, report
from helpers.batches import check_images, check_labels

SIZE = (1, 28, 28)


def fooling_images(
    model: nn.Module,
    targets: Tensor,
    *,
    alpha: float,
    steps: int,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
    jitter: int = 0,
    blur: float = 0.0,
    total_variation: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Climb the target's logit from noise: X <- X + alpha * g / std(g), g = dC/dX, C = logit[target].

    Args:
        model: as in `fgsm`.
        targets: (N,) int64 in 0..9, the class each image is to be taken for.
        alpha: size of a step: a pixel moves alpha times its gradient in standard deviations; at least 0.
        steps: number of steps, at least 0.
        start: (N, 1, 28, 28) in [0, 1]; by default Gaussian noise (deviation 0.1) around mid grey, 128 / 255.
        generator: of the default start and of the jitter, on the targets' device.
        jitter: in each step, show the network all images moved by one random offset of up to this many pixels.
        blur: after each step, blur with a Gaussian of this standard deviation in pixels, at most 9; 0 does not.
        total_variation: weight of a penalty on the mean difference of neighbouring pixels, at least 0.

    Returns:
        images: (N, 1, 28, 28) in [0, 1].
        costs: (steps, N), C before each step, the penalty included.

    Raises:
        ValueError: one of the arguments is not as above, or as in `fgsm`.

    Source: part B of the assignment; K. Simonyan et al., Deep Inside Convolutional Networks (2014);
        the regularisers: A. Mahendran and A. Vedaldi (2015), C. Olah et al., Feature Visualization (2017).
    """
    check_labels(targets, len(targets))
    check_numbers(alpha=alpha, steps=steps, jitter=jitter, blur=blur, total_variation=total_variation)
    if blur > 9:
        raise ValueError(f"expected blur to be at most 9 pixels, got {blur!r}")
    if start is None:
        noise = torch.randn((len(targets), *SIZE), generator=generator, device=targets.device)
        start = (128 / 255 + 0.1 * noise).clamp(0, 1)
    check_images(start)
    check_labels(targets, len(start))

    moves = [[0, 0]] * steps
    if jitter:  # one offset a step, drawn before anything is batched
        moves = torch.randint(-jitter, jitter + 1, (steps, 2), generator=generator, device=targets.device).tolist()

    def cost(x: Tensor, target: Tensor, move: list[int]) -> Tensor:
        logit = _logit(model, x.roll(move, dims=(2, 3)) if jitter else x, target)
        return logit - total_variation * _total_variation(x) if total_variation else logit

    if blur:
        from torchvision.transforms.functional import gaussian_blur  # here, since torchvision takes two seconds to load

    def project(x: Tensor) -> Tensor:
        smooth = gaussian_blur(x, 2 * round(3 * blur) + 1, blur) if blur else x
        return smooth.clamp(0, 1)

    def attack(begin: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        offsets = iter(moves)
        return _ascend(
            lambda x: cost(x, target, next(offsets)),
            begin,
            steps=steps,
            step=lambda g: alpha * _normalise(g),
            project=project,
        )

    return _reported(*by_chunks(model, attack, start, targets))


def targeted_images(
    model: nn.Module, images: Tensor, targets: Tensor, *, beta: float, alpha: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Climb C = logit[target] - beta * MSE(X, image) from each image: taken for the target, alike to the image.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`; where the ascent begins, and what it is to stay alike to.
        targets: (N,) int64 in 0..9, the class each image is to be taken for.
        beta: weight of the mean squared error over pixels in [0, 1], at least 0; 1e-4 over pixels in 0..255 is 6.5.
        alpha: size of a step, as in `fooling_images`.
        steps: number of steps, at least 0.

    Returns:
        images: (N, 1, 28, 28) in [0, 1].
        costs: (steps, N), C before each step.

    Raises:
        ValueError: one of the arguments is not as above, or as in `fgsm`.

    Source: part B of the assignment.
    """
    check_images(images)
    check_labels(targets, len(images))
    check_numbers(beta=beta, alpha=alpha, steps=steps)

    def attack(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _ascend(
            lambda x: _logit(model, x, target) - beta * (x - image).square().mean((1, 2, 3)),
            image,
            steps=steps,
            step=lambda g: alpha * _normalise(g),
            project=lambda x: x.clamp(0, 1),
        )

    return _reported(*by_chunks(model, attack, images, targets))


def adversarial_noise(
    model: nn.Module, images: Tensor, targets: Tensor, *, alpha: float, steps: int, eps: float | None = None
) -> Tensor:
    """Learn a noise N for each image, from zero: N <- N + alpha * g / std(g), g = dC/dN, C = logit[target] of X + N.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        targets: (N,) int64 in 0..9, the class each image is to be taken for.
        alpha: size of a step, as in `fooling_images`.
        steps: number of steps, at least 0.
        eps: the largest absolute value of the noise, at least 0; None sets no bound.

    Returns:
        (N, 1, 28, 28), signed. images + noise is what the network was shown; it may leave [0, 1].

    Raises:
        ValueError: one of the arguments is not as above, or as in `fgsm`.

    Source: part B of the assignment.
    """
    check_images(images)
    check_labels(targets, len(images))
    bound = float("inf") if eps is None else eps
    check_numbers(alpha=alpha, steps=steps, eps=bound)

    def attack(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _ascend(
            lambda noise: _logit(model, image + noise, target),
            torch.zeros_like(image),
            steps=steps,
            step=lambda g: alpha * _normalise(g),
            project=lambda noise: noise.clamp(-bound, bound),
        )

    return _reported(*by_chunks(model, attack, images, targets))[0]


def _ascend(
    cost: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    steps: int,
    step: Callable[[Tensor], Tensor],
    project: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Repeat x <- project(x + step(dC/dx)); return the last x, the costs (steps, N) met, and the gradients' faults."""
    costs = [x.new_empty(0, len(x))]
    faults = no_faults(x)
    for _ in range(steps):
        x = x.detach().requires_grad_()
        values = cost(x)  # (N,)
        gradient, found = gradient_of(values, x)
        faults = add_faults(faults, found)
        costs.append(values.detach()[None])
        x = project(x.detach() + step(gradient))
    return x.detach(), torch.cat(costs), faults if steps else torch.zeros_like(faults)


def _reported(images: Tensor, costs: Tensor, faults: Tensor) -> tuple[Tensor, Tensor]:
    """Return images and costs once the faults are reported."""
    report(faults)
    return images, costs


def _logit(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return each image's logit of its target, (N,)."""
    return logits_of(model, images).gather(1, targets[:, None])[:, 0]


def _normalise(gradient: Tensor) -> Tensor:
    """Divide each image's gradient by its standard deviation over the pixels; a zero gradient stays zero."""
    return gradient / gradient.std((1, 2, 3), keepdim=True).clamp_min(1e-20)


def _total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference between neighbouring pixels, (N,)."""
    return images.diff(dim=2).abs().mean((1, 2, 3)) + images.diff(dim=3).abs().mean((1, 2, 3))
