"""Execute notebooks and keep their outputs as the published ones, showing what changes: what `make accept` runs."""

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from tools.regression import outputs
from tools.regression.compare import EXACT, Tolerance, changes
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import find_notebooks, one_thread_each, title, without_a_reader, write_atomically
from tools.regression.outputs import FIGURE, Change, describe, write_page
from tools.regression.portable import executed
from tools.regression.prose import gone


def accept(path: Path) -> str:
    """Execute the notebook and write it back with its new outputs; one that fails stays as it was.

    A stored output that the fresh one equals within tolerance stays, so that another processor rewrites nothing.

    Returns:
        What changed, a few lines for each line of text and each figure, which lie side by side in `build/diff`, and
        which lines of prose quote a value that is gone; or "unchanged", and then nothing was written.
    """
    before = path.read_text("utf-8")
    published = nbformat.reads(before, as_version=4)
    notebook = executed(path)
    for old, new in code_cells(published, notebook):
        allowed = Tolerance.of(new)
        rtol = allowed.rtol if allowed.compared else 1e9  # of a cell that is not compared, words alone count
        if old.outputs and not any(changes(old.outputs, new.outputs, rtol, allowed.rms)):  # figures count in any case
            new.outputs = old.outputs
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
    nbformat.validate(notebook)
    if nbformat.writes(notebook) + "\n" == before:
        return "unchanged"
    changed = [change for old, new in code_cells(published, notebook) for change in texts(old, new)]
    shown = difference(published, notebook, title(path))
    shown += "".join(f"\nprose may quote what is gone: {line}" for line in gone(changed, notebook))
    shown += elsewhere(path, notebook)
    write_atomically(nbformat.writes(notebook) + "\n", path)
    return shown


def code_cells(one: NotebookNode, other: NotebookNode) -> Iterator[tuple[NotebookNode, NotebookNode]]:
    """Yield the code cells of two executions of a notebook in pairs."""
    for old, new in zip(one.cells, other.cells, strict=True):
        if old.cell_type == "code":
            yield old, new


def texts(old: NotebookNode, new: NotebookNode) -> list[Change]:
    """Return the lines of text that differ between two executions of a cell."""
    return [change for change in changes(old.outputs, new.outputs, EXACT) if change.kind != FIGURE]


def difference(published: NotebookNode, notebook: NotebookNode, name: str) -> str:
    """Return how the outputs of two executions of the same cells differ, to the last character and pixel."""
    shown = []
    for number, (old, new) in enumerate(code_cells(published, notebook), 1):
        found = [describe(change, name, number) for change in changes(old.outputs, new.outputs, EXACT)]
        if found:
            shown.append(f"\ncell [{number}]\n" + "\n".join(found))
    return "".join(shown) or "the outputs are the same, numbers of cells or metadata are not"


def elsewhere(path: Path, notebook: NotebookNode) -> str:
    """Return which outputs differ by more than their tolerance where the last bits are rounded in another way."""
    told = []
    try:
        other = executed(path, {"ROUNDING": "1"})
    except CellExecutionError as error:
        return f"\na cell raises on other processors: {error}"
    for number, (here, there) in enumerate(code_cells(notebook, other), 1):
        for change in Tolerance.of(here).changes(here.outputs, there.outputs):
            said = (
                f"figure by RMS {change.error:.1f}"
                if change.kind == FIGURE
                else f"{change.expected!r} as {change.actual!r}"
            )
            told.append(f"\ncell [{number}] will not hold on other processors: {said}")
    return "".join(dict.fromkeys(told))


def main() -> int:
    """Accept one notebook or all, one after another; return the number that failed."""
    parser = argparse.ArgumentParser(prog="make accept", description=__doc__)
    parser.add_argument("notebook", nargs="?", help="such as 2_mnist_cnn/1_train_and_test; all if left out")
    arguments = parser.parse_args()
    one_thread_each()
    without_a_reader()
    start_from_copies()
    shutil.rmtree(outputs.DIFF, ignore_errors=True)
    failed = 0
    try:
        paths = find_notebooks(arguments.notebook)
    except ValueError as error:
        sys.exit(f"make accept: {error}")
    for path in paths:
        try:
            said = accept(path)
            print(f"accepted {title(path)}: {said}", flush=True)
        except KeyboardInterrupt:
            sys.exit(f"interrupted; kept as it was: {title(path)}")
        except Exception as error:  # whatever it is, this notebook stays as it was and the next one has its turn
            failed += 1
            print(f"kept as it was: {title(path)}\n{error}", file=sys.stderr, flush=True)
    if page := write_page():
        print(f"side by side: {page}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
