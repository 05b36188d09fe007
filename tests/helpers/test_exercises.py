"""What a learner and a grader see of a check."""

import pytest
import torch

import helpers.exercises
from helpers.exercises import NotDoneError, check, progress


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    for name in ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG", "NBGRADER_EXECUTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(helpers.exercises, "_done", {})


def double(x):
    raise NotImplementedError("not yet")


def test_what_is_done_says_so_and_counts_its_cases(capsys):
    with check("double") as case:
        case.same(torch.tensor([2.0, 4.0]), torch.tensor([2.0, 4.0]))
        case.true(True, "never seen")
    assert capsys.readouterr().out == "✓ double: done, all 2 cases\n"


def test_a_grader_gets_an_error_for_what_is_not_begun_and_a_reader_a_line(capsys, monkeypatch):
    with pytest.raises(NotDoneError, match="not yet"), check("double") as case:
        case.same(double(1), 2)
    monkeypatch.setenv("JPY_SESSION_NAME", "x.ipynb")
    with check("double") as case:
        case.same(double(1), 2)
    assert "not yet" in capsys.readouterr().out
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")  # started from a notebook
    with pytest.raises(NotDoneError, match="not yet"), check("double") as case:
        case.same(double(1), 2)


def test_the_hint_that_fits_is_shown_without_a_wall_of_traceback():
    with pytest.raises(NotDoneError) as caught, check("double") as case:
        case.same(3.0, 2.0, {"that is half": 1.0, "that is one and a half times": 3.0})
    assert caught.value._render_traceback_() == ["✗ double: that is one and a half times"]
    with pytest.raises(NotDoneError, match=r"✗ double: expected 2\.0 for x = 1, got 5"), check("double") as case:
        case.same(5, 2.0, {"that is half": 1.0}, at="x = 1")


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 2.0])),  # another shape
        (None, torch.tensor(1.0)),
        ("1", 1),
        (1, True),
        ((1, 2), (1, 2, 3)),
        ([1, 2], [1, 3]),
        (torch.tensor(float("nan")), torch.tensor(1.0)),
        (1.001, 1.0),
    ],
)
def test_what_is_another_value_or_shape_or_kind_is_not_done(got, expected):
    with pytest.raises(NotDoneError, match="expected"), check("x") as case:
        case.same(got, expected)


def test_what_a_learners_function_raises_is_told_in_a_line():
    def wrong(x):
        return x + "1"

    with pytest.raises(NotDoneError, match="✗ x: it raised TypeError: unsupported operand"), check("x") as case:
        case.same(wrong(1), 2)


def test_open_exercises_are_listed_and_a_check_that_fails_later_opens_its_exercise_again(capsys):
    with check("a"):
        pass
    progress("a", "b")
    assert capsys.readouterr().out.endswith("1 of 2 exercises done\n○ open: b\n")
    with pytest.raises(NotDoneError), check("a") as case:
        case.true(False, "no")
    progress("a")
    assert "open: a" in capsys.readouterr().out


def test_a_check_leaves_the_random_numbers_of_the_notebook_as_they_are():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with check("x"):
        torch.rand(100)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_what_pytorch_does_not_implement_is_a_wrong_answer_and_no_stub():
    bits = torch.ones(2, dtype=torch.bool)
    with pytest.raises(NotDoneError, match="✗ double: it raised NotImplementedError: Subtraction"), check("double"):
        bits - bits
