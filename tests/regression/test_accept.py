"""`make accept` shows what changes, and writes only then."""

import re

import nbformat
import pytest

import tools.regression.accept
import tools.regression.outputs
from tools.regression.accept import accept
from tools.run import execute

FIGURE = """
from base64 import b64encode
from io import BytesIO
from IPython.display import display
from PIL import Image
file = BytesIO()
Image.new("RGB", (40, 40), colour).save(file, "png")
display({"image/png": b64encode(file.getvalue()).decode()}, raw=True, metadata={"image/png": {"alt": "one colour"}})
"""


@pytest.fixture
def diff(tmp_path, monkeypatch):
    """The folder of the pictures."""
    monkeypatch.setattr(tools.regression.outputs, "ROOT", tmp_path)
    monkeypatch.setattr(tools.regression.outputs, "DIFF", tmp_path / "build" / "diff")
    return tmp_path / "build" / "diff"


def test_a_second_time_nothing_changes_and_nothing_is_written(course):
    path = course("a/one", "x = 1", "print(x)")
    assert "expected        nothing\n  actual          stdout 1" in accept(path)
    before = path.stat().st_mtime_ns
    assert accept(path) == "unchanged"
    assert path.stat().st_mtime_ns == before


def test_changed_lines_and_figures_are_shown(course, diff):
    path = course("a/one", "x = 2.0\ncolour = (0, 0, 0)", 'print("same")\nprint(f"x is {x}")', FIGURE)
    accept(path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "x = 2.5\ncolour = (9, 9, 9)"
    nbformat.write(notebook, path)
    assert accept(path).split("\n") == [
        "",
        "cell [2]",
        "  expected        x is 2.0",
        "  actual          x is 2.5",
        "  relative error  0.25",
        "cell [3]",
        "  figure          RMS 9 in the 32x32 pixels at 0, 0",
        "  pictures        build/diff/a/one/cell-3-{expected,actual,difference}.png",
    ]
    assert len(list((diff / "a" / "one").glob("*.png"))) == 3
    assert nbformat.read(path, as_version=4).cells[1].outputs[0].text == "same\nx is 2.5\n"


def test_a_change_of_the_metadata_alone_is_told(course):
    path = course("a/one", "x = 1")
    accept(path)
    notebook = nbformat.read(path, as_version=4)
    folded = {"source_hidden": True}
    notebook.cells[0].metadata |= {"scrolled": True, "jupyter": folded}
    nbformat.write(notebook, path)
    notebook.metadata["toc"] = {"number_sections": True}
    nbformat.write(notebook, path)
    said = accept(path)
    assert "the outputs are the same" in said
    assert said.endswith("metadata that does not stay: scrolled, toc")
    assert nbformat.read(path, as_version=4).cells[0].metadata == {"tags": ["parameters"], "jupyter": folded}


def test_cells_keep_their_numbers_when_parameters_are_handed_over(course, tmp_path):
    path = course("a/one", "x = 1", "print(x)", "1 / (x - 3)")
    assert execute(path, {"x": 3}, tmp_path / "out.ipynb").failure.startswith("cell [3]\n    1 / (x - 3)\nZeroDivision")


def test_what_is_equal_within_tolerance_stays_and_stale_prose_is_named(course):
    path = course("a/one", "x = 0.5", 'print(f"x is {x:.4f}")', 'print(f"{7 + (x > 0.6)} wrong")')
    accept(path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "x = 0.5001"  # as another processor might have it
    nbformat.write(notebook, path)
    assert accept(path) == "unchanged"
    assert "x is 0.5000" in path.read_text()

    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "x = 0.7"
    prose = "Here x is 0.50 and\n7 are wrong.\n\nNothing else: $0.50$, `0.50`, 3."
    notebook.cells.append(nbformat.v4.new_markdown_cell(prose))
    nbformat.write(notebook, path)
    said = accept(path)
    assert said.endswith("prose may quote what is gone: Here x is 0.50 and\nprose may quote what is gone: 7 are wrong.")


def test_what_will_not_hold_elsewhere_is_said(course):
    """A sum of a layer's outputs that is all but nought: every digit of it is rounding."""
    code = """
import torch
torch.manual_seed(0)
x = torch.rand(1, 100)
layer = torch.nn.Linear(100, 1)
rough = torch.nn.Linear(100, 500)(x).double().sum().item() * 1e9 % 10
print(f"{rough:.3f}")
print(f"{layer(x).item():.3f}")
"""
    said = accept(course("a/one", "x = 1", code))
    assert re.search(r"cell \[2\] will not hold on other processors: '\d\.\d{3}' as '\d\.\d{3}'", said)
    assert len(re.findall("will not hold", said)) <= 2  # the other number holds
