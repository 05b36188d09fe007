"""Every notebook runs with parameters other than its own, and its cells can be run again, in any order."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from tools.regression.compare import EXACT, changes
from tools.regression.notebooks import ROOT, check_parameters, find_notebooks, title, write_atomically
from tools.regression.outputs import describe
from tools.run import execute

BOOKS = {title(path): path for path in find_notebooks()}
FILE = Path(__file__).with_name("parameters.yml")
PARAMETERS = yaml.safe_load(FILE.read_text("utf-8")) or {}
BUDGET = 120  # seconds a cell; the parameters are chosen cheap
EXECUTED = ROOT / "build" / "executed"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (6, "cell [6]\nx"),
        (7, "cell [1] when all are run again\nx"),
        (13, "cell [6] when run again after all others\nx"),
        (18, "cell [1] when run again after all others\nx"),
    ],
)
def test_a_failure_is_told_by_the_notebooks_own_number(number, said):
    assert in_the_notebook(f"cell [{number}]\nx", count=6) == said


def test_the_file_of_parameters_names_notebooks():
    for notebook in PARAMETERS:
        find_notebooks(notebook)  # raises and lists those there are


@pytest.mark.parametrize("notebook", BOOKS)
def test_it_runs_with_other_parameters_and_again(notebook, request, record_property):
    """From top to bottom, once more with the same outputs to the last pixel, and then each cell from last to first."""
    parameters = PARAMETERS.get(notebook) or {}
    check_parameters(BOOKS[notebook], parameters)
    timeout = min(BUDGET, int(request.config.option.nbval_cell_timeout))
    output = EXECUTED / f"{notebook}.ipynb"
    book = nbformat.read(BOOKS[notebook], as_version=4)
    count = sum(cell.cell_type == "code" for cell in book.cells)
    again = write_again(book, parameters, output.with_suffix(".again.ipynb"))
    failure = execute(again, parameters, output, timeout, cwd=BOOKS[notebook].parent).failure
    if failure:
        pytest.fail(f"{notebook} {in_the_notebook(failure, count)}\nwith {parameters} of {FILE.name}", pytrace=False)
    cells = [cell for cell in nbformat.read(output, as_version=4).cells if cell.cell_type == "code"]
    cells = [cell for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    timing = 0
    for number, (before, after) in enumerate(zip(cells[:count], cells[count : 2 * count], strict=True), 1):
        if "timing" in before.metadata.get("tags", []):  # its output tells how long something took
            timing += 1
            continue
        for change in changes(before.outputs, after.outputs, EXACT):
            text = describe(change, notebook, number)
            request.node.comparison_traceback = [text]  # nothing raised: the published cells still tell something
            said = f"{notebook} cell [{number}] gives another output when run again; seed the random, print no time"
            pytest.fail(f"{said}\n{text}\nwith {parameters} of {FILE.name}", pytrace=False)
    record_property("timing", timing)


def in_the_notebook(failure, count):
    """Tell the failing cell by its number in the notebook, which has `count` code cells."""
    number = re.match(r"cell \[(\d+)\]", failure)
    if not number or int(number[1]) <= count:
        return failure
    place = int(number[1]) - count
    where = f"cell [{place}] when all are run again"
    if place > count:
        where = f"cell [{2 * count + 1 - place}] when run again after all others"
    return where + failure.removeprefix(number[0])


def write_again(book, parameters, output):
    """Write the notebook with all its code a second time, and a third time from last to first, for the same kernel."""
    code = [
        nbformat.v4.new_code_cell(cell.source, metadata=cell.metadata)
        for cell in book.cells
        if cell.cell_type == "code"
    ]
    for cell in code:
        if "parameters" in cell.metadata.get("tags", []):  # papermill hands them to the first run only
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    book.cells += [*code, *(nbformat.v4.new_code_cell(cell.source, metadata=cell.metadata) for cell in reversed(code))]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(nbformat.writes(book) + "\n", output)
    return output
