"""A notebook in pytest: nbval executes its cells, and their outputs are held against the published ones."""

import math
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from queue import Empty

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError

from tools.regression.compare import Tolerance
from tools.regression.notebooks import ROOT, title
from tools.regression.outputs import FIGURE, describe, parts

ANSI = re.compile(r"\x1b\[[\d;]*m")


def other_matplotlib() -> str | None:
    """Say so if matplotlib is not of the pinned minor version, and so draws every figure in another way."""
    here, locked = (
        version("matplotlib"),
        re.search(r"(?m)^matplotlib==(.*)$", (ROOT / "requirements/course.lock").read_text()),
    )
    same = here.split(".")[:2] == locked[1].split(".")[:2]
    return None if same else f"figures not compared: matplotlib {here} here, {locked[1]} in requirements/course.lock"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:  # noqa: D103
    return Notebook.from_parent(parent, path=file_path) if file_path.suffix == ".ipynb" else None


class Notebook(IPyNbFile):
    """A notebook, whose cells run one after another in one kernel."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield the code cells, numbered as in JupyterLab."""
        for item in super().collect():
            name = f"cell [{item.cell_num + 1}]"
            yield Cell.from_parent(self, name=name, cell_num=item.cell_num, cell=item.cell, options=item.options)

    def setup(self) -> None:
        """Start the kernel; should it die, its cell is told at once instead of when its time is over."""
        super().setup()
        await_reply = self.kernel.await_reply

        def alive_reply(msg_id: str, timeout: float) -> None:
            for _ in range(math.ceil(timeout)):
                try:
                    return await_reply(msg_id, timeout=1)
                except Empty:
                    if not self.kernel.is_alive():
                        raise RuntimeError("the kernel died") from None
            raise Empty

        self.kernel.await_reply = alive_reply


class Cell(IPyNbCell):
    """A code cell, whose outputs are compared with tolerance."""

    comparison_traceback = None  # a list of one text once the outputs were found to differ

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return file, line and headline."""
        return self.path, 0, f"{title(self.path)} cell [{self.cell_num + 1}]"

    def runtest(self) -> None:
        """Execute the cell; one that was published without being executed is a failure."""
        if self.cell.execution_count is None:
            raise NbCellError(self.cell_num, "it was never executed", self.cell.source)
        super().runtest()

    def compare_outputs(self, test: list[NotebookNode], ref: list[NotebookNode], skip_compare=None) -> bool:  # noqa: ARG002
        """Return whether the fresh outputs `test` are as published in `ref`."""
        allowed = Tolerance.of(self.cell)
        figures = sum(part.kind == FIGURE for part in parts(ref))
        skipped = other_matplotlib() if figures and allowed.figures else None
        blind = bool(skipped) or not allowed.figures
        found = [change for change in allowed.changes(ref, test) if not (skipped and change.kind == FIGURE)]
        for change in reversed(found):  # the first of them is what the failure says
            shown = describe(change, title(self.path), self.cell_num + 1)
            limit = allowed.rms if change.kind == FIGURE else allowed.rtol
            said = f"\n  allowed         {limit:g}" * math.isfinite(change.error)
            self.comparison_traceback = [f"is not as published\n{shown}{said}"]
        if found:
            return False
        self.user_properties += [("cells compared", 1), (f"figures {'not ' * blind}compared", figures)]
        return True if not skipped else pytest.skip(skipped)

    def repr_failure(self, excinfo: pytest.ExceptionInfo) -> str:
        """Return the cell, the line of it that matters, and what is wrong."""
        said = str(excinfo.value)
        source = [line.strip() for line in self.cell.source.splitlines() if line.strip()] or [""]
        if self.comparison_traceback:
            said = self.comparison_traceback[0]
            made = [line for line in source if ("show_figure(" if "pictures" in said else "print(") in line] or source
            words = [word for word in said.split() if len(word) > 3]
            source = sorted(made, key=lambda line: sum(word in line for word in words))  # the last is the likeliest
        elif self.test_outputs and self.test_outputs[-1].output_type == "error" and "Timeout" not in said:
            said = "{ename}: {evalue}".format(**self.test_outputs[-1])
            raised = re.search(r"-+> \d+ (.*)", ANSI.sub("", "\n".join(self.test_outputs[-1].traceback)))
            source = [raised[1].strip()] if raised else source
        return f"{title(self.path)} cell [{self.cell_num + 1}], `{source[-1]}`: {ANSI.sub('', said)}"
