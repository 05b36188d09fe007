"""Which numbers of the prose are held against the outputs."""

import time
from decimal import Decimal

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.regression.outputs import Change
from tools.regression.prose import gone, numbers, quoted, stands_in


@pytest.mark.parametrize(
    ("prose", "said"),
    [
        ("# 2.3 Layer sizes", []),
        ("# 10.12 Of a longer course", []),
        ("[2.3 Layer sizes](../2/3.ipynb) and [← 2.4](x.ipynb)", []),
        ("It is 2.3 times as much.", ["2.3"]),
        ("# Title\n\nas 2.3 said", ["2.3"]),
        ("$2.3$, `2.3`, 0.1 and 1,234.5", ["0.1", "1,234.5"]),
    ],
)
def test_numbers_are_quoted_unless_they_call_a_notebook(prose, said):
    assert [number for _, number in quoted(new_markdown_cell(prose))] == said


@pytest.mark.parametrize("part", ["<", "[1.2 ", "](", "$", "`", "1.", "1,111"])
def test_prose_is_read_in_seconds_whatever_it_consists_of(part):
    start = time.perf_counter()
    list(quoted(new_markdown_cell(part * 100_000)))
    assert time.perf_counter() - start < 10


def test_hashes_of_digits_are_no_numbers():
    output = new_output("stream", name="stdout", text="12e45678901 " + "7" * 2_000_000 + " 0.25")
    known = numbers(new_notebook(cells=[new_code_cell("x", outputs=[output])]))
    assert Decimal("0.25") in known
    assert stands_in("0.3", known)
    assert not stands_in("0.4", known)
    changed = [Change("stdout", output.text, output.text.replace("0.25", "0.75"), 2.0)]
    assert gone(changed, new_notebook(cells=[new_markdown_cell("It is 0.25.")])) == ["It is 0.25."]
