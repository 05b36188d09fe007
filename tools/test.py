"""Run pytest on everything, on one notebook, or on what an expression names: what `make test` runs after ruff."""

import argparse
import os
import sys

from tools.regression.notebooks import ROOT, find_notebooks


def selection(notebook: str, only: str) -> list[str]:
    """Return pytest's arguments for one notebook's cells and the tests that have its name, and for pytest's own `-k`.

    Raises:
        ValueError: there is no such notebook; the message lists those there are.
    """
    paths = find_notebooks(notebook) if notebook else []
    words = [f"({word})" for word in [*(path.stem for path in paths), only] if word]
    chosen = [*map(str, paths), str(ROOT / "tests" / "notebooks")] if paths else []
    return [*chosen, "-k", " and ".join(words)] if words else []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make test", description=__doc__)
    parser.add_argument("--notebook", default="", help="such as 2_mnist_cnn/1_train_and_test")
    parser.add_argument("--only", default="", help="such as occlusion; pytest's -k")
    try:
        chosen = selection(**vars(parser.parse_args()))
    except ValueError as error:
        sys.exit(f"make test: {error}")
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *chosen])
