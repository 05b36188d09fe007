"""The regression in another course: the package alone, copied; what is accepted is green, and an interrupt ends all."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.regression.test_kernels import ended
from tools.regression.cells import pytest_configure
from tools.regression.notebooks import ROOT
from tools.regression.stages import pytest_collection_modifyitems

ACCEPT = """
import sys
import tools.regression.accept as accept
from tools.regression.kernels import IMPORTED
IMPORTED[:] = ["ipykernel.kernelapp"]  # quicker, and no difference here
accept.elsewhere = lambda *_: ""
sys.exit(accept.main())
"""
PORTABLE = """
import sys
import tools.regression.portable as portable
from tools.regression.kernels import IMPORTED
IMPORTED[:] = ["ipykernel.kernelapp"]
sys.exit(portable.main())
"""
UPDATE = "from IPython.display import clear_output, display, update_display"
COURSE = {  # each is accepted and must then be green
    "clear": ["from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('left')"],
    "clear_and_wait": [f"{UPDATE}\nprint('gone')\nclear_output(wait=True)\ndisplay('left')"],
    "update": [f"{UPDATE}\ndisplay('one', display_id='x')\nprint(1)", "update_display('two', display_id='x')"],
    "output": [
        f"{UPDATE}\nimport ipywidgets\nout = ipywidgets.Output()\nwith out:\n    print(1)\ndisplay(out)\nprint(2)"
    ],
    "bar": [
        "import sys\nimport tqdm\nprint(1)\nfor _ in tqdm.tqdm(range(9), leave=False, file=sys.stdout):\n    pass",
        "print('half', end='\\r')",
    ],
    "timed": ["import sys, time\nfor i in range(3):\n    print(i)\n    print(i, file=sys.stderr)\n    time.sleep(0.3)"],
    "empty": ["", "print(1)", "\n  "],
    "large": [
        "print('50%\\r' + 'x' * 200_000)",
        "print('255,' * 40_000)",
        "print(' ' * 100_000)",
        "print('same\\n' * 40_000)",
        "print('ab' * 1_000_000)",
    ],
    "foreign": ["print('from another environment')"],
    "marked": [
        "# NBVAL_IGNORE_OUTPUT\nimport time\ntime.time()",
        "# NBVAL_SKIP\nraise SystemExit",
        "# NBVAL_RAISES_EXCEPTION\n1 / 0",
        "print('reached')",
    ],
}
CHANGED = {  # notebook: cell, what stands in its source and what is put there, which must be found
    "clear": (1, "left", "other"),
    "update": (1, "'one'", "'one' if 0 else 'three', display_id='y')\ndisplay('one'"),
    "bar": (2, "half", "full"),
    "marked": (3, "1 / 0", "1 / []"),
    "large": (4, "40_000", "40_001"),
}

BROKEN = {"broken": b"{", "nothing": b"", "latin": b'{"cells": "\xe9"}', "list": b"[]", "no_cells": b'{"nbformat": 4}'}


def write(root, name, sources, kernel="python3"):
    """Write a notebook that was never executed."""
    path = root / "notebooks" / "1_all" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"kernelspec": {"name": kernel, "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources], metadata=about), path)
    return path


def another_course(root):
    """Copy the package, and nothing else, into a folder."""
    shutil.copytree(ROOT / "tools" / "regression", root / "tools" / "regression")
    quicker = "from tools.regression.kernels import IMPORTED\nIMPORTED[:] = ['ipykernel.kernelapp']\n"
    (root / "conftest.py").write_text(quicker)
    return root


def started(root, *command):
    """Start python in the course."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(root)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores it
    return subprocess.Popen([sys.executable, *command], cwd=root, env=environment, preexec_fn=heard, **pipes)


def said(root, *command):
    """Return what python says in the course, and its exit code."""
    with started(root, *command) as process:
        return process.communicate()[0], process.returncode


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What pytest says of a course that was accepted, with some notebooks changed after that, and a broken one."""
    root = another_course(tmp_path_factory.mktemp("elsewhere"))
    for name, sources in COURSE.items():
        write(root, name, sources, "conda-env-x" if name == "foreign" else "python3")
    accepted, code = said(root, "-c", ACCEPT)
    assert code == 0, accepted
    for name, (cell, old, new) in CHANGED.items():
        path = root / "notebooks" / "1_all" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        assert old in notebook.cells[cell - 1].source
        notebook.cells[cell - 1].source = notebook.cells[cell - 1].source.replace(old, new)
        nbformat.write(notebook, path.with_name(f"{name}_changed.ipynb"))
    added = write(root, "added", ["x = 1", "print(x)"])  # of which the first was never executed
    notebook = nbformat.read(added, as_version=4)
    notebook.cells[1] |= {"execution_count": 1, "outputs": [new_output("stream", name="stdout", text="1\n")]}
    nbformat.write(notebook, added)
    for name, content in BROKEN.items():
        (root / "notebooks" / "1_all" / f"{name}.ipynb").write_bytes(content)
    (root / "notebooks" / "1_all" / "._clear.ipynb").write_bytes(b"\x00\x05\x16\x07")
    return said(root, "-m", "pytest", "-p", "no:hypothesispytest", "-p", "tools.regression", "-rA", "notebooks")[0]


@pytest.mark.parametrize("name", COURSE)
def test_what_was_accepted_is_green(name, report):
    results = re.findall(rf"^(\w+) notebooks/1_all/{name}\.ipynb", report, re.MULTILINE)
    assert set(results) <= {"PASSED", "SKIPPED"}, report
    assert len(results) == len(COURSE[name]) - (name == "marked")  # a skip is told by its line in nbval's own form


@pytest.mark.parametrize("name", CHANGED)
def test_what_changed_is_found_in_its_cell(name, report):
    cell = CHANGED[name][0]
    assert f"FAILED notebooks/1_all/{name}_changed.ipynb::cell [{cell}]" in report


def test_marks_are_counted(report):
    row = next(line for line in report.splitlines() if line.startswith("1_all/marked "))
    assert row.split()[3:7] == ["2c", "0f", "2c", "0f"]


def test_the_last_notebook_is_first_in_its_stages_and_other_tests_keep_their_order():
    def item(name):
        return SimpleNamespace(nodeid=name, user_properties=[])

    cells = [f"notebooks/{book}.ipynb::cell [{number}]" for book in ("1_a/1_x", "2_b/1_y") for number in range(1, 13)]
    runs = [f"tests/test_execution.py::test_it_runs[{book}]" for book in ("1_a/1_x", "2_b/1_y")]
    others = ["tests/test_z.py::test_b", "tests/test_a.py::test_a"]
    items = [item(name) for name in [others[0], *cells, *runs, others[1]]]
    pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == [runs[1], *cells[12:], runs[0], *cells[:12], *others]
    assert items[1].user_properties == [("notebook", "2_b/1_y"), ("stage", "published")]
    assert items[-1].user_properties == []


def test_the_cells_after_one_that_was_never_executed_are_compared_all_the_same(report):
    assert "FAILED notebooks/1_all/added.ipynb::cell [1]" in report
    assert "PASSED notebooks/1_all/added.ipynb::cell [2]" in report


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_notebook_is_one_failure_in_the_table(name, report):
    assert len(re.findall(rf"^(?:FAILED|ERROR) .*{name}\.", report, re.MULTILINE)) == 1
    assert f"1_all/{name} cannot be read: " in report
    assert re.search(rf"^1_all/{name} .* FAILED$", report, re.MULTILINE)


def test_what_macos_leaves_beside_a_notebook_is_none(report):
    assert "._clear" not in report


WITHOUT_EFFECT = ["nbval_sanitize_with", "nbval", "nbval_lax", "nbval_kernel_name", "nbdime"]


@pytest.mark.parametrize("option", [*WITHOUT_EFFECT, "nbval_kernel_startup_timeout"])
def test_options_without_effect_are_refused(option):
    pytest_configure(SimpleNamespace(getoption=lambda name, default: {"nbval_kernel_startup_timeout": 60}.get(name)))
    with pytest.raises(pytest.UsageError, match=f"--{option.replace('_', '-')} has no effect"):
        pytest_configure(SimpleNamespace(getoption=lambda name, default: "x" if name == option else default))


@pytest.mark.parametrize(
    ("program", "number"),
    [(ACCEPT, signal.SIGINT), (ACCEPT, signal.SIGTERM), (PORTABLE, signal.SIGTERM)],
    ids=["accept, Ctrl-C", "accept, SIGTERM", "portable, SIGTERM"],
)
def test_after_an_interrupt_nothing_is_started_or_written(program, number, tmp_path):
    another_course(tmp_path)
    wait = "import os, time\nopen(f'{os.getpid()}.pid', 'w').close()\ntime.sleep(600)"
    paths = [write(tmp_path, f"{place}", [wait]) for place in range(4)]
    before = [path.read_bytes() for path in paths]
    folder = paths[0].parent
    running = 1 if program is ACCEPT else 2
    with started(tmp_path, "-c", program) as process:
        deadline = time.monotonic() + 120
        while len(pids := [int(path.stem) for path in folder.glob("*.pid")]) < running:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(number)
        try:
            text = process.communicate(timeout=60)[0]
        finally:
            process.kill()
    assert process.returncode != 0
    assert "interrupted" in text
    assert "Traceback" not in text
    assert all(ended(pid) for pid in pids)
    assert len(list(folder.glob("*.pid"))) == running
    assert [path.read_bytes() for path in paths] == before
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".pid") == [path.name for path in paths]
