"""Figures as they reach a reader: a text for those who cannot see them, one style, sliders."""

import sys
from base64 import b64decode
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import show
from helpers.occlusion import show_occlusion
from helpers.reader import MARKS
from helpers.show import RED, SIGNED, image_grid, show_figure, sliders, subplots


@pytest.fixture
def shown(monkeypatch):
    """What is displayed while a test runs: pairs of contents and options."""
    displayed = []
    monkeypatch.setattr(show, "display", lambda *content, **options: displayed.append((content, options)))
    return displayed


def test_a_figure_is_displayed_once_with_its_text_and_its_colours(shown):
    show_figure(image_grid(torch.tensor([[[0.0, 1.0]]]), zoom=40), "a black pixel beside a white one")
    (((content,), options),) = shown
    text = {"alt": "a black pixel beside a white one"}
    # And where its image lies: ten pixels of margin, two pixels of forty each.
    assert options == {"raw": True, "metadata": {"image/png": text, "images": [[10, 10, 80, 40]]}}
    drawn = np.asarray(Image.open(BytesIO(b64decode(content["image/png"]))).convert("L"))
    middle = drawn[drawn.shape[0] // 2]
    assert (middle == 0).sum() == pytest.approx(40, abs=2)
    assert content["text/plain"].startswith("<Figure size")
    assert not plt.get_fignums()


@pytest.mark.parametrize("alt", [" ", "", None])
def test_a_figure_without_text_is_refused(alt):
    with pytest.raises(ValueError, match=f"expected a text .* got {alt!r}"):
        show_figure(subplots()[0], alt)


def test_what_is_no_figure_is_refused():
    with pytest.raises(TypeError, match="expected a matplotlib Figure, got NoneType"):
        show_figure(None, "a figure")


def test_the_place_of_an_image_ends_with_its_axes(shown):
    figure = plt.figure(figsize=(2, 1), dpi=100)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.imshow(np.zeros((10, 20)), extent=(0, 20, 0, 10))
    ax.imshow(np.zeros((5, 5)), extent=(50, 60, 0, 10))  # not seen at all
    ax.set(xlim=(-10, 10), ylim=(2, 12), aspect="auto")  # of the first, the left half without its lowest fifth
    ax.add_patch(plt.Rectangle((-10, 2), 20, 10))  # the whole of the axes
    show_figure(figure, "a figure")
    ((_, options),) = shown
    assert options["metadata"]["images"] == [[10 + 100, 10 + 20, 100, 80]]  # ten pixels of margin


def pictures(shown) -> list[str]:
    """The pictures that were displayed, as text."""
    return [content["image/png"] for (content,), _ in shown]


def drawn_into(images) -> plt.Figure:
    """What notebooks draw into axes."""
    figure, axes = subplots(2, 3, size=(9, 5))
    lines, picture, counts, points, areas, names = axes.flat
    lines.plot([1, 2, 3], label="a line")
    lines.legend()
    lines.text(1, 1, "a text")
    lines.set(title="lines", xlabel="x", ylabel="y", xscale="log")
    lines.annotate("here", (1, 2), (2, 2), arrowprops={"arrowstyle": "->"})
    figure.colorbar(picture.imshow(images[0].numpy()), ax=picture, label="value")
    counts.hist([1, 2, 2, 3])
    counts.axhline(1)
    counts.boxplot([[1, 2, 3]])
    points.scatter([1, 2], [3, 4])
    points.errorbar([1, 2], [3, 4], [0.1, 0.2])
    points.semilogy([1, 10_000])
    areas.contour(images[1].numpy())
    areas.bar_label(areas.bar([1, 2], [1, 2]))
    areas.fill_between([0, 1], [1, 2])
    areas.grid(False)
    names.barh([1], [2])
    names.set(xticks=[0, 1], xticklabels=["a", "b"])
    names.tick_params(labelsize=8)
    figure.supxlabel("below all")
    figure.legend(loc="upper center")
    return figure


def draw_all() -> None:
    """Show each kind of figure."""
    images = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0))
    options = {"titles": range(6), "rows": ["a", "b"], "columns": 3, "frames": [RED] + [None] * 5}
    show_figure(image_grid(images, cmap=SIGNED, colorbar="value", **options), "a grid")
    show_figure(show_occlusion(images[:2, None], images[2:4, :6, :6], torch.tensor([1, 2]), patch=3), "maps")
    show_figure(drawn_into(images), "what is drawn into axes")


@pytest.fixture(scope="module")
def plain() -> list[str]:
    """All figures as they are where nobody has set anything."""
    with pytest.MonkeyPatch.context() as patch:
        displayed = []
        patch.setattr(show, "display", lambda *content, **options: displayed.append((content, options)))
        draw_all()
    found = pictures(displayed)
    assert len(set(found)) == 3
    return found


@pytest.mark.parametrize(
    "settings",
    [
        "dark_background",
        {"image.origin": "lower", "image.interpolation": "bilinear", "image.aspect": "auto", "image.cmap": "jet"}
        | {"savefig.dpi": 40, "savefig.facecolor": "black", "savefig.transparent": True, "figure.dpi": 40}
        | {"legend.fontsize": 20, "legend.loc": "lower left", "axes.titlesize": 30, "xtick.minor.visible": True},
        {"font.size": 20, "font.family": "monospace", "text.color": "red", "xtick.direction": "in", "hist.bins": 3}
        | {"figure.autolayout": True, "figure.facecolor": "green", "lines.antialiased": False, "axes.linewidth": 5}
        | {"lines.linewidth": 5, "errorbar.capsize": 9, "scatter.marker": "x", "patch.force_edgecolor": True},
        {"axes.formatter.limits": (0, 0), "text.usetex": True, "axes.labelsize": 3, "image.resample": False},
    ],
)
def test_what_a_reader_sets_for_figures_changes_none_of_ours(settings, plain, shown):
    with plt.style.context(settings):
        draw_all()
    assert pictures(shown) == plain


def test_the_style_ends_with_the_figure(shown):
    with plt.style.context("default"):
        own = dict(plt.rcParams)
    with plt.style.context("dark_background"):
        before = dict(plt.rcParams)
        show_figure(image_grid(torch.zeros(1, 2, 2)), "a black square")
        assert dict(plt.rcParams) == before
        subplots(1, 2, size=(5, 2), sharey=True)
        assert dict(plt.rcParams) == own


def test_sliders_show_nothing_where_nobody_can_move_them(monkeypatch, capsys):
    for name in MARKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # not even imported
    sliders(lambda row: pytest.fail("drawn"), "a figure", row=(0, 0, 5, 1))
    assert capsys.readouterr().out == ""


def test_moving_a_slider_draws_again(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook")
    made, drawn, shown = [], [], []
    monkeypatch.setattr("ipywidgets.widgets.interaction.display", made.append)
    monkeypatch.setattr(show, "show_figure", lambda figure, alt: shown.append((figure, alt)))
    sliders(
        lambda row, size: drawn.append((row, size)) or "figure", "a text", row=(3, 2, 5, 1), size=(0.5, 0.5, 1.5, 0.25)
    )
    row, size = next(widget for widget in made if hasattr(widget, "children")).children[:2]
    assert drawn == [(3, 0.5)]
    row.value = 4
    size.value = 1.25
    assert drawn[1:] == [(4, 0.5), (4, 1.25)]
    assert shown == [("figure", "a text")] * 3
    row.value = 9  # beyond the range
    assert drawn[-1] == (5, 1.25)
