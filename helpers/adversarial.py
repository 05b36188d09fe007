"""Bounded attacks: each is an ascent on the loss within a ball around the image, with the weights left alone.

Pixels are in [0, 1], `eps` and `alpha` in the same units. Images share a batch, never a gradient:
what one becomes does not depend on the others.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from helpers.answers import ask_many, asking
from helpers.ascent import add_faults, by_chunks, gradient_of, no_faults, report
from helpers.ball import ball_around
from helpers.checks import check_images, check_labels, flag, home_of, number
from helpers.device import device_of
from helpers.show import show_adversarial

__all__ = ["fgsm", "pgd", "show_adversarial"]
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
        TypeError: what should be a tensor, a number, true or false, a generator or a model is none.
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
    loss: str = "cross_entropy",
    restarts: int = 1,
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
        loss: what the steps climb: "cross_entropy", by the log odds as in `fgsm`, or "margin", the largest other logit
            minus the label's own, above 0 where an image is misclassified.
        restarts: how many attacks, each from a random start of its own; of the points where they end, the one of the
            largest margin (with `targeted` the smallest) is kept for each image. More than 1 need `random_start`.
        generator: of the random starts; by default the processor's, wherever the images are.

    Returns:
        As `fgsm`.

    Raises:
        TypeError: as in `fgsm`, and so are ValueError and UserWarning.

    Source: A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks (2018); the margin:
        N. Carlini and D. Wagner, Towards Evaluating the Robustness of Neural Networks (2017).
    """
    check_images(images)
    check_labels(labels, len(images))
    eps, alpha, steps = number("eps", eps), number("alpha", alpha), number("steps", steps, whole=True)
    random_start, targeted = flag("random_start", random_start), flag("targeted", targeted)
    early_stop, home = flag("early_stop", early_stop), home_of(generator)
    if loss not in LOSSES:
        raise ValueError(f"expected loss to be one of {', '.join(LOSSES)}, got {loss!r}")
    restarts = number("restarts", restarts, whole=True, least=1)
    if restarts > 1 and not random_start:
        raise ValueError(f"expected random_start=True with restarts, got {restarts} attacks from the same point")
    images, labels = images.detach(), labels.to(images.device)
    ball = ball_around(images, eps)
    # Between the steps in at least float32: in float16 a small step would be rounded away.
    precise = torch.promote_types(images.dtype, torch.float32)
    low, high = (edge.to(precise) for edge in ball)
    stride = min(alpha, 1)  # a larger step ends at the same edge of the range
    if targeted:
        stride = -stride
    size = ROUND if early_stop else max(steps, 1)

    def begin() -> Tensor:
        x = images.to(precise, copy=True)
        if not random_start:
            return x
        noise = torch.rand(images.shape, generator=generator, device=home, dtype=images.dtype)
        return (x + min(eps, 1) * (2 * noise.to(x.device) - 1)).clamp(low, high)

    with asking(model, labels) as ask:

        def attack(x: Tensor, label: Tensor, low: Tensor, high: Tensor, *, steps: int) -> tuple[Tensor, Tensor, Tensor]:
            """Return x, which images are left to attack (1, N), and the faults of their gradients."""
            left = torch.arange(len(x), device=x.device)
            faults = no_faults(x)
            for _ in range(steps):
                if len(left) == 0:
                    break
                point = x[left].requires_grad_()
                logits = ask(point.to(images.dtype))
                gradient, found = gradient_of(LOSSES[loss](logits, label[left]), logits, point)
                failed = (logits.argmax(1) == label[left]) != targeted
                found[1] &= failed  # who has succeeded may stand still
                faults[:, left] = add_faults(faults[:, left], found)
                moved = (point.detach() + stride * gradient.sign()).clamp(low[left], high[left])
                if early_stop:  # by the logits that were met on the way
                    left, moved = left[failed], moved[failed]
                x[left] = moved
            return x, torch.zeros(1, len(x), dtype=torch.bool, device=x.device).index_fill(1, left, True), faults

        def attacked(x: Tensor, chosen: Tensor) -> Tensor:
            """Return x after all steps, of which only the chosen images are attacked."""
            faults, left = no_faults(x), chosen
            for done in range(0, steps, size):
                if len(left) == 0:
                    break
                some = partial(attack, steps=min(size, steps - done))
                x[left], failed, found = by_chunks(model, some, x[left], labels[left], low[left], high[left])
                faults[:, left] = add_faults(faults[:, left], found)
                left = left[failed[0]]
            if steps and len(chosen):
                report(faults[:, chosen])
            return x.to(images.dtype).clamp(*ball)

        def success(x: Tensor, labels: Tensor) -> Tensor:
            """Return how well each image succeeds, (N,): its margin, or with `targeted` the opposite."""
            margins = _margin_against(ask_many(ask, x, device_of(model, x)), labels)
            return -margins if targeted else margins

        chosen = torch.arange(len(images), device=images.device)
        worst = attacked(begin(), chosen)
        if restarts > 1:
            reached = success(worst, labels)
        for _ in range(1, restarts):
            if early_stop:
                chosen = (reached <= 0).nonzero()[:, 0]
            if len(chosen) == 0:
                break
            again = attacked(begin(), chosen)[chosen]
            values = success(again, labels[chosen])
            better = values > reached[chosen]
            worst[chosen[better]], reached[chosen[better]] = again[better], values[better]
    return worst


def _log_odds_against(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log((1 - p) / p) of each label's probability p, (N,), in at least float32, never rounded away."""
    others, own = _others_and_own(logits, labels)
    return others.logsumexp(1) - own


def _margin_against(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest other logit minus each label's own, (N,)."""
    others, own = _others_and_own(logits, labels)
    return others.amax(1) - own


def _others_and_own(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits with each label's own at minus infinity, (N, classes), and the own, (N,); float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    own = labels[:, None]  # (N, 1)
    return logits.scatter(1, own, -math.inf), logits.gather(1, own)[:, 0]


LOSSES = {"cross_entropy": _log_odds_against, "margin": _margin_against}
