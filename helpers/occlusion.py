"""How much the network needs each part of an image: cover it and look again."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.batches import check_images, check_labels, in_chunks, in_mode
from helpers.show import AMOUNT, IMAGE, image_grid

CHUNK = 64  # occluded images at a time: few enough to stay in a processor's cache, and a bound on the memory


def occlusion_map(
    model: nn.Module, images: Tensor, labels: Tensor, *, patch: int = 7, stride: int = 1, baseline: float = 0.5
) -> Tensor:
    """Return the probability of each image's label with a grey patch at every position.

    Args:
        model: takes images (N, 1, 28, 28), returns logits (N, 10); used in eval mode, left in its own.
        images: (N, 1, 28, 28) float in [0, 1].
        labels: (N,) int64 in 0..9, the class whose probability is mapped.
        patch: side of the square patch in pixels, 1..28.
        stride: pixels between two positions, at least 1.
        baseline: what the patch is filled with, in [0, 1].

    Returns:
        (N, H', W') probabilities, H' = W' = (28 - patch) // stride + 1; entry [n, i, j] has the patch's top left
        corner at row i * stride, column j * stride of image n.

    Raises:
        ValueError: one of the arguments is not as above.

    Source: M. Zeiler and R. Fergus, Visualizing and Understanding Convolutional Networks (2014).
    """
    check_labels(labels, len(images))

    def probability_of_label(probs: Tensor, image: Tensor) -> Tensor:
        return probs.gather(1, labels[image, None])[:, 0]  # (chunk, 10) -> (chunk,)

    return _at_every_position(model, images, patch, stride, baseline, probability_of_label)


def occlusion_winner(
    model: nn.Module, images: Tensor, *, patch: int = 7, stride: int = 1, baseline: float = 0.5
) -> Tensor:
    """Return the class that wins with the patch at every position, (N, H', W') int64 in 0..9.

    Arguments and errors are those of `occlusion_map`.
    """
    return _at_every_position(model, images, patch, stride, baseline, lambda probs, _: probs.argmax(1))


def _at_every_position(
    model: nn.Module,
    images: Tensor,
    patch: int,
    stride: int,
    baseline: float,
    measure: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return `measure(probs, image)` of every occluded image as (N, H', W'): all positions of all images, by chunks.

    `probs` is (chunk, 10), `image` the (chunk,) index of the image that each row belongs to.
    """
    check_images(images)
    size = images.shape[-1]
    if not isinstance(patch, int) or not 1 <= patch <= size:
        raise ValueError(f"expected a patch of 1..{size} pixels, got {patch!r}")
    if not isinstance(stride, int) or stride < 1:
        raise ValueError(f"expected a stride of at least 1 pixel, got {stride!r}")
    if not 0 <= baseline <= 1:
        raise ValueError(f"expected a baseline in [0, 1], got {baseline!r}")

    pixel = torch.arange(size, device=images.device)
    corner = pixel[: size - patch + 1 : stride, None]  # (H', 1)
    covers = (corner <= pixel) & (pixel < corner + patch)  # (H', 28): the rows, or columns, of each position
    masks = (covers[:, None, :, None] & covers[None, :, None, :]).flatten(0, 1).unsqueeze(1)  # (H' * W', 1, 28, 28)
    grey = images.new_tensor(baseline)

    @torch.no_grad()
    def measured(pair: Tensor) -> Tensor:
        image, position = pair // len(masks), pair % len(masks)  # (chunk,) each
        occluded = torch.where(masks[position], grey, images[image])  # (chunk, 1, 28, 28)
        return measure(model(occluded).softmax(1, dtype=images.dtype), image)  # also under autocast

    pairs = torch.arange(len(images) * len(masks), device=images.device)  # every image with every position
    with in_mode(model, training=False):
        values = torch.cat(in_chunks(measured, pairs, size=CHUNK))
    return values.view(len(images), len(corner), len(corner))


def show_occlusion(images: Tensor, maps: Tensor, labels: Tensor, *, patch: int, stride: int = 1) -> Figure:
    """Draw each image beside its occlusion map, every map on the scale 0..1 and in the image's own coordinates.

    Args:
        images: (N, 1, 28, 28) in [0, 1].
        maps: (N, H', W') probabilities in [0, 1], from `occlusion_map`.
        labels: (N,) the class that was mapped.
        patch: the patch of the maps; each value is drawn where the patch's centre was.
        stride: the stride of the maps.

    Returns:
        The figure: pairs of image and map, five a row at most, and one colour bar.

    Raises:
        ValueError: the number of images, maps and labels differ.
    """
    if not len(images) == len(maps) == len(labels):
        raise ValueError(f"expected as many maps and labels as images, got {len(images)}, {len(maps)}, {len(labels)}")
    # Every pixel as two by two, since the middle of a patch may lie between two pixels.
    pixels = images[:, 0].repeat_interleave(2, 1).repeat_interleave(2, 2)  # (N, 56, 56)
    values = maps.repeat_interleave(2 * stride, 1).repeat_interleave(2 * stride, 2)  # (N, 2 * stride * H', ...)
    before = patch - stride  # the first value is centred on the first patch; a negative margin cuts that much off
    after = pixels.shape[-1] - before - values.shape[-1]
    values = F.pad(values, (before, after, before, after), value=torch.nan)  # (N, 56, 56), NaN stays white
    texts = [
        (f"a {label}", f"least {least:.2f}") for label, least in zip(labels.tolist(), maps.amin((1, 2)), strict=True)
    ]
    return image_grid(
        torch.stack([pixels, values], 1).flatten(0, 1),  # (2 * N, 56, 56)
        titles=[text for pair in texts for text in pair],
        cmap=[IMAGE, AMOUNT] * len(images),
        zoom=1.5,
        colorbar="probability of the true class",
    )
