"""Print the table of all parts, or of those that are named: `python -m tools.bench attacks growth`."""

import argparse
import os
import platform
import re
from importlib import import_module
from pathlib import Path

import torch

from tools import bench
from tools.bench.peers import SCRATCH
from tools.bench.rows import HEAD, measure

# Each part is a module of this package: of rows in one table, or with a report of its own.
ROWS = ("start", "occlusion", "attacks", "noise", "training", "course")
REPORTS = ("peak", "precision", "growth", "table", "gpu")


def main(names: list[str] | None = None) -> None:
    """Print the parts of those names; by default those of the command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=bench.__doc__)
    parser.add_argument("parts", nargs="*", help="of " + " ".join([*ROWS, *REPORTS]) + "; all if left out")
    wanted = parser.parse_args(names).parts or [*ROWS, *REPORTS]
    if unknown := set(wanted) - {*ROWS, *REPORTS}:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {' '.join([*ROWS, *REPORTS])}")
    SCRATCH.mkdir(parents=True, exist_ok=True)
    os.environ["COURSE_DEVICE"] = "cpu"  # but for the part `gpu`, which puts its networks there itself
    print(f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if parts := [part for part in ROWS if part in wanted]:
        print(HEAD)
        for part in parts:
            for row in import_module(f"tools.bench.{part}").rows():
                print(measure(row), flush=True)
    for part in REPORTS:
        if part in wanted:
            import_module(f"tools.bench.{part}").report()


def processor() -> str:
    """Return the processor's name."""
    cpus = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", cpus.read_text()) if cpus.is_file() else None
    return named[1] if named else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
