"""Hold a notebook's outputs against those of a fresh run: words and integers exactly, floats and figures less so.

`pytest -p tools.regression` collects each notebook as one item a code cell. Cells choose by tags:

    rtol=0.2               floats may differ by that fraction (0.01 without a tag); above 0.01 integers may as well and
                           figures are not compared: for what is trained, or climbs in many steps
    rms=6                  the worst tile of a figure may differ so much (2 without a tag): contours and markers
    nbval-ignore-output    executed, not compared, and counted as such

A word is everything but a number with a decimal point or an exponent (`1,234.5`, `-3e-6`, not `1`, `conv1`, `3.11.2`),
so `1.0` against `1` differs, and so does `nan` against `0.1`. Spaces beside a number follow its width and do not count.

nbval 0.11.0 executes the cells. Of its names these are private: `IPyNbFile` (collect, setup, kernel), `IPyNbCell` (its
arguments, cell, cell_num, options, test_outputs, comparison_traceback, and `compare_outputs`, which is replaced),
`NbCellError`, and the kernel's `await_reply` and `is_alive`. Its option --nbval would collect everything a second time.
"""

import math
import re
from collections.abc import Iterator
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from queue import Empty

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError

from tools.notebooks import ROOT, title
from tools.outputs import FIGURE, Change, describe, figure_error, lines, parts

RTOL, EXACT = 0.01, -1.0  # EXACT as a tolerance: every character and every pixel counts
RMS = (
    2.0  # of a figure's worst tile, of 255: noise of 1e-4 gives up to 1.4, a filter weight off by a tenth 2.8 and more
)
_WHOLE = r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)"
FLOAT = re.compile(rf" *({_WHOLE}(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+)(?!\d|\.\d)) *")
ANSI = re.compile(r"\x1b\[[\d;]*m")
NUMBER = re.compile(rf" *({_WHOLE}(?:\.\d+)?(?:e[-+]?\d+)?(?!\d|\.\d)) *")


def relative_error(expected: str, actual: str, number: re.Pattern = FLOAT) -> float:
    """Return the largest relative error among the numbers of two texts; infinite if anything else differs."""
    old, new = number.split(expected), number.split(actual)  # word, number, word, ..., word
    if old[::2] != new[::2]:
        return math.inf
    values = [[float(text.replace(",", "").replace("−", "-")) for text in side[1::2]] for side in (old, new)]
    return max((abs(a - b) / abs(a) if a else math.inf for a, b in zip(*values, strict=True) if a != b), default=0.0)


def changes(expected: list, actual: list, rtol: float = RTOL, rms: float = RMS) -> Iterator[Change]:
    """Yield where a cell's outputs are not as expected, within the tolerances."""
    for (kind, old), (other, new) in zip_longest(parts(expected), parts(actual), fillvalue=("nothing", "")):
        if kind != other:
            said = [f"{k} {text * (k != FIGURE)}".split("\n")[0].strip() for k, text in ((kind, old), (other, new))]
            yield Change("output", *said, math.inf)
        elif kind == FIGURE:
            error = 0.0 if old == new else figure_error(old, new)
            if error > (0.0 if rtol == EXACT else rms):
                yield Change(kind, old, new, error)
        else:
            for a, b in lines(old, new):
                error = math.inf if None in (a, b) else relative_error(a, b, NUMBER if rtol > RTOL else FLOAT)
                if a != b and error > rtol:
                    yield Change(kind, a, b, error)


def other_matplotlib() -> str | None:
    """Say so if matplotlib is not of the pinned minor version, and so draws every figure in another way."""
    here, locked = version("matplotlib"), re.search(r"(?m)^matplotlib==(.*)$", (ROOT / "requirements.lock").read_text())
    same = here.split(".")[:2] == locked[1].split(".")[:2]
    return None if same else f"figures not compared: matplotlib {here} here, {locked[1]} in requirements.lock"


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
        tags = dict(tag.split("=") for tag in self.cell.metadata.get("tags", []) if "=" in tag)
        rtol, rms = float(tags.get("rtol", RTOL)), float(tags.get("rms", RMS))
        figures = sum(kind == FIGURE for kind, _ in parts(ref))
        skipped = other_matplotlib() if figures and rtol <= RTOL else None
        blind = bool(skipped) or rtol > RTOL  # to figures
        for change in changes(ref, test, rtol, rms):
            if not (blind and change.kind == FIGURE):
                shown = describe(change, title(self.path), self.cell_num + 1)
                limit = f"\n  allowed         {rms if change.kind == FIGURE else rtol:g}" * math.isfinite(change.error)
                self.comparison_traceback = [f"is not as published\n{shown}{limit}"]
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
