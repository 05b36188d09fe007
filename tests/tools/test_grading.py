"""`make grading` hands in a solved and an empty copy of each notebook with exercises, and believes the scores alone.

nbgrader itself is not in this environment: here it is a stand-in, which releases the exercise versions.
"""

import shutil
from types import SimpleNamespace

import nbformat
import pytest

from tools import grading
from tools.exercises import EXERCISES, SOLUTION, STUB
from tools.regression.notebooks import ROOT, find_notebooks, title

HEAD = "assignment,student_id,score,max_score\n"
WITH = [title(path) for path in find_notebooks(folder=EXERCISES)]


@pytest.fixture
def graded(tmp_path, monkeypatch):
    """A function that runs `make grading` where nbgrader exports these scores of each assignment."""
    course = tmp_path / "grading"

    def run(scores, most=5):
        def nbgrader(command, assignment=""):
            if command == "generate_assignment":
                (course / "release" / assignment).mkdir(parents=True)
                name = assignment.replace("-", "/")
                shutil.copy(EXERCISES / f"{name}.ipynb", course / "release" / assignment)
            if command == "export":
                rows = [f"{name},{who},{got},{most}\n" for name in assignments(course) for who, got in scores.items()]
                (course / "grades.csv").write_text(HEAD + "".join(rows))

        monkeypatch.setattr(grading, "nbgrader", nbgrader)
        return grading.main(), course

    monkeypatch.setattr(grading, "COURSE", course)
    monkeypatch.setattr("sys.argv", ["grading", ""])
    return run


def assignments(course):
    return sorted(path.name for path in (course / "source").iterdir())


def test_every_notebook_with_exercises_is_handed_in_solved_and_empty(graded):
    code, course = graded({"empty": 0, "solved": 5})
    assert code == 0
    assert assignments(course) == [name.replace("/", "-") for name in WITH]
    for name in WITH:
        folder, book = name.split("/")
        paths = [course / "submitted" / who / f"{folder}-{book}" / f"{book}.ipynb" for who in ("solved", "empty")]
        solved, empty = ([cell.source for cell in nbformat.read(path, as_version=4).cells] for path in paths)
        answered = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
        answers = [number for number, cell in enumerate(answered) if cell.metadata.get("nbgrader", {}).get("solution")]
        assert answers
        for number in answers:
            assert solved[number] == answered[number].source
            assert STUB[2:] in empty[number]


@pytest.mark.parametrize(
    "scores",
    [{"solved": 4, "empty": 0}, {"solved": 5, "empty": 1}, {"solved": 5, "empty": 5}, {"solved": 5}, {}],
    ids=["a point lost", "a point for nothing", "all for nothing", "an empty one is missing", "nothing exported"],
)
def test_any_other_score_is_a_failure(graded, scores, capsys):
    assert graded(scores)[0] == 1
    assert "a score is not what it must be" in capsys.readouterr().out


def test_an_exercise_without_points_is_a_failure(graded):
    assert graded({"solved": 0, "empty": 0}, most=0)[0] == 1


def test_nbgrader_leaves_the_stub_that_the_exercises_have():
    config = SimpleNamespace(ClearSolutions=SimpleNamespace(), ExecutePreprocessor=SimpleNamespace())
    exec(grading.CONFIG, {"get_config": lambda: config})
    ours = SOLUTION.sub(STUB, "    # BEGIN SOLUTION\n    return 1\n    # END SOLUTION")
    assert ours == "    " + config.ClearSolutions.code_stub["python"]
