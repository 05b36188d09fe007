"""The filters of a convolution, as numbers and as a picture."""

import pytest
import torch
from torch import nn

from helpers.filters import filters, show_filters


def test_filters_of_any_convolution():
    layer = nn.Conv2d(6, 4, (3, 5), groups=2)
    assert torch.equal(filters(layer, channel=2), layer.weight[:, 2].detach())
    assert filters(layer).shape == (4, 3, 5)
    filters(layer).zero_()
    assert layer.weight.abs().sum() > 0  # a copy
    assert torch.equal(filters(layer, channel=torch.tensor(1)), layer.weight[:, 1].detach())


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"layer": nn.Conv2d(3, 1, 3), "channel": 3}, ValueError, "at most 2, got 3"),
        ({"layer": nn.Conv2d(3, 1, 3), "channel": -1}, ValueError, "at least 0 .* got -1"),
        ({"layer": nn.Conv2d(3, 1, 3), "channel": 1.5}, ValueError, "whole number, got 1.5"),
        ({"layer": nn.Conv2d(3, 1, 3), "channel": None}, TypeError, "channel to be a number, got None"),
        ({"layer": nn.Conv2d(3, 1, 3), "channel": True}, TypeError, "channel to be a number, got True"),
        ({"layer": nn.Linear(2, 2)}, TypeError, "expected a Conv2d layer, got Linear"),
        ({"layer": None}, TypeError, "expected a Conv2d layer, got NoneType"),
    ],
)
def test_what_is_no_channel_of_a_convolution_is_refused(arguments, kind, said):
    with pytest.raises(kind, match=said):
        show_filters(**arguments)


def test_the_filter_grid_is_signed_and_scaled_by_the_whole_layer():
    layer = nn.Conv2d(2, 3, 3)
    with torch.no_grad():
        layer.weight[2, 1, 0, 0] = -4.0
    figure = show_filters(layer, channel=0)
    drawn = figure.axes[0].images
    assert [image.get_clim() for image in drawn] == [(-4, 4)] * 3
    assert torch.equal(torch.tensor(drawn[1].get_array()), layer.weight[1, 0].detach())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_filters_of_any_type_and_layout_are_drawn(kind):
    layer = nn.Conv2d(3, 5, (2, 4)).to(kind).to(memory_format=torch.channels_last)
    grid = show_filters(layer, channel=2).axes[0]
    for image, weights in zip(grid.images, layer.weight[:, 2].detach(), strict=True):
        assert torch.equal(torch.tensor(image.get_array()).to(kind), weights)
    assert [text.get_text() for text in grid.texts] == list("01234")
    assert layer.weight.requires_grad


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_told(value):
    layer = nn.Conv2d(2, 3, 3)
    layer.weight.data[0, 1, 0, 0] = value
    with pytest.raises(ValueError, match="finite weights, got NaN or infinity"):
        show_filters(layer)
