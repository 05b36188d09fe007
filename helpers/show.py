"""What all figures of the course share: one style, pixel-exact image grids, and alt text."""

import os
import sys
from base64 import b64encode
from collections.abc import Callable, Sequence
from io import BytesIO

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox
from PIL import Image
from torch import Tensor

# Okabe and Ito's colours, told apart with every kind of colour vision; a map for each kind of data.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, PINK, SKY = "#777777", "#CC79A7", "#56B4E9"
IMAGE, SIGNED, AMOUNT = "gray", "RdBu_r", "viridis"
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, RED, PINK, SKY, GREY]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "image.cmap": IMAGE,
    "image.interpolation": "nearest",
    "legend.frameon": False,
}


def show_figure(figure: Figure, alt: str) -> None:
    """Display the figure with a text for those who cannot see it, and close it.

    The output's metadata keep the text, and under `images` where each picture of pixels lies in the figure, as
    [left, top, width, height] in screen pixels, so that a comparison can look there.

    Args:
        figure: any figure; it is drawn once, here.
        alt: what the figure shows, in a sentence or two.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("expected a text that says what the figure shows, got an empty one")
    drawn, light = BytesIO(), BytesIO()
    figure.draw_without_rendering()  # lays it out
    figure.set_layout_engine("none")
    paper = figure.get_tightbbox().padded(0.1)  # inches
    figure.savefig(drawn, format="png", bbox_inches=paper, facecolor="white", pil_kwargs={"compress_level": 1})
    # 256 colours of its own are enough for any figure here, and a third of the bytes in the notebook's file.
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(light, "png", optimize=True)
    content = {"image/png": b64encode(light.getvalue()).decode(), "text/plain": repr(figure)}
    display(content, raw=True, metadata={"image/png": {"alt": alt}, "images": _boxes(figure, paper)})
    plt.close(figure)


def _boxes(figure: Figure, paper: Bbox) -> list[list[int]]:
    """Return where the figure's images lie on the paper (in inches), as [left, top, width, height] in pixels."""
    found = []
    for image in (image for ax in figure.axes for image in ax.images):
        box = image.get_window_extent()  # in pixels from the bottom left; its corners in any order
        (left, right), (low, high) = sorted(box.intervalx), sorted(box.intervaly)
        place = (left - paper.x0 * figure.dpi, paper.y1 * figure.dpi - high, right - left, high - low)
        found.append([round(value) for value in place])
    return found


def sliders(draw: Callable[..., Figure], alt: str, **ranges: tuple[float, float, float, float]) -> None:
    """Redraw a figure as the reader moves sliders, where there is a reader; elsewhere do nothing.

    A notebook that is executed without a front end (by papermill, nbval or nbconvert) shows and stores nothing here, so
    put a fixed figure beside it.

    Args:
        draw: returns the figure for numbers given by name, as in `ranges`.
        alt: as in `show_figure`.
        ranges: for each number its first, lowest and highest value and the step, whole ones for whole numbers.

    Raises:
        ImportError: there is a reader but no ipywidgets.
    """
    # A front end's server names its session; Colab and VS Code are known by their own marks.
    if not ("JPY_SESSION_NAME" in os.environ or "google.colab" in sys.modules or "VSCODE_PID" in os.environ):
        return
    from ipywidgets import FloatSlider, IntSlider, interact

    controls = {}
    for name, (first, low, high, step) in ranges.items():
        kind = IntSlider if all(isinstance(number, int) for number in ranges[name]) else FloatSlider
        controls[name] = kind(value=first, min=low, max=high, step=step, continuous_update=False)
    interact(lambda **values: show_figure(draw(**values), alt), **controls)


def subplots(rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (6, 3.5), **shared: bool):
    """Return `plt.subplots(rows, columns)` in the course's style.

    Args:
        rows: axes in a column.
        columns: axes in a row.
        size: width and height of the whole figure in inches, at 100 pixels an inch.
        shared: `sharex`, `sharey` or `squeeze`, as in `plt.subplots`.
    """
    with plt.rc_context(STYLE):
        return plt.subplots(rows, columns, figsize=size, **shared)


def image_grid(
    images: Tensor,
    *,
    columns: int = 10,
    titles: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    title_colors: Sequence[str] | None = None,
    frames: Sequence[str | None] | None = None,
    limits: tuple[float, float] | Sequence[tuple[float, float]] = (0, 1),
    cmap: str | Sequence[str] = IMAGE,
    zoom: float = 3,
    colorbar: str | None = None,
) -> Figure:
    """Draw images side by side on one scale, every pixel a square of `zoom` screen pixels.

    Args:
        images: (N, H, W) or (N, 1, H, W), drawn row after row.
        columns: images in a row.
        titles: N texts, one over each image.
        rows: a text to the left of each row of the grid.
        heads: a text over each column of the grid.
        title_colors: N colours of the titles.
        frames: N colours of thick frames; an image for which it is None has the thin grey one.
        limits: the values drawn in the map's first and last colour, the same for all images, or N pairs.
        cmap: `IMAGE` for pixels, `SIGNED` for data around 0 (with limits (-a, a)), `AMOUNT` for probabilities;
            the same for all images, or N of them.
        zoom: screen pixels for a pixel; whole, unless pixels were repeated to make up for a fraction.
        colorbar: what the scale of the last image measures; None draws no colour bar.

    Returns:
        The figure. Its first axes hold all images, in `images`, and count screen pixels, from the top left; where an
        image lies there, its `get_extent()` tells. Second axes are the colour bar, if there is one.

    Raises:
        ValueError: a wrong shape, or texts that do not match the images.
    """
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]  # (N, 1, H, W) -> (N, H, W)
    if images.ndim != 3 or len(images) == 0:
        raise ValueError(f"expected images of shape (N, H, W) or (N, 1, H, W), got {tuple(images.shape)}")
    columns = min(columns, len(images))
    count, lines = len(images), -(-len(images) // columns)
    cmaps = [cmap] * count if isinstance(cmap, str) else cmap
    scales = [limits] * count if isinstance(limits[0], int | float) else limits
    _check_texts(cmaps, count, "colour maps")
    _check_texts(scales, count, "limits")
    _check_texts(titles, count, "titles")
    _check_texts(title_colors, count, "title_colors")
    _check_texts(frames, count, "frames")
    _check_texts(rows, lines, "rows")
    _check_texts(heads, columns, "heads")

    tall, wide = images.shape[1] * zoom, images.shape[2] * zoom  # of one image, in screen pixels
    gap = 6
    parts = [titles[start : start + columns] if titles else [""] for start in range(0, count, columns)]
    overs = [15 * max((text.count("\n") + 1 for text in part if text), default=0) for part in parts]  # over each row
    tops = [sum(overs[: line + 1]) + line * (tall + gap) for line in range(lines)]
    width, height = columns * (wide + gap) - gap, tops[-1] + tall  # of all
    bar_height = min(max(height - tops[0], 96), 240) if colorbar else 0
    full_width, full_height = width + 90 * bool(colorbar), max(height, tops[0] + bar_height)

    with plt.rc_context({**STYLE, "figure.constrained_layout.use": False}):
        figure = plt.figure(figsize=(full_width / 100, full_height / 100))
        # One pair of axes for all: a hundred of them would take three seconds.
        ax = figure.add_axes((0, 1 - height / full_height, width / full_width, height / full_height))
        ax.set_axis_off()
        boxes = []
        for index, image in enumerate(images.detach().cpu().numpy()):
            line, column = divmod(index, columns)
            x, y = column * (wide + gap), tops[line]
            boxes.append(Rectangle((x, y), wide, tall))
            low, high = scales[index]
            extent = (x, x + wide, y + tall, y)
            ax.imshow(image, cmap=cmaps[index], vmin=low, vmax=high, interpolation="nearest", extent=extent)
            middle = x + wide / 2
            if titles:
                color = title_colors[index] if title_colors else "black"
                ax.text(middle, y - 3, titles[index], fontsize=9, ha="center", color=color)
            if rows and column == 0:
                ax.text(-gap, y + tall / 2, rows[line], fontsize=9, ha="right", va="center")
            if heads and line == 0:
                ax.text(middle, -4, heads[column], fontsize=9, ha="center")
        colors = [color or "#cccccc" for color in frames or [None] * count]
        widths = [4 if color else 0.5 for color in frames or [None] * count]
        ax.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=colors, linewidth=widths, clip_on=False))
        ax.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
        if colorbar:
            top = tops[0] if lines > 1 else 0
            place = ((width + 12) / full_width, 1 - (top + bar_height) / full_height)
            bar = figure.add_axes((*place, 12 / full_width, bar_height / full_height))
            scale = plt.cm.ScalarMappable(Normalize(*scales[-1]), cmaps[-1])
            figure.colorbar(scale, cax=bar).set_label(colorbar, fontsize=9)
            bar.tick_params(labelsize=8)
    return figure


def _check_texts(texts: Sequence | None, count: int, name: str) -> None:
    """Raise ValueError unless there is one entry for each of `count` places."""
    if texts is not None and len(texts) != count:
        raise ValueError(f"expected {count} {name}, got {len(texts)}")
