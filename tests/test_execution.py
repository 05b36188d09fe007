"""Every notebook runs with parameters other than its own, and twice with the same outputs to the last pixel."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from tools.notebooks import ROOT, check_parameters, find_notebooks, title, write_atomically
from tools.outputs import describe
from tools.regression import EXACT, changes
from tools.run import execute

BOOKS = {title(path): path for path in find_notebooks()}
FILE = Path(__file__).with_name("parameters.yml")
PARAMETERS = yaml.safe_load(FILE.read_text("utf-8")) or {}
BUDGET = 120  # seconds a cell; the parameters are chosen cheap
EXECUTED = ROOT / "build" / "executed"


@pytest.mark.parametrize(("number", "said"), [(5, "cell [5]\nx"), (8, "cell [1] when run again\nx")])
def test_a_failure_is_told_by_the_notebooks_own_number(number, said):
    assert in_the_notebook(f"cell [{number}]\nx", half=6) == said


def test_the_file_of_parameters_names_notebooks():
    for notebook in PARAMETERS:
        find_notebooks(notebook)  # raises and lists those there are


@pytest.mark.parametrize("notebook", BOOKS)
def test_it_runs_with_other_parameters_and_twice_alike(notebook, request, record_property):
    parameters = PARAMETERS.get(notebook) or {}
    check_parameters(BOOKS[notebook], parameters)
    timeout = min(BUDGET, int(request.config.option.nbval_cell_timeout))
    output = EXECUTED / f"{notebook}.ipynb"
    double = write_twice(BOOKS[notebook], parameters, output.with_suffix(".twice.ipynb"))
    half = sum(cell.cell_type == "code" for cell in nbformat.read(BOOKS[notebook], as_version=4).cells)
    failure = execute(double, parameters, output, timeout, cwd=BOOKS[notebook].parent).failure
    if failure:
        pytest.fail(f"{notebook} {in_the_notebook(failure, half)}\nwith {parameters} of {FILE.name}", pytrace=False)
    cells = [cell for cell in nbformat.read(output, as_version=4).cells if cell.cell_type == "code"]
    cells = [cell for cell in cells if "injected-parameters" not in cell.metadata.tags]
    timing = 0  # after the first half comes the reset, then the second half
    for number, (before, after) in enumerate(zip(cells[:half], cells[half + 1 :], strict=True), 1):
        if "timing" in before.metadata.tags:  # its output tells how long something took
            timing += 1
            continue
        for change in changes(before.outputs, after.outputs, EXACT):
            text = describe(change, notebook, number)
            said = f"{notebook} cell [{number}] gives another output when run again; seed the random, print no time"
            pytest.fail(f"{said}\n{text}\nwith {parameters} of {FILE.name}", pytrace=False)
    record_property("timing", timing)


def in_the_notebook(failure, half):
    """Tell the failing cell by its number in the notebook, which has `half` code cells."""
    number = re.match(r"cell \[(\d+)\]", failure)
    if not number or int(number[1]) <= half:
        return failure
    return f"cell [{int(number[1]) - half - 1}] when run again{failure.removeprefix(number[0])}"


def write_twice(path, parameters, output):
    """Write the notebook with all its code a second time, after a reset: one kernel, one import of torch for both."""
    book = nbformat.read(path, as_version=4)
    again = [
        nbformat.v4.new_code_cell(cell.source, metadata=cell.metadata)
        for cell in book.cells
        if cell.cell_type == "code"
    ]
    for cell in again:
        if "parameters" in cell.metadata.get("tags", []):  # papermill hands them to the first run only
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    book.cells += [nbformat.v4.new_code_cell("%reset -f"), *again]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(book, output)
    return output
