"""Figures: one scale, whole pixels, a text for those who cannot see them."""

import sys
from base64 import b64decode
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from helpers import show
from helpers.show import RED, SIGNED, image_grid, show_figure, sliders, subplots


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def pixels(figure) -> np.ndarray:
    """The drawn figure, (height, width, 4) in 0..255."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_every_pixel_is_a_square_of_screen_pixels():
    image = torch.tensor([[[0.0, 1.0], [0.5, 0.0]]])
    figure = image_grid(image, zoom=20)
    box = figure.axes[0].images[0].get_window_extent()
    top = round(figure.bbox.height - box.y1)
    drawn = pixels(figure)[top : top + 40, round(box.x0) : round(box.x0) + 40, 0]
    assert drawn.shape == (40, 40)
    inner = drawn.reshape(2, 20, 2, 20)[:, 2:-2, :, 2:-2]  # the frame lies on the outermost pixels
    for row, column, grey in [(0, 0, 0), (0, 1, 255), (1, 0, 127), (1, 1, 0)]:
        assert set(inner[row, :, column].ravel().tolist()) <= {grey, grey + 1}


def test_all_images_share_one_scale():
    figure = image_grid(
        torch.stack([torch.zeros(4, 4), torch.full((4, 4), 0.25)]), limits=(-1, 1), cmap=SIGNED, colorbar="w"
    )
    grid, bar = figure.axes
    assert [image.get_clim() for image in grid.images] == [(-1, 1)] * 2
    assert bar.get_ylim() == (-1, 1)


def test_texts_stand_where_they_belong():
    figure = image_grid(
        torch.zeros(4, 1, 3, 3), columns=2, titles=list("abcd"), rows=["up", "down"], heads=["left", "right"]
    )
    (grid,) = figure.axes
    where = {text.get_text(): text.get_position() for text in grid.texts}
    boxes = [image.get_extent() for image in grid.images]  # left, right, bottom, top, from the top left down
    for title, (left, right, _, top) in zip("abcd", boxes, strict=True):
        assert where[title] == ((left + right) / 2, pytest.approx(top, abs=5))
        assert where[title][1] < top
    for row, (left, _, bottom, top) in (("up", boxes[0]), ("down", boxes[2])):
        assert where[row] == (pytest.approx(left, abs=10), (bottom + top) / 2)
        assert where[row][0] < left
    for head, title in (("left", "a"), ("right", "b")):
        assert where[head][0] == where[title][0]
        assert where[head][1] < where[title][1] - 8  # above it


def test_chosen_images_have_thick_frames():
    (grid,) = image_grid(torch.zeros(3, 4, 4), frames=[None, RED, None]).axes
    (frames,) = grid.collections
    assert frames.get_linewidth() == [0.5, 4, 0.5]
    assert to_hex(frames.get_edgecolor()[1]) == RED.lower()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"images": torch.zeros(3, 3)}, r"got \(3, 3\)"),
        ({"images": torch.zeros(2, 3, 4, 4)}, r"got \(2, 3, 4, 4\)"),
        ({"images": torch.zeros(0, 4, 4)}, r"got \(0, 4, 4\)"),
        ({"images": torch.zeros(3, 4, 4), "titles": ["a"]}, "expected 3 titles, got 1"),
        ({"images": torch.zeros(3, 4, 4), "columns": 2, "rows": ["a"]}, "expected 2 rows, got 1"),
        ({"images": torch.zeros(3, 4, 4), "cmap": ["gray"]}, "expected 3 colour maps, got 1"),
        ({"images": torch.zeros(3, 4, 4), "frames": [RED]}, "expected 3 frames, got 1"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        image_grid(arguments.pop("images"), **arguments)


def test_a_figure_is_displayed_once_with_its_text_and_its_colours(monkeypatch):
    shown = []
    monkeypatch.setattr(show, "display", lambda *content, **options: shown.append((content, options)))
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


def test_a_figure_without_text_is_refused():
    with pytest.raises(ValueError, match="empty"):
        show_figure(subplots()[0], " ")


def test_the_style_ends_with_the_figure():
    before = dict(plt.rcParams)
    subplots(1, 2, size=(5, 2), sharey=True)
    image_grid(torch.zeros(1, 2, 2))
    assert dict(plt.rcParams) == before


def test_sliders_show_nothing_where_nobody_can_move_them(monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("VSCODE_PID", raising=False)
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
