"""The stages that a notebook passes in pytest: in what order, what a failure leaves out, and the table at the end.

A test `test_it_runs…[folder/notebook]` executes that notebook in a way of its own; after that its cells are compared.
The two are one group, which pytest-xdist keeps on one worker; every other module is a group of its own.
"""

import re
import shutil
from collections import Counter, defaultdict
from itertools import chain
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tools.regression.cells import Cell
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import ROOT, one_thread_each, title, without_a_reader
from tools.regression.outputs import DIFF, write_page

STAGES = ("executes", "published")
EXECUTES = re.compile(r"test_it_runs\w*\[(.*)\]")
failed = set()  # notebooks that cannot go on, of those that this process executes


def pytest_configure(config: pytest.Config) -> None:
    """Give every kernel one thread and a quick start, and remove the pictures of earlier runs."""
    one_thread_each()
    without_a_reader()
    start_from_copies()
    if not (hasattr(config, "workerinput") or config.option.collectonly):  # a worker of pytest-xdist, or a mere list
        shutil.rmtree(DIFF, ignore_errors=True)


def stage_of(nodeid: str) -> tuple[str, str]:
    """Return the notebook that a test executes and which of `STAGES` that is; for any other test its module and ""."""
    module, _, name = nodeid.partition("::")
    if found := EXECUTES.match(name):
        return found[1], STAGES[0]
    return (title(Path(module)), STAGES[1]) if module.endswith(".ipynb") else (module, "")


class Schedule(LoadScopeScheduling):
    """Hands pytest-xdist's workers one group of tests after another, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the group of a test: its notebook or its module."""
        return stage_of(nodeid)[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Schedule:
    """Keep a notebook on one worker."""
    return Schedule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the items in order: the last notebook first, as in `make run`, each in its stages, and then the rest."""
    about = {item.nodeid: stage_of(item.nodeid) for item in items}
    items.sort(key=lambda item: about[item.nodeid][1])
    items.sort(key=lambda item: about[item.nodeid][0] if about[item.nodeid][1] else "", reverse=True)
    for item in items:
        if about[item.nodeid][1]:
            item.user_properties += zip(("notebook", "stage"), about[item.nodeid], strict=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out the cells after one that raised; after one whose outputs only differ they still tell something."""
    if isinstance(item, Cell) and stage_of(item.nodeid)[0] in failed:
        pytest.skip("not reached")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Note which notebook cannot go on."""
    report = yield
    if report.failed and not getattr(item, "comparison_traceback", None):
        failed.add(stage_of(item.nodeid)[0])
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a row a notebook: seconds of each stage, what was compared, and what was not."""
    rows = defaultdict(Counter)  # notebook -> column -> seconds, cells or figures
    for report in chain.from_iterable(terminalreporter.stats.values()):
        about = dict(report.user_properties) if isinstance(report, pytest.TestReport) else {}
        if "notebook" in about:
            row = rows[about.pop("notebook")]
            row[about.pop("stage")] += report.duration
            row["failed"] += report.failed
            row["not reached"] += report.when == "setup" and report.skipped
            row.update(about if report.when == "call" else {})
    if not rows:
        return
    width = max(map(len, rows))
    terminalreporter.section("notebooks: seconds, then cells (c) and figures (f)")
    heads = (f"{head:>14}" for head in (*STAGES, "compared", "not compared", "timing", "not reached"))
    terminalreporter.line(f"{'':{width}}" + "".join(heads))
    for name, row in [*sorted(rows.items()), ("all", sum(rows.values(), Counter()))]:
        cells = [f"{row[stage]:>14.1f}" for stage in STAGES]
        cells += [f"{row[f'cells {so}']:>8}c{row[f'figures {so}']:>4}f" for so in ("compared", "not compared")]
        cells += [f"{row[what]:>14}" for what in ("timing", "not reached")]
        failed = "  FAILED" if row["failed"] and name != "all" else ""
        terminalreporter.line(f"{name:{width}}" + "".join(cells) + failed)
    if any(row["failed"] for row in rows.values()) and (page := write_page()):
        terminalreporter.line(f"what differs is side by side in {page.relative_to(ROOT)}")
