"""Occlusion maps: against a naive loop and numbers worked by hand, and drawn where they belong."""

import numpy as np
import pytest
import torch
from torch import nn

import helpers.batches
from helpers.cnn import DigitCNN
from helpers.occlusion import occlusion_map, occlusion_winner, show_occlusion


def untrained() -> nn.Module:
    torch.manual_seed(0)
    return DigitCNN(batch_norm=True).train()


def some_images(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def toy(channels: int, height: int, width: int, classes: int) -> nn.Module:
    """A small classifier of images of any size."""
    torch.manual_seed(0)
    places = (height // 5) * (width // 5)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 5, stride=5), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(4 * places, classes)
    )


def naive_occlusion(model, images, patch, stride, baseline):
    """Probabilities (N, H', W', classes), one image and one position at a time."""
    height, width = images.shape[2:]
    every = []
    for image in images:
        for top in range(0, height - patch + 1, stride):
            for left in range(0, width - patch + 1, stride):
                covered = image.detach().clone()
                covered[:, top : top + patch, left : left + patch] = baseline
                every.append(model.eval()(covered[None]).softmax(1)[0].detach())
    rows, columns = (height - patch) // stride + 1, (width - patch) // stride + 1
    return torch.stack(every).view(len(images), rows, columns, -1)


@pytest.mark.parametrize(
    ("patch", "stride", "baseline"), [(7, 5, 0.5), (10, 9, 0.0), (1, 13, 1.0), (28, 1, 0.5), (27, 1, 0.25)]
)
def test_occlusion_equals_the_naive_loop(patch, stride, baseline, monkeypatch):
    monkeypatch.setitem(helpers.batches.IN_CACHE, "occlusion", 7)  # so that chunks end in the midst of an image
    images, labels = some_images(3), torch.tensor([0, 4, 9])
    expected = naive_occlusion(untrained(), images, patch, stride, baseline)
    options = {"patch": patch, "stride": stride, "baseline": baseline}
    found = occlusion_map(untrained(), images, labels, **options)
    assert found.shape == (3, (28 - patch) // stride + 1, (28 - patch) // stride + 1)
    torch.testing.assert_close(found, expected[torch.arange(3), :, :, labels], rtol=0, atol=1e-6)
    assert torch.equal(occlusion_winner(untrained(), images, **options), expected.argmax(3))


@pytest.mark.parametrize(("shape", "classes"), [((3, 32, 32), 5), ((1, 20, 30), 3), ((2, 30, 20), 12)])
@pytest.mark.parametrize(("patch", "stride"), [(7, 6), (20, 1)])
def test_images_of_any_size_and_any_number_of_classes(shape, classes, patch, stride):
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, classes - 1])
    expected = naive_occlusion(toy(*shape, classes), images, patch, stride, 0.25)
    options = {"patch": patch, "stride": stride, "baseline": 0.25}
    found = occlusion_map(toy(*shape, classes), images, labels, **options)
    torch.testing.assert_close(found, expected[torch.arange(2), :, :, labels], rtol=0, atol=1e-6)
    assert torch.equal(occlusion_winner(toy(*shape, classes), images, **options), expected.argmax(3))


@pytest.mark.parametrize(
    ("kind", "rounding"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2), (torch.float32, 1e-6), (torch.float64, 1e-12)]
)
def test_one_image_of_any_type_layout_and_with_gradients(kind, rounding):
    model = toy(3, 32, 32, 5).to(kind).to(memory_format=torch.channels_last)
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(kind)
    expected = naive_occlusion(model, images, 9, 7, 0.5)[:, :, :, 4]
    given = images.to(memory_format=torch.channels_last).requires_grad_()
    found = occlusion_map(model, given, torch.tensor([4]), patch=9, stride=np.int64(7), baseline=np.float32(0.5))
    assert (found.dtype, found.requires_grad, given.requires_grad) == (kind, False, True)
    torch.testing.assert_close(found, expected, rtol=0, atol=rounding)


def test_a_model_that_works_in_place_changes_neither_the_images_nor_the_map():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = toy(1, 28, 28, 10)

        def forward(self, images):
            return self.network(images.sub_(0.1307).div_(0.3081))

    images, labels = some_images(2), torch.tensor([1, 2])
    found = occlusion_map(InPlace(), images, labels, patch=14, stride=7)
    occlusion_winner(InPlace(), images, patch=14, stride=7)
    assert torch.equal(images, some_images(2))
    mean = naive_occlusion(InPlace(), images, 14, 7, 0.5)
    torch.testing.assert_close(found, mean[torch.arange(2), :, :, labels], rtol=0, atol=1e-6)


def test_the_patch_is_where_it_is_said_to_be():
    class Corner(nn.Module):
        """Class 0's logit is the pixel in row 3, column 20."""

        def forward(self, images):
            return torch.cat([10 * images[:, :, 3, 20], torch.zeros(len(images), 9)], dim=1)

    images = torch.ones(1, 1, 28, 28)
    found = occlusion_map(Corner(), images, torch.tensor([0]), patch=2, baseline=0.0)[0]
    lost = (found < 0.5).nonzero().tolist()
    assert lost == [[2, 19], [2, 20], [3, 19], [3, 20]]


def test_occlusion_leaves_everything_as_found():
    model, images = untrained(), some_images(2)
    before, state = images.clone(), {k: v.clone() for k, v in model.state_dict().items()}
    occlusion_map(model, images, torch.tensor([1, 2]), patch=20)
    assert torch.equal(images, before)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch": 0}, "patch to be at least 1 and at most 28, got 0"),
        ({"patch": 29}, "patch to be at least 1 and at most 28, got 29"),
        ({"patch": 2.5}, "patch to be a whole number, got 2.5"),
        ({"stride": 0}, "stride to be at least 1, got 0"),
        ({"baseline": 128}, "baseline to be at least 0 and at most 1, got 128"),
        ({"baseline": float("nan")}, "baseline .* got nan"),
        ({"images": 255 * some_images(2)}, r"\[0, 1\]"),
        ({"labels": torch.tensor([1, 10])}, "0..9"),
        ({"labels": torch.tensor([1])}, "expected 2 labels"),
        ({"images": torch.rand(2, 28, 28)}, r"\(N, C, H, W\), got \(2, 28, 28\)"),
        ({"images": some_images(2).double()}, "model's torch.float32, got torch.float64"),
        ({"model": nn.Conv2d(1, 10, 28)}, r"logits of shape .* got \(\d+, 10, 1, 1\)"),
    ],
)
def test_occlusion_refuses_what_it_cannot_use(change, said):
    arguments = {"model": untrained(), "images": some_images(2), "labels": torch.tensor([1, 2])} | change
    with pytest.raises(ValueError, match=said):
        occlusion_map(**arguments)
    if "labels" not in change:
        del arguments["labels"]
        with pytest.raises(ValueError, match=said):
            occlusion_winner(**arguments)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": None}, "images as a tensor, got NoneType"),
        ({"labels": [1, 2]}, "labels as a tensor, got list"),
        ({"patch": None}, "patch to be a number, got None"),
        ({"baseline": "grey"}, "baseline to be a number, got 'grey'"),
    ],
)
def test_occlusion_refuses_another_type(change, said):
    arguments = {"model": untrained(), "images": some_images(2), "labels": torch.tensor([1, 2])} | change
    with pytest.raises(TypeError, match=said):
        occlusion_map(**arguments)


def test_under_autocast_a_map_has_the_images_type_and_nearly_the_same_values():
    images, labels = some_images(2), torch.tensor([1, 2])
    exact = occlusion_map(untrained(), images, labels, patch=14, stride=14)
    with torch.autocast("cpu", torch.bfloat16):
        rough = occlusion_map(untrained(), images, labels, patch=14, stride=14)
    assert rough.dtype == images.dtype
    assert 0 < (rough - exact).abs().max() < 0.02


def test_the_figure_puts_each_value_where_the_patch_was():
    maps = torch.ones(6, 22, 22)
    figure = show_occlusion(some_images(6), maps, torch.arange(6), patch=7)
    drawn = figure.axes[0].images  # image, map, image, map, ...
    assert [image.get_clim() for image in drawn] == [(0, 1)] * 12
    values = drawn[1].get_array()  # two by two for a pixel; the first patch's centre is pixel 3, the last one's 24
    where = (~np.ma.getmaskarray(np.ma.masked_invalid(values))).nonzero()
    assert [(axis.min(), axis.max()) for axis in where] == [(2 * 3, 2 * 24 + 1)] * 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stride": 2}, r"\(2, 11, 11\) for patch=7 and stride=2, got \(2, 22, 22\)"),
        ({"patch": 8}, r"\(2, 21, 21\) for patch=8 and stride=1, got \(2, 22, 22\)"),
        ({"maps": torch.ones(1, 22, 22)}, r"expected maps of shape \(2, 22, 22\)"),
        ({"maps": torch.ones(2, 22, 21)}, r"got \(2, 22, 21\)"),
        ({"labels": torch.arange(3)}, "expected 2 labels"),
        ({"images": some_images(1)}, "expected 1 labels"),
        ({"stride": 0}, "stride to be at least 1, got 0"),
        ({"maps": torch.full((2, 22, 22), 1.5)}, r"maps in \[0, 1\], got 1.5 to 1.5"),
        ({"maps": torch.full((2, 22, 22), -0.5)}, r"maps in \[0, 1\], got -0.5 to -0.5"),
        ({"maps": torch.full((2, 22, 22), torch.nan)}, r"maps in \[0, 1\], got nan"),
        ({"maps": torch.ones(2, 22, 22, dtype=torch.int64)}, "maps of a floating-point type, got torch.int64"),
    ],
)
def test_maps_of_other_positions_or_images_are_not_drawn(change, said):
    arguments = {"images": some_images(2), "maps": torch.ones(2, 22, 22), "labels": torch.arange(2), "patch": 7}
    with pytest.raises(ValueError, match=said):
        show_occlusion(**arguments | change)
    with pytest.raises(TypeError, match="maps as a tensor, got NoneType"):
        show_occlusion(**arguments | {"maps": None})


@pytest.mark.parametrize(("patch", "stride"), [(2, 5), (7, 2), (20, 1), (1, 28), (3, 100)])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (20, 30)])
def test_each_value_is_drawn_around_the_centre_of_its_patch(patch, stride, height, width):
    tops, lefts = range(0, height - patch + 1, stride), range(0, width - patch + 1, stride)
    maps = torch.linspace(0, 1, len(tops) * len(lefts)).view(1, len(tops), len(lefts))
    figure = show_occlusion(torch.zeros(1, 1, height, width), maps, torch.tensor([0]), patch=patch, stride=stride)
    values = np.ma.filled(np.ma.masked_invalid(figure.axes[0].images[1].get_array()), np.nan)  # two by two for a pixel
    expected = np.full((2 * height, 2 * width), np.nan)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            y, x = (2 * corner + patch - stride for corner in (top, left))  # in halves of a pixel
            for i in range(max(y, 0), min(y + 2 * stride, 2 * height)):
                for j in range(max(x, 0), min(x + 2 * stride, 2 * width)):
                    expected[i, j] = maps[0, row, column]
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_colour_images_stand_beside_their_maps(kind):
    images = torch.rand(2, 3, 8, 12).to(kind).requires_grad_()
    maps = torch.full((2, 3, 5), 0.25).to(kind).requires_grad_()
    drawn = show_occlusion(images, maps, torch.tensor([0, 4]), patch=4, stride=2).axes[0].images
    assert [image.get_array().shape for image in drawn] == [(16, 24, 3), (16, 24)] * 2
    assert np.nanmin(drawn[1].get_array()) == np.nanmax(drawn[1].get_array()) == 0.25
    np.testing.assert_allclose(drawn[2].get_array()[::2, 1::2], images[1].detach().double().movedim(0, 2), atol=1e-6)
