"""The stages that a notebook passes in pytest: in what order, what a failure leaves out, and the table at the end.

A notebook's execution (`tests/notebooks/test_execution.py`) and its cells (`tools/regression/cells.py`) are one group,
which pytest-xdist keeps on one worker; every other module is a group of its own. What takes longest starts first.
"""

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tools.regression.cells import Cell
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import (
    ROOT,
    find_notebooks,
    heaviest_first,
    one_thread_each,
    title,
    trains,
    without_a_reader,
)
from tools.regression.outputs import DIFF, FIGURE, parts, write_page

STAGES = ("executes", "published")


def pytest_configure(config: pytest.Config) -> None:
    """Give every kernel one thread and a quick start, and remove the pictures of earlier runs."""
    one_thread_each()
    without_a_reader()
    start_from_copies()
    config.pluginmanager.register(Stages())
    if not hasattr(config, "workerinput"):  # not a worker of pytest-xdist
        shutil.rmtree(DIFF, ignore_errors=True)


def stage_of(item: pytest.Item) -> tuple[str, int] | None:
    """Return the notebook that an item executes and which of `STAGES` that is; None for any other test."""
    if isinstance(item, Cell):
        return title(item.path), 1
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return (parameters["notebook"], 0) if "notebook" in parameters else None


class Schedule(LoadScopeScheduling):
    """Hands pytest-xdist's workers one group of tests after another, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the group of a test: its notebook or its module."""
        module, _, name = nodeid.partition("::")
        if module.endswith(".ipynb"):
            return title(Path(module))
        return name.partition("[")[2].removesuffix("]") if "test_execution.py::test_it_runs" in nodeid else module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Schedule:
    """Keep a notebook on one worker."""
    return Schedule(config, log)


class Stages:
    """What one run of pytest knows of the notebooks."""

    def __init__(self):
        self.failed = set()  # notebooks, in the worker that runs them
        self.seconds = defaultdict(Counter)  # notebook -> stage -> seconds
        self.counts = defaultdict(Counter)  # notebook -> column of the table -> cells or figures
        self.attacks = []  # what tests/regression/test_attacks.py found, a line each

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the items in order: static checks, notebooks that train, attacks, notebooks, the rest."""
        paths = heaviest_first(find_notebooks())
        rank = {title(path): (1 if trains(path) else 3, place) for place, path in enumerate(paths)}
        modules = {"test_published": (0, 0), "test_attacks": (2, 0)}

        def place(item: pytest.Item) -> tuple[int, int, int]:
            notebook, stage = stage_of(item) or (None, 0)
            return (*(rank.get(notebook) or modules.get(item.path.stem, (4, 0))), stage)

        for item in items:
            notebook, stage = stage_of(item) or (None, 0)
            if notebook:
                item.user_properties += [("notebook", notebook), ("stage", STAGES[stage])]
        items.sort(key=place)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave out the cells after one that raised; after one whose outputs only differ they still tell something."""
        if isinstance(item, Cell):
            if title(item.path) in self.failed:
                pytest.skip("not reached")
            if not item.options["check"]:
                figures = sum(part.kind == FIGURE for part in parts(item.cell.outputs))
                item.user_properties += [("cells not compared", 1), ("figures not compared", figures)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item):
        """Note which notebook cannot go on."""
        report = yield
        about = stage_of(item)
        if about and report.failed and not getattr(item, "comparison_traceback", None):
            self.failed.add(about[0])
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up what was done and found, in whichever process it was."""
        about = dict(report.user_properties)
        if report.when == "call" and "attack" in about:
            self.attacks.append(f"{about['attack']}: {'MISSED' if report.failed else 'ok'}")
        if "notebook" not in about:
            return
        notebook, stage = about.pop("notebook"), about.pop("stage")
        self.seconds[notebook][stage] += report.duration
        self.counts[notebook]["failed"] += report.failed
        if report.when == "call":
            self.counts[notebook].update(about)
        elif report.when == "setup" and report.skipped:
            self.counts[notebook]["not reached"] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print a row a notebook: seconds of each stage, what was compared, and what was not; then the attacks."""
        if self.attacks:
            terminalreporter.section("attacks on the regression")
            terminalreporter.line("\n".join(self.attacks))
        if not self.seconds:
            return
        width = max(map(len, self.seconds))
        rows = [(name, self.seconds[name], self.counts[name]) for name in sorted(self.seconds)]
        rows.append(("all", sum(self.seconds.values(), Counter()), sum(self.counts.values(), Counter())))
        terminalreporter.section("notebooks: seconds, then cells (c) and figures (f)")
        heads = (f"{head:>14}" for head in (*STAGES, "compared", "not compared", "timing", "not reached"))
        terminalreporter.line(f"{'':{width}}" + "".join(heads))
        for name, seconds, counts in rows:
            cells = [f"{seconds[stage]:>14.1f}" for stage in STAGES]
            for what in ("compared", "not compared"):
                cells.append(f"{counts[f'cells {what}']:>8}c{counts[f'figures {what}']:>4}f")
            cells += [f"{counts[what]:>14}" for what in ("timing", "not reached")]
            failed = "  FAILED" if counts["failed"] and name != "all" else ""
            terminalreporter.line(f"{name:{width}}" + "".join(cells) + failed)
        if any(counts["failed"] for counts in self.counts.values()):
            page = write_page()
            beside = f", what differs is side by side in {page.relative_to(ROOT)}" if page else ""
            terminalreporter.line(f"executed notebooks are in build/executed{beside}")
