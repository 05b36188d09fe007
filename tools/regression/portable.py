"""Measure how far notebooks' outputs move on other processors and under other roundings: what `make portable` runs."""

import argparse
import asyncio
import math
import signal
import sys
from collections import defaultdict
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import NamedTuple

import nbformat
import torch
from nbformat import NotebookNode
from tqdm import tqdm

from tools.regression.compare import EXACT, NUMBER, RMS, RTOL, Tolerance, changes, relative_error
from tools.regression.execution import fresh
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import WORKERS, find_notebooks, heaviest_first, one_thread_each, title, without_a_reader
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


class Moved(NamedTuple):
    """How far the outputs of a cell are from the published ones; infinite if more than numbers differ."""

    decimals: float = 0.0  # relative error, of numbers with a decimal point; whole numbers are words
    numbers: float = 0.0  # relative error, of all numbers
    figures: float = 0.0  # RMS of the worst part of a figure

    def most(self, other: "Moved") -> "Moved":
        """Return the larger of each."""
        return Moved(*map(max, self, other))


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


async def _moves(path: Path, environment: dict[str, str]) -> list[Moved] | str:
    """Return how far each code cell moved, or the last line of what it raised."""
    try:
        published, new = nbformat.read(path, as_version=4), await fresh(path, environment)
    except Exception as error:  # the others are measured all the same
        return f"{type(error).__name__}: {str(error).strip().rpartition(chr(10))[2]}"
    pairs = zip(published.cells, new.cells, strict=True)
    return [moved(old.outputs, now.outputs) for old, now in pairs if old.cell_type == "code"]


async def measure(paths: list[Path], variants: dict[str, dict[str, str]], found: dict[Path, dict]) -> None:
    """Execute every notebook in every variant, `WORKERS` at a time, and note how far each code cell moved."""
    waiting = iter([(path, name) for name, path in product(variants, paths)])
    with tqdm(total=len(paths) * len(variants), unit="notebook", mininterval=0) as bar:

        async def work() -> None:
            for path, name in waiting:
                bar.set_postfix_str(name)
                found[path][name] = await _moves(path, variants[name])
                bar.update()

        await asyncio.gather(*(work() for _ in range(WORKERS)))


def report(path: Path, found: dict[str, list[Moved] | str]) -> tuple[list[str], int]:
    """Return a line for each cell that moved or has a needless tag, and how many cells do not hold."""
    lines = [f"  {name}: {said}" for name, said in found.items() if isinstance(said, str)]
    red = len(lines)
    measured = {name: moves for name, moves in found.items() if not isinstance(moves, str)}
    cells = nbformat.read(path, as_version=4).cells if measured else []
    for place, cell in enumerate(cell for cell in cells if cell.cell_type == "code"):
        most, worst = Moved(), ""
        for name, moves in measured.items():
            more = most.most(moves[place])
            most, worst = more, worst if more == most else name
        said = verdict(cell, most)
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
    one_thread_each()
    without_a_reader()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: kernels end, then this does
    found, others = defaultdict(dict), {**ROUNDINGS, **(GPU if torch.cuda.is_available() else {})}
    with suppress(KeyboardInterrupt):  # what was measured is still told
        asyncio.run(measure(paths, PROCESSORS, found))  # in new processes, since PyTorch asks when it is imported
        start_from_copies()
        asyncio.run(measure(paths, others, found))
    missing = len(paths) * (len(PROCESSORS) + len(others)) - sum(map(len, found.values()))
    reds = 0
    for path in sorted(found):
        lines, red = report(path, found[path])
        reds += red
        print(f"\n{title(path)}: {'RED' if red else 'green'}", *(lines or ["  nothing moved"]), sep="\n")
    print(f"\n{len(PROCESSORS) + len(others)} variants of {len(paths)} notebooks: {reds or 'nothing'} does not hold")
    if missing:
        print(f"interrupted: {missing} were not measured")
    return int(reds + missing > 0)


if __name__ == "__main__":
    sys.exit(main())
