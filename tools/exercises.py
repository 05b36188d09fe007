"""Write the exercise version of every notebook into `exercises/`, without answers: what `make exercises` runs.

A notebook in `notebooks/` is its own solution. Here the lines between `# BEGIN SOLUTION` and `# END SOLUTION` give way
to a stub, outputs are cleared, and the badge leads to the exercise version.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.regression.notebooks import ROOT, find_notebooks, read, title, write_atomically

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
            cell.source = cell.source.replace("](../0_play/", "](../../notebooks/0_play/")  # which has no exercises
        elif cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            answered = cell.metadata.get("nbgrader", {}).get("solution", False)
            cell.source, marks = SOLUTION.subn(STUB, cell.source)
            if answered != bool(marks):
                marks = "expected BEGIN and END SOLUTION in an answer cell and nowhere else, got"
                raise ValueError(f"{marks}\n{cell.source}")
    return exercise


def exercise_version(path: Path) -> str:
    """Return the text of a notebook's exercise version; nothing if it has no exercises.

    Raises:
        ValueError: the file is no notebook, or `without_answers` raises it.
    """
    if not any("nbgrader" in cell["metadata"] for cell in read(path)["cells"]):
        return ""
    return nbformat.writes(without_answers(nbformat.read(path, as_version=4))) + "\n"


def main() -> None:
    """Write every exercise version, remove what has no notebook any more, and say how many files changed."""
    try:
        texts = {EXERCISES / f"{title(path)}.ipynb": exercise_version(path) for path in find_notebooks()}
    except ValueError as error:
        sys.exit(f"make exercises: {error}")
    wanted = {path: text for path, text in texts.items() if text}
    before = {path: path.read_text("utf-8") for path in EXERCISES.rglob("*.ipynb")}
    for path in before.keys() - wanted.keys():
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(text, path)
    changed = {path for path in before.keys() | wanted.keys() if before.get(path) != wanted.get(path)}
    print(f"exercises/: {len(wanted)} notebooks, {len(changed)} changed")


if __name__ == "__main__":
    main()
