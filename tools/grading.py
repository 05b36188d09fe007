"""Prove that nbgrader hands out and grades the exercises: what `make grading` runs in build/grading-env.

A solved and an empty copy of each notebook with exercises are handed in. In the scores that nbgrader exports they must
have all points and none; its exit codes tell nothing of that.
"""

import csv
import os
import shutil
import subprocess
import sys

import nbformat

from tools.exercises import STUB, exercise_version
from tools.regression.notebooks import ROOT, find_notebooks, title

COURSE = ROOT / "build" / "grading"  # inside the course, where a notebook's first cell looks for it
CONFIG = f"""c = get_config()
c.ClearSolutions.code_stub = {{"python": {STUB[2:]!r}}}
c.ExecutePreprocessor.timeout = 900  # seconds for a cell
c.ExecutePreprocessor.extra_arguments = ["--log-level=CRITICAL"]  # no word of the kernel on its loopback
"""


def nbgrader(*arguments: str) -> None:
    """Run a command of nbgrader in its course."""
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run(["nbgrader", *arguments, "--log-level=ERROR"], cwd=COURSE, env=quiet, check=True)


def main() -> int:
    """Grade the notebook of this name, or all; return 1 if a score is not what it must be."""
    paths = {title(path).replace("/", "-"): path for path in find_notebooks(*sys.argv[1:]) if exercise_version(path)}
    shutil.rmtree(COURSE, ignore_errors=True)
    COURSE.mkdir(parents=True)
    (COURSE / "nbgrader_config.py").write_text(CONFIG)
    for assignment, path in paths.items():
        (COURSE / "source" / assignment).mkdir(parents=True)
        shutil.copy(path, COURSE / "source" / assignment)
        nbgrader("generate_assignment", assignment)
        for student in ("solved", "empty"):
            handed_in = COURSE / "submitted" / student / assignment
            shutil.copytree(COURSE / "release" / assignment, handed_in)
            copy, answered = (nbformat.read(place, as_version=4) for place in (handed_in / path.name, path))
            for cell, answer in zip(copy.cells, answered.cells, strict=True):
                if student == "solved" and cell.metadata.get("nbgrader", {}).get("solution"):
                    cell.source = answer.source
            nbformat.write(copy, handed_in / path.name)
        nbgrader("autograde", assignment)
    nbgrader("export")
    rows = list(csv.DictReader((COURSE / "grades.csv").read_text("utf-8").splitlines()))
    wrong = len(rows) != 2 * len(paths)
    for row in rows:
        score, most = float(row["score"]), float(row["max_score"])
        wrong |= most == 0 or score != (most if row["student_id"] == "solved" else 0)
        print(f"{row['assignment']:45} {row['student_id']:6} {score:4g} of {most:g}")
    print("a score is not what it must be" if wrong else "every solved copy has all points, every empty one none")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
