"""How much the network needs each part of an image: cover it and look again."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.answers import asking
from helpers.batches import images_at_once, in_chunks
from helpers.checks import check_images, check_labels, check_model, check_range, number
from helpers.device import device_of
from helpers.show import AMOUNT, IMAGE, image_grid


def occlusion_map(
    model: nn.Module, images: Tensor, labels: Tensor, *, patch: int = 7, stride: int = 1, baseline: float = 0.5
) -> Tensor:
    """Return the probability of each image's label with a grey patch at every position.

    Args:
        model: takes images (N, C, H, W), returns logits (N, classes); used in eval mode where it is, left in its own.
        images: (N, C, H, W) float in [0, 1].
        labels: (N,) int64 in 0..classes - 1, the class whose probability is mapped.
        patch: side of the square patch in pixels, from 1 to the image's shorter side.
        stride: pixels between two positions, at least 1.
        baseline: what the patch is filled with in every channel, in [0, 1].

    Returns:
        (N, H', W') probabilities, H' = (H - patch) // stride + 1 and W' alike, on the images' device and of their type;
        entry [n, i, j] has the patch's top left corner at row i * stride, column j * stride of image n.

    Raises:
        TypeError: images or labels are no tensors, the model is no module, or a number is none.
        ValueError: one of the arguments, or what the model returns, is not as above.

    Warns:
        UserWarning: the model ends in softmax.

    Source: M. Zeiler and R. Fergus, Visualizing and Understanding Convolutional Networks (2014).
    """
    check_images(images)
    check_labels(labels, len(images))

    def probability_of_label(probs: Tensor, image: Tensor) -> Tensor:
        return probs.gather(1, labels.to(image.device)[image, None])[:, 0]  # (chunk, classes) -> (chunk,)

    return _at_every_position(model, images, labels, patch, stride, baseline, probability_of_label)


def occlusion_winner(
    model: nn.Module, images: Tensor, *, patch: int = 7, stride: int = 1, baseline: float = 0.5
) -> Tensor:
    """Return the class that wins with the patch at every position, (N, H', W') int64 in 0..classes - 1.

    Arguments and errors are those of `occlusion_map`.
    """
    check_images(images)
    return _at_every_position(model, images, None, patch, stride, baseline, lambda probs, _: probs.argmax(1))


def _at_every_position(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    patch: int,
    stride: int,
    baseline: float,
    measure: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return `measure(probs, image)` of every occluded image as (N, H', W'): all positions of all images, by chunks.

    `probs` is (chunk, classes), `image` the (chunk,) index of the image that each row belongs to.
    """
    check_model(model)
    patch = number("patch", patch, whole=True, least=1, most=min(images.shape[2:]))
    stride = number("stride", stride, whole=True, least=1)
    baseline = number("baseline", baseline, most=1)
    with asking(model, labels) as ask:
        device = device_of(model, images)
        whole = images.detach().to(device)
        grey = whole.new_tensor(baseline)
        rows, columns = (_covered(side, patch, stride).to(device) for side in images.shape[2:])  # (H', H) and (W', W)
        # Every image with every position.
        pairs = torch.arange(len(images) * len(rows) * len(columns), device=images.device)
        size = images_at_once(images, device, "occlusion")

        @torch.no_grad()
        def measured(pair: Tensor) -> tuple[Tensor, Tensor]:
            image, position = pair // (len(rows) * len(columns)), pair % (len(rows) * len(columns))  # (chunk,) each
            row, column = position // len(columns), position % len(columns)
            mask = rows[row, None, :, None] & columns[column, None, None, :]  # (chunk, 1, H, W)
            occluded = torch.where(mask, grey, whole[image])  # (chunk, C, H, W)
            answers = ask(occluded)
            probs = answers.softmax(1, dtype=images.dtype)  # also under autocast
            return measure(probs, image), answers.isfinite().all()

        values, finite = zip(*in_chunks(measured, pairs, size=size, device=device), strict=True)
    if not torch.stack(finite).all():
        raise ValueError("expected finite logits from the model, got NaN or infinity")
    return torch.cat(values).view(len(images), len(rows), len(columns))


def _covered(side: int, patch: int, stride: int) -> Tensor:
    """Return which of a side's pixels the patch covers in each position, (positions, side) bool."""
    pixel = torch.arange(side)
    corner = pixel[: side - patch + 1 : stride, None]  # (positions, 1)
    return (corner <= pixel) & (pixel < corner + patch)


def show_occlusion(images: Tensor, maps: Tensor, labels: Tensor, *, patch: int, stride: int = 1) -> Figure:
    """Draw each image beside its occlusion map, every map on the scale 0..1 and in the image's own coordinates.

    Args:
        images: (N, 1, H, W) or, in colour, (N, 3, H, W) in [0, 1].
        maps: (N, H', W') probabilities in [0, 1], from `occlusion_map`.
        labels: (N,) int64, the class that was mapped.
        patch: the patch of the maps; each value is drawn where the patch's centre was.
        stride: the stride of the maps; where another one makes as many positions, no map can tell.

    Returns:
        The figure: pairs of image and map, five a row at most, and one colour bar.

    Raises:
        TypeError: images, maps or labels are no tensors.
        ValueError: a wrong shape, such as that of maps of another patch or stride, or maps that are no probabilities.
    """
    check_images(images)
    check_labels(labels, len(images))
    if not torch.is_tensor(maps):
        raise TypeError(f"expected maps as a tensor, got {type(maps).__name__}")
    patch = number("patch", patch, whole=True, least=1, most=min(images.shape[2:]))
    stride = number("stride", stride, whole=True, least=1)
    expected = (len(images), *((side - patch) // stride + 1 for side in images.shape[2:]))
    if maps.shape != expected:
        raise ValueError(f"expected maps of shape {expected} for {patch=} and {stride=}, got {tuple(maps.shape)}")
    if not maps.is_floating_point():
        raise ValueError(f"expected maps of a floating-point type, got {maps.dtype}")
    check_range("maps", maps)
    # Every pixel as two by two, since the middle of a patch may lie between two pixels.
    pixels = images.repeat_interleave(2, 2).repeat_interleave(2, 3)  # (N, C, 2 * H, 2 * W)
    values = maps.repeat_interleave(2 * stride, 1).repeat_interleave(2 * stride, 2)  # (N, 2 * stride * H', ...)
    before = patch - stride  # the first value is centred on the first patch; a negative margin cuts that much off
    below, right = (pixels.shape[dim] - before - values.shape[dim - 1] for dim in (2, 3))
    values = F.pad(values, (before, right, before, below), value=torch.nan)  # (N, 2 * H, 2 * W), NaN stays white
    texts = [
        (f"a {label}", f"least {least:.2f}") for label, least in zip(labels.tolist(), maps.amin((1, 2)), strict=True)
    ]
    return image_grid(
        [picture for pair in zip(pixels, values, strict=True) for picture in pair],  # image, map, image, map, ...
        titles=[text for pair in texts for text in pair],
        cmap=[IMAGE, AMOUNT] * len(images),
        zoom=1.5,
        colorbar="probability of the true class",
    )
