"""The regression is attacked where it matters most: on the ascents of part 4, a few cells of a notebook at a time."""

import asyncio
from typing import NamedTuple

import nbformat
import pytest

from tools.regression.compare import FIGURE, Tolerance
from tools.regression.execution import executed
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import NOTEBOOKS, ROOT
from tools.regression.prose import numbers, quoted, stands_in

CURVES, IMAGES = "4_adversarial/4_cost_curves", "4_adversarial/1_non_targeted_images"


class Attack(NamedTuple):
    """What is changed in a notebook's source, and the cell whose outputs must tell of it."""

    notebook: str
    old: str
    new: str
    cell: int
    kind: str = "stdout"


ATTACKS = {
    "a step 10 % longer": Attack(CURVES, "step = alpha", "step = 1.1 * alpha", 5),
    "one step fewer": Attack(CURVES, "range(steps):", "range(steps - 1):", 5),
    "the target shifted by one": Attack(CURVES, "[-1][rows, target]", "[-1][rows, (target + 1) % 10]", 5),
    "a wider starting noise": Attack(CURVES, "noise = 0.1 *", "noise = 0.11 *", 5),
    "two images of a figure swapped": Attack(
        IMAGES,
        "fig = image_grid(\n    alone /",
        "alone[[3, 4]] = alone[[4, 3]]\nfig = image_grid(\n    alone /",
        6,
        FIGURE,
    ),
    "a figure from other noise": Attack(
        IMAGES,
        "fig = image_grid(\n    alone /",
        "alone = torch.stack([logit_gradient(*pair) for pair in zip(start.roll(1, 0), target)])\n"
        "fig = image_grid(\n    alone /",
        6,
        FIGURE,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def quick_kernels():
    start_from_copies()


def first_difference(name, cells, old="", new="", environment=None):
    """Execute the first cells of a notebook, changed, and return the first cell that differs, and the first change."""
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"][:cells]
    published = [cell.outputs for cell in code]
    assert not old or sum(cell.source.count(old) for cell in code) == 1
    for cell in code:
        cell.source = cell.source.replace(old, new) if old else cell.source
    path = ROOT / "build" / "attacked" / "one.ipynb"  # inside the course, where its first cell looks for it
    path.parent.mkdir(parents=True, exist_ok=True)
    book.cells = code
    nbformat.write(book, path)
    fresh = asyncio.run(executed(path, environment)).cells
    for number, (cell, expected) in enumerate(zip(fresh, published, strict=True), 1):
        for change in Tolerance.of(cell).changes(expected, cell.outputs):
            return number, change
    return None


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_wrong_ascent_is_found_in_its_cell(attack, record_property):
    name, old, new, cell, kind = ATTACKS[attack]
    record_property("attack", f"part 4     {attack:34} must be found in cell [{cell}]")
    found = first_difference(name, cell, old, new)
    assert found, f"{attack}: nothing differs"
    number, change = found
    assert (number, change.kind) == (cell, kind)


@pytest.mark.parametrize("seed", ["11", "12", "13"])
def test_untouched_it_stays_green_under_another_rounding(seed, record_property):
    record_property("attack", f"part 4     untouched, rounding {seed:24} must stay green")
    assert first_difference(CURVES, 5, environment={"ROUNDING": seed}) is None


def test_a_digit_of_a_number_in_prose_is_found():
    book = nbformat.read(NOTEBOOKS / f"{CURVES}.ipynb", as_version=4)
    known = numbers(book)
    said = {number for cell in book.cells if cell.cell_type == "markdown" for _, number in quoted(cell)}
    said = [number for number in said if len(number) >= 4 and stands_in(number, known)]  # 1.2 may well stand elsewhere
    assert said
    for number in said:
        wrong = str((int(number[0]) + 4) % 10) + number[1:]
        assert not stands_in(wrong, known), f"{number} as {wrong}"
