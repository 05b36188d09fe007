"""Checks of exercises: done, not yet, or what is wrong, in one line and without a wall of traceback.

A check asks a learner's function by a second route. It raises if the function is not right, so that graders see it;
only a reader in JupyterLab or Colab who has not begun yet gets a line instead, and can go on to the cells below.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from helpers.reader import somebody_reads

Value = Tensor | float | int | str | bool | tuple | list
STUB = "not yet"  # what an answer raises that nobody has written
_done = {}  # title of an exercise -> whether its check passed when it was last run


class NotDoneError(AssertionError):
    """An exercise that is not done: shown as one line, in a front end and in a report."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this
        return [str(self)]


class Cases:
    """What the body of a `check` asks: each call is one case."""

    def __init__(self) -> None:
        self.count = 0

    def ask(self, function: Callable[..., Value], *arguments: object, without: Sequence[str] = ()) -> Value:
        """Return what a learner's function answers, and see to it that it leaves what it was given as it was.

        Args:
            function: the learner's.
            arguments: of the call; of tensors the values must stay, of a module its weights, their
                gradients, its mode and hooks too.
            without: dotted names such as "torch.nn.functional.conv2d" that the task does not allow.

        Raises:
            NotDoneError: an argument was changed, or one of those names was called.
        """
        before = [_state(argument) for argument in arguments]
        with ExitStack() as forbidden:
            for name in without:
                said = f"write it without {name.removeprefix('torch.nn.functional.')}"
                forbidden.enter_context(patch(name, side_effect=NotDoneError(said)))
            answer = function(*arguments)
        for argument, was in zip(arguments, before, strict=True):
            if not _same(_state(argument), was, 0):
                if isinstance(argument, nn.Module):
                    raise NotDoneError("the network was changed: leave its weights, mode and hooks as they were")
                raise NotDoneError("what the function was given was changed in place: work on a copy")
        return answer

    def same(
        self, got: Value, expected: Value, wrong: dict[str, Value] | None = None, *, at: str = "", atol: float = 1e-6
    ) -> None:
        """Hold a result against the one that a second route gives.

        Args:
            got: what the learner's function returned.
            expected: a tensor, a number, a text, or a tuple or list of these.
            wrong: for each misconception the hint, and what it would give here; the first that fits is shown.
            at: for which input, in words.
            atol: by how much numbers may differ.

        Raises:
            NotDoneError: the result is another, or of another type or shape.
        """
        self.count += 1
        if _same(got, expected, atol):
            return
        where = f" for {at}" if at else ""
        for hint, value in (wrong or {}).items():
            if _same(got, value, atol):
                raise NotDoneError(hint)
        shown, came = _shown(expected), _shown(got)
        if shown == came:  # a list where a tensor belongs, or digits that are not shown
            shown, came = f"{_kind(expected)} {shown}", f"{_kind(got)} {came}"
        raise NotDoneError(f"expected {shown}{where}, got {came}")

    def true(self, holds: bool | Tensor, hint: str) -> None:
        """Hold something against what must be true of it; NotDoneError with the hint if it is not."""
        self.count += 1
        if not holds:
            raise NotDoneError(hint)


@contextmanager
def check(title: str) -> Iterator[Cases]:
    """Check an exercise: print that it is done, or raise with one line that says what is wrong.

    Args:
        title: number and name of the exercise.

    Raises:
        NotDoneError: the function is not written yet (somebody who reads gets a line instead), raises, or is wrong.
    """
    cases = Cases()
    _done[title] = False
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            yield cases
        except NotDoneError as error:
            raise NotDoneError(f"✗ {title}: {error}") from None
        except Exception as error:  # whatever the learner's function raises
            if isinstance(error, NotImplementedError) and str(error) in ("", STUB):  # PyTorch's own says more
                if somebody_reads():
                    print(f"○ {title}: {STUB}. Write the function above, run its cell, then this one again.")
                    return
                raise NotDoneError(f"○ {title}: {STUB}") from None
            raise NotDoneError(f"✗ {title}: it raised {type(error).__name__}: {error}{_line(error)}") from error
    _done[title] = True
    print(f"✓ {title}: done, all {cases.count} cases")


def progress(*titles: str) -> None:
    """Print how many of these exercises are done, and which are open."""
    still = [title for title in titles if not _done.get(title)]
    print(f"{len(titles) - len(still)} of {len(titles)} exercises done")
    for title in still:
        print(f"○ open: {title}")


def _same(got: Value, expected: Value, atol: float) -> bool:
    """Return whether two values are of one kind and shape, and alike."""
    if isinstance(expected, tuple | list):
        alike = isinstance(got, tuple | list) and len(got) == len(expected)
        return alike and all(_same(*pair, atol) for pair in zip(got, expected, strict=True))
    if isinstance(expected, str | bool) or expected is None:
        return type(got) is type(expected) and got == expected
    if isinstance(got, np.generic):  # a single number of NumPy
        got = got.item()
    if not isinstance(got, Tensor | float | int) or (torch.is_tensor(got) and got.is_complex()):
        return False
    got, expected = (torch.as_tensor(value).detach().double() for value in (got, expected))
    return got.shape == expected.shape and torch.allclose(got, expected, rtol=1e-5, atol=atol, equal_nan=True)


def _shown(value: Value) -> str:
    """Return a value as a hint shows it: small ones in full, large tensors by their shape."""
    if isinstance(value, tuple | list) and len(repr(value)) > 80 and len(value) <= 3:
        return f"({', '.join(map(_shown, value))})"
    if not torch.is_tensor(value):
        return repr(value) if len(repr(value)) <= 80 else f"a {type(value).__name__}"
    if value.numel() > 9:
        return f"a tensor of shape {tuple(value.shape)} with mean {value.double().mean():.4g}"
    if not value.ndim:
        return f"{value.item():g}"
    # eight digits: nobody writes -0.30000000000000004
    return re.sub(r"\d+\.\d+(e-?\d+)?", lambda digits: repr(float(f"{float(digits[0]):.8g}")), str(value.tolist()))


def _kind(value: Value) -> str:
    """Return what a value is, in two or three words."""
    return f"a {value.dtype} tensor" if torch.is_tensor(value) else f"a {type(value).__name__}"


def _state(argument: object) -> Value:
    """Return what a function must leave alone of an argument: its values, mode, hooks, gradients."""
    if torch.is_tensor(argument):
        return [argument.detach().clone(), argument.requires_grad, argument.grad is not None]
    if isinstance(argument, nn.Module):
        weights = [_state(values) for values in [*argument.parameters(), *argument.buffers()]]
        return [*weights, *([part.training, len(part._forward_hooks)] for part in argument.modules())]
    return [_state(part) for part in argument] if isinstance(argument, tuple | list) else []


def _line(error: Exception) -> str:
    """Return in which line of a cell the error arose, if it was in one."""
    trace, line = error.__traceback__, ""
    while trace:
        if (
            trace.tb_frame.f_code.co_name not in ("<module>", "check")
            and "ipykernel" in trace.tb_frame.f_code.co_filename
        ):
            line = f" (line {trace.tb_lineno} of its cell)"
        trace = trace.tb_next
    return line
