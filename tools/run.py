"""Execute the course from scratch into `build/notebooks`: what `make run` runs."""

import argparse
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from tools.regression.notebooks import (
    CELL_TIMEOUT,
    ROOT,
    WORKERS,
    find_notebooks,
    heaviest_first,
    one_thread_each,
    parse_parameters,
    title,
    without_a_reader,
)

BUILD = ROOT / "build" / "notebooks"


class SavesAtTheEnd(NBClientEngine):
    """papermill's own engine, but it does not save the notebook twice a cell, a third of the time of a long one."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name: str, **options: object) -> None:
        """Execute the cells; papermill saves the notebook before and after this, also after an exception."""
        path, nb_man.output_path = nb_man.output_path, None
        try:
            super().execute_managed_notebook(nb_man, kernel_name, **options)
        finally:
            nb_man.output_path = path


papermill_engines.register("saves_at_the_end", SavesAtTheEnd)


class Outcome(NamedTuple):
    """How the execution of one notebook ended."""

    notebook: str
    seconds: float
    failure: str | None  # None if it went well; else which cell, its source and the last traceback line


def execute(
    path: Path, parameters: dict[str, object], output: Path, timeout: int = CELL_TIMEOUT, cwd: Path | None = None
) -> Outcome:
    """Execute one notebook with papermill, in `cwd` or its own folder, into `output`; failures are returned."""
    start = time.perf_counter()
    failure = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        papermill.execute_notebook(
            path,
            output,
            parameters,
            engine_name="saves_at_the_end",
            cwd=cwd or path.parent,
            progress_bar=False,
            execution_timeout=timeout,
            kernel_name="python3",
            extra_arguments=[
                "--log-level=CRITICAL"
            ],  # of the kernel, which else tells of its loopback and of an interrupt
        )
    except PapermillExecutionError as error:
        failure = f"{_last_started_cell(output)}\n{error.ename}: {error.evalue}"
    except (DeadKernelError, CellTimeoutError) as error:
        kind = "the kernel died" if isinstance(error, DeadKernelError) else f"no end within {timeout} s"
        failure = f"{_last_started_cell(output)}\n{kind}"
    except KeyboardInterrupt:
        failure = "interrupted"
    except Exception as error:
        # A full disk, a kernel that does not start, a file that is no notebook: the next notebook still runs.
        failure = f"{type(error).__name__}: {error}"
    return Outcome(title(path), time.perf_counter() - start, failure)


def _last_started_cell(output: Path) -> str:
    """Return number and source of the code cell at which the execution of `output` stopped.

    The cell in which papermill hands over parameters has the number of the cell that it follows, so that all others
    have the numbers they have in the notebook.
    """
    number, where = 0, "before the first cell"
    for cell in nbformat.read(output, as_version=4).cells:
        if cell.cell_type == "code" and cell.metadata["papermill"]["start_time"]:
            number += "injected-parameters" not in cell.metadata["tags"]
            where = f"cell [{number}]\n{_indented(cell.source)}"
    return where


def _indented(source: str) -> str:
    """Return the source as it is shown in a report."""
    return "\n".join(f"    {line}" for line in source.splitlines())


def execute_all(paths: list[Path], parameters: dict[str, object], output: Path = BUILD) -> list[Outcome]:
    """Execute the notebooks, `WORKERS` at a time, under a progress bar that names those now running.

    Ctrl-C ends the notebooks that run and starts no more; what was finished is still returned.
    """
    waiting, running, outcomes = heaviest_first(paths), {}, []
    with ThreadPoolExecutor(WORKERS) as pool, tqdm(total=len(paths), unit="notebook", mininterval=0) as bar:
        while waiting or running:
            try:
                while waiting and len(running) < WORKERS:
                    path = waiting.pop(0)
                    future = pool.submit(_in_its_own_process, path, parameters, output / f"{title(path)}.ipynb")
                    running[future] = path
                bar.set_postfix_str("now " + ", ".join(title(path) for path in running.values()))
                done, _ = wait(running, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt:  # which the running notebooks were sent as well
                waiting.clear()
                continue
            for future in done:
                del running[future]
                outcomes.append(future.result())
                bar.update()
    return sorted(outcomes)


def _in_its_own_process(path: Path, parameters: dict[str, object], output: Path) -> Outcome:
    """Execute one notebook in a process of its own, whose death is that of no other."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        try:
            return process.submit(execute, path, parameters, output).result()
        except BrokenProcessPool:
            return Outcome(title(path), 0.0, "the process that ran it was killed (out of memory?)")


def report(outcomes: list[Outcome]) -> str:
    """Return a table of notebook, seconds and ok or failed, then each failure in full."""
    width = max(len(outcome.notebook) for outcome in outcomes)
    lines = [f"{'notebook':{width}}  seconds"]
    for outcome in outcomes:
        lines.append(f"{outcome.notebook:{width}}  {outcome.seconds:7.1f}  {'FAILED' if outcome.failure else 'ok'}")
    for outcome in outcomes:
        if outcome.failure:
            lines.append(f"\n{outcome.notebook}: {outcome.failure}")
    return "\n".join(lines)


def main() -> int:
    """Run one notebook or all; return 1 if any failed."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--notebook", default="", help="such as 2_mnist_cnn/1_train_and_test; all if left out")
    parser.add_argument("--params", default="", help="for one notebook, such as 'epochs=1 seed=3'")
    arguments = parser.parse_args()
    try:
        paths = find_notebooks(arguments.notebook)
        if arguments.params and not arguments.notebook:
            raise ValueError(
                'PARAMS needs a NOTEBOOK: make run NOTEBOOK=2_mnist_cnn/1_train_and_test PARAMS="epochs=1"'
            )
        parameters = parse_parameters(paths[0], arguments.params) if arguments.params else {}
    except ValueError as error:
        print(f"make run: {error}", file=sys.stderr)
        return 2
    if len(paths) > 1:
        one_thread_each()
    without_a_reader()
    outcomes = execute_all(paths, parameters)
    print(report(outcomes))
    if len(outcomes) < len(paths):
        print(f"\ninterrupted: {len(paths) - len(outcomes)} notebooks were not started")
    print(f"\nexecuted notebooks are in {BUILD.relative_to(ROOT)}/")
    return int(len(outcomes) < len(paths) or any(outcome.failure for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
