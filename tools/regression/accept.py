"""Execute notebooks and keep their outputs as the published ones, showing what changes: what `make accept` runs."""

import argparse
import asyncio
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.regression import outputs
from tools.regression.commands import begin
from tools.regression.compare import EXACT, Tolerance, changes
from tools.regression.execution import CellError, executed
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import one_thread_each, read, title, write_atomically
from tools.regression.outputs import FIGURE, code_cells, describe, write_page
from tools.regression.prose import gone

KEPT = ("tags", "nbgrader", "jupyter")  # of a cell's metadata; the last says that it is folded
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def accept(path: Path) -> str:
    """Execute the notebook and write it back with its new outputs; one that fails stays as it was.

    A stored output that the fresh one equals within tolerance stays, so that another processor rewrites nothing. Of the
    metadata only `KEPT` and `METADATA` stay, since editors, kernels and papermill leave theirs; what goes is told.

    Returns:
        What changed, a few lines for each line of text and each figure, which lie side by side in `build/diff`, and
        which lines of prose quote a value that is gone; or "unchanged", and then nothing was written.

    Raises:
        ValueError: the file is no notebook.
        CellError: a cell did not run to its end.
    """
    read(path)
    before = path.read_text("utf-8")
    published, notebook = nbformat.reads(before, as_version=4), asyncio.run(executed(path))
    pairs = list(zip(code_cells(published), code_cells(notebook), strict=True))
    for old, new in pairs:
        allowed = Tolerance.of(new)
        rtol = allowed.rtol if allowed.compared else 1e9  # of a cell that is not compared, words alone count
        if old.outputs and not any(changes(old.outputs, new.outputs, rtol, allowed.rms)):  # figures count in any case
            new.outputs = old.outputs
    foreign = set(notebook.metadata) - set(METADATA)
    notebook.metadata = METADATA
    for cell in notebook.cells:
        foreign |= set(cell.metadata) - set(KEPT)
        cell.metadata = {name: cell.metadata[name] for name in KEPT if name in cell.metadata}
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
    if foreign:
        shown += f"\nmetadata that does not stay: {', '.join(sorted(foreign))}"
    write_atomically(nbformat.writes(notebook) + "\n", path)
    return shown


def elsewhere(path: Path, notebook: NotebookNode) -> str:
    """Return which outputs differ by more than their tolerance where the last bits are rounded in another way."""
    try:
        other = asyncio.run(executed(path, {"ROUNDING": "1"}))
    except CellError as error:
        return f"\na cell raises on other processors: {error}"
    told = []
    for number, (cell, rounded) in enumerate(zip(code_cells(notebook), code_cells(other), strict=True), 1):
        for change in Tolerance.of(cell).changes(cell.outputs, rounded.outputs):
            texts = "{!r} as {!r}".format(*change.texts())
            said = f"figure by RMS {change.error:.1f}" if change.kind == FIGURE else texts
            told.append(f"\ncell [{number}] will not hold on other processors: {said}")
    return "".join(dict.fromkeys(told))


def main() -> int:
    """Accept one notebook or all, one after another; return 1 if one failed or if this was interrupted."""
    paths, _ = begin(argparse.ArgumentParser(prog="make accept", description=__doc__))
    one_thread_each()
    os.environ.setdefault("COURSE_DEVICE", "cpu")  # what is published is a processor's
    start_from_copies()
    shutil.rmtree(outputs.DIFF, ignore_errors=True)
    failed = False
    for path in paths:
        try:
            print(f"accepted {title(path)}: {accept(path)}", flush=True)
        except KeyboardInterrupt:
            failed = True
            print(f"interrupted; kept as it was: {title(path)}", file=sys.stderr, flush=True)
            break
        except Exception as error:  # whatever it is, this notebook stays as it was and the next one has its turn
            failed = True
            print(f"kept as it was: {title(path)}\n{error}", file=sys.stderr, flush=True)
    if page := write_page():
        print(f"side by side: {page}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
