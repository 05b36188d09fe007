"""A notebook in pytest: it is executed as a whole, and then each cell's outputs are held against the published ones."""

import asyncio
import copy
import math
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile

from tools.regression.compare import COLOUR, Tolerance
from tools.regression.execution import CellError, run_cells
from tools.regression.notebooks import is_notebook, title
from tools.regression.outputs import FIGURE, code_cells, describe, parts

REFUSED = dict.fromkeys(("nbval", "nbval_lax", "nbval_sanitize_with", "sanitize_with", "nbval_kernel_name", "nbdime"))
REFUSED["nbval_kernel_startup_timeout"] = 60  # what it is if nobody says anything
LOCK = "matplotlib_lock"


def pytest_addoption(parser: pytest.Parser) -> None:  # noqa: D103
    parser.addini(LOCK, "file with a line matplotlib==...; where another minor version runs, no figure is compared")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what nbval would do beside this, or what would do nothing."""
    for name, default in REFUSED.items():
        if (config.getoption(name, default) or None) != default:
            raise pytest.UsageError(f"--{name.replace('_', '-')} has no effect with -p tools.regression: leave it out")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:  # noqa: D103
    return Notebook.from_parent(parent, path=file_path) if is_notebook(file_path) else None


def other_matplotlib(config: pytest.Config) -> str | None:
    """Say so if matplotlib is not of the pinned minor version, and so draws every figure in another way."""
    if not (lock := config.getini(LOCK)):
        return None
    here, locked = version("matplotlib"), (config.rootpath / lock).read_text("utf-8")
    pinned = re.search(r"(?m)^matplotlib==(\S+)", locked)[1]
    same = here.split(".")[:2] == pinned.split(".")[:2]
    return None if same else f"figures not compared: matplotlib {here} here, {pinned} in {lock}"


class Notebook(IPyNbFile):
    """A notebook, whose cells are executed one after another in one kernel before the first of them is looked at."""

    unreadable = None  # why the file is no notebook, if it is none

    def collect(self) -> Iterator[pytest.Item]:
        """Yield the code cells, numbered as in JupyterLab; of a file that is no notebook, one failure."""
        try:
            found = list(super().collect())
        except Exception as error:  # no CollectError, which would stop the other notebooks as well
            self.unreadable = f"{title(self.path)} cannot be read: {type(error).__name__}: {error}"
            yield Unreadable.from_parent(self, name="the file")
            return
        for item in found:
            name = f"cell [{item.cell_num + 1}]"
            yield Cell.from_parent(self, name=name, cell_num=item.cell_num, cell=item.cell, options=item.options)

    def setup(self) -> None:
        """Execute the notebook; what a cell raised is told by that cell."""
        if self.unreadable:
            return
        fresh, self.error = copy.deepcopy(self.nb), None
        try:
            asyncio.run(run_cells(fresh, self.path.parent, self.config.option.nbval_cell_timeout))
        except CellError as error:
            self.error = error
        self.fresh = code_cells(fresh)


class Unreadable(pytest.Item):
    """A file that is no notebook."""

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return file, line and headline."""
        return self.path, 0, title(self.path)

    def runtest(self) -> None:
        """Fail, and say why."""
        pytest.fail(self.parent.unreadable, pytrace=False)


class Cell(IPyNbCell):
    """A code cell, whose outputs are compared with tolerance."""

    comparison_traceback = None  # something, once it ran to its end and only what was published is found wrong

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return file, line and headline."""
        return self.path, 0, f"{title(self.path)} cell [{self.cell_num + 1}]"

    def runtest(self) -> None:
        """Compare the cell's outputs; one that was published without being executed is a failure."""
        error = self.parent.error
        if error and error.number <= self.cell_num + 1:
            raise error
        if self.cell.execution_count is None and self.cell.source.strip() and not self.options["skip"]:
            self.comparison_traceback = True
            pytest.fail("it was never executed")
        self.compare(self.parent.fresh[self.cell_num].outputs)
        if self.options["skip"]:
            pytest.skip("nbval-skip")

    def compare(self, fresh: list[NotebookNode]) -> None:
        """Fail if the fresh outputs are not as published."""
        allowed = Tolerance.of(self.cell)
        figures = sum(part.kind == FIGURE for part in parts(self.cell.outputs))
        skipped = other_matplotlib(self.config) if figures and allowed.figures else None
        found = [c for c in allowed.changes(self.cell.outputs, fresh) if not (skipped and c.kind == FIGURE)]
        shown = [describe(change, title(self.path), self.cell_num + 1) for change in found]
        if found:  # the first of them is what the failure says
            limit = allowed.rms if found[0].kind == FIGURE else allowed.rtol
            said = f"\n  allowed         {limit:g}" * math.isfinite(found[0].error)
            self.comparison_traceback = True
            pytest.fail(f"is not as published\n{shown[0]}{said}")
        blind = bool(skipped) or not allowed.figures
        self.user_properties += [
            (f"cells {'not ' * (not allowed.compared)}compared", 1),
            (f"figures {'not ' * blind}compared", figures),
        ]
        if skipped:
            pytest.skip(skipped)

    def repr_failure(self, excinfo: pytest.ExceptionInfo) -> str:
        """Return the cell, its source, and what is wrong."""
        error = excinfo.value
        if not isinstance(error, CellError):
            error = CellError(self.cell_num + 1, self.cell.source, str(error))
        return f"{title(self.path)} {COLOUR.sub('', str(error))}"
