"""How every figure of the course looks: colours, colour maps, and axes in one style, whatever a reader has set."""

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

    What is drawn into the axes afterwards would follow the rcParams again, and white text is lost on white. So from
    here on they are matplotlib's own; whoever wants others sets them after this.

    Args:
        rows: axes in a column.
        columns: axes in a row.
        size: width and height of the whole figure in inches, at 100 pixels an inch.
        sharex: as in `plt.subplots`, and so the other two.
        sharey: the axes of a row have one scale.
        squeeze: a single row, column or pair of axes comes without the array around it.
    """
    with plt.style.context([PLAIN, STYLE]):
        made = plt.subplots(rows, columns, figsize=size, sharex=sharex, sharey=sharey, squeeze=squeeze)
    plt.style.use(PLAIN)
    return made
