"""The filters of a convolution, as numbers and as one picture."""

from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.checks import number
from helpers.show import SIGNED, image_grid


def filters(layer: nn.Conv2d, *, channel: int = 0) -> Tensor:
    """Return the weights with which each filter of the layer looks at one of its input channels.

    Args:
        layer: any two-dimensional convolution; its weights are (out, in / groups, height, width).
        channel: which input channel of each filter, from 0.

    Returns:
        (out, height, width), a copy without gradients.

    Raises:
        TypeError: the layer is no Conv2d.
        ValueError: it has no such channel.
    """
    if not isinstance(layer, nn.Conv2d):
        raise TypeError(f"expected a Conv2d layer, got {type(layer).__name__}")
    channel = number("channel", channel, whole=True, most=layer.weight.shape[1] - 1)
    return layer.weight[:, channel].detach().clone()  # (out, in, kh, kw) -> (out, kh, kw)


def show_filters(layer: nn.Conv2d, *, channel: int = 0, columns: int = 8, zoom: int = 18) -> Figure:
    """Draw all filters of one input channel as a signed grid: red adds, blue subtracts, white does nothing.

    The scale is that of the whole layer, ±max |w|, so that filters and channels can be compared.

    Args:
        layer: as in `filters`.
        channel: as in `filters`.
        columns: filters in a row.
        zoom: screen pixels for a weight.

    Returns:
        The figure: one image a filter, numbered from 0, and the colour bar.

    Raises:
        TypeError: as in `filters`.
        ValueError: as in `filters`, or weights that are not finite.
    """
    weights = filters(layer, channel=channel)
    if not layer.weight.isfinite().all():
        raise ValueError("expected finite weights, got NaN or infinity")
    limit = layer.weight.detach().abs().max().item() or 1.0  # all weights 0: any scale will do
    return image_grid(
        weights,
        columns=columns,
        titles=range(len(weights)),
        limits=(-limit, limit),
        cmap=SIGNED,
        zoom=zoom,
        colorbar="weight",
    )
