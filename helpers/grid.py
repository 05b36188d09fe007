"""Images side by side: every pixel a whole square, all on one scale."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from helpers.checks import number
from helpers.options import as_limits, as_pictures, as_texts, check_scale, one_each
from helpers.style import IMAGE, PLAIN, STYLE

GAP = 6  # screen pixels between two images


def image_grid(
    images: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
    *,
    columns: int = 10,
    titles: Sequence | None = None,
    rows: Sequence | None = None,
    heads: Sequence | None = None,
    title_colors: str | Sequence[str] | None = None,
    frames: str | Sequence[str | None] | None = None,
    limits: Sequence[float] | Sequence[Sequence[float]] = (0, 1),
    cmap: str | Colormap | Sequence[str | Colormap] = IMAGE,
    zoom: float = 3,
    colorbar: str | None = None,
) -> Figure:
    """Draw images side by side on one scale, every pixel a square of `zoom` screen pixels.

    Args:
        images: (N, H, W), (N, 1, H, W) or, in colour, (N, 3, H, W), drawn row after row; or a list of such images.
        columns: images in a row, at least 1.
        titles: N texts or numbers, one over each image.
        rows: a text to the left of each row of the grid.
        heads: a text over each column of the grid.
        title_colors: the colour of the titles, or N colours.
        frames: the colour of thick frames, or N; an image for which it is None has the thin grey one.
        limits: the values drawn in the map's first and last colour, the same for all images, or N pairs. A colour
            image has black and its brightest there.
        cmap: `IMAGE` for pixels, `SIGNED` for data around 0 (with limits (-a, a)), `AMOUNT` for probabilities;
            the same for all images, or N of them; None is `IMAGE`. A colour image needs none.
        zoom: screen pixels for a pixel, .01 to 1000; whole, unless pixels were repeated to make up for a fraction.
        colorbar: what the scale of the last image measures; None draws no colour bar.

    Returns:
        The figure. Its first axes hold all images, in `images`, and count screen pixels, from the top left; where an
        image lies there, its `get_extent()` tells. Second axes are the colour bar, if there is one.

    Raises:
        TypeError: no images, no number, or one text where there are to be many.
        ValueError: a wrong shape or number, texts that do not match the images, a colour map that there is not, whole
            numbers in 0..255 on the scale 0..1.
    """
    pictures = as_pictures(images)
    count, (height, width) = len(pictures), pictures[0].shape[:2]
    columns = min(number("columns", columns, whole=True, least=1), count)
    zoom = number("zoom", zoom, least=0.01, most=1000)
    lines = -(-count // columns)
    titles, rows = as_texts(titles, count, "titles"), as_texts(rows, lines, "rows")
    heads = as_texts(heads, columns, "heads")
    colors, frames = one_each(title_colors, count, "title_colors"), one_each(frames, count, "frames")
    scales, cmaps = (
        as_limits(limits, count),
        [plt.get_cmap(IMAGE if name is None else name) for name in one_each(cmap, count, "colour maps")],
    )
    check_scale(pictures, scales)

    tall, wide = height * zoom, width * zoom  # of one image, in screen pixels
    parts = [titles[start : start + columns] for start in range(0, count, columns)]
    overs = [15 * max((text.count("\n") + 1 for text in part if text), default=0) for part in parts]  # over each row
    tops = [sum(overs[: line + 1]) + line * (tall + GAP) for line in range(lines)]
    right, bottom = columns * (wide + GAP) - GAP, tops[-1] + tall  # of all
    bar_height = min(max(bottom - tops[0], 96), 240) if colorbar else 0
    full_width, full_height = right + 90 * bool(colorbar), max(bottom, tops[0] + bar_height)
    boxes = [Rectangle((column * (wide + GAP), top), wide, tall) for top in tops for column in range(columns)][:count]

    with _figure(full_width, full_height) as figure:
        # One pair of axes for all: a hundred of them would take three seconds.
        ax = figure.add_axes((0, 1 - bottom / full_height, right / full_width, bottom / full_height))
        ax.set_axis_off()
        for picture, box, scale, colours in zip(pictures, boxes, scales, cmaps, strict=True):
            _draw(ax, picture, box, scale, colours)
        for title, box, color in zip(titles, boxes, colors, strict=False):
            ax.text(box.get_center()[0], box.get_y() - 3, title, fontsize=9, ha="center", color=color or "black")
        for row, box in zip(rows, boxes[::columns], strict=False):
            ax.text(-GAP, box.get_center()[1], row, fontsize=9, ha="right", va="center")
        for head, box in zip(heads, boxes, strict=False):
            ax.text(box.get_center()[0], -4, head, fontsize=9, ha="center")
        edges, widths = [color or "#cccccc" for color in frames], [4 if color else 0.5 for color in frames]
        ax.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=edges, linewidth=widths, clip_on=False))
        ax.set(xlim=(0, right), ylim=(bottom, 0), aspect="auto")
        if colorbar:
            top = tops[0] if lines > 1 else 0
            place = ((right + 12) / full_width, 1 - (top + bar_height) / full_height)
            bar = figure.add_axes((*place, 12 / full_width, bar_height / full_height))
            scale = plt.cm.ScalarMappable(Normalize(*scales[-1]), cmaps[-1])
            figure.colorbar(scale, cax=bar).set_label(colorbar, fontsize=9)
            bar.tick_params(labelsize=8)
    return figure


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """Open a figure of so many screen pixels in the course's style; close it again if drawing into it fails."""
    with plt.style.context([PLAIN, STYLE, {"figure.constrained_layout.use": False}]):
        figure = plt.figure(figsize=(width / 100, height / 100))
        try:
            yield figure
        except BaseException:
            plt.close(figure)
            raise


def _draw(ax: Axes, picture: np.ndarray, box: Rectangle, scale: tuple[float, float], cmap: Colormap) -> None:
    """Draw an image where the box lies, (H, W) in a map's colours or (H, W, 3) in its own."""
    low, high = scale
    if picture.ndim == 3:  # of which matplotlib wants [0, 1]; NaN is white, as in a map
        picture = np.nan_to_num(np.clip((picture - low) / ((high - low) or 1), 0, 1), nan=1)
    (left, top), (right, bottom) = box.get_corners()[[0, 2]]
    extent = (left, right, bottom, top)
    ax.imshow(picture, cmap=cmap, vmin=low, vmax=high, interpolation="nearest", extent=extent)
