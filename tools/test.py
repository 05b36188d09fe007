"""Run pytest on everything, on one notebook, or on what an expression names: what `make test` runs after ruff."""

import argparse
import os
import sys

from tools.regression.notebooks import ROOT, find_notebooks

EXECUTES = "tests/notebooks/test_execution.py::test_it_runs_with_other_parameters_and_again"


def selection(notebook: str, only: str) -> list[str]:
    """Return pytest's arguments for one notebook's cells and the tests that have its name, and for pytest's own `-k`.

    Without a notebook `only` chooses among the tests that take seconds: none that executes a notebook of the course.

    Raises:
        ValueError: there is no such notebook; the message lists those there are.
    """
    words = [f"({only})"] if only else []
    if not notebook:
        return ["tests", "--deselect", EXECUTES, "-k", *words] if only else []
    (path,) = find_notebooks(notebook)
    return [str(path), str(ROOT / "tests" / "notebooks"), "-k", " and ".join([path.stem, *words])]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make test", description=__doc__)
    parser.add_argument("--notebook", default="", help="such as 2_mnist_cnn/1_train_and_test")
    parser.add_argument("--only", default="", help="such as occlusion; pytest's -k")
    try:
        chosen = selection(**vars(parser.parse_args()))
    except ValueError as error:
        sys.exit(f"make test: {error}")
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *chosen])
