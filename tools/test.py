"""Run pytest on everything, on one notebook, or on what an expression names: what `make test` runs after ruff."""

import argparse
import os
import sys
from pathlib import Path

from tools.regression.commands import begin
from tools.regression.notebooks import ROOT

EXECUTES = "tests/notebooks/test_execution.py::test_it_runs_with_other_parameters_and_again"


def selection(notebook: Path | None, only: str) -> list[str]:
    """Return pytest's arguments for one notebook's cells and the tests that have its name, and for pytest's own `-k`.

    Without a notebook `only` chooses among the tests that take seconds: none that executes a notebook of the course.
    """
    words = [f"({only})"] if only else []
    if notebook:
        return [str(notebook), str(ROOT / "tests" / "notebooks"), "-k", " and ".join([notebook.stem, *words])]
    return ["tests", "--deselect", EXECUTES, "-k", *words] if only else []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make test", description=__doc__)
    parser.add_argument("--only", default="", help="such as occlusion; pytest's -k")
    paths, arguments = begin(parser, "--notebook")
    chosen = selection(paths[0] if arguments.notebook else None, arguments.only)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *chosen])
