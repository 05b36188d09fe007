"""What the playground is given and gives back, without a browser; tests/playground asks its module."""

import re
import sys

import numpy as np
import pytest
import torch

from helpers.cnn import DigitCNN, checkpoint, load_cnn
from helpers.play import CLASSES, SOURCES, Playground, module, networks, packed, style, ten_digits
from helpers.reader import MARKS
from tools.play import scripts


@pytest.fixture
def nobody(monkeypatch):
    for name in MARKS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def reader(monkeypatch):
    """A front end; what is displayed is in the list."""
    shown = []
    monkeypatch.setenv(MARKS[0], "x")
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.setattr("IPython.display.display", shown.append)
    return shown


def test_without_a_reader_a_test_digit_lies_on_the_pad_and_nothing_is_shown(nobody, capsys):
    for digit in range(CLASSES):
        image = Playground(digit).image
        assert image.shape == (1, 1, 28, 28)
        assert image.dtype == torch.get_default_dtype()
        assert load_cnn()(image).argmax() == digit
    assert capsys.readouterr().out == ""


def test_the_image_is_of_the_default_dtype(nobody):
    torch.set_default_dtype(torch.float64)
    try:
        image = Playground(4).image
        ten_digits.cache_clear()
        assert (Playground(4).image == image).all()
    finally:
        torch.set_default_dtype(torch.float32)
    assert image.dtype == torch.float64
    assert (image * 255 == (image * 255).round()).all()


def test_what_is_drawn_comes_back(reader):
    pytest.importorskip("anywidget")
    playground = Playground(7)
    (widget,) = reader
    assert widget.get_state()["pixels"] == ten_digits()[7].tolist()
    assert set(widget.networks) == set(networks())
    widget.set_state({"pixels": [255, *[0] * 783]})
    image = playground.image
    assert image[0, 0, 0, 0] == 1
    assert image.sum() == 1


def test_without_anywidget_one_line_says_what_to_install(reader, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError) as said:
        Playground()
    assert str(said.value) == "the playground needs anywidget: `pip install anywidget`, then restart the kernel"
    assert reader == []


@pytest.mark.parametrize(("digit", "error"), [("3", TypeError), (True, TypeError), (10, ValueError), (2.5, ValueError)])
def test_no_other_digit_is_taken(digit, error):
    with pytest.raises(error, match="digit"):
        Playground(digit)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_weights_are_packed_as_the_module_says(batch_norm):
    model = load_cnn(batch_norm)
    layout = re.findall(r'"(\w+)\.(\w+)": \[([\d *,]+)\]', (SOURCES / "network.js").read_text())
    values = np.frombuffer(packed(model), "<f2")
    start = 0
    for layer, part, shape in layout:
        size = eval(shape.replace(",", "*"))
        piece = torch.from_numpy(values[start : start + size].astype("f4"))
        if layer.startswith("fc") or not batch_norm:
            assert (piece == getattr(getattr(model, layer), part).flatten().half()).all(), f"{layer}.{part}"
        start += size
    assert [f"{layer}.{part}" for layer, part, _ in layout] == [name for name, _ in DigitCNN().named_parameters()]
    assert start == len(values)


def test_the_robust_network_is_there_where_its_file_is():
    assert len(networks()) == 1 + checkpoint("cnn_robust").is_file()


def test_the_module_is_one_without_imports_and_the_script_is_no_module():
    assert "import " not in re.sub(r"(?m)^ *(\*|//|/\*).*", "", module())
    assert module().count("export default") == 1
    files = scripts()
    assert not re.search(r"(?m)^\s*(import|export) ", files["play.js"])
    assert "@module@" not in files["play.js"]
    assert files["play.css"] == style()
    assert len(files) == 2 + len(networks())


def test_nothing_in_it_leads_to_another_machine():
    for source in SOURCES.iterdir():
        assert not re.search(r"https?:|fetch\(|XMLHttpRequest|@import|url\(", source.read_text()), source.name
