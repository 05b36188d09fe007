"""`make work` copies what is not there and what was not edited; what a learner has edited stays."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.publish import stamp_notebook
from tools.regression.notebooks import read
from tools.work import copy_notebooks

ROOT = Path(__file__).resolve().parents[2]
A, B, C = "1_foundations/1_a.ipynb", "1_foundations/2_b.ipynb", "2_mnist_cnn/1_c.ipynb"


def write(path, *sources):
    """Write a notebook of a title, a set-up cell, and these."""
    cells = [new_markdown_cell("# A title"), *map(new_code_cell, ("import sys", *sources))]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)


@pytest.fixture
def clone(tmp_path):
    """A course of three notebooks, of which one has exercises."""
    for name in (A, B, C):
        write(tmp_path / "notebooks" / name, f"answer = '{name}'")
    write(tmp_path / "exercises" / B, "raise NotImplementedError")
    return tmp_path


def run(path):
    """What JupyterLab leaves in a notebook that was run and saved, and not edited."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    for number, cell in enumerate(notebook.cells[1:], 1):
        cell.execution_count, cell.outputs = number, [new_output("stream", text="said\n")]
        cell.metadata["scrolled"] = True
        cell.id = f"other-{number}"
    path.write_text(json.dumps(notebook))


def edit(path):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].source = "answer = 42"
    nbformat.write(notebook, path)
    return path.read_bytes()


def test_an_exercise_version_is_copied_where_there_is_one(clone):
    assert copy_notebooks(clone) == "work/: 3 notebooks copied, 0 brought up to date, 0 as they were"
    for name, folder in ((A, "notebooks"), (B, "exercises"), (C, "notebooks")):
        assert (clone / "work" / name).read_bytes() == (clone / folder / name).read_bytes()
    assert copy_notebooks(clone) == "work/: 0 notebooks copied, 0 brought up to date, 3 as they were"


def test_an_edited_copy_survives_an_update_and_is_named(clone):
    copy_notebooks(clone)
    run(clone / "work" / A)
    mine = edit(clone / "work" / A)
    for name in (A, C):
        write(clone / "notebooks" / name, "answer = 'updated'")
    for _ in range(2):
        said = copy_notebooks(clone)
        assert (clone / "work" / A).read_bytes() == mine
        assert (clone / "work" / C).read_bytes() == (clone / "notebooks" / C).read_bytes()
        assert said.endswith(f"1 that you edited left as they are (remove one to have it copied again):\n  work/{A}")
    (clone / "work" / A).unlink()
    assert "1 notebooks copied" in copy_notebooks(clone)


def test_a_copy_that_was_only_run_keeps_its_outputs_until_an_update(clone):
    copy_notebooks(clone)
    run(clone / "work" / A)
    ran = (clone / "work" / A).read_bytes()
    assert "3 as they were" in copy_notebooks(clone)
    assert (clone / "work" / A).read_bytes() == ran
    write(clone / "notebooks" / A, "answer = 'updated'")
    assert "1 brought up to date, 2 as they were" in copy_notebooks(clone)
    assert (clone / "work" / A).read_bytes() == (clone / "notebooks" / A).read_bytes()


def test_the_empty_cell_after_the_last_one_is_no_edit(clone):
    """JupyterLab adds one where the last cell is run with Shift-Enter."""
    copy_notebooks(clone)
    notebook = nbformat.read(clone / "work" / A, as_version=4)
    notebook.cells.append(new_code_cell(""))
    nbformat.write(notebook, clone / "work" / A)
    write(clone / "notebooks" / A, "answer = 'updated'")
    assert "1 brought up to date" in copy_notebooks(clone)


def test_an_update_of_the_outputs_alone_arrives(clone):
    copy_notebooks(clone)
    run(clone / "notebooks" / C)
    assert "1 brought up to date" in copy_notebooks(clone)
    assert (clone / "work" / C).read_bytes() == (clone / "notebooks" / C).read_bytes()


def test_a_notebook_that_gets_exercises_arrives(clone):
    copy_notebooks(clone)
    write(clone / "exercises" / A, "raise NotImplementedError")
    assert "1 brought up to date" in copy_notebooks(clone)
    assert (clone / "work" / A).read_bytes() == (clone / "exercises" / A).read_bytes()


def test_after_publishing_only_what_was_edited_counts_as_edited(clone):
    copy_notebooks(clone)
    edit(clone / "work" / C)
    for name, folder in ((A, "notebooks"), (B, "exercises"), (C, "notebooks")):
        path = clone / folder / name
        path.write_text(stamp_notebook(read(path), f"notebooks/{name}", "ada/digits"))
    said = copy_notebooks(clone)
    assert "2 brought up to date" in said
    assert said.endswith(f"work/{C}")


@pytest.mark.parametrize("memory", [None, "{", "[]", json.dumps({C: 3}), json.dumps({C: {}})])
def test_without_a_memory_only_what_is_the_same_counts_as_not_edited(clone, memory):
    copy_notebooks(clone)
    edit(clone / "work" / A)
    run(clone / "work" / C)
    path = clone / "work" / ".copied.json"
    path.unlink() if memory is None else path.write_text(memory)
    said = copy_notebooks(clone)
    assert "2 as they were" in said
    assert said.endswith(f"work/{A}")
    write(clone / "notebooks" / C, "answer = 'updated'")
    assert "1 brought up to date" in copy_notebooks(clone)


def test_stray_files_and_broken_notebooks_stop_nothing(clone):
    folder = clone / "notebooks" / "1_foundations"
    (folder / ".#1_a.ipynb").symlink_to("user@host.1234:5678")
    (folder / "._1_a.ipynb").write_bytes(b"\x00\x05\x16\x07")
    (folder / "folder.ipynb").mkdir()
    (folder / "3_latin.ipynb").write_bytes(b"\xe9")
    assert "4 notebooks copied" in copy_notebooks(clone)
    there = sorted(path.name for path in (clone / "work" / "1_foundations").iterdir())
    assert there == ["1_a.ipynb", "2_b.ipynb", "3_latin.ipynb"]
    (clone / "work" / A).write_text("{")  # a learner's, broken
    assert copy_notebooks(clone).endswith(f"work/{A}")


def test_any_python_can_do_it_without_make():
    done = subprocess.run([sys._base_executable, "-S", "-E", "-c", "import tools.work"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_git_does_not_look_at_the_copies():
    ignored = ["git", "check-ignore", "--quiet", "work/1_foundations/1_a.ipynb"]
    assert subprocess.run(ignored, cwd=ROOT).returncode == 0
