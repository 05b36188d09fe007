"""The whole course, `make run` beside nbconvert, one notebook after the other."""

import subprocess
import sys

from tools.bench.peers import ROOT, SCRATCH
from tools.bench.rows import Row
from tools.regression.notebooks import find_notebooks


def rows() -> list[Row]:
    """Every notebook, executed once by each."""
    return [
        Row(
            "the whole course",
            "nbconvert, one by one",
            1 / 2,
            make_run,
            nbconvert,
            lambda ours, theirs: (ours == theirs == 0, f"exit codes {ours} and {theirs}"),
            rounds=1,
        )
    ]


def make_run() -> int:
    """Execute the course as `make run` does; return its exit code."""
    return subprocess.run([sys.executable, "-m", "tools.run"], cwd=ROOT, capture_output=True).returncode


def nbconvert() -> int:
    """Execute one notebook after the other; return the sum of the exit codes."""
    output = SCRATCH / "nbconvert"
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir"]
    runs = [[*command, output / path.parent.name, path] for path in find_notebooks()]
    return sum(subprocess.run(run, cwd=ROOT, capture_output=True).returncode for run in runs)
