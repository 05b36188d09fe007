"""Images that fool a network: each attack is an ascent on the pixels, with the weights left alone.

Pixels are in [0, 1], `eps` and `alpha` in the same units. Images share a batch, never a gradient:
what one becomes does not depend on the others.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.cnn import check_images, check_labels, in_chunks, in_mode
from helpers.show import IMAGE, SIGNED, image_grid

ROUND = 5  # steps of an attack that may stop early before what is left is batched anew
CHUNK = 64  # images at a time: few enough to stay in a processor's cache, and a bound on the memory
SIZE = (1, 28, 28)


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, targeted: bool = False) -> Tensor:
    """Return the images after one step of size eps along the sign of the loss's gradient.

    The loss is log-sum-exp of the other logits minus the label's own, the log odds against the label. Its gradient has
    the sign of cross-entropy's, which in float32 is lost where the model is sure: there the softmax rounds to 1.

    Args:
        model: takes images (N, 1, 28, 28), returns logits (N, 10); used in eval mode, left as found.
        images: (N, 1, 28, 28) float in [0, 1].
        labels: (N,) int64 in 0..9: the classes to leave, or with `targeted` the classes to reach.
        eps: the largest change of a pixel, at least 0.
        targeted: step down the loss of `labels` instead of up.

    Returns:
        (N, 1, 28, 28) in [0, 1], at most eps from `images` in every pixel, to the last bit.

    Raises:
        ValueError: one of the arguments is not as above, a logit or a gradient is not finite, or the gradient of every
            image is zero: the attack says nothing about such a model.

    Warns:
        UserWarning: so many images, but not all, had a gradient that is zero in every pixel.

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
        (N, 1, 28, 28) in [0, 1], at most eps from `images` in every pixel, to the last bit.

    Raises:
        ValueError: as in `fgsm`.

    Warns:
        UserWarning: as in `fgsm`.

    Source: A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks (2018).
    """
    check_images(images)
    check_labels(labels, len(images))
    _check_numbers(eps=eps, alpha=alpha, steps=steps)
    ball = _ball(images, eps)
    # Between the steps in at least float32: in float16 a small step would be rounded away.
    low, high, x = (
        part.to(torch.promote_types(images.dtype, torch.float32)) for part in (*ball, images.detach().clone())
    )
    if random_start:
        noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        x = (x + min(eps, 1) * (2 * noise - 1)).clamp(low, high)
    stride = min(alpha, 1)  # a larger step ends at the same edge of the range
    if targeted:
        stride = -stride

    def attack(label: Tensor, low: Tensor, high: Tensor, x: Tensor, *, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return x, which images are left to attack (1, N), and the faults of their gradients."""
        left = torch.arange(len(x), device=x.device)
        faults = _no_faults(x)
        for _ in range(steps):
            if len(left) == 0:
                break
            point = x[left].requires_grad_()
            logits = _logits(model, point.to(images.dtype))
            gradient, found = _gradient(_log_odds_against(logits, label[left]), point)
            failed = (logits.argmax(1) == label[left]) != targeted
            found[1] &= failed  # who has succeeded may stand still
            faults[:, left] = _add(faults[:, left], found)
            moved = (point.detach() + stride * gradient.sign()).clamp(low[left], high[left])
            if early_stop:  # by the logits that were met on the way
                left, moved = left[failed], moved[failed]
            x[left] = moved
        return x, torch.zeros(1, len(x), dtype=torch.bool, device=x.device).index_fill(1, left, True), faults

    left = torch.arange(len(images), device=images.device)
    faults = _no_faults(images)
    size = ROUND if early_stop else max(steps, 1)
    for done in range(0, steps, size):
        some = partial(attack, steps=min(size, steps - done))
        x[left], failed, found = _by_chunks(model, some, labels[left], low[left], high[left], x[left])
        faults[:, left] = _add(faults[:, left], found)
        left = left[failed[0]]
        if len(left) == 0:
            break
    if steps:
        _report(faults)
    return x.to(images.dtype).clamp(*ball)


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

    def attack(begin: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        offsets = iter(moves)
        return _ascend(
            lambda x: cost(x, target, next(offsets)),
            begin,
            steps=steps,
            step=lambda g: alpha * _normalise(g),
            project=project,
        )

    return _reported(*_by_chunks(model, attack, start, targets))


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
    _check_numbers(beta=beta, alpha=alpha, steps=steps)

    def attack(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _ascend(
            lambda x: _logit(model, x, target) - beta * (x - image).square().mean((1, 2, 3)),
            image,
            steps=steps,
            step=lambda g: alpha * _normalise(g),
            project=lambda x: x.clamp(0, 1),
        )

    return _reported(*_by_chunks(model, attack, images, targets))


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
    _check_numbers(alpha=alpha, steps=steps, eps=bound)

    def attack(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _ascend(
            lambda noise: _logit(model, image + noise, target),
            torch.zeros_like(image),
            steps=steps,
            step=lambda g: alpha * _normalise(g),
            project=lambda noise: noise.clamp(-bound, bound),
        )

    return _reported(*_by_chunks(model, attack, images, targets))[0]


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
    faults = _no_faults(x)
    for _ in range(steps):
        x = x.detach().requires_grad_()
        values = cost(x)  # (N,)
        gradient, found = _gradient(values, x)
        faults = _add(faults, found)
        costs.append(values.detach()[None])
        x = project(x.detach() + step(gradient))
    return x.detach(), torch.cat(costs), faults if steps else torch.zeros_like(faults)


def _by_chunks(
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


def _gradient(values: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of each image's value (N,) by that image, (N, ...), and its faults.

    Returns:
        The gradient, and (2, N): which images have a value or a gradient that is not finite, and which a zero gradient.
    """
    (gradient,) = torch.autograd.grad(values.sum(), x)  # each image's value depends on that image alone
    pixels = gradient.flatten(1)  # (N, pixels)
    return gradient, torch.stack([~(values + pixels.sum(1)).isfinite(), (pixels == 0).all(1)])


def _no_faults(images: Tensor) -> Tensor:
    """Return the faults (2, N) of no step at all, to which `_add` adds those of each step."""
    return torch.tensor([[False], [True]], device=images.device).repeat(1, len(images))


def _add(faults: Tensor, found: Tensor) -> Tensor:
    """Return the faults of several steps: not finite in one of them, and a zero gradient in all."""
    return torch.stack([faults[0] | found[0], faults[1] & found[1]])


def _report(faults: Tensor) -> None:
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


def _reported(images: Tensor, costs: Tensor, faults: Tensor) -> tuple[Tensor, Tensor]:
    """Return images and costs once the faults are reported."""
    _report(faults)
    return images, costs


def _log_odds_against(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log((1 - p) / p) of each label's probability p, (N,), in at least float32, never rounded away."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    own = labels[:, None]  # (N, 1)
    return logits.scatter(1, own, -math.inf).logsumexp(1) - logits.gather(1, own)[:, 0]


def _ball(images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
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


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return the model's logits (N, 10); ValueError unless they have a gradient by the pixels."""
    logits = model(images)
    if not logits.requires_grad:
        raise ValueError("expected logits that depend on the pixels, got some without a gradient")
    return logits


def _logit(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return each image's logit of its target, (N,)."""
    return _logits(model, images).gather(1, targets[:, None])[:, 0]


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
