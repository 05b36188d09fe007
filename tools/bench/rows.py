"""A row of the table: work that is done in two ways, their seconds in turn, and whether they agree."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

HEAD = f"{'work':36} {'beside':30} {'its s':>8} {'ours s':>8}   {'ratio':7} {'aim':6}"


class Row(NamedTuple):
    """One piece of work: both ways to do it, and what tells that they agree."""

    work: str
    peer: str
    aim: float  # the course's time as a fraction of the peer's, at most
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    agreement: Callable[[Any, Any], tuple[bool, str]]  # whether both did the work, and what tells so
    rounds: int = 3
    warm_up: bool = False  # do both once before the clock runs


class Timed(NamedTuple):
    """A result of work that knows its own seconds."""

    seconds: float
    value: Any


def timed(work: Callable[[], Any]) -> Timed:
    """Do the work; a graphics card has finished it when the clock stops."""
    wait_for_card()
    start = time.perf_counter()
    result = work()
    wait_for_card()
    return result if isinstance(result, Timed) else Timed(time.perf_counter() - start, result)


def wait_for_card() -> None:
    """Wait until the graphics card, if one was used, has done all that it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def measure(row: Row) -> str:
    """Do both in turn, `rounds` times; return a line of the table."""
    if row.warm_up:
        row.theirs()
        row.ours()
    ratios, seconds = [], []
    for turn in range(row.rounds):
        done = {}
        for name in ("theirs", "ours") if turn % 2 == 0 else ("ours", "theirs"):
            done[name] = timed(getattr(row, name))
        seconds.append((done["theirs"].seconds, done["ours"].seconds))
        ratios.append(done["ours"].seconds / done["theirs"].seconds)
    theirs, ours = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(ratios)
    right, said = row.agreement(done["ours"].value, done["theirs"].value)
    verdict = ("reached" if ratio <= row.aim else "missed") if right else "WRONG"
    times = f"{shown(theirs)} {shown(ours)}   1/{1 / ratio:<5.2f} 1/{1 / row.aim:<4.3g} {verdict:8}"
    return f"{row.work:36} {row.peer:30} {times} {said}"


def shown(seconds: float) -> str:
    """Return the seconds as a column of the table has them."""
    return f"{seconds:8.2f}" if seconds >= 0.1 else f"{seconds:8.4f}"
