"""Measure how far notebooks' outputs move on other processors and under other roundings: what `make portable` runs."""

import argparse
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import nbformat
import torch
from nbclient import NotebookClient
from nbformat import NotebookNode
from tqdm import tqdm

from tools.regression.compare import EXACT, NUMBER, RMS, RTOL, Tolerance, changes, relative_error
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import (
    CELL_TIMEOUT,
    ROOT,
    WORKERS,
    find_notebooks,
    heaviest_first,
    one_thread_each,
    title,
    without_a_reader,
)
from tools.regression.outputs import FIGURE

# What PyTorch and its oneDNN can be told not to use: instructions newer than AVX2, vectors at all, and threads.
PROCESSORS = {
    "as it is": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "AVX2 in oneDNN": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
}
ROUNDINGS = {f"rounding {seed}": {"ROUNDING": str(seed)} for seed in range(1, 11)}
GPU = {"GPU": {"ROUNDING": "cuda"}}
ROUNDED = "import torch\nassert torch.nn.Linear.forward.__module__ != torch.nn.Linear.__module__, 'not rounded'"
STARTUP = ROOT / "build" / "rounding"  # what IPython reads in a kernel that is to round in another way


class Moved(NamedTuple):
    """How far the outputs of a cell are from the published ones; infinite if more than numbers differ."""

    decimals: float = 0.0  # relative error, of numbers with a decimal point; whole numbers are words
    numbers: float = 0.0  # relative error, of all numbers
    figures: float = 0.0  # RMS of the worst part of a figure

    def most(self, other: "Moved") -> "Moved":
        """Return the larger of each."""
        return Moved(*map(max, self, other))


def executed(path: Path, environment: dict[str, str] | None = None) -> NotebookNode:
    """Return the notebook with the outputs of a fresh execution, in a kernel with these variables.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    if "ROUNDING" in (environment or {}):
        script = STARTUP / "profile_default" / "startup" / "rounding.py"
        script.parent.mkdir(parents=True, exist_ok=True)
        text = Path(__file__).with_name("rounding.py").read_text("utf-8")
        if not script.is_file() or script.read_text("utf-8") != text:
            beside = script.with_suffix(f".{os.getpid()}")
            beside.write_text(text, encoding="utf-8")
            beside.replace(script)
        environment = {**environment, "IPYTHONDIR": str(STARTUP)}
        notebook.cells.insert(0, nbformat.v4.new_code_cell(ROUNDED))
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        record_timing=False,
        coalesce_streams=True,  # one text a cell, however its prints were timed
        extra_arguments=["--log-level=CRITICAL"],
        resources={"metadata": {"path": path.parent}},
    )
    client.execute(env={**os.environ, **(environment or {})})
    if "ROUNDING" in (environment or {}):
        del notebook.cells[0]
    return notebook


def moved(expected: list[NotebookNode], actual: list[NotebookNode]) -> Moved:
    """Return how far a cell's outputs are from those expected."""
    most = Moved()
    for change in changes(expected, actual, EXACT):
        if change.kind == FIGURE:
            most = most.most(Moved(figures=change.error))
        elif None in (change.expected, change.actual) or change.kind == "output":
            most = most.most(Moved(math.inf, math.inf))
        else:
            most = most.most(Moved(change.error, relative_error(change.expected, change.actual, NUMBER)))
    return most


def verdict(cell: NotebookNode, most: Moved) -> str:
    """Return what is wrong with the tolerance of a cell whose outputs moved so far; nothing if it is right."""
    allowed = Tolerance.of(cell)
    numbers = most.numbers if allowed.rtol > RTOL else most.decimals
    if allowed.compared and (numbers > allowed.rtol or (allowed.figures and most.figures > allowed.rms)):
        return "does not hold" if allowed == Tolerance() else "does not hold: tag too tight"
    if allowed == Tolerance():
        return ""
    if most.decimals <= RTOL <= allowed.rtol and most.figures <= RMS <= allowed.rms:
        return "tag not needed"
    figures_matter = most.figures > RMS  # and may be what the tag is for
    loose = allowed.rtol > RTOL and numbers < allowed.rtol / 10 and not figures_matter
    loose |= allowed.rms > RMS and allowed.figures and most.figures < allowed.rms / 10
    return "tag too loose" if allowed.compared and loose else ""


def _start(environment: dict[str, str]) -> None:
    """Prepare a process that executes notebooks."""
    os.environ.update(environment)
    one_thread_each()
    without_a_reader()
    start_from_copies()


def _moves(path: Path, environment: dict[str, str]) -> list[Moved] | str:
    """Return how far each code cell moved, or the last line of what it raised."""
    published = nbformat.read(path, as_version=4)
    try:
        fresh = executed(path, environment)
    except Exception as error:  # the others are measured all the same
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}"
    pairs = zip(published.cells, fresh.cells, strict=True)
    return [moved(old.outputs, new.outputs) for old, new in pairs if old.cell_type == "code"]


def measure(paths: list[Path], variants: dict[str, dict[str, str]]) -> Iterator[tuple[str, Path, list[Moved] | str]]:
    """Execute every notebook in every variant, and yield variant, notebook and how far each code cell moved."""
    with tqdm(total=len(paths) * len(variants), unit="notebook", mininterval=0) as bar:
        for name, environment in variants.items():
            bar.set_postfix_str(name)
            with ProcessPoolExecutor(WORKERS, get_context("spawn"), _start, (environment,)) as pool:
                found = pool.map(_moves, paths, [environment] * len(paths))
                for path, moves in zip(paths, found, strict=True):
                    bar.update()
                    yield name, path, moves


def report(path: Path, found: dict[str, list[Moved] | str]) -> tuple[list[str], int]:
    """Return a line for each cell that moved or has a needless tag, and how many cells do not hold."""
    lines = [f"  {name}: {said}" for name, said in found.items() if isinstance(said, str)]
    red = len(lines)
    measured = {name: moves for name, moves in found.items() if not isinstance(moves, str)}
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    for place, cell in enumerate(cells):
        most, worst = Moved(), ""
        for name, moves in measured.items():
            more = most.most(moves[place])
            most, worst = more, worst if more == most else name
        said = verdict(cell, most) if measured else ""
        red += said.startswith("does not hold")
        tags = " ".join(tag for tag in cell.metadata.get("tags", []) if tag != "parameters")
        if most != Moved() or said:
            lines.append(
                f"  cell [{place + 1}]  decimals {most.decimals:.1g}, numbers {most.numbers:.1g}, "
                f"figures {most.figures:.1g}  most by {worst or 'none'}  {tags}  {said.upper()}".rstrip()
            )
    return lines, red


def main() -> int:
    """Measure one notebook or all in every variant, and print what moved; return 1 if something does not hold."""
    parser = argparse.ArgumentParser(prog="make portable", description=__doc__)
    parser.add_argument("notebook", nargs="?", help="such as 2_mnist_cnn/1_train_and_test; all if left out")
    arguments = parser.parse_args()
    try:
        paths = heaviest_first(find_notebooks(arguments.notebook))
    except ValueError as error:
        sys.exit(f"make portable: {error}")
    variants = {**PROCESSORS, **ROUNDINGS, **(GPU if torch.cuda.is_available() else {})}
    found = defaultdict(dict)
    try:
        for name, path, moves in measure(paths, variants):
            found[path][name] = moves
    except (KeyboardInterrupt, BrokenProcessPool) as error:  # what was measured is still told
        print(f"\nstopped: {error!r}", file=sys.stderr)
        found[paths[0]]["stopped"] = "not all was measured"
    reds = 0
    for path in sorted(found):
        lines, red = report(path, found[path])
        reds += red
        print(f"\n{title(path)}: {'RED' if red else 'green'}", *(lines or ["  nothing moved"]), sep="\n")
    print(f"\n{len(variants)} variants of {len(paths)} notebooks: {reds or 'nothing'} does not hold")
    return int(reds > 0)


if __name__ == "__main__":
    sys.exit(main())
