"""Execute notebooks and keep their outputs as the published ones, showing what changes: what `make accept` runs."""

import argparse
import copy
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tools.notebooks import CELL_TIMEOUT, find_notebooks, one_thread_each, title, without_a_reader, write_atomically
from tools.outputs import describe
from tools.regression import EXACT, changes


def accept(path: Path) -> str:
    """Execute the notebook and write it back with its new outputs; one that fails stays as it was.

    Returns:
        What changed, a few lines for each line of text and each figure, whose pictures are in `build/diff`; or
        "unchanged", and then nothing was written.
    """
    before = path.read_text("utf-8")
    notebook = nbformat.reads(before, as_version=4)
    published = copy.deepcopy(notebook)
    NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        record_timing=False,
        coalesce_streams=True,  # one text a cell, however its prints were timed
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": path.parent}},
    ).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
    nbformat.validate(notebook)
    if nbformat.writes(notebook) + "\n" == before:
        return "unchanged"
    shown = difference(published, notebook, title(path))
    write_atomically(notebook, path)
    return shown


def difference(published: nbformat.NotebookNode, notebook: nbformat.NotebookNode, name: str) -> str:
    """Return how the outputs of two executions of the same cells differ, to the last character and pixel."""
    shown = []
    pairs = [pair for pair in zip(published.cells, notebook.cells, strict=True) if pair[0].cell_type == "code"]
    for number, (old, new) in enumerate(pairs, 1):
        found = [describe(change, name, number) for change in changes(old.outputs, new.outputs, EXACT)]
        if found:
            shown.append(f"\ncell [{number}]\n" + "\n".join(found))
    return "".join(shown) or "the outputs are the same, numbers of cells or metadata are not"


def main() -> int:
    """Accept one notebook or all, one after another; return the number that failed."""
    parser = argparse.ArgumentParser(prog="make accept", description=__doc__)
    parser.add_argument("notebook", nargs="?", help="such as 2_mnist_cnn/1_train_and_test; all if left out")
    arguments = parser.parse_args()
    one_thread_each()
    without_a_reader()
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
    return failed


if __name__ == "__main__":
    sys.exit(main())
