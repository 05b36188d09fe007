"""Images side by side: whole pixels, one scale, every text in its place; what does not fit is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from helpers.grid import image_grid
from helpers.style import RED, SIGNED


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
        ({"images": torch.zeros(2, 4, 4, 4)}, r"\(N, 3, H, W\), got \(2, 4, 4, 4\)"),
        ({"images": torch.zeros(2, 2, 4, 3)}, r"got \(2, 2, 4, 3\)"),
        ({"images": torch.tensor(0.5)}, r"got \(\)"),
        ({"images": torch.zeros(2, 0, 4)}, r"got \(2, 0, 4\)"),
        ({"images": [torch.zeros(4, 4), torch.zeros(4, 5)]}, r"got \[\(4, 4\), \(4, 5\)\]"),
        ({"images": []}, r"got \[\]"),
        ({"images": torch.zeros(0, 4, 4)}, r"got \(0, 4, 4\)"),
        ({"images": torch.zeros(3, 4, 4), "titles": ["a"]}, "expected 3 titles, got 1"),
        ({"images": torch.zeros(3, 4, 4), "columns": 2, "rows": ["a"]}, "expected 2 rows, got 1"),
        ({"images": torch.zeros(3, 4, 4), "cmap": ["gray"]}, "expected 3 colour maps, got 1"),
        ({"images": torch.zeros(3, 4, 4), "frames": [RED]}, "expected 3 frames, got 1"),
        ({"images": torch.zeros(3, 4, 4), "columns": 0}, "columns to be at least 1, got 0"),
        ({"images": torch.zeros(3, 4, 4), "columns": 2.5}, "columns to be a whole number, got 2.5"),
        ({"images": torch.zeros(3, 4, 4), "zoom": 0}, "zoom to be at least 0.01 .* got 0"),
        ({"images": torch.zeros(3, 4, 4), "cmap": "greyish"}, "'greyish' is not"),
        ({"images": torch.zeros(3, 4, 4), "limits": (1, 0)}, r"in order, .* got \(1, 0\)"),
        ({"images": torch.zeros(3, 4, 4), "limits": (0, float("nan"))}, r"in order, .* got \(0, nan\)"),
        ({"images": torch.zeros(3, 4, 4), "limits": (0, 1, 2)}, r"two numbers .* got \(0, 1, 2\)"),
        ({"images": torch.zeros(3, 4, 4), "limits": [(0, 1), (0, 1)]}, "expected 3 limits, got 2"),
        ({"images": torch.zeros(3, 4, 4), "limits": []}, r"expected limits \(low, high\), .* got \[\]"),
        ({"images": torch.zeros(3, 4, 4), "zoom": float("nan")}, "zoom .* got nan"),
        ({"images": torch.zeros(3, 4, 4), "zoom": float("inf")}, "zoom .* got inf"),
        ({"images": torch.full((2, 4, 4), 255, dtype=torch.uint8)}, r"at most 1, got 255: use limits=\(0, 255\)"),
        ({"images": torch.full((2, 3, 4, 4), 7)}, r"at most 1, got 7: use limits=\(0, 255\)"),
        ({"images": torch.zeros(3, 4, 4), "title_colors": "no colour", "titles": ["a"] * 3}, "no colour"),
        ({"images": torch.zeros(3, 4, 4), "frames": "no colour"}, "no colour"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_figure_open(arguments, said):
    with pytest.raises(ValueError, match=said):
        image_grid(arguments.pop("images"), **arguments)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"images": None}, "expected images as a tensor, .* got NoneType"),
        ({"images": torch.zeros(3, 4, 4), "titles": "abc"}, "expected 3 titles, got one text, 'abc'"),
        ({"images": torch.zeros(3, 4, 4), "titles": 5}, "expected 3 titles in a list, got 5"),
        ({"images": torch.zeros(3, 4, 4), "titles": torch.tensor(5)}, r"expected 3 titles in a list, got tensor\(5\)"),
        ({"images": torch.zeros(3, 4, 4), "rows": 5}, "expected 1 rows in a list, got 5"),
        ({"images": torch.zeros(3, 4, 4), "frames": 5}, "expected 3 frames in a list, got 5"),
        ({"images": torch.zeros(3, 4, 4), "cmap": 5}, "expected 3 colour maps in a list, got 5"),
        ({"images": torch.zeros(3, 4, 4), "limits": None}, r"expected limits \(low, high\), .* got None"),
        ({"images": torch.zeros(3, 4, 4), "limits": 0.5}, r"expected limits \(low, high\), .* got 0.5"),
        ({"images": torch.zeros(3, 4, 4), "limits": (0, None)}, r"expected limits \(low, high\), .* got \(0, None\)"),
        ({"images": torch.zeros(3, 4, 4), "limits": "01"}, r"expected limits \(low, high\), .* got '01'"),
        ({"images": torch.zeros(3, 4, 4), "zoom": None}, "zoom to be a number, got None"),
        ({"images": torch.zeros(3, 4, 4), "columns": None}, "columns to be a number, got None"),
        ({"images": np.array([[["a"]]])}, "images of real numbers, got <U1"),
        ({"images": torch.zeros(1, 4, 4, dtype=torch.complex64)}, "images of real numbers, got complex64"),
    ],
)
def test_another_type_is_refused_with_what_came(arguments, said):
    with pytest.raises(TypeError, match=said):
        image_grid(arguments.pop("images"), **arguments)


def values(figure) -> np.ndarray:
    """What is drawn of each image."""
    return np.stack([np.asarray(image.get_array()) for image in figure.axes[0].images])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.bool])
def test_images_of_any_type_of_number(kind):
    images = torch.tensor([[[0.0, 1.0, 1.0]], [[1.0, 0.0, 1.0]]])
    figure = image_grid(images.to(kind), zoom=20)
    np.testing.assert_array_equal(values(figure), images.numpy())
    middles = pixels(figure)[10, [10, 30, 50, 66 + 10, 66 + 30, 66 + 50], 0]
    assert middles.tolist() == [0, 255, 255, 255, 0, 255]


def test_images_come_as_tensors_arrays_or_a_list_of_them():
    images = torch.rand(4, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = images[:, 0].numpy()
    turned = images.numpy()[:, :, ::-1]  # strides below zero
    for given in (images.clone().requires_grad_(), images.numpy(), list(images), [images[0, 0], *images.numpy()[1:]]):
        np.testing.assert_array_equal(values(image_grid(given)), expected)
    np.testing.assert_array_equal(values(image_grid(turned)), expected[:, ::-1])
    np.testing.assert_array_equal(values(image_grid(images.to(memory_format=torch.channels_last))), expected)


def test_colour_images_are_drawn_in_their_colours():
    images = torch.zeros(2, 3, 2, 3)  # (N, 3, H, W)
    images[0, 0, 0, 0] = images[0, 1, 0, 1] = images[1, 2, 1, 2] = 1  # red, green; in the second image blue
    drawn = pixels(image_grid(images, zoom=10))[..., :3]
    assert drawn[5, 5].tolist() == [255, 0, 0]
    assert drawn[5, 15].tolist() == [0, 255, 0]
    assert drawn[15, 5].tolist() == [0, 0, 0]
    assert drawn[15, 36 + 25].tolist() == [0, 0, 255]


def test_colour_images_keep_to_the_limits():
    image = torch.tensor([-1.0, 0.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    drawn = pixels(image_grid(image, limits=(-1, 1), zoom=10))[20, 20, :3]
    assert drawn.tolist() == [0, 127, 255]  # 3 is cut off at the brightest
    assert pixels(image_grid(image, limits=(2, 2), zoom=10))[20, 20, :3].tolist() == [0, 0, 255]
    assert pixels(image_grid(image * torch.nan, zoom=10))[20, 20, :3].tolist() == [255] * 3


def test_grey_and_colour_images_stand_in_one_grid():
    first, second = image_grid([torch.ones(3, 4, 4), torch.full((4, 4), 0.5)], cmap=["gray", "viridis"]).axes[0].images
    assert first.get_array().shape == (4, 4, 3)
    assert second.get_array().shape == (4, 4)
    assert second.get_cmap().name == "viridis"


@pytest.mark.parametrize("titles", [[7, 2], torch.tensor([7, 2]), np.array([7, 2]), (np.int64(7), torch.tensor(2))])
def test_whole_numbers_are_titles(titles):
    (grid,) = image_grid(torch.zeros(2, 4, 4), titles=titles).axes
    assert [text.get_text() for text in grid.texts] == ["7", "2"]


def test_an_image_may_have_no_title():
    figure = image_grid(torch.zeros(2, 4, 4), columns=1, titles=["a", None])
    assert [text.get_text() for text in figure.axes[0].texts] == ["a", ""]
    assert figure.bbox.height == 15 + 12 + 6 + 12  # no room for a second line of titles


@pytest.mark.parametrize(
    "limits",
    [
        (torch.tensor(-2.0), torch.tensor(2.0)),
        torch.tensor([-2.0, 2.0]),
        np.array([-2, 2]),
        (-torch.tensor(2.0, requires_grad=True), np.float32(2)),
        torch.tensor([[-2.0, 2.0], [-2.0, 2.0]]),
        [(-2, torch.tensor(2)), torch.tensor([-2, 2])],
    ],
)
def test_limits_are_numbers_or_tensors(limits):
    (grid,) = image_grid(torch.zeros(2, 4, 4), limits=limits).axes
    assert [image.get_clim() for image in grid.images] == [(-2, 2)] * 2


def test_one_colour_for_all_frames_and_titles():
    (grid,) = image_grid(torch.zeros(2, 4, 4), frames=RED, titles=["a", "b"], title_colors=RED).axes
    assert [to_hex(color) for color in grid.collections[0].get_edgecolor()] == [RED.lower()] * 2
    assert {text.get_color() for text in grid.texts} == {RED}


def test_more_columns_than_images():
    assert image_grid(torch.zeros(2, 4, 4), columns=np.int64(7), heads=["a", "b"]).bbox.width == 2 * 12 + 6


def test_images_are_not_changed():
    images = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    before = images.clone()
    image_grid(images, limits=(0.2, 0.4))
    assert torch.equal(images, before)


def test_bytes_are_drawn_on_their_own_scale():
    images = torch.tensor([[[0, 51, 255]]], dtype=torch.uint8)
    assert pixels(image_grid(images, limits=(0, 255), zoom=10))[5, [5, 15, 25], 0].tolist() == [0, 51, 255]
    image_grid(images // 255)  # black and white


def test_without_a_colour_map_images_are_grey_whatever_a_reader_has_set():
    with plt.rc_context({"image.cmap": "jet"}):
        (grid,) = image_grid(torch.zeros(2, 4, 4), cmap=[None, "viridis"]).axes
        assert [image.get_cmap().name for image in grid.images] == ["gray", "viridis"]
        assert image_grid(torch.zeros(1, 4, 4), cmap=None).axes[0].images[0].get_cmap().name == "gray"
