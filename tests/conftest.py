"""What several test modules share."""

import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import tools.regression.notebooks
import tools.regression.outputs

# Before torch is imported: two workers, and the kernels they start, share two cores.
tools.regression.notebooks.one_thread_each()
os.environ.setdefault("COURSE_DEVICE", "cpu")  # also where there is a GPU, for which `make portable` has its own column

FIRST = {"test_published": 0, "test_attacks": 1}  # what is told in a second, and what takes minutes


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.get(item.path.stem, 2))  # and then as `tools.regression` has put them


def pytest_terminal_summary(terminalreporter):
    """Print what the attacks on the regression found, a line each."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    attacks = [(dict(report.user_properties).get("attack"), report.failed) for report in reports]
    attacks = sorted(pair for pair in attacks if pair[0])
    if attacks:
        terminalreporter.section("attacks on the regression")
    for attack, missed in attacks:
        terminalreporter.line(f"{attack}: {'MISSED' if missed else 'ok'}")


@pytest.fixture(autouse=True)
def differences(tmp_path, monkeypatch):
    """Keep what tests lay side by side out of the page of this run."""
    monkeypatch.setattr(tools.regression.outputs, "DIFF", tmp_path / "differences" / "diff")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of the test's own: a function that writes a notebook from the sources of its code cells."""
    monkeypatch.setattr(tools.regression.notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}

    def write(name: str, *sources: str) -> Path:
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = [new_code_cell(source) for source in sources]
        if cells:
            cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
        return path

    return write
