"""Images that a network takes for what we name: ascents on a logit, with the weights left alone.

Pixels are in [0, 1], `alpha` in the same units. Images share a batch, never a gradient: what one becomes does not
depend on the others.
"""

import torch
from torch import Tensor, nn

from helpers.ascent import climb
from helpers.ball import radius_within
from helpers.checks import check_images, check_labels, home_of, number
from helpers.device import dtype_of

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
        start: (N, C, H, W) in [0, 1], two pixels at least; by default, for a model of digits and of its type, Gaussian
            noise (deviation 0.1) around mid grey, 128 / 255, (N, 1, 28, 28).
        generator: of the default start and of the jitter; by default the processor's, wherever the targets are.
        jitter: in each step, show the network all images moved by one random offset of up to this many pixels.
        blur: after each step, blur with a Gaussian of this standard deviation in pixels, at most 9; 0 does not.
        total_variation: weight of a penalty on the mean difference of neighbouring pixels, at least 0.

    Returns:
        images: (N, C, H, W) in [0, 1], on the device of the start, or else of the targets.
        costs: (steps, N), C before each step, the penalty included.

    Raises:
        TypeError: as in `fgsm`, and so are ValueError and UserWarning.

    Source: part B of the assignment; K. Simonyan et al., Deep Inside Convolutional Networks (2014);
        the regularisers: A. Mahendran and A. Vedaldi (2015), C. Olah et al., Feature Visualization (2017).
    """
    check_labels(targets, len(targets) if torch.is_tensor(targets) and targets.ndim else 1)
    steps, jitter = number("steps", steps, whole=True), number("jitter", jitter, whole=True)
    blur, home = number("blur", blur, most=9), home_of(generator)
    dtype = dtype_of(model)
    digits = start is None
    if digits:
        noise = torch.randn((len(targets), *SIZE), generator=generator, device=home)
        start = (128 / 255 + 0.1 * noise.to(targets.device, dtype)).clamp(0, 1)
    check_images(start)
    alpha, weight = _finite("alpha", alpha, start), _finite("total_variation", total_variation, start)
    if jitter:  # one offset a step, drawn before anything is batched
        moves = torch.randint(-jitter, jitter + 1, (steps, 2), generator=generator, device=home).tolist()
    # A kernel of three deviations to either side, or of as many pixels as there are to be mirrored: (width, height).
    kernel = [2 * min(round(3 * blur), side - 1) + 1 for side in (start.shape[3], start.shape[2])]
    blurs = max(kernel) > 1
    if blurs:
        from torchvision.transforms.functional import gaussian_blur  # here, since torchvision takes two seconds to load

    try:
        return climb(
            model,
            start,
            targets,
            alpha=alpha,
            steps=steps,
            shown=lambda x, _, step: x.roll(moves[step], dims=(2, 3)) if jitter else x,
            penalty=lambda x, _: weight * _total_variation(x) if weight else 0,
            project=lambda x: (gaussian_blur(x, kernel, blur) if blurs else x).clamp(0, 1),
        )
    except ValueError as error:
        if digits:
            error.add_note(f"No start was given, so that it was noise of the size of digits, {tuple(start.shape)}.")
        raise


def targeted_images(
    model: nn.Module, images: Tensor, targets: Tensor, *, beta: float, alpha: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Climb C = logit[target] - beta * MSE(X, image) from each image: taken for the target, alike to the image.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`, of two pixels at least; where the ascent begins, and what it is to stay alike to.
        targets: (N,) int64 in 0..classes - 1, the class each image is to be taken for.
        beta: weight of the mean squared error over pixels in [0, 1], at least 0; 1e-4 over pixels in 0..255 is 6.5.
        alpha: size of a step, as in `fooling_images`.
        steps: number of steps, at least 0.

    Returns:
        images: (N, C, H, W) in [0, 1].
        costs: (steps, N), C before each step.

    Raises:
        TypeError: as in `fgsm`, and so are ValueError and UserWarning.

    Source: part B of the assignment.
    """
    check_images(images)
    alpha, beta = _finite("alpha", alpha, images), _finite("beta", beta, images)

    def penalty(x: Tensor, image: Tensor) -> Tensor:
        return beta * (x - image).square().mean((1, 2, 3))

    return climb(model, images, targets, alpha=alpha, steps=steps, penalty=penalty)


def adversarial_noise(
    model: nn.Module, images: Tensor, targets: Tensor, *, alpha: float, steps: int, eps: float | None = None
) -> Tensor:
    """Learn a noise N for each image, from zero: N <- N + alpha * g / std(g), g = dC/dN, C = logit[target] of X + N.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`, of two pixels at least.
        targets: (N,) int64 in 0..classes - 1, the class each image is to be taken for.
        alpha: size of a step, as in `fooling_images`.
        steps: number of steps, at least 0.
        eps: the largest absolute value of the noise, at least 0, held to the last bit; None sets no bound.

    Returns:
        (N, C, H, W), signed. images + noise is what the network was shown; it may leave [0, 1].

    Raises:
        TypeError: as in `fgsm`, and so are ValueError and UserWarning.

    Source: part B of the assignment.
    """
    check_images(images)
    alpha = _finite("alpha", alpha, images)
    bound = radius_within(float("inf") if eps is None else number("eps", eps), images).item()
    noise, _ = climb(
        model,
        images,
        targets,
        alpha=alpha,
        steps=steps,
        begin=torch.zeros_like,
        shown=lambda noise, image, _: image + noise,
        project=lambda noise: noise.clamp(-bound, bound),
    )
    return noise


def _finite(name: str, value: float, images: Tensor) -> float:
    """Return the number, which the type of the images must be able to hold."""
    return number(name, value, most=torch.finfo(images.dtype).max)


def _total_variation(images: Tensor) -> Tensor | float:
    """Return the mean absolute difference between neighbouring pixels, (N,)."""
    steps = images.diff(dim=2), images.diff(dim=3)  # one of them is empty where an image has one row or one column
    return sum(step.abs().mean((1, 2, 3)) for step in steps if step.numel())
