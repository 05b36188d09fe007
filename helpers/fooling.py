"""Images that a network takes for what we name: ascents on a logit, with the weights left alone.

Pixels are in [0, 1], `alpha` in the same units. Images share a batch, never a gradient: what one becomes does not
depend on the others.
"""

import torch
from torch import Tensor, nn

from helpers.ascent import by_chunks, climb, home_of, radius_within, report
from helpers.batches import check_images, check_labels, classes_of, dtype_of, number

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
        targets: (N,) int64 in 0..classes - 1, the class each image is to be taken for.
        alpha: size of a step: a pixel moves alpha times its gradient in standard deviations; at least 0.
        steps: number of steps, at least 0.
        start: (N, C, H, W) in [0, 1]; by default, for a model of digits and of its type, Gaussian noise (deviation 0.1)
            around mid grey, 128 / 255, (N, 1, 28, 28).
        generator: of the default start and of the jitter; by default the processor's, wherever the targets are.
        jitter: in each step, show the network all images moved by one random offset of up to this many pixels.
        blur: after each step, blur with a Gaussian of this standard deviation in pixels, at most 9; 0 does not.
        total_variation: weight of a penalty on the mean difference of neighbouring pixels, at least 0.

    Returns:
        images: (N, C, H, W) in [0, 1], on the device of the start, or else of the targets.
        costs: (steps, N), C before each step, the penalty included.

    Raises:
        TypeError: as in `fgsm`.
        ValueError: one of the arguments is not as above, or as in `fgsm`.

    Warns:
        UserWarning: as in `fgsm`.

    Source: part B of the assignment; K. Simonyan et al., Deep Inside Convolutional Networks (2014);
        the regularisers: A. Mahendran and A. Vedaldi (2015), C. Olah et al., Feature Visualization (2017).
    """
    check_labels(targets, len(targets) if torch.is_tensor(targets) and targets.ndim else 1)
    steps, jitter = number("steps", steps, whole=True), number("jitter", jitter, whole=True)
    blur = number("blur", blur, most=9)
    if start is None:
        noise = torch.randn((len(targets), *SIZE), generator=generator, device=home_of(generator))
        start = (128 / 255 + 0.1 * noise.to(targets.device, dtype_of(model))).clamp(0, 1)
    check_images(start)
    alpha = number("alpha", alpha, most=torch.finfo(start.dtype).max)
    total_variation = number("total_variation", total_variation, most=torch.finfo(start.dtype).max)
    check_labels(targets, len(start), classes_of(model, start))

    moves = [[0, 0]] * steps
    if jitter:  # one offset a step, drawn before anything is batched
        moves = torch.randint(-jitter, jitter + 1, (steps, 2), generator=generator, device=home_of(generator)).tolist()
    if blur:
        from torchvision.transforms.functional import gaussian_blur  # here, since torchvision takes two seconds to load

    def project(x: Tensor) -> Tensor:
        smooth = gaussian_blur(x, 2 * round(3 * blur) + 1, blur) if blur else x
        return smooth.clamp(0, 1)

    def attack(begin: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        offsets = iter(moves)
        return climb(
            model,
            begin,
            target,
            alpha=alpha,
            steps=steps,
            shown=lambda x: x.roll(next(offsets), dims=(2, 3)) if jitter else x,
            penalty=lambda x: total_variation * _total_variation(x) if total_variation else 0,
            project=project,
        )

    images, costs, faults = by_chunks(model, attack, start, targets.to(start.device))
    report(faults)
    return images, costs


def targeted_images(
    model: nn.Module, images: Tensor, targets: Tensor, *, beta: float, alpha: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Climb C = logit[target] - beta * MSE(X, image) from each image: taken for the target, alike to the image.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`; where the ascent begins, and what it is to stay alike to.
        targets: (N,) int64 in 0..classes - 1, the class each image is to be taken for.
        beta: weight of the mean squared error over pixels in [0, 1], at least 0; 1e-4 over pixels in 0..255 is 6.5.
        alpha: size of a step, as in `fooling_images`.
        steps: number of steps, at least 0.

    Returns:
        images: (N, C, H, W) in [0, 1].
        costs: (steps, N), C before each step.

    Raises:
        TypeError: as in `fgsm`.
        ValueError: one of the arguments is not as above, or as in `fgsm`.

    Warns:
        UserWarning: as in `fgsm`.

    Source: part B of the assignment.
    """
    alpha, steps = _checked(model, images, targets, alpha, steps)
    beta = number("beta", beta, most=torch.finfo(images.dtype).max)

    def attack(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return climb(
            model,
            image,
            target,
            alpha=alpha,
            steps=steps,
            shown=lambda x: x,
            penalty=lambda x: beta * (x - image).square().mean((1, 2, 3)),
            project=lambda x: x.clamp(0, 1),
        )

    found, costs, faults = by_chunks(model, attack, images, targets.to(images.device))
    report(faults)
    return found, costs


def adversarial_noise(
    model: nn.Module, images: Tensor, targets: Tensor, *, alpha: float, steps: int, eps: float | None = None
) -> Tensor:
    """Learn a noise N for each image, from zero: N <- N + alpha * g / std(g), g = dC/dN, C = logit[target] of X + N.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        targets: (N,) int64 in 0..classes - 1, the class each image is to be taken for.
        alpha: size of a step, as in `fooling_images`.
        steps: number of steps, at least 0.
        eps: the largest absolute value of the noise, at least 0, held to the last bit; None sets no bound.

    Returns:
        (N, C, H, W), signed. images + noise is what the network was shown; it may leave [0, 1].

    Raises:
        TypeError: as in `fgsm`.
        ValueError: one of the arguments is not as above, or as in `fgsm`.

    Warns:
        UserWarning: as in `fgsm`.

    Source: part B of the assignment.
    """
    alpha, steps = _checked(model, images, targets, alpha, steps)
    bound = radius_within(float("inf") if eps is None else number("eps", eps), images).item()

    def attack(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return climb(
            model,
            torch.zeros_like(image),
            target,
            alpha=alpha,
            steps=steps,
            shown=lambda noise: image + noise,
            penalty=lambda _: 0,
            project=lambda noise: noise.clamp(-bound, bound),
        )

    noise, _, faults = by_chunks(model, attack, images, targets.to(images.device))
    report(faults)
    return noise


def _checked(model: nn.Module, images: Tensor, targets: Tensor, alpha: float, steps: int) -> tuple[float, int]:
    """Return alpha and steps; TypeError or ValueError unless all is as the docstrings say."""
    check_images(images)
    check_labels(targets, len(images), classes_of(model, images))
    return number("alpha", alpha, most=torch.finfo(images.dtype).max), number("steps", steps, whole=True)


def _total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference between neighbouring pixels, (N,)."""
    return images.diff(dim=2).abs().mean((1, 2, 3)) + images.diff(dim=3).abs().mean((1, 2, 3))
