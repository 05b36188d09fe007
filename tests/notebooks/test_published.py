"""What every notebook must keep without being executed; the message says where, and how to mend it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nbformat
import pytest
import yaml
from nbval.plugin import find_comment_markers

from tools.regression.notebooks import NOTEBOOKS, ROOT, find_notebooks, title
from tools.regression.prose import LINK, numbers, quoted, stands_in

BOOKS = {title(path): path for path in find_notebooks()}
NOISE = re.compile(r"at 0x[0-9a-f]{6}|\dit/s|\d%\||Wall time|CPU times|\d:\d\d<\d+:\d\d")
# Numbers in prose that stand in no output, a list a notebook, each with its reason.
ELSEWHERE = yaml.safe_load(Path(__file__).with_name("prose.yml").read_text("utf-8")) or {}
MAKERS = {"print": "stdout", "show_figure": "image/png"}  # what code calls, and what is then stored


@cache
def read(name):
    """Return a notebook; its code cells counted from 1 are `code`, its Markdown is `prose`."""
    notebook = nbformat.read(BOOKS[name], as_version=4)
    notebook.name = name
    notebook.code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return notebook


@pytest.fixture(params=BOOKS)
def book(request):
    """A notebook with its name, for one test after another."""
    return read(request.param)


def mend(book, number, wrong):
    """Return what is said of a cell: which one, what is wrong, and the command that writes its outputs anew."""
    return f"{book.name} cell [{number}]: {wrong}; mend its source if need be, then `make accept NOTEBOOK={book.name}`"


def outputs(book):
    """Yield the number of the code cell, as JupyterLab shows it, and each of its outputs."""
    for number, cell in enumerate(book.code, 1):
        for output in cell.outputs:
            yield number, output


def calls(tree: ast.AST) -> Iterator[str]:
    """Yield the names of the functions that a cell calls in any case: not only in a function or after an `if`."""
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda | ast.If | ast.IfExp):
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name):
                yield child.func.id
            yield from calls(child)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "data/README.md"])
def test_no_placeholder_is_left_in_a_readme(name):
    assert not re.search(r"TABLE|TIMES|TODO|XXX|@@", (ROOT / name).read_text())


def test_there_are_so_many():
    assert len(BOOKS) == 26, f"found {len(BOOKS)}: {', '.join(BOOKS)}"


def test_it_was_executed_from_top_to_bottom(book):
    for number, cell in enumerate((cell for cell in book.code if cell.source.strip()), 1):  # empty ones never are
        count = cell.execution_count
        assert count == number, mend(book, number, f"stored as [{count or ' '}], not executed from top to bottom")


def test_what_its_code_makes_is_stored(book):
    for number, cell in enumerate(book.code, 1):
        stored = [output.get("name") or list(output.get("data", {})) for output in cell.outputs]
        called = list(calls(ast.parse(cell.source)))
        for function, kind in MAKERS.items():
            needed = min(called.count(function), 1) if kind == "stdout" else called.count(function)
            found = sum(kind in kinds for kinds in stored)
            assert found >= needed, mend(book, number, f"{needed} × {function}(...), but {found} × {kind} stored")


def test_outputs_are_clean(book):
    for number, output in outputs(book):
        texts = [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
        noise = next((found[0] for found in map(NOISE.search, texts) if found), None)
        assert output.output_type != "error", mend(book, number, f"a stored {output.get('ename')}")
        assert output.get("name") != "stderr", mend(book, number, "a stored warning")
        assert noise is None, mend(book, number, f"an address, a time or a progress bar is stored: {noise}")
        widget = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
        assert not widget, mend(book, number, "a widget is stored")


def test_every_figure_has_a_text(book):
    for number, output in outputs(book):
        if "image/png" in output.get("data", {}):
            alt = output.metadata.get("image/png", {}).get("alt", "")
            said = "a figure without a text for those who cannot see it: show_figure(figure, alt=...)"
            assert len(alt) > 20, mend(book, number, said)


def test_metadata_is_only_what_is_needed(book):
    extra = set(book.metadata) - {"kernelspec", "language_info"}
    assert not extra, f"{book.name} stores {sorted(extra)}; `make accept NOTEBOOK={book.name}` removes them"
    for number, cell in enumerate(book.code, 1):
        folded = cell.metadata.get("jupyter", {"source_hidden": True}) == {"source_hidden": True}
        extra = set(cell.metadata) - {"tags", "nbgrader"} - ({"jupyter"} if folded else set())
        assert not extra, mend(book, number, f"metadata {sorted(extra)} (a timing, papermill's, an editor's) stored")


def test_tags_are_known(book):
    for number, cell in enumerate(book.code, 1):
        for tag in cell.metadata.get("tags", []):
            known = re.fullmatch(r"parameters|nbval-ignore-output|timing|rms=\d+|rtol=(0|[01]?\.\d+|\d+e-\d+)", tag)
            assert known, f"{book.name} cell [{number}]: nothing reads the tag {tag!r}; see tools/regression"
        marks = list(find_comment_markers(cell.source))
        assert not marks, f"{book.name} cell [{number}]: nbval reads its comment as {marks}; use a tag"


def assigned(tree):
    """Yield the names that code assigns outside functions, classes and comprehensions."""
    own = ast.FunctionDef | ast.ClassDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif not isinstance(node, own):
            yield from assigned(node)


def test_no_other_cell_gives_a_parameter_another_value(book):
    """As a loop over eps in a check would: what follows would then be computed at its last value."""
    names = {
        name
        for cell in book.code
        if "parameters" in cell.metadata.get("tags", [])
        for name in assigned(ast.parse(cell.source))
    }
    for number, cell in enumerate(book.code, 1):
        if "parameters" not in cell.metadata.get("tags", []):
            again = names & set(assigned(ast.parse(cell.source)))
            assert not again, mend(
                book, number, f"{', '.join(sorted(again))} is a parameter, and gets another value here"
            )


def test_it_has_one_parameters_cell_of_literals(book):
    tagged = [number for number, cell in enumerate(book.code, 1) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, f"{book.name}: the cells {tagged} have the tag parameters, expected one"
    for line in ast.parse(book.code[tagged[0] - 1].source).body:
        where = f"{book.name} cell [{tagged[0]}]: `{ast.unparse(line)}`"
        assert isinstance(line, ast.Assign), f"{where} is no assignment"
        try:
            ast.literal_eval(line.value)
        except ValueError:
            pytest.fail(f"{where} is no literal, so it stays as it is when `make run` hands over a parameter")


def test_the_set_up_cell_is_the_same_in_all(book):
    first = next(iter(BOOKS))
    assert book.code[0].source == read(first).code[0].source, f"{book.name} cell [1] is not that of {first}: copy it"


def test_it_begins_with_a_title_and_asserts_something(book):
    folder, name = (part.split("_")[0] for part in book.name.split("/"))
    assert book.cells[0].source.startswith(f"# {folder}.{name} "), (
        f"{book.name}: its title is not # {folder}.{name} ..."
    )
    assert any("assert" in cell.source for cell in book.code), f"{book.name}: nothing is asserted"


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
    links = re.findall(r"\]\((?!https?:)([^)\s]+\.ipynb)\)", book.cells[-1].source)
    linked = sorted(title((here / link).resolve()) for link in links)
    expected = sorted(names[i] for i in (at - 1, at + 1) if 0 <= i < len(names))
    assert linked == expected, f"{book.name}: the last cell links to {linked}, its neighbours are {expected}"


def test_it_is_light(book):
    size = BOOKS[book.name].stat().st_size
    assert size <= 400_000, f"{book.name}: {size / 1000:.0f} kB, over 400; draw fewer or smaller images"


@cache
def numbers_of(name):
    """Return the numbers of a notebook's code and outputs; none of a notebook that is not there."""
    return numbers(read(name)) if name in BOOKS else set()


def test_every_number_in_its_prose_stands_in_an_output(book):
    """Or in the code; of another notebook if the paragraph links to it; or in prose.yml, with a reason."""
    folder = book.name.split("/")[0]
    for cell in book.cells:
        if cell.cell_type == "markdown":
            links = [link if "/" in link else f"{folder}/{link}" for link in LINK.findall(cell.source)]
            for line, number in quoted(cell):
                known = number in ELSEWHERE.get(book.name, {})
                found = any(stands_in(number, numbers_of(name)) for name in (book.name, *links))
                assert known or found, f"{book.name} says {number}, which no output does: {line}"


def test_what_prose_says_without_an_output_is_still_said(book):
    said = {number for cell in book.cells if cell.cell_type == "markdown" for _, number in quoted(cell)}
    assert set(ELSEWHERE.get(book.name, {})) <= said


# What each helper may import; whoever is not named is at the top.
BELOW = {
    "ball": set(),
    "checks": set(),
    "options": set(),
    "reader": set(),
    "resume": set(),
    "style": set(),
    "data": {"checks"},
    "batches": {"checks"},
    "device": {"checks"},
    "cnn": {"checks", "data"},
    "answers": {"batches", "checks", "device"},
    "bounds": {"ball", "batches", "checks", "cnn", "device"},
    "exercises": {"reader"},
    "grid": {"checks", "options", "style"},
    "play": {"checks", "cnn", "data", "reader"},
    "show": {"checks", "grid", "reader", "style"},
    "training": {"answers", "batches", "checks", "device", "reader", "resume"},
    "ascent": {"answers", "batches", "checks", "device"},
}
TOP = {"answers", "ascent", "ball", "batches", "checks", "device", "show"}


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "helpers").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_imports_run_one_way(path):
    tree = ast.walk(ast.parse(path.read_text()))
    imported = set()
    for node in tree:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    own = {name.split(".")[1] for name in imported if re.match(r"helpers\.\w+$", name)}
    folders = {name.split(".")[0] for name in imported}
    assert not folders & {"tests", "notebooks", "exercises"}
    if "helpers" in path.parts:
        assert "tools" not in folders
        assert own <= BELOW.get(path.stem, TOP), f"{path.name} imports {own}"
    if "regression" in path.parts:
        assert "helpers" not in folders


def test_every_notebook_is_in_a_folder_of_the_course():
    there = {path for path in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts}
    assert there == set(BOOKS.values()), "a notebook that is not at notebooks/<folder>/<name>.ipynb is never executed"
