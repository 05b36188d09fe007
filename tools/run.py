"""Execute the course from scratch into `build/notebooks`: what `make run` runs. papermill hands over parameters."""

import argparse
import asyncio
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from tools.regression.commands import begin, side_by_side
from tools.regression.compare import marks
from tools.regression.execution import CellError, run_cells
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import (
    CELL_TIMEOUT,
    NOTEBOOKS,
    ROOT,
    one_thread_each,
    parse_parameters,
    title,
    write_atomically,
)
from tools.regression.outputs import code_cells

BUILD = ROOT / "build" / "notebooks"
JUDGED = "raises-exception"  # a mark of nbval's: the cells after such a one are executed


class Outcome(NamedTuple):
    """How the execution of one notebook ended."""

    notebook: str
    seconds: float
    failure: str | None  # None if it went well; else which cell, its source and the last traceback line
    skipped: int  # cells that a mark of nbval's leaves out


def execute(
    path: Path, parameters: dict[str, object], output: Path, timeout: int = CELL_TIMEOUT, cwd: Path | None = None
) -> Outcome:
    """Execute one notebook, in `cwd` or its own folder, into `output`; failures are returned."""
    return asyncio.run(_execute(path, parameters, output, timeout, cwd or path.parent))


async def _execute(path: Path, parameters: dict[str, object], output: Path, timeout: int, cwd: Path) -> Outcome:
    """Execute one notebook; nothing is written if this is cancelled."""
    start, failure, skipped = time.perf_counter(), None, 0
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        notebook = load_notebook_node(str(path))
        skipped = sum(marks(cell).get("skip", False) for cell in code_cells(notebook))
        if parameters:
            notebook = parameterize_notebook(notebook, parameters, kernel_name="python3", language="python")
        checks = [] if NOTEBOOKS in path.resolve().parents else graded(notebook)
        for cell in checks:  # in a learner's notebook: those after one that is open or wrong are judged as well
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), JUDGED]
        try:
            await run_cells(notebook, cwd, timeout)
            failure = "\n".join(judged(checks)) or None
        except CellError as error:
            failure = "\n".join([*judged(checks), str(error)])
        for cell in checks:
            cell.metadata["tags"] = [tag for tag in cell.metadata["tags"] if tag != JUDGED]
        write_atomically(nbformat.writes(notebook) + "\n", output)
    except Exception as error:
        # A full disk, a kernel that does not start, a file that is no notebook: the next notebook still runs.
        failure = f"{type(error).__name__}: {error}"
    return Outcome(title(path), time.perf_counter() - start, failure, skipped)


def graded(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that check an exercise."""
    return [cell for cell in code_cells(notebook) if cell.metadata.get("nbgrader", {}).get("grade")]


def judged(checks: list[NotebookNode]) -> list[str]:
    """Return what the checks said that found their exercise open or wrong."""
    return [output.evalue for cell in checks for output in cell.outputs if output.output_type == "error"]


def execute_all(paths: list[Path], parameters: dict[str, object], output: Path = BUILD) -> list[Outcome]:
    """Execute the notebooks side by side; after Ctrl-C what was finished is still returned.

    Each runs in its own folder, one from elsewhere in that of its output: its first cell looks for the course.
    """
    work = {}
    for path in paths:
        to = output / f"{title(path)}.ipynb"
        cwd = path.parent if ROOT in path.parents else to.parent
        work[title(path)] = partial(_execute, path, parameters, to, CELL_TIMEOUT, cwd)
    return sorted(side_by_side(work).values())


def report(outcomes: list[Outcome]) -> str:
    """Return a table of notebook, seconds, ok or failed, and cells that were skipped, then each failure in full."""
    width = max((len(outcome.notebook) for outcome in outcomes), default=8)
    lines, failures = [f"{'notebook':{width}}  seconds"], []
    for name, seconds, failure, skipped in outcomes:
        left_out = f", cells skipped: {skipped}" if skipped else ""
        lines.append(f"{name:{width}}  {seconds:7.1f}  {'FAILED' if failure else 'ok'}{left_out}")
        failures += [f"\n{name}: {failure}"] * bool(failure)
    return "\n".join(lines + failures)


def main() -> int:
    """Run one notebook or all; return 1 if any failed."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--params", default="", help="for one notebook, such as 'epochs=1 seed=3'")
    paths, arguments = begin(parser, "--notebook", anywhere=True)
    if arguments.params and not arguments.notebook:
        parser.error(f'PARAMS needs a NOTEBOOK: make run NOTEBOOK={title(paths[0])} PARAMS="seed=1"')
    try:
        parameters = parse_parameters(paths[0], arguments.params) if arguments.params else {}
    except ValueError as error:
        parser.error(str(error))
    if len(paths) > 1:
        one_thread_each()
        start_from_copies()
    outcomes = execute_all(paths, parameters)
    print(report(outcomes))
    if missing := len(paths) - len(outcomes):
        print(f"\ninterrupted: {missing} notebooks were not finished")
    print(f"\nexecuted notebooks are in {BUILD.relative_to(ROOT)}/")
    return int(missing > 0 or any(outcome.failure for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
