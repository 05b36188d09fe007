"""Execute the course from scratch into `build/notebooks`: what `make run` runs. papermill hands over parameters."""

import argparse
import asyncio
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from tqdm import tqdm

from tools.regression import notebooks as course
from tools.regression.execution import CellError, run_cells
from tools.regression.notebooks import CELL_TIMEOUT, ROOT, title

BUILD = ROOT / "build" / "notebooks"


class Outcome(NamedTuple):
    """How the execution of one notebook ended."""

    notebook: str
    seconds: float
    failure: str | None  # None if it went well; else which cell, its source and the last traceback line


def execute(
    path: Path, parameters: dict[str, object], output: Path, timeout: int = CELL_TIMEOUT, cwd: Path | None = None
) -> Outcome:
    """Execute one notebook, in `cwd` or its own folder, into `output`; failures are returned."""
    return asyncio.run(_execute(path, parameters, output, timeout, cwd or path.parent))


async def _execute(path: Path, parameters: dict[str, object], output: Path, timeout: int, cwd: Path) -> Outcome:
    """Execute one notebook; nothing is written if this is cancelled."""
    start, failure = time.perf_counter(), None
    try:
        notebook = load_notebook_node(str(path))
        if parameters:
            notebook = parameterize_notebook(notebook, parameters, kernel_name="python3", language="python")
        try:
            await run_cells(notebook, cwd, timeout)
        except CellError as error:
            failure = str(error)
        output.parent.mkdir(parents=True, exist_ok=True)
        course.write_atomically(nbformat.writes(notebook) + "\n", output)
    except Exception as error:
        # A full disk, a kernel that does not start, a file that is no notebook: the next notebook still runs.
        failure = f"{type(error).__name__}: {error}"
    return Outcome(title(path), time.perf_counter() - start, failure)


def execute_all(paths: list[Path], parameters: dict[str, object], output: Path = BUILD) -> list[Outcome]:
    """Execute the notebooks, `course.WORKERS` at a time, under a progress bar that names those now running.

    After Ctrl-C nothing more is started or written; what was finished is still returned.
    """
    waiting, running, outcomes = iter(course.heaviest_first(paths)), [], []
    with tqdm(total=len(paths), unit="notebook", mininterval=0) as bar, suppress(KeyboardInterrupt):

        async def work() -> None:
            for path in waiting:
                running.append(title(path))
                bar.set_postfix_str("now " + ", ".join(running))
                to = output / f"{title(path)}.ipynb"
                outcomes.append(await _execute(path, parameters, to, CELL_TIMEOUT, path.parent))
                running.remove(title(path))
                bar.update()

        async def work_side_by_side() -> None:
            await asyncio.gather(*(work() for _ in range(course.WORKERS)))

        asyncio.run(work_side_by_side())
    return sorted(outcomes)


def report(outcomes: list[Outcome]) -> str:
    """Return a table of notebook, seconds and ok or failed, then each failure in full."""
    width = max((len(outcome.notebook) for outcome in outcomes), default=8)
    lines = [f"{'notebook':{width}}  seconds"]
    lines += [f"{name:{width}}  {seconds:7.1f}  {'FAILED' if failure else 'ok'}" for name, seconds, failure in outcomes]
    return "\n".join(lines + [f"\n{name}: {failure}" for name, _, failure in outcomes if failure])


def main() -> int:
    """Run one notebook or all; return 1 if any failed, 2 if there is nothing to run."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--notebook", default="", help="such as 2_mnist_cnn/1_train_and_test; all if left out")
    parser.add_argument("--params", default="", help="for one notebook, such as 'epochs=1 seed=3'")
    arguments = parser.parse_args()
    try:
        paths = course.find_notebooks(arguments.notebook)
        if not paths:
            raise ValueError(f"there are no notebooks in {course.NOTEBOOKS}")
        if arguments.params and not arguments.notebook:
            raise ValueError(f'PARAMS needs a NOTEBOOK: make run NOTEBOOK={title(paths[0])} PARAMS="seed=1"')
        parameters = course.parse_parameters(paths[0], arguments.params) if arguments.params else {}
    except ValueError as error:
        print(f"make run: {error}", file=sys.stderr)
        return 2
    if len(paths) > 1:
        course.one_thread_each()
    course.without_a_reader()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: kernels end, then this does
    outcomes = execute_all(paths, parameters)
    print(report(outcomes))
    if missing := len(paths) - len(outcomes):
        print(f"\ninterrupted: {missing} notebooks were not finished")
    print(f"\nexecuted notebooks are in {BUILD.relative_to(ROOT)}/")
    return int(missing > 0 or any(outcome.failure for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
