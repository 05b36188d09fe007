"""What figures share, for notebooks to import: one style, image grids, attacked images, alt text, and sliders."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from io import BytesIO

import matplotlib.pyplot as plt
import torch
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from torch import Tensor

from helpers.checks import check_finite, check_images, check_range, number
from helpers.grid import image_grid
from helpers.reader import somebody_reads
from helpers.style import AMOUNT, BLUE, GREEN, GREY, IMAGE, ORANGE, PINK, PLAIN, RED, SIGNED, SKY, STYLE, subplots

__all__ = ["AMOUNT", "BLUE", "GREEN", "GREY", "IMAGE", "ORANGE", "PINK", "RED", "SIGNED", "SKY", "STYLE"]
__all__ += ["image_grid", "show_adversarial", "show_figure", "sliders", "subplots"]


def show_figure(figure: Figure, alt: str) -> None:
    """Display the figure with a text for those who cannot see it, and close it.

    The output's metadata keep the text, and under `images` where each picture of pixels lies in the figure, as
    [left, top, width, height] in screen pixels, so that a comparison can look there.

    Args:
        figure: any figure; it is drawn once, here.
        alt: what the figure shows, in a sentence or two.

    Raises:
        TypeError: no figure.
        ValueError: `alt` is empty.
    """
    if not isinstance(figure, Figure):
        raise TypeError(f"expected a matplotlib Figure, got {type(figure).__name__}")
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"expected a text that says what the figure shows, got {alt!r}")
    drawn, light = BytesIO(), BytesIO()
    with plt.style.context(PLAIN):  # what a reader has set in rcParams, such as savefig.dpi, changes no figure
        if figure.axes and (layout := figure.get_layout_engine()):
            layout.execute(figure)
            figure.set_layout_engine(None)  # done; saving would draw it once more for that
        paper = figure.get_tightbbox().padded(0.1)  # inches
        figure.savefig(drawn, format="png", bbox_inches=paper, facecolor="white", pil_kwargs={"compress_level": 1})
    # 256 colours of its own are enough for any figure here, and a third of the bytes in the notebook's file.
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(light, "png")
    content = {"image/png": b64encode(light.getvalue()).decode(), "text/plain": repr(figure)}
    display(content, raw=True, metadata={"image/png": {"alt": alt}, "images": _boxes(figure, paper)})
    plt.close(figure)


def _boxes(figure: Figure, paper: Bbox) -> list[list[int]]:
    """Return where what is seen of the figure's images lies on the paper, [left, top, width, height] in pixels.

    The paper is in inches.
    """
    found = []
    for image in (image for ax in figure.axes for image in ax.images):
        box = Bbox.intersection(image.get_window_extent(), image.axes.bbox)  # in pixels from the bottom left
        if box is not None:  # axes may show another part of the plane
            place = (box.x0 - paper.x0 * figure.dpi, paper.y1 * figure.dpi - box.y1, box.width, box.height)
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
    if not somebody_reads():
        return
    from ipywidgets import FloatSlider, IntSlider, interact

    controls = {}
    for name, (first, low, high, step) in ranges.items():
        kind = IntSlider if all(isinstance(number, int) for number in ranges[name]) else FloatSlider
        controls[name] = kind(value=first, min=low, max=high, step=step, continuous_update=False)
    interact(lambda **values: show_figure(draw(**values), alt), **controls)


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
        limit: the change drawn in full red, above 0; its negative is full blue.
        zoom: screen pixels for a pixel.

    Returns:
        The figure: three rows, N columns.

    Raises:
        TypeError: no tensors, or no number.
        ValueError: the shapes differ, or images or probabilities are not in [0, 1].
    """
    if not all(torch.is_tensor(part) for part in (images, changed, probs)):
        came = ", ".join(type(part).__name__ for part in (images, changed, probs))
        raise TypeError(f"expected images, changed and probs as tensors, got {came}")
    check_images(images)
    if images.shape != changed.shape or probs.ndim != 2 or len(probs) != len(images) or probs.shape[1] == 0:
        came = ", ".join(f"{tuple(part.shape)}" for part in (images, changed, probs))
        raise ValueError(f"expected images and changed of equal shapes and probs of shape (N, classes), got {came}")
    check_range("probs", probs)
    images, changed = images.detach().cpu(), changed.detach().cpu()
    check_finite("changed", changed)
    limit, count = number("limit", limit), len(images)
    if limit == 0:
        raise ValueError("expected limit to be above 0, got 0")
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
