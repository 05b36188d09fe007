"""How far outputs move under other roundings, and what is said of a cell's tolerance."""

import asyncio
import json
import math

import pytest
from nbformat.v4 import new_code_cell, new_output

from tools.regression.execution import executed
from tools.regression.kernels import start_from_copies
from tools.regression.portable import Moved, moved, report, verdict

LAYERS = """
import json
import torch
from torch import nn

torch.manual_seed(0)
result = {}
for dtype in (torch.float32, torch.float64):
    for layer, shape in ((nn.Conv2d(2, 3, 3), (4, 2, 6, 6)), (nn.Linear(5, 7), (4, 5))):
        layer = layer.to(dtype)
        x = torch.randn(shape, dtype=dtype, requires_grad=True)
        y = layer(x)
        (gradient,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
        (by_weight,) = torch.autograd.grad(y.sum(), layer.weight)
        whole = type(layer)(*({"Conv2d": (2, 3, 3), "Linear": (5, 7)}[type(layer).__name__])).to(dtype)
        with torch.no_grad():
            whole.weight.fill_(0.25)
            whole.bias.fill_(3)
        exact = whole(torch.ones(shape, dtype=dtype))
        name = f"{type(layer).__name__} {dtype}"
        result[name] = [part.detach().double().flatten().tolist() for part in (y, gradient, by_weight, exact)]
half = nn.Linear(5, 7).to(torch.bfloat16)
result["half"] = half(torch.ones(1, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16
twice = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
twice[..., 1:4, 1:4] = twice[..., 7:10, 7:10] = torch.rand(3, 3, dtype=torch.float64)
answer = nn.Conv2d(1, 40, 3).double()(twice)[0].detach()
result["equal"] = (answer[:, 1, 1] == answer[:, 7, 7]).sum().item()
result["ground"] = (answer[:, 5:, :4].flatten(1).std(1) == 0).sum().item()
print(json.dumps(result))
"""


@pytest.fixture(scope="module", autouse=True)
def quick_kernels():
    start_from_copies()


@pytest.fixture(scope="module")
def rounded(tmp_path_factory):
    """What two layers give under a rounding: a function of the number in ROUNDING."""
    folder = tmp_path_factory.mktemp("rounded")
    path = folder / "one.ipynb"
    notebook = {"cells": [new_code_cell(LAYERS)], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook))
    known = {}

    def results(rounding, again=False):
        if again or rounding not in known:
            (output,) = asyncio.run(executed(path, {"ROUNDING": rounding} if rounding else {})).cells[0].outputs
            known[rounding] = json.loads(output.text)
        return known[rounding]

    return results


@pytest.mark.parametrize("layer", ["Conv2d", "Linear"])
@pytest.mark.parametrize(("dtype", "epsilon"), [("float32", 2**-23), ("float64", 2**-52)])
def test_a_rounding_moves_the_last_bit_of_outputs_and_of_gradients(rounded, layer, dtype, epsilon):
    name = f"{layer} torch.{dtype}"
    plain, moved_by_1, moved_by_2 = (rounded(seed)[name] for seed in ("", "1", "2"))
    for part in (0, 1):  # y, and the gradient of a sum of y squared
        factor = 1 if part == 0 else 100  # in the gradient the moved y comes in as well
        apart = [abs(a - b) for a, b in zip(plain[part], moved_by_1[part], strict=True)]
        assert all(d <= factor * epsilon * max(abs(a), 1) for d, a in zip(apart, plain[part], strict=True))
        assert 0.4 < sum(d > 0 for d in apart) / len(apart) < 1
        assert moved_by_1[part] != moved_by_2[part]
    assert plain[3] == moved_by_1[3] == moved_by_2[3]  # small exact numbers
    assert plain[2] == moved_by_1[2]  # the gradient by the weights is not moved itself


def test_a_rounding_is_the_same_every_time(rounded):
    assert rounded("1", again=True) == rounded("1")
    assert rounded("1")["half"]


def test_a_rounding_parts_equal_values_but_for_the_ground(rounded):
    assert [rounded(seed)["ground"] for seed in ("", "1")] == [40, 40]
    assert rounded("")["equal"] == 40
    assert rounded("1")["equal"] < 25  # of 40; a third meets by chance


def test_how_far_outputs_moved():
    def text(content):
        return [new_output("stream", name="stdout", text=content)]

    assert moved(text("a 0.50"), text("a 0.50")) == Moved()
    assert moved(text("a 0.50, 10 of 20"), text("a 0.51, 10 of 20")) == Moved(pytest.approx(0.02), pytest.approx(0.02))
    assert moved(text("a 0.50, 10 of 20"), text("a 0.50, 11 of 20")) == Moved(math.inf, pytest.approx(0.1))
    assert moved(text("a 0.50"), text("b 0.50")) == Moved(math.inf, math.inf)
    assert moved(text("a\nb"), text("a")) == Moved(math.inf, math.inf)
    assert moved(text("a"), []) == Moved(math.inf, math.inf)


@pytest.mark.parametrize(
    ("tags", "most", "said"),
    [
        ([], Moved(0.009, 0.009, 1.9), ""),
        ([], Moved(0.011, 0.011), "does not hold"),
        ([], Moved(math.inf, 0.001), "does not hold"),  # a whole number moved
        ([], Moved(figures=2.1), "does not hold"),
        (["rtol=0.2"], Moved(0.15, 0.15, 99), ""),
        (["rtol=0.2"], Moved(math.inf, 0.15), ""),
        (["rtol=0.2"], Moved(math.inf, 0.25), "does not hold: tag too tight"),
        (["rtol=0.2"], Moved(math.inf, 0.015), "tag too loose"),
        (["rtol=0.2"], Moved(0.009, 0.009, 1.9), "tag not needed"),
        (["rtol=1e-4"], Moved(0.00005, 0.00005), ""),
        (["rtol=1e-4"], Moved(0.0002, 0.0002), "does not hold: tag too tight"),
        (["rms=6"], Moved(figures=4), ""),
        (["rms=6"], Moved(figures=7), "does not hold: tag too tight"),
        (["rms=40"], Moved(figures=3), "tag too loose"),
        (["rms=6"], Moved(figures=1), "tag not needed"),
        (["rms=1"], Moved(figures=1.5), "does not hold: tag too tight"),
        (["rtol=0.02"], Moved(0.0005, 0.0005, 50), ""),
        (["rtol=0.2", "rms=50"], Moved(0.1, 0.1, 3), ""),
        (["nbval-ignore-output"], Moved(math.inf, math.inf, 50), ""),
        (["nbval-ignore-output"], Moved(), "tag not needed"),
    ],
)
def test_what_is_said_of_a_tolerance(tags, most, said):
    assert verdict(new_code_cell(metadata={"tags": tags}), most) == said


def test_the_report_names_the_cell_and_what_moved_it_most(course):
    path = course("a/one", "x = 1", "print(0.5)", "print(2)")
    found = {"one": [Moved(), Moved(0.02, 0.02), Moved()], "two": [Moved(), Moved(0.03, 0.03), Moved()]}
    lines, red = report(path, found)
    assert red == 1
    (line,) = lines
    assert "cell [2]" in line
    assert "0.03" in line
    assert "two" in line
    assert "DOES NOT HOLD" in line
    lines, red = report(path, {**found, "three": "ValueError: no"})
    assert red == 2
    assert lines[0] == "  three: ValueError: no"
