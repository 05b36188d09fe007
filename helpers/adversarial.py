"""Bounded attacks: each is an ascent on the loss within a ball around the image, with the weights left alone.

Pixels are in [0, 1], `eps` and `alpha` in the same units. Images share a batch, never a gradient:
what one becomes does not depend on the others.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.ascent import add_faults, ball_around, by_chunks, gradient_of, home_of, logits_of, no_faults, report
from helpers.batches import check_images, check_labels, classes_of, number
from helpers.show import IMAGE, SIGNED, image_grid

ROUND = 5  # steps of an attack that may stop early before what is left is batched anew


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, targeted: bool = False) -> Tensor:
    """Return the images after one step of size eps along the sign of the loss's gradient.

    The loss is log-sum-exp of the other logits minus the label's own, the log odds against the label. Its gradient has
    the sign of cross-entropy's, which in float32 is lost where the model is sure: there the softmax rounds to 1.

    Args:
        model: takes images (N, C, H, W), returns logits (N, classes); used in eval mode where it is, left as found.
        images: (N, C, H, W) float in [0, 1], of the model's type.
        labels: (N,) int64 in 0..classes - 1: the classes to leave, or with `targeted` the classes to reach.
        eps: the largest change of a pixel, at least 0; infinity goes to the edge of the range.
        targeted: step down the loss of `labels` instead of up.

    Returns:
        (N, C, H, W) in [0, 1], at most eps from `images` in every pixel, to the last bit; on their device.

    Raises:
        TypeError: what should be a tensor, a number or a model is none.
        ValueError: one of the arguments is not as above, a logit or a gradient is not finite, or the gradient of every
            image is zero: the attack says nothing about such a model.

    Warns:
        UserWarning: so many images, but not all, had a gradient that is zero in every pixel; or the model ends in
            softmax.

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
        generator: of the random start; by default the processor's, wherever the images are.

    Returns:
        As `fgsm`.

    Raises:
        TypeError: as in `fgsm`.
        ValueError: as in `fgsm`.

    Warns:
        UserWarning: as in `fgsm`.

    Source: A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks (2018).
    """
    check_images(images)
    eps, alpha, steps = number("eps", eps), number("alpha", alpha), number("steps", steps, whole=True)
    check_labels(labels, len(images), classes_of(model, images))
    images, labels = images.detach(), labels.to(images.device)
    ball = ball_around(images, eps)
    # Between the steps in at least float32: in float16 a small step would be rounded away.
    low, high, x = (part.to(torch.promote_types(images.dtype, torch.float32)) for part in (*ball, images.clone()))
    if random_start:
        noise = torch.rand(images.shape, generator=generator, device=home_of(generator), dtype=images.dtype)
        x = (x + min(eps, 1) * (2 * noise.to(x.device) - 1)).clamp(low, high)
    stride = min(alpha, 1)  # a larger step ends at the same edge of the range
    if targeted:
        stride = -stride

    def attack(x: Tensor, label: Tensor, low: Tensor, high: Tensor, *, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return x, which images are left to attack (1, N), and the faults of their gradients."""
        left = torch.arange(len(x), device=x.device)
        faults = no_faults(x)
        for _ in range(steps):
            if len(left) == 0:
                break
            point = x[left].requires_grad_()
            logits = logits_of(model, point.to(images.dtype))
            gradient, found = gradient_of(_log_odds_against(logits, label[left]), logits, point)
            failed = (logits.argmax(1) == label[left]) != targeted
            found[1] &= failed  # who has succeeded may stand still
            faults[:, left] = add_faults(faults[:, left], found)
            moved = (point.detach() + stride * gradient.sign()).clamp(low[left], high[left])
            if early_stop:  # by the logits that were met on the way
                left, moved = left[failed], moved[failed]
            x[left] = moved
        return x, torch.zeros(1, len(x), dtype=torch.bool, device=x.device).index_fill(1, left, True), faults

    left = torch.arange(len(images), device=images.device)
    faults = no_faults(images)
    size = ROUND if early_stop else max(steps, 1)
    for done in range(0, steps, size):
        some = partial(attack, steps=min(size, steps - done))
        x[left], failed, found = by_chunks(model, some, x[left], labels[left], low[left], high[left])
        faults[:, left] = add_faults(faults[:, left], found)
        left = left[failed[0]]
        if len(left) == 0:
            break
    if steps:
        report(faults)
    return x.to(images.dtype).clamp(*ball)


def _log_odds_against(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log((1 - p) / p) of each label's probability p, (N,), in at least float32, never rounded away."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    own = labels[:, None]  # (N, 1)
    return logits.scatter(1, own, -math.inf).logsumexp(1) - logits.gather(1, own)[:, 0]


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
        images: (N, 1, H, W) or, in colour, (N, 3, H, W) in [0, 1].
        changed: of the same shape, the adversarial images; drawn on the scale 0..1.
        probs: (N, classes) probabilities of `changed`.
        heads: N texts, one over each column.
        limit: the change drawn in full red; its negative is full blue.
        zoom: screen pixels for a pixel.

    Returns:
        The figure: three rows, N columns.

    Raises:
        TypeError: no tensors.
        ValueError: the shapes differ.
    """
    if not all(torch.is_tensor(part) for part in (images, changed, probs)):
        came = ", ".join(type(part).__name__ for part in (images, changed, probs))
        raise TypeError(f"expected images, changed and probs as tensors, got {came}")
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
