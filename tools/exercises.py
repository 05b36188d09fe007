"""Write the exercise version of every notebook into `exercises/`, without answers: what `make exercises` runs.

A notebook in `notebooks/` is its own solution. Here the lines between `# BEGIN SOLUTION` and `# END SOLUTION` give way
to a stub, outputs are cleared, and the badge leads to the exercise version.
"""

import re
import sys

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


def main() -> int:
    """Write what differs, remove what has no notebook any more, and say how many files changed."""
    wanted = {EXERCISES / f"{title(path)}.ipynb": path for path in find_notebooks()}
    changed = [path for path in EXERCISES.rglob("*.ipynb") if path not in wanted]
    for path in changed:
        path.unlink()
    for path, source in wanted.items():
        exercise = without_answers(nbformat.read(source, as_version=4))
        if not path.is_file() or path.read_text("utf-8") != nbformat.writes(exercise) + "\n":
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(nbformat.writes(exercise) + "\n", path)
            changed.append(path)
    print(f"exercises/: {len(wanted)} notebooks, {len(changed)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
