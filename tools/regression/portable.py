"""Measure how far notebooks' outputs move on other processors and under other roundings: what `make portable` runs."""

import argparse
import math
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nbformat
import torch
from nbformat import NotebookNode

from tools.regression.commands import begin, side_by_side
from tools.regression.compare import EXACT, NUMBER, RMS, RTOL, Tolerance, changes, relative_error
from tools.regression.execution import executed
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import one_thread_each, title
from tools.regression.outputs import FIGURE, code_cells

# What PyTorch and its oneDNN can be told not to use: instructions newer than AVX2, vectors at all, and threads.
PROCESSORS = {
    "as it is": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "AVX2 in oneDNN": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
}
PROCESSORS = {name: {"COURSE_DEVICE": "cpu", **variables} for name, variables in PROCESSORS.items()}
ROUNDINGS = {f"rounding {seed}": {"COURSE_DEVICE": "cpu", "ROUNDING": str(seed)} for seed in range(1, 11)}
GPU = {"GPU": {"COURSE_DEVICE": "cuda"}}


class Moved(NamedTuple):
    """How far the outputs of a cell are from the published ones; infinite if more than numbers differ."""

    decimals: float = 0.0  # relative error, of numbers with a decimal point; whole numbers are words
    numbers: float = 0.0  # relative error, of all numbers
    figures: float = 0.0  # RMS of the worst part of a figure


def largest(found: Iterable[Moved]) -> Moved:
    """Return the largest of each; nought where nothing moved."""
    return Moved(*map(max, zip(Moved(), *found, strict=True)))


def moved(expected: list[NotebookNode], actual: list[NotebookNode]) -> Moved:
    """Return how far a cell's outputs are from those expected."""
    found = []
    for change in changes(expected, actual, EXACT):
        if change.kind == FIGURE:
            found.append(Moved(figures=change.error))
        elif None in (change.expected, change.actual) or change.kind == "output":
            found.append(Moved(math.inf, math.inf))
        else:
            found.append(Moved(change.error, relative_error(change.expected, change.actual, NUMBER)))
    return largest(found)


def verdict(cell: NotebookNode, most: Moved) -> str:
    """Return what is wrong with the tolerance of a cell whose outputs moved so far; nothing if it is right."""
    allowed = Tolerance.of(cell)
    tagged = allowed != Tolerance()
    numbers = most.numbers if allowed.rtol > RTOL else most.decimals
    if allowed.compared and (numbers > allowed.rtol or (allowed.figures and most.figures > allowed.rms)):
        return "does not hold" + ": tag too tight" * tagged
    if tagged and most.decimals <= RTOL <= allowed.rtol and most.figures <= RMS <= allowed.rms:
        return "tag not needed"
    loose = (
        allowed.rtol > RTOL and numbers < allowed.rtol / 10 and most.figures <= RMS
    )  # a figure may be why it is there
    loose |= allowed.rms > RMS and allowed.figures and most.figures < allowed.rms / 10
    return "tag too loose" * (allowed.compared and loose)


async def measure(path: Path, environment: dict[str, str]) -> list[Moved] | str:
    """Execute the notebook in a variant; return how far each code cell moved, or the last line of what it raised."""
    try:
        published, new = map(code_cells, (nbformat.read(path, as_version=4), await executed(path, environment)))
        return [moved(old.outputs, now.outputs) for old, now in zip(published, new, strict=True)]
    except Exception as error:  # the others are measured all the same
        return f"{type(error).__name__}: {str(error).strip().rpartition(chr(10))[2]}"


def report(path: Path, found: dict[str, list[Moved] | str]) -> tuple[list[str], int]:
    """Return a line for each cell that moved or has a needless tag, and how many cells do not hold."""
    lines = [f"  {name}: {said}" for name, said in found.items() if isinstance(said, str)]
    red = len(lines)
    measured = {name: moves for name, moves in found.items() if not isinstance(moves, str)}
    cells = code_cells(nbformat.read(path, as_version=4)) if measured else []
    for number, cell in enumerate(cells, 1):
        moves = {name: those[number - 1] for name, those in measured.items()}
        most = largest(moves.values())
        said = verdict(cell, most)
        red += said.startswith("does not hold")
        if most != Moved() or said:
            tags = " ".join(tag for tag in cell.metadata.get("tags", []) if tag != "parameters")
            lines.append(
                f"  cell [{number}]  decimals {most.decimals:.1g}, numbers {most.numbers:.1g}, figures "
                f"{most.figures:.1g}  most by {max(moves, key=moves.get)}  {tags}  {said.upper()}".rstrip()
            )
    return lines, red


def measure_all(paths: list[Path], variants: dict[str, dict[str, str]]) -> dict[str, list[Moved] | str]:
    """Return what `measure` does for every notebook in every variant, by `folder/name, variant`."""
    product = [(path, name) for name in variants for path in paths]
    return side_by_side({f"{title(path)}, {name}": partial(measure, path, variants[name]) for path, name in product})


def main() -> int:
    """Measure one notebook or all in every variant, and print what moved; return 1 if something does not hold."""
    paths, _ = begin(argparse.ArgumentParser(prog="make portable", description=__doc__))
    one_thread_each()
    others = ROUNDINGS | (GPU if torch.cuda.is_available() else {})
    found = measure_all(paths, PROCESSORS)  # in new processes, since PyTorch asks when it is imported
    if len(found) == len(PROCESSORS) * len(paths):  # not interrupted
        start_from_copies()
        found |= measure_all(paths, others)
    reds, variants = 0, PROCESSORS | others
    for path in paths:
        own = {name: found[key] for name in variants if (key := f"{title(path)}, {name}") in found}
        lines, red = report(path, own)
        reds += red
        said = "RED" if red else "green" if own else "not measured"
        print(f"\n{title(path)}: {said}", *(lines or ["  nothing moved"] * bool(own)), sep="\n")
    print(f"\n{len(variants)} variants of {len(paths)} notebooks: {reds or 'nothing'} does not hold")
    if missing := len(variants) * len(paths) - len(found):
        print(f"interrupted: {missing} were not measured")
    return int(reds + missing > 0)


if __name__ == "__main__":
    sys.exit(main())
