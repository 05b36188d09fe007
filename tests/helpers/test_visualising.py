"""Filters, activations and occlusion maps: against naive loops and numbers worked by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

import helpers.occlusion
from helpers.activations import record, show_activations
from helpers.cnn import DigitCNN
from helpers.filters import filters, show_filters
from helpers.occlusion import occlusion_map, occlusion_winner, show_occlusion


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def untrained() -> nn.Module:
    torch.manual_seed(0)
    return DigitCNN(batch_norm=True).train()


def some_images(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def naive_occlusion(model, images, patch, stride, baseline):
    """Probabilities (N, H', W', 10), one image and one position at a time."""
    side = (28 - patch) // stride + 1
    probs = torch.empty(len(images), side, side, 10)
    for n, image in enumerate(images):
        for i in range(side):
            for j in range(side):
                covered = image.clone()
                covered[:, i * stride : i * stride + patch, j * stride : j * stride + patch] = baseline
                probs[n, i, j] = model.eval()(covered[None]).softmax(1)[0].detach()
    return probs


@pytest.mark.parametrize(
    ("patch", "stride", "baseline"), [(7, 5, 0.5), (10, 9, 0.0), (1, 13, 1.0), (28, 1, 0.5), (27, 1, 0.25)]
)
def test_occlusion_equals_the_naive_loop(patch, stride, baseline, monkeypatch):
    monkeypatch.setattr(helpers.occlusion, "CHUNK", 7)  # so that chunks end in the midst of an image
    images, labels = some_images(3), torch.tensor([0, 4, 9])
    expected = naive_occlusion(untrained(), images, patch, stride, baseline)
    options = {"patch": patch, "stride": stride, "baseline": baseline}
    found = occlusion_map(untrained(), images, labels, **options)
    assert found.shape == (3, (28 - patch) // stride + 1, (28 - patch) // stride + 1)
    torch.testing.assert_close(found, expected[torch.arange(3), :, :, labels], rtol=0, atol=1e-6)
    assert torch.equal(occlusion_winner(untrained(), images, **options), expected.argmax(3))


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
        ({"patch": 0}, "1..28 pixels, got 0"),
        ({"patch": 29}, "1..28 pixels, got 29"),
        ({"patch": 2.5}, "got 2.5"),
        ({"stride": 0}, "at least 1 pixel, got 0"),
        ({"baseline": 128}, r"\[0, 1\], got 128"),
        ({"images": 255 * some_images(2)}, r"\[0, 1\]"),
        ({"labels": torch.tensor([1, 10])}, "0..9"),
        ({"labels": torch.tensor([1])}, "expected 2 labels"),
    ],
)
def test_occlusion_refuses_what_it_cannot_use(change, said):
    arguments = {"images": some_images(2), "labels": torch.tensor([1, 2])} | change
    with pytest.raises(ValueError, match=said):
        occlusion_map(untrained(), arguments.pop("images"), arguments.pop("labels"), **arguments)


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
    with pytest.raises(ValueError, match="6, 5, 6"):
        show_occlusion(some_images(6), maps[:5], torch.arange(6), patch=7)


@pytest.mark.parametrize(("patch", "stride"), [(2, 5), (7, 2), (28, 1), (1, 28)])
def test_each_value_is_drawn_around_the_centre_of_its_patch(patch, stride):
    corners = range(0, 28 - patch + 1, stride)
    maps = torch.arange(len(corners) ** 2.0).view(1, len(corners), len(corners))
    figure = show_occlusion(some_images(1), maps, torch.tensor([0]), patch=patch, stride=stride)
    values = np.ma.filled(np.ma.masked_invalid(figure.axes[0].images[1].get_array()), np.nan)  # two by two for a pixel
    expected = np.full((56, 56), np.nan)
    for row, top in enumerate(corners):
        for column, left in enumerate(corners):
            y, x = (2 * corner + patch - stride for corner in (top, left))  # in halves of a pixel
            for i in range(max(y, 0), min(y + 2 * stride, 56)):
                for j in range(max(x, 0), min(x + 2 * stride, 56)):
                    expected[i, j] = maps[0, row, column]
    np.testing.assert_array_equal(values, expected)


def test_record_returns_what_the_layers_answered():
    model, images = untrained(), some_images(2)
    found = record(model, images, ["conv1", "relu1", "relu2", "fc2"])
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "conv1": (2, 32, 28, 28),
        "relu1": (2, 32, 28, 28),
        "relu2": (2, 32, 14, 14),
        "fc2": (2, 10),
    }
    assert model.training
    model.eval()
    torch.testing.assert_close(found["fc2"], model(images).detach())
    torch.testing.assert_close(found["relu1"], model.bn1(model.conv1(images)).clamp(min=0).detach())
    assert not any(value.requires_grad for value in found.values())


def test_an_in_place_layer_does_not_change_what_was_recorded():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True))
    with torch.no_grad():
        expected = model[0](some_images(1))
    assert torch.equal(record(model, some_images(1), ["0"])["0"], expected)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_hooks_are_gone_also_after_an_exception():
    class Breaks(DigitCNN):
        def forward(self, images):
            self.conv1(images)
            raise RuntimeError("boom")

    model = Breaks()
    with pytest.raises(RuntimeError, match="boom"):
        record(model, some_images(1), ["conv1"])
    assert hooks(model) == 0
    other = untrained()
    record(other, some_images(1), ["conv1"])
    assert hooks(other) == 0


def test_an_unknown_layer_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"conv1, bn1.*got conv3"):
        record(untrained(), some_images(1), ["conv1", "conv3"])


def test_a_layer_that_was_not_called_is_refused():
    class Skips(DigitCNN):
        def forward(self, images):
            return self.conv1(images)

    with pytest.raises(ValueError, match="got fc2, which it did not call"):
        record(Skips(), some_images(1), ["conv1", "fc2"])
    with pytest.raises(ValueError, match=r"write \['relu1'\]"):
        record(untrained(), some_images(1), "relu1")


def test_filters_of_any_convolution():
    layer = nn.Conv2d(6, 4, (3, 5), groups=2)
    assert torch.equal(filters(layer, channel=2), layer.weight[:, 2].detach())
    assert filters(layer).shape == (4, 3, 5)
    filters(layer).zero_()
    assert layer.weight.abs().sum() > 0  # a copy
    with pytest.raises(ValueError, match=r"0..2, got 3"):
        filters(layer, channel=3)
    with pytest.raises(ValueError, match=r"0..2, got -1"):
        filters(layer, channel=-1)
    with pytest.raises(ValueError, match="got Linear"):
        filters(nn.Linear(2, 2))


def test_the_filter_grid_is_signed_and_scaled_by_the_whole_layer():
    layer = nn.Conv2d(2, 3, 3)
    with torch.no_grad():
        layer.weight[2, 1, 0, 0] = -4.0
    figure = show_filters(layer, channel=0)
    drawn = figure.axes[0].images
    assert [image.get_clim() for image in drawn] == [(-4, 4)] * 3
    assert torch.equal(torch.tensor(drawn[1].get_array()), layer.weight[1, 0].detach())


def test_activations_are_drawn_on_one_scale():
    signed = torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]])
    assert [image.get_clim() for image in show_activations(signed).axes[0].images] == [(-2, 2)] * 2
    assert [image.get_clim() for image in show_activations(signed.relu()).axes[0].images] == [(0, 1)] * 2
    with pytest.raises(ValueError, match=r"got \(1, 2, 3, 4\)"):
        show_activations(torch.zeros(1, 2, 3, 4))
