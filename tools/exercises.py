"""Write the exercise version of every notebook into `exercises/`, without answers: what `make exercises` runs.

A notebook in `notebooks/` is its own solution. Here the lines between `# BEGIN SOLUTION` and `# END SOLUTION` give way
to a stub, outputs are cleared, and the badge leads to the exercise version.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.regression.notebooks import ROOT, find_notebooks, title, write_atomically

EXERCISES = ROOT / "exercises"
SOLUTION = re.compile(r"^( *)# BEGIN SOLUTION\n.*?^ *# END SOLUTION$", re.MULTILINE | re.DOTALL)
STUB = r'\1raise NotImplementedError("not yet")  # write your answer here'


def without_answers(notebook: NotebookNode) -> NotebookNode:
    """Return the exercise version of a notebook.

    Raises:
        ValueError: a cell that is to be answered has no lines between the two marks.
    """
    exercise = nbformat.from_dict(notebook)
    for cell in exercise.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(colab\S+/blob/main/)notebooks/", r"\1exercises/", cell.source)
        elif cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            answered = cell.metadata.get("nbgrader", {}).get("solution", False)
            cell.source, marks = SOLUTION.subn(STUB, cell.source)
            if answered != bool(marks):
                raise ValueError(
                    f"expected BEGIN and END SOLUTION in an answer cell and nowhere else, got\n{cell.source}"
                )
    return exercise


def exercise_version(path: Path) -> str:
    """Return the text of a notebook's exercise version; nothing if it has no exercises."""
    notebook = nbformat.read(path, as_version=4)
    has_exercises = any("nbgrader" in cell.metadata for cell in notebook.cells)
    return nbformat.writes(without_answers(notebook)) + "\n" if has_exercises else ""


def main() -> int:
    """Write what differs, remove what has no notebook any more, and say how many files changed."""
    changed = 0
    wanted = {EXERCISES / f"{title(path)}.ipynb": text for path in find_notebooks() if (text := exercise_version(path))}
    for path in EXERCISES.rglob("*.ipynb"):
        if path not in wanted:
            path.unlink()
            changed += 1
    for path, text in wanted.items():
        if not path.is_file() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(text, path)
            changed += 1
    print(f"exercises/: {len(wanted)} notebooks, {changed} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
