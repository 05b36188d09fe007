"""Images that fool a network: each attack is an ascent on the pixels, with the weights left alone.

Pixels are in [0, 1], `eps` and `alpha` in the same units. Images share a batch, never a gradient:
what one becomes does not depend on the others.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.cnn import check_images, check_labels, in_chunks, in_mode
from helpers.show import IMAGE, SIGNED, image_grid

ROUND = 5  # steps of an attack that may stop early before what is left is batched anew
CHUNK = 64  # images at a time: few enough to stay in a processor's cache, and a bound on the memory
SIZE = (1, 28, 28)


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, targeted: bool = False) -> Tensor:
    """Return the images after one step of size eps along the sign of the loss's gradient.

    Args:
        model: takes images (N, 1, 28, 28), returns logits (N, 10); used in eval mode, left as found.
        images: (N, 1, 28, 28) float in [0, 1].
        labels: (N,) int64 in 0..9: the classes to leave, or with `targeted` the classes to reach.
        eps: the largest change of a pixel, at least 0.
        targeted: step down the loss of `labels` instead of up.

    Returns:
        (N, 1, 28, 28) in [0, 1], at most eps from `images` in every pixel.

    Raises:
        ValueError: one of the arguments is not as above.

    Source: I. Goodfellow et al., Explaining and Harnessing Adversarial Examples (2015).
    """
    return pgd(model, images, labels, eps=eps, alpha=eps, steps=1, targeted=targeted)


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    alpha: float,
    steps: int,
    random_start: bool = False,
    targeted: bool = False,
    early_stop: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the images after `steps` sign steps of size alpha, each projected back into the eps-ball.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: radius of the ball around each image, in the largest change of a pixel, at least 0.
        alpha: size of a step, at least 0.
        steps: number of steps, at least 0.
        random_start: begin at a uniformly random point of the ball instead of at the image.
        targeted: as in `fgsm`.
        early_stop: leave an image alone once it is misclassified (with `targeted`: classified as its label); as many
            images succeed, in a fraction of the time.
        generator: of the random start, on the images' device.

    Returns:
        (N, 1, 28, 28) in [0, 1], at most eps from `images` in every pixel.

    Raises:
        ValueError: one of the arguments is not as above.

    Source: A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks (2018).
    """
    check_images(images)
    check_labels(labels, len(images))
    _check_numbers(eps=eps, alpha=alpha, steps=steps)
    start = images
    if random_start:
        noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        start = (images + eps * (2 * noise - 1)).clamp(0, 1)
    sign = -1 if targeted else 1

    def step(gradient: Tensor) -> Tensor:
        return alpha * gradient.sign()

    def project(x: Tensor, image: Tensor) -> Tensor:
        return (image + (x - image).clamp(-eps, eps)).clamp(0, 1)

    def attack(image: Tensor, label: Tensor, begin: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
        return _ascend(
            lambda x: sign * F.cross_entropy(model(x), label, reduction="none"),
            begin,
            steps=steps,
            step=step,
            project=lambda x: project(x, image),
        )

    def attack_until(image: Tensor, label: Tensor, x: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
        """The same steps for those alone that the logits met on the way show not to have succeeded yet."""
        left = torch.arange(len(x), device=x.device)
        for _ in range(steps):
            if len(left) == 0:
                break
            point = x[left].requires_grad_()
            logits = model(point)
            (gradient,) = torch.autograd.grad(sign * F.cross_entropy(logits, label[left], reduction="sum"), point)
            failed = (logits.argmax(1) == label[left]) != targeted
            left, moved = left[failed], (point.detach() + step(gradient))[failed]
            x[left] = project(moved, image[left])
        return x, torch.zeros(1, len(x), dtype=torch.bool, device=x.device).index_fill(1, left, True)

    if not early_stop:
        return _by_chunks(model, partial(attack, steps=steps), images, labels, start)[0]
    result = start.detach().clone()
    left = torch.arange(len(images), device=images.device)  # those that have not succeeded yet
    for done in range(0, steps, ROUND):
        few_steps = partial(attack_until, steps=min(ROUND, steps - done))
        result[left], failed = _by_chunks(model, few_steps, images[left], labels[left], result[left])
        left = left[failed[0]]
        if len(left) == 0:
            break
    return result


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
        ValueError: one of the arguments is not as above.

    Source: part B of the assignment; K. Simonyan et al., Deep Inside Convolutional Networks (2014);
        the regularisers: A. Mahendran and A. Vedaldi (2015), C. Olah et al., Feature Visualization (2017).
    """
    check_labels(targets, len(targets))
    _check_numbers(alpha=alpha, steps=steps, jitter=jitter, blur=blur, total_variation=total_variation)
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

    def attack(begin: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        offsets = iter(moves)
        return _ascend(
            lambda x: cost(x, target, next(offsets)),
            begin,
            steps=steps,
            step=lambda g: alpha * _normalise(g),
            project=project,
        )

    return _by_chunks(model, attack, start, targets)


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
        ValueError: one of the arguments is not as above.

    Source: part B of the assignment.
    """
    check_images(images)
    check_labels(targets, len(images))
    _check_numbers(beta=beta, alpha=alpha, steps=steps)

    def attack(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return _ascend(
            lambda x: _logit(model, x, target) - beta * (x - image).square().mean((1, 2, 3)),
            image,
            steps=steps,
            step=lambda g: alpha * _normalise(g),
            project=lambda x: x.clamp(0, 1),
        )

    return _by_chunks(model, attack, images, targets)


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
        ValueError: one of the arguments is not as above.

    Source: part B of the assignment.
    """
    check_images(images)
    check_labels(targets, len(images))
    bound = float("inf") if eps is None else eps
    _check_numbers(alpha=alpha, steps=steps, eps=bound)

    def attack(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return _ascend(
            lambda noise: _logit(model, image + noise, target),
            torch.zeros_like(image),
            steps=steps,
            step=lambda g: alpha * _normalise(g),
            project=lambda noise: noise.clamp(-bound, bound),
        )

    return _by_chunks(model, attack, images, targets)[0]


def _ascend(
    cost: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    steps: int,
    step: Callable[[Tensor], Tensor],
    project: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Repeat x <- project(x + step(dC/dx)); return the last x and the costs (steps, N) met on the way."""
    costs = [x.new_empty(0, len(x))]
    for _ in range(steps):
        x = x.detach().requires_grad_()
        values = cost(x)  # (N,)
        (gradient,) = torch.autograd.grad(values.sum(), x)  # each image's cost depends on that image alone
        costs.append(values.detach()[None])
        x = project(x.detach() + step(gradient))
    return x.detach(), torch.cat(costs)


def _by_chunks(
    model: nn.Module, attack: Callable[..., tuple[Tensor, Tensor]], *tensors: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the attack on at most `CHUNK` images at a time in eval mode; join images (N, ...) and costs (steps, N)."""

    def with_gradients(*chunk: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            return attack(*(tensor.detach().clone() for tensor in chunk))

    with in_mode(model, training=False):
        parts = in_chunks(with_gradients, *tensors, size=CHUNK)
    images, costs = zip(*parts, strict=True)
    return torch.cat(images), torch.cat(costs, dim=1)


def _logit(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return each image's logit of its target, (N,)."""
    return model(images).gather(1, targets[:, None])[:, 0]


def _normalise(gradient: Tensor) -> Tensor:
    """Divide each image's gradient by its standard deviation over the pixels; a zero gradient stays zero."""
    return gradient / gradient.std((1, 2, 3), keepdim=True).clamp_min(1e-20)


def _total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference between neighbouring pixels, (N,)."""
    return images.diff(dim=2).abs().mean((1, 2, 3)) + images.diff(dim=3).abs().mean((1, 2, 3))


def _check_numbers(*, steps: int, jitter: int = 0, **others: float) -> None:
    """Raise ValueError unless steps and jitter are whole numbers and every number is finite (eps may not be), >= 0."""
    for name, number in {"steps": steps, "jitter": jitter}.items():
        if not isinstance(number, int):
            raise ValueError(f"expected {name} to be a whole number, got {number!r}")
    for name, number in {"steps": steps, "jitter": jitter, **others}.items():
        if not isinstance(number, int | float) or not number >= 0:  # written so that NaN fails too
            raise ValueError(f"expected {name} to be at least 0, got {number!r}")
        if name != "eps" and math.isinf(number):
            raise ValueError(f"expected {name} to be finite, got {number!r}")


def show_adversarial(
    images: Tensor,
    changed: Tensor,
    probs: Tensor,
    *,
    heads: Sequence[str] | None = None,
    limit: float = 1.0,
    zoom: int = 3,
) -> Figure:
    """Draw images, what was added to them, and the results with the class and the probability the network gives.

    Args:
        images: (N, 1, 28, 28) in [0, 1].
        changed: (N, 1, 28, 28), the adversarial images; drawn on the scale 0..1.
        probs: (N, 10) probabilities of `changed`.
        heads: N texts, one over each column.
        limit: the change drawn in full red; its negative is full blue.
        zoom: screen pixels for a pixel.

    Returns:
        The figure: three rows, N columns.

    Raises:
        ValueError: the shapes differ.
    """
    if images.shape != changed.shape or len(probs) != len(images):
        raise ValueError(
            f"expected equal shapes, got {tuple(images.shape)}, {tuple(changed.shape)}, {tuple(probs.shape)}"
        )
    count = len(images)
    sure, classes = probs.max(1)
    verdicts = [f"{c}: {p:.1%}" for c, p in zip(classes.tolist(), sure.tolist(), strict=True)]
    return image_grid(
        torch.cat([images, changed - images, changed]),
        columns=count,
        heads=heads,
        rows=["image", "change", "sum"],
        titles=[""] * 2 * count + verdicts,
        limits=[(0, 1)] * count + [(-limit, limit)] * count + [(0, 1)] * count,
        cmap=[IMAGE] * count + [SIGNED] * count + [IMAGE] * count,
        zoom=zoom,
    )
