"""What a learner and a grader see of a check."""

import numpy as np
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


def test_what_a_function_was_given_must_stay():
    """Or the expected value, worked out from the same tensors, would follow the change."""

    def halve(x):
        return x.mul_(0.5)

    def pad(x):
        x[x.isnan()] = 0
        return x

    x = torch.ones(3)
    with check("fine") as case:
        case.same(case.ask(lambda x, factor: factor * x, x, 2), 2 * x)
    with pytest.raises(NotDoneError, match="changed in place"), check("half") as case:
        case.same(case.ask(halve, x), x)
    with pytest.raises(NotDoneError, match="changed in place"), check("NaN") as case:
        case.ask(pad, torch.tensor([torch.nan, 1.0]))
    with pytest.raises(NotDoneError, match="changed in place"), check("in a list") as case:
        case.ask(lambda xs: halve(xs[1]), [x, x.clone()])
    with pytest.raises(NotDoneError, match="changed in place"), check("gradients") as case:
        case.ask(lambda x: x.requires_grad_(), torch.ones(3))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.train(),
        lambda model: model.requires_grad_(False),
        lambda model: model[1].register_forward_hook(lambda *_: None),
        lambda model: model[0].weight.data.zero_(),
        lambda model: model(torch.ones(1, 2)).sum().backward(),
        lambda model: model[1].running_mean.zero_(),
    ],
    ids=["mode", "frozen", "a hook left", "weights", "gradients", "buffers"],
)
def test_a_network_that_was_given_must_stay(change):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).eval()
    model[1].running_mean += 1
    with check("fine") as case:
        case.ask(lambda model: model(torch.ones(1, 2)), model)
    with pytest.raises(NotDoneError, match="the network was changed"), check("changed") as case:
        case.ask(change, model)


def test_what_a_task_does_not_allow_is_told():
    x, w = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)
    without = ["torch.conv2d", "torch.nn.functional.conv2d"]
    with pytest.raises(NotDoneError, match="write it without conv2d"), check("by hand") as case:
        case.ask(torch.nn.Conv2d(1, 1, 2), x, without=without)
    assert torch.nn.functional.conv2d(x, w).sum() == 16  # as before


def test_a_hint_says_how_what_looks_alike_differs():
    with (
        pytest.raises(NotDoneError, match=r"a torch.float32 tensor \[0.5\], got a list \[0.5\]"),
        check("a list") as case,
    ):
        case.same([0.5], torch.tensor([0.5]))
    pair = (torch.zeros(20), 1)
    with pytest.raises(NotDoneError, match=r"\(a tensor of shape \(20,\) .*, 1\), got"), check("a tuple") as case:
        case.same((torch.ones(20), 1), pair)


def test_a_number_of_numpy_is_a_number():
    with check("numpy") as case:
        case.same(np.float32(0.28251418), 0.28251418)
    with pytest.raises(NotDoneError), check("complex") as case:
        case.same(torch.ones(2, dtype=torch.complex64), torch.ones(2))


def test_numbers_are_shown_as_one_would_write_them():
    mean = torch.tensor([-0.1 - 0.2, 1.0, 1e-9], dtype=torch.float64)
    said = r"expected \[-0.3, 1.0, 1e-09\], got \[-0.2, 1.0, 1e-09\]"
    with pytest.raises(NotDoneError, match=said), check("sum") as case:
        case.same(mean + torch.tensor([0.1, 0, 0]), mean)
