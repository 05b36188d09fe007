"""What every notebook must keep without being executed; the message says where, and how to mend it."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from tools.notebooks import find_notebooks, title

BOOKS = {title(path): path for path in find_notebooks()}
MEND = "run `make accept NOTEBOOK={}` after mending the source"
NOISE = re.compile(r"at 0x[0-9a-f]{6,}|\d+it/s|\d+%\|")


@pytest.fixture(params=BOOKS, scope="module")
def book(request):
    """A notebook with its name, for one test after another."""
    notebook = nbformat.read(BOOKS[request.param], as_version=4)
    notebook.name = request.param
    notebook.code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return notebook


def outputs(book):
    """Yield the number of the code cell, as JupyterLab shows it, and each of its outputs."""
    for number, cell in enumerate(book.code, 1):
        for output in cell.outputs:
            yield number, output


@pytest.mark.parametrize("name", ["README.md", "data/README.md"])
def test_no_placeholder_is_left_in_a_readme(name):
    text = (BOOKS["1_foundations/1_tensors_and_gradients"].parents[2] / name).read_text()
    assert not re.search(r"TABLE|TIMES|TODO|XXX|@@", text)


def test_there_are_twenty():
    assert len(BOOKS) == 20, f"found {len(BOOKS)}: {', '.join(BOOKS)}"


def test_it_was_executed_from_top_to_bottom(book):
    counts = [cell.execution_count for cell in book.code]
    assert counts == list(range(1, len(counts) + 1)), MEND.format(book.name)


def test_outputs_are_clean(book):
    for number, output in outputs(book):
        where = f"{book.name} cell [{number}]; " + MEND.format(book.name)
        assert output.output_type != "error", f"a stored {output.get('ename')}: {where}"
        assert output.get("name") != "stderr", f"a stored warning: {where}"
        texts = [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
        assert not any(NOISE.search(text) for text in texts), f"an address or a progress bar: {where}"
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), f"a widget: {where}"


def test_every_figure_has_a_text(book):
    for number, output in outputs(book):
        if "image/png" in output.get("data", {}):
            alt = output.metadata.get("image/png", {}).get("alt", "")
            assert len(alt) > 20, f"{book.name} cell [{number}]: show it with show_figure(figure, alt=...)"


def test_metadata_is_only_what_is_needed(book):
    assert set(book.metadata) == {"kernelspec", "language_info"}, MEND.format(book.name)
    assert {key for cell in book.cells for key in cell.metadata} <= {"tags"}, MEND.format(book.name)


def test_it_has_one_parameters_cell_of_literals(book):
    (cell,) = [cell for cell in book.code if "parameters" in cell.metadata.get("tags", [])]
    for line in ast.parse(cell.source).body:
        assert isinstance(line, ast.Assign), f"{book.name}: `{ast.unparse(line)}` is no assignment"
        ast.literal_eval(line.value)


def test_the_set_up_cell_is_the_same_in_all(book):
    first = nbformat.read(BOOKS["1_foundations/1_tensors_and_gradients"], as_version=4)
    assert book.code[0].source == next(cell.source for cell in first.cells if cell.cell_type == "code")


def test_it_begins_with_a_title_and_asserts_something(book):
    folder, name = (part.split("_")[0] for part in book.name.split("/"))
    assert book.cells[0].source.startswith(f"# {folder}.{name} ")
    assert any("assert" in cell.source for cell in book.code)


def test_no_placeholder_is_left(book):
    left = [cell.source for cell in book.cells if re.search(r"@@|XXX|TODO|FIXME|\?\?\?", cell.source)]
    assert not left, f"{book.name}: {left[0]}"


def test_links_lead_somewhere(book):
    here = BOOKS[book.name].parent
    targets = re.findall(r"\]\((?!https?:|#)([^)\s#]+)", book.prose)
    assert targets, f"{book.name}: no links to the previous and the next notebook"
    for target in targets:
        assert (here / target).is_file(), f"{book.name} links to {target}, which is not there"


def test_previous_and_next_are_its_neighbours(book):
    names = list(BOOKS)
    at = names.index(book.name)
    here = BOOKS[book.name].parent
    linked = {
        (here / target).resolve() for target in re.findall(r"\]\((?!https?:)([^)\s]+\.ipynb)\)", book.cells[-1].source)
    }
    expected = {BOOKS[names[i]] for i in (at - 1, at + 1) if 0 <= i < len(names)}
    assert linked == expected, f"{book.name}: the last cell links to {sorted(map(str, linked))}"


def test_it_is_light(book):
    assert BOOKS[book.name].stat().st_size <= 400_000, f"{book.name}: over 400 kB"


@pytest.mark.parametrize("folder", ["helpers", "tools"])
def test_imports_run_one_way(folder):
    above = {"data": set(), "cnn": {"data"}, "training": {"cnn", "data"}, "show": set()}
    rest = {"show", "cnn", "training", "data"}
    for path in Path(BOOKS["1_foundations/1_tensors_and_gradients"]).parents[2].glob(f"{folder}/*.py"):
        imported = set(re.findall(r"^from helpers\.(\w+) import", path.read_text(), re.MULTILINE))
        if folder == "helpers":
            assert imported <= above.get(path.stem, rest), f"{path.name} imports {imported}"
        assert "from tests" not in path.read_text()
