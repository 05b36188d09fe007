"""Whether somebody reads: asked in one way by exercises and sliders, and denied while notebooks are tested."""

import os

import pytest

from helpers.exercises import NotDoneError, check
from helpers.reader import MARKS, somebody_reads
from helpers.show import sliders
from tools.regression.notebooks import without_a_reader


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    for name in (*MARKS, "NBGRADER_EXECUTION"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("mark", MARKS)
def test_each_front_end_is_known_and_told_that_nobody_is_there(monkeypatch, mark):
    assert not somebody_reads()
    monkeypatch.setenv(mark, "x")
    assert somebody_reads()
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert not somebody_reads()
    monkeypatch.delenv("NBGRADER_EXECUTION")
    for name in MARKS:
        monkeypatch.setenv(name, "x")
    without_a_reader()
    assert not somebody_reads()
    assert not set(MARKS) & set(os.environ)


@pytest.mark.parametrize("mark", MARKS)
def test_exercises_and_sliders_ask_the_same(monkeypatch, mark):
    def draw(row):
        raise NotImplementedError

    monkeypatch.setattr("ipywidgets.widgets.interaction.display", lambda *widgets: None)
    drawn = []
    sliders(drawn.append, "a figure", row=(0, 0, 5, 1))
    with pytest.raises(NotDoneError), check("x"):
        draw(1)
    assert drawn == []
    monkeypatch.setattr("helpers.show.show_figure", lambda figure, alt: None)
    monkeypatch.setenv(mark, "x")
    sliders(lambda row: drawn.append(row), "a figure", row=(0, 0, 5, 1))
    with check("x"):
        draw(1)
    assert drawn == [0]
