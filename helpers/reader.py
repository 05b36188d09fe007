"""Who is in front of a notebook: whether anybody is, and the progress bar they see meanwhile."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from IPython import get_ipython
from IPython.display import clear_output
from tqdm import tqdm

MARKS = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")  # of JupyterLab's server, of VS Code, of Colab


def somebody_reads() -> bool:
    """Return whether a front end started this kernel: JupyterLab, VS Code or Colab, and no grader.

    Without one (papermill, nbval, nbconvert) nobody can move a slider or begin an exercise.
    """
    return "NBGRADER_EXECUTION" not in os.environ and any(name in os.environ for name in MARKS)


@contextmanager
def progress_bar(total: int, label: str) -> Iterator[tqdm]:
    """Show a progress bar that leaves nothing behind: in a notebook the cell's output is cleared after it."""
    in_notebook = hasattr(get_ipython(), "kernel")
    try:
        with tqdm(total=total, desc=label, leave=False, file=sys.stdout if in_notebook else sys.stderr) as bar:
            yield bar
    finally:
        if in_notebook:
            clear_output()
