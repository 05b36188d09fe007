"""Execute notebooks and keep their outputs as the published ones, showing what changes: what `make accept` runs."""

import argparse
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.regression import outputs
from tools.regression.compare import EXACT, Tolerance, changes
from tools.regression.execution import CellError, executed
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import find_notebooks, one_thread_each, title, without_a_reader, write_atomically
from tools.regression.outputs import FIGURE, describe, write_page
from tools.regression.prose import gone


def accept(path: Path) -> str:
    """Execute the notebook and write it back with its new outputs; one that fails stays as it was.

    A stored output that the fresh one equals within tolerance stays, so that another processor rewrites nothing.

    Returns:
        What changed, a few lines for each line of text and each figure, which lie side by side in `build/diff`, and
        which lines of prose quote a value that is gone; or "unchanged", and then nothing was written.
    """
    before = path.read_text("utf-8")
    published, notebook = nbformat.reads(before, as_version=4), executed(path)
    pairs = [(o, n) for o, n in zip(published.cells, notebook.cells, strict=True) if o.cell_type == "code"]
    for old, new in pairs:
        allowed = Tolerance.of(new)
        rtol = allowed.rtol if allowed.compared else 1e9  # of a cell that is not compared, words alone count
        if old.outputs and not any(changes(old.outputs, new.outputs, rtol, allowed.rms)):  # figures count in any case
            new.outputs = old.outputs
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        kept = ("tags", "nbgrader", "jupyter")  # the last says that a cell is folded
        cell.metadata = {name: cell.metadata[name] for name in kept if name in cell.metadata}
    nbformat.validate(notebook)
    if nbformat.writes(notebook) + "\n" == before:
        return "unchanged"
    shown, changed = "", []
    for number, (old, new) in enumerate(pairs, 1):
        found = list(changes(old.outputs, new.outputs, EXACT))  # to the last character and pixel
        changed += [change for change in found if change.kind != FIGURE]
        shown += "\n".join([f"\ncell [{number}]", *(describe(c, title(path), number) for c in found)]) * bool(found)
    shown = shown or "the outputs are the same, numbers of cells or metadata are not"
    shown += "".join(f"\nprose may quote what is gone: {line}" for line in gone(changed, notebook))
    if find_spec("torch"):
        shown += elsewhere(path, notebook)
    write_atomically(nbformat.writes(notebook) + "\n", path)
    return shown


def elsewhere(path: Path, notebook: NotebookNode) -> str:
    """Return which outputs differ by more than their tolerance where the last bits are rounded in another way."""
    try:
        other = executed(path, {"ROUNDING": "1"})
    except CellError as error:
        return f"\na cell raises on other processors: {error}"
    told = []
    here, there = ([cell for cell in book.cells if cell.cell_type == "code"] for book in (notebook, other))
    for number, (cell, rounded) in enumerate(zip(here, there, strict=True), 1):
        for change in Tolerance.of(cell).changes(cell.outputs, rounded.outputs):
            said = "{!r} as {!r}".format(*change.texts())
            if change.kind == FIGURE:
                said = f"figure by RMS {change.error:.1f}"
            told.append(f"\ncell [{number}] will not hold on other processors: {said}")
    return "".join(dict.fromkeys(told))


def main() -> int:
    """Accept one notebook or all, one after another; return the number that failed."""
    parser = argparse.ArgumentParser(prog="make accept", description=__doc__)
    parser.add_argument("notebook", nargs="?", help="such as 2_mnist_cnn/1_train_and_test; all if left out")
    arguments = parser.parse_args()
    try:
        paths = find_notebooks(arguments.notebook)
    except ValueError as error:
        sys.exit(f"make accept: {error}")
    one_thread_each()
    without_a_reader()
    start_from_copies()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the kernel ends, then this does
    shutil.rmtree(outputs.DIFF, ignore_errors=True)
    failed = 0
    for path in paths:
        try:
            print(f"accepted {title(path)}: {accept(path)}", flush=True)
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
