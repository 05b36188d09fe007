"""How every figure of the course looks: colours, colour maps, and axes in one style, whatever a reader has set."""

from collections.abc import Callable
from functools import wraps

import matplotlib.axes
import matplotlib.figure
import matplotlib.pyplot as plt

# Okabe and Ito's colours, told apart with every kind of colour vision; a map for each kind of data.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, PINK, SKY = "#777777", "#CC79A7", "#56B4E9"
IMAGE, SIGNED, AMOUNT = "gray", "RdBu_r", "viridis"
PLAIN = "default"  # matplotlib's own style: what a reader has set in rcParams changes no figure
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


class Axes(matplotlib.axes.Axes):
    """Axes whose methods draw in matplotlib's own style, whatever rcParams are; outputs show the name."""


class Figure(matplotlib.figure.Figure):
    """A figure whose methods draw in matplotlib's own style, whatever rcParams are; outputs show the name."""


def _plainly(method: Callable) -> Callable:
    """Return the method, drawing in matplotlib's own style."""

    @wraps(method)
    def drawn(*arguments, **options):
        with plt.style.context(PLAIN):
            return method(*arguments, **options)

    return drawn


_AXES = """annotate axhline axhspan axis axline axvline axvspan bar bar_label barh boxplot clabel contour contourf
    errorbar fill fill_between grid hexbin hist hlines imshow legend loglog matshow pcolormesh pie plot quiver scatter
    semilogx semilogy set_title set_xlabel set_xscale set_xticklabels set_xticks set_ylabel set_yscale set_yticklabels
    set_yticks stackplot stairs stem step table text tick_params ticklabel_format violinplot vlines"""
_FIGURE = "colorbar legend supxlabel supylabel suptitle text"
for kind, names in ((Axes, _AXES), (Figure, _FIGURE)):
    for name in names.split():
        setattr(kind, name, _plainly(getattr(kind, name)))


def subplots(
    rows: int = 1,
    columns: int = 1,
    *,
    size: tuple[float, float] = (6, 3.5),
    sharex: bool = False,
    sharey: bool = False,
    squeeze: bool = True,
):
    """Return `plt.subplots(rows, columns)` in the course's style, whatever the reader's rcParams are.

    What their methods draw follows matplotlib's own style; only what is made elsewhere, such as a patch that is added,
    follows rcParams where it says no colour or width of its own.

    Args:
        rows: axes in a column.
        columns: axes in a row.
        size: width and height of the whole figure in inches, at 100 pixels an inch.
        sharex: as in `plt.subplots`, and so the other two.
        sharey: the axes of a row have one scale.
        squeeze: a single row, column or pair of axes comes without the array around it.
    """
    with plt.style.context([PLAIN, STYLE]):
        return plt.subplots(
            rows,
            columns,
            figsize=size,
            sharex=sharex,
            sharey=sharey,
            squeeze=squeeze,
            FigureClass=Figure,
            subplot_kw={"axes_class": Axes},
        )
