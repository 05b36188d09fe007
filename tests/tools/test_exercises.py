"""`make exercises` writes notebooks with exercises without their answers, removes what is stale, stops at errors."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from tools import exercises

ANSWER = "def square(x):\n    # BEGIN SOLUTION\n    return x * x\n    # END SOLUTION"


@pytest.fixture
def written(course, tmp_path, monkeypatch):
    """A course of one notebook without and one with an exercise; a function that returns what is in `exercises/`."""
    folder = tmp_path / "exercises"
    monkeypatch.setattr(exercises, "EXERCISES", folder)
    course("1_a/1_plain", "x = 1")
    with_exercise(course("1_a/2_asks", "x = 1"), ANSWER)
    return lambda: {path.name: path.read_text() for path in sorted(folder.rglob("*.ipynb"))}


def with_exercise(path, source):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(new_code_cell(source, metadata={"nbgrader": {"solution": True}}))
    nbformat.write(notebook, path)


def test_only_what_has_exercises_is_written_and_only_changes_are_counted(written, tmp_path, capsys):
    exercises.main()
    (text,) = written().values()
    assert "return x * x" not in text
    assert "raise NotImplementedError" in text
    (tmp_path / "exercises" / "1_a" / "3_gone.ipynb").write_text("{}")
    exercises.main()
    exercises.main()
    assert list(written()) == ["2_asks.ipynb"]
    assert [line.split()[-2] for line in capsys.readouterr().out.splitlines()] == ["1", "1", "0"]


@pytest.mark.parametrize("content", ["{", "{}", "\udce9"])
def test_a_broken_notebook_is_named_in_a_line_and_nothing_is_written(written, tmp_path, content):
    (tmp_path / "notebooks" / "1_a" / "3_broken.ipynb").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(SystemExit, match=r"^make exercises: 1_a/3_broken is no notebook: .*$"):
        exercises.main()
    assert written() == {}


def test_an_answer_without_its_marks_is_shown(written, course):
    with_exercise(course("1_a/3_bare", "x = 1"), "def cube(x):\n    return x ** 3")
    with pytest.raises(SystemExit, match=r"(?s)BEGIN and END SOLUTION in an answer cell.*def cube"):
        exercises.main()
    assert written() == {}
