"""Every notebook runs with parameters other than its own, and twice with the same outputs to the last pixel."""

from pathlib import Path

import nbformat
import pytest
import yaml

from tools.notebooks import ROOT, check_parameters, find_notebooks, title
from tools.outputs import describe
from tools.regression import EXACT, changes
from tools.run import execute

BOOKS = {title(path): path for path in find_notebooks()}
FILE = Path(__file__).with_name("parameters.yml")
PARAMETERS = yaml.safe_load(FILE.read_text("utf-8")) or {}
BUDGET = 120  # seconds a cell; the parameters are chosen cheap
EXECUTED = ROOT / "build" / "executed"


def test_the_file_of_parameters_names_notebooks():
    for notebook in PARAMETERS:
        find_notebooks(notebook)  # raises and lists those there are


@pytest.mark.parametrize("notebook", BOOKS)
def test_it_runs_with_other_parameters_and_twice_alike(notebook, request, record_property):
    parameters = PARAMETERS.get(notebook) or {}
    check_parameters(BOOKS[notebook], parameters)
    timeout = min(BUDGET, int(request.config.option.nbval_cell_timeout))
    first, second = (executed(notebook, parameters, folder, timeout) for folder in ("first", "second"))
    timing = 0
    for number, (before, after) in enumerate(zip(first, second, strict=True), 1):
        if "timing" in before.metadata.tags:  # its output tells how long something took
            timing += 1
            continue
        for change in changes(before.outputs, after.outputs, EXACT):
            text = describe(change, notebook, number)
            said = f"{notebook} cell [{number}] gives another output when run again; seed the random, print no time"
            pytest.fail(f"{said}\n{text}\nwith {parameters} of {FILE.name}", pytrace=False)
    record_property("timing", timing)


def executed(notebook, parameters, folder, timeout):
    """Execute the notebook into a folder and return its code cells."""
    output = EXECUTED / folder / f"{notebook}.ipynb"
    failure = execute(BOOKS[notebook], parameters, output, timeout).failure
    if failure:
        pytest.fail(f"{notebook} {failure}\nwith {parameters} of {FILE.name}", pytrace=False)
    cells = nbformat.read(output, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.tags]
