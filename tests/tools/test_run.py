"""`make run` and `make accept`: what they find, what they refuse, and what they say when a notebook fails."""

import errno
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import nbformat
import pytest

import tools.regression.accept
import tools.run
from tools.publish import PLACEHOLDER, set_up_cell
from tools.regression.notebooks import NOTEBOOKS, find_notebooks, parameters, parse_parameters, title, write_atomically
from tools.run import execute, execute_all, report


def test_every_notebook_of_the_course_is_found_in_order():
    found = [title(path) for path in find_notebooks()]
    there = (p.relative_to(NOTEBOOKS).with_suffix("") for p in NOTEBOOKS.rglob("*.ipynb"))
    assert found == sorted(str(p) for p in there if not any(part.startswith(".") for part in p.parts))
    assert found[0] == "0_play/1_draw_and_fool"


@pytest.mark.parametrize("name", ["a/one", "a/one.ipynb", "notebooks/a/one.ipynb", "./notebooks/a/one"])
def test_one_notebook_is_found_by_any_of_its_names(course, name):
    path = course("a/one", "x = 1")
    course("b/two", "x = 1")
    assert find_notebooks(name) == [path]


def test_the_courses_own_number_names_a_notebook(course):
    path = course("1_first/3_third", "x = 1")
    course("1_first/13_later", "x = 1")
    course("11_last/3_third", "x = 1")
    assert find_notebooks("1.3") == [path]
    with pytest.raises(ValueError, match=r"no notebook '1\.4'"):
        find_notebooks("1.4")


def test_a_notebook_from_elsewhere_is_found_by_its_path_where_that_is_asked_for(course, tmp_path):
    course("a/one", "x = 1")
    submitted = tmp_path / "of a learner" / "one.ipynb"
    submitted.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(), submitted)
    assert find_notebooks(str(submitted), anywhere=True) == [submitted]
    for name, anywhere in [(str(submitted), False), (str(submitted) + "x", True), (str(submitted.parent), True)]:
        with pytest.raises(ValueError, match="no notebook"):
            find_notebooks(name, anywhere=anywhere)


def test_a_notebook_from_elsewhere_finds_the_course(tmp_path):
    path = tmp_path / "ada" / "mine.ipynb"
    path.parent.mkdir()
    first = set_up_cell(PLACEHOLDER).strip()
    cells = [nbformat.v4.new_code_cell(source) for source in (first, "import helpers\nprint(helpers.__file__)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    before = path.read_bytes()
    (outcome,) = execute_all([path], {}, NOTEBOOKS.parent / "build" / "test-run")
    assert outcome.failure is None
    assert path.read_bytes() == before


def test_every_exercise_of_a_learners_notebook_is_judged(tmp_path):
    """One that is open or wrong does not hide those after it; whatever else fails does."""
    path = tmp_path / "ada" / "mine.ipynb"
    path.parent.mkdir()
    check = {"nbgrader": {"grade": True, "grade_id": "a-check"}}
    sources = ["raise AssertionError('x 1, open')", "print('x 2, done')", "raise AssertionError('x 3, wrong')"]
    cells = [nbformat.v4.new_code_cell(source, metadata=check) for source in sources]
    cells.append(nbformat.v4.new_code_cell("print('the end')"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    outcome = execute(path, {}, tmp_path / "out.ipynb")
    assert outcome.failure == "x 1, open\nx 3, wrong"
    done = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert done[-1].outputs[0].text == "the end\n"
    assert all(cell.metadata.get("tags", []) == [] for cell in done)
    cells.insert(0, nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["parameters"]}))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert execute(path, {"x": 2}, tmp_path / "out.ipynb").failure == outcome.failure
    cells[-1].source = "1 / 0"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    said = execute(path, {}, tmp_path / "out.ipynb").failure
    assert said.startswith("x 1, open\nx 3, wrong\ncell [5]")
    assert "ZeroDivisionError" in said


def test_an_unknown_notebook_lists_those_there_are(course):
    course("a/one", "x = 1")
    course("b/two", "x = 1")
    with pytest.raises(ValueError, match=r"(?s)no notebook 'a/three'.*a/one\n.*b/two"):
        find_notebooks("a/three")


def test_parameters_are_read_as_python_values(course):
    path = course("a/one", 'epochs = 1  # passes\nlr = 0.1\ndigits = [1, 2]\nname = "x"\nquiet = True\nseed = None')
    text = "epochs=3 lr=2 digits='[4, 5]' name=two quiet=False seed=7"
    values = {"epochs": 3, "lr": 2, "digits": [4, 5], "name": "two", "quiet": False, "seed": 7}
    assert parse_parameters(path, text) == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr=1e999", "papermill cannot carry lr = inf"),
        ("lr='0.1", "cannot read"),
        ("epoch=3", r"no parameter 'epoch'; a/one has the parameters epochs=1, lr=0.1"),
        ("epochs", "expected name=value, got 'epochs'"),
        ("epochs=many", "expected epochs to be of type int, got many"),
        ("lr=[1]", "expected lr to be of type float"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(course, text, said):
    path = course("a/one", "epochs = 1\nlr = 0.1")
    with pytest.raises(ValueError, match=said):
        parse_parameters(path, text)


@pytest.mark.parametrize("text", ['w={"a":1}', "w=[4, 5]", "w=(a)", "w=['x','y']", "w=[1", 'lr={"a":1}'])
def test_a_value_that_lost_its_quotes_is_refused(course, text):
    path = course("a/one", "w = None\nlr = 0.1")
    with pytest.raises(ValueError, match=r"put it in quotes, such as (w|lr)='\{\"a\": 1\}'; a/one has the parameters"):
        parse_parameters(path, text)


def test_a_value_in_quotes_and_a_text_in_brackets_are_read(course):
    path = course("a/one", 'w = None\nname = ""')
    assert parse_parameters(path, """w='{"a": [1, "b"]}' name={x}""") == {"w": {"a": [1, "b"]}, "name": "{x}"}


@pytest.mark.parametrize("value", [(1, 2), {1: "a"}, {3}, [(1, 2)], {"b": {2: 3}}])
def test_what_papermill_would_hand_over_as_something_else_is_refused(course, value):
    path = course("a/one", f"x = {type(value)()!r}")
    with pytest.raises(ValueError, match=f"papermill cannot carry x = {re.escape(repr(value))}"):
        parse_parameters(path, f"x={shlex.quote(repr(value))}")


@pytest.mark.parametrize("value", [{"a": [None, 2.5]}, [True, "a$b {x} \"'\n"], -0.5])
def test_every_other_literal_reaches_the_notebook_as_it_is(course, tmp_path, value):
    path = course("a/one", f"x = {type(value)()!r}", "print(repr(x))")
    given = parse_parameters(path, f"x={shlex.quote(repr(value))}")
    assert execute(path, given, tmp_path / "out.ipynb").failure is None
    assert nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs[0].text == f"{value!r}\n"


def test_the_cell_of_parameters_is_read_as_python(course):
    lines = ["# epochs = 5 is better, lr = 3", "epochs: int = 1", "a = b = 2  # c = 3", 'text = """', "lr = 1", '"""']
    path = course("a/one", "\n".join([*lines, "twice = 2 * a"]))
    assert parameters(path) == {"epochs": 1, "a": 2, "b": 2, "text": "\nlr = 1\n"}
    with pytest.raises(ValueError, match="no parameter 'twice'"):
        parse_parameters(path, "twice=4")


def test_several_cells_of_parameters_are_refused(course):
    path = course("a/one", "x = 1", "y = 1")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match="a/one has 2 cells with the tag parameters, expected one"):
        parse_parameters(path, "x=1")


def test_a_cell_of_parameters_that_is_no_python_is_refused(course):
    with pytest.raises(ValueError, match="a/one: its cell of parameters is no Python"):
        parse_parameters(course("a/one", "%time x = 1"), "x=1")


@pytest.mark.parametrize("line", ["for x in range(3):\n    y = x", "x += 1", "if True:\n    x = 2", "f(1)"])
def test_a_cell_of_parameters_does_nothing_but_assign(course, line):
    path = course("a/one", f'"""What may be changed."""\nx = 1\n{line}')
    said = f"a/one: its cell of parameters is to assign values only, got `{line.splitlines()[0]}`"
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_parameters(path, "x=1")


def test_a_value_that_no_dictionary_can_hold_is_no_parameter(course):
    path = course("a/one", "x = {[1]: 2}\ny = {'a': 2}")
    with pytest.raises(ValueError, match=r"no parameter 'x'; a/one has the parameters y="):
        parse_parameters(path, "x=1")
    with pytest.raises(ValueError, match="no Python value"):
        parse_parameters(path, "y='{[1]: 2}'")


def test_a_name_that_is_given_twice_is_refused(course):
    with pytest.raises(ValueError, match=r"cannot read 'x=1 x=2': x is given twice"):
        parse_parameters(course("a/one", "x = 3"), "x=1 x=2")


def test_parameters_reach_the_notebook(course, tmp_path):
    path = course("a/one", "x = 1", "print(x * 2)")
    assert execute(path, {"x": 21}, tmp_path / "out.ipynb").failure is None
    assert nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs[0].text == "42\n"


def test_a_notebook_that_raises_is_reported_and_the_others_go_on(course, tmp_path, capsys):
    paths = [course("a/bad", "x = 1", "y = x - 1", "# a comment\nx / y", "print(1)"), course("b/good", "x = 1")]
    outcomes = execute_all(paths, {}, tmp_path / "out")
    assert [outcome.failure is None for outcome in outcomes] == [False, True]
    text = report(outcomes)
    assert "a/bad   " in text
    assert "cell [3]\n    # a comment\n    x / y\nZeroDivisionError: division by zero" in text
    assert "a/bad" in capsys.readouterr().err  # the progress bar names what runs


def test_a_killed_kernel_is_reported_and_the_others_go_on(course, tmp_path):
    kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    paths = [course("a/killed", "x = 1", kill), *(course(f"b/{name}", "x = 1") for name in ("one", "three", "two"))]
    outcomes = execute_all(paths, {}, tmp_path / "out")
    assert [outcome.failure is None for outcome in outcomes] == [False, True, True, True]
    assert outcomes[0].failure.endswith("the kernel died")


def test_a_kernel_that_dies_is_reported_with_its_cell(course, tmp_path):
    path = course("a/dies", "x = 1", "import os\nos._exit(1)", "x")
    assert execute(path, {}, tmp_path / "out.ipynb").failure == (
        "cell [2]\n    import os\n    os._exit(1)\nthe kernel died"
    )


def test_a_cell_that_hangs_is_reported_within_its_time(course, tmp_path):
    path = course("a/hangs", "x = 1", "while True:\n    pass")
    failure = execute(path, {}, tmp_path / "out.ipynb", timeout=2).failure
    assert failure == "cell [2]\n    while True:\n        pass\nno end within 2 s"


def test_a_full_disk_is_reported_and_leaves_the_source_and_what_was_executed_before(course, tmp_path, monkeypatch):
    path, output = course("a/one", "x = 1"), tmp_path / "out" / "one.ipynb"
    assert execute(path, {}, output).failure is None
    before = path.read_bytes(), output.read_bytes()
    monkeypatch.setattr("pathlib.Path.write_bytes", half)
    assert "No space left on device" in execute(path, {}, output).failure
    assert (path.read_bytes(), output.read_bytes()) == before
    assert [p.name for p in output.parent.iterdir()] == ["one.ipynb"]


@pytest.mark.parametrize(
    ("source", "tags", "said"),
    [
        ("import sys\nsys.exit(0)", [], "SystemExit: 0; what follows never ran"),
        ("exit()", [], "the kernel died"),
        ("%nothing", [], "UsageError: Line magic function `%nothing` not found."),
        ("raise ExceptionGroup('both', [ValueError('the cause')])", [], "ValueError: the cause"),
        ("1 / 0", ["raises-exception"], "cell [3]\n    undefined\nNameError: name 'undefined' is not defined"),
    ],
)
def test_a_failure_is_told_with_its_cell_and_its_cause(course, tmp_path, source, tags, said):
    path = course("a/one", "x = 1", source, "undefined")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = tags
    nbformat.write(notebook, path)
    failure = execute(path, {}, tmp_path / "out.ipynb").failure
    assert failure.startswith("cell [3]" if tags else "cell [2]")
    assert said in failure
    assert "\nundefined" not in failure


def test_a_cell_that_may_raise_stops_nothing(course, tmp_path):
    path = course("a/one", "x = 1", "1 / 0", "print(x)")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, path)
    assert execute(path, {}, tmp_path / "out.ipynb").failure is None
    assert nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[2].outputs[0].text == "1\n"


def test_a_skipped_cell_is_counted_in_the_table(course, tmp_path):
    path = course("a/one", "x = 1", "# NBVAL_SKIP\n1 / 0", "print(x)")
    outcomes = execute_all([path, course("a/two", "x = 1")], {}, tmp_path / "out")
    assert re.search(r"a/one +[\d.]+  ok, cells skipped: 1\na/two +[\d.]+  ok$", report(outcomes))


def test_the_last_notebooks_start_first(course, tmp_path):
    """A course grows heavier towards its end, and none of the long ones is to be left alone there."""
    log = tmp_path / "log"
    note = f"open({str(log)!r}, 'a').write('%s ')"
    paths = [course(name, "x = 1", note % name) for name in ("a/one", "a/two", "b/one", "b/two")]
    execute_all(paths, {}, tmp_path / "out")
    assert set(log.read_text().split()[:2]) == {"b/one", "b/two"}


def test_cells_after_a_failure_keep_nothing_that_was_published(course, tmp_path):
    path = course("a/one", "x = 1", "1 / 0", "print(1)")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    nbformat.write(notebook, path)
    assert execute(path, {}, tmp_path / "out.ipynb").failure
    assert nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[2].outputs == []


def stray(folder: Path) -> None:
    """Put beside the notebooks what editors and systems leave there."""
    (folder / "._1_x.ipynb").write_bytes(b"\x00\x05\x16\x07")  # macOS
    (folder / ".#1_x.ipynb").symlink_to("user@host.1234:5678")  # Emacs: leads nowhere
    (folder / "1_gone.ipynb").symlink_to("nowhere")
    (folder / "folder.ipynb").mkdir()
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "1_x-checkpoint.ipynb").write_text("{}")


def test_stray_files_are_no_notebooks(course):
    path = course("a/one", "x = 1")
    stray(path.parent)
    stray(path.parent.parent)
    assert find_notebooks() == [path]


@pytest.mark.parametrize(
    "content", [b'{"cells": "\xe9"}', b"{", b"[]", b'{"cells": [1]}', b'{"cells": [{"source": ""}]}']
)
def test_a_broken_notebook_is_one_failure_in_the_table(course, tmp_path, content):
    broken, whole = course("a/broken", "x = 1"), course("b/whole", "x = 1")
    broken.write_bytes(content)
    outcomes = execute_all([broken, whole], {}, tmp_path / "out")
    assert [outcome.failure is None for outcome in outcomes] == [False, True]
    with pytest.raises(ValueError, match="a/broken is no notebook"):
        parse_parameters(broken, "x=1")


SLOW = """
import time
from pathlib import Path
Path({mark!r}).write_text(str(__import__("os").getpid()))
time.sleep(60)
"""


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGKILL]])
def test_after_an_interrupt_nothing_more_is_started_or_written_and_kernels_end(course, tmp_path, signals):
    for name in ("one", "two"):
        course(f"a/{name}", "x = 1", SLOW.format(mark=str(tmp_path / name)))
    course("a/also", "x = 1", f"open({str(tmp_path / 'started')!r}, 'w')")  # the third, when one of two is done
    old = tmp_path / "out" / "a" / "one.ipynb"
    old.parent.mkdir(parents=True)
    old.write_text("executed before")
    program = f"""
import sys
from pathlib import Path
import tools.regression.kernels, tools.regression.notebooks, tools.run
tools.regression.kernels.IMPORTED[:] = ["ipykernel.kernelapp"]  # quicker, and no difference here
tools.regression.notebooks.NOTEBOOKS = Path({str(tmp_path / "notebooks")!r})
tools.run.ROOT, tools.run.BUILD = Path({str(tmp_path)!r}), Path({str(tmp_path / "out")!r})
sys.argv = ["run"]
sys.exit(tools.run.main())
"""
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores it
    started = [sys.executable, "-c", program]
    with subprocess.Popen(started, cwd=tools.run.ROOT, stdout=-1, stderr=-1, text=True, preexec_fn=heard) as run:
        marks = [tmp_path / "one", tmp_path / "two"]
        assert eventually(lambda: all(mark.exists() and mark.read_text() for mark in marks))
        for number in signals:
            run.send_signal(number)
        said, _ = run.communicate(timeout=30)
    assert run.returncode == (-signal.SIGKILL if signals == [signal.SIGKILL] else 1)
    assert ("3 notebooks were not" in said) == (signals != [signal.SIGKILL])
    kernels = [int(mark.read_text()) for mark in marks]
    assert eventually(lambda: not any(Path(f"/proc/{kernel}").exists() for kernel in kernels))
    assert not (tmp_path / "started").exists()
    assert [path.name for path in old.parent.iterdir()] == ["one.ipynb"]
    assert old.read_text() == "executed before"


def eventually(is_so) -> bool:
    """Wait until it is so, 30 seconds at most."""
    for _ in range(300):
        if is_so():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--notebook", "a/two"], "no notebook 'a/two'"),
        (["--notebook", "a/one", "--params", "y=1"], "no parameter 'y'"),
        (["--params", "x=1"], "PARAMS needs a NOTEBOOK"),
        (["--notebook", "a/one", "--params", "x=1 x=2"], "x is given twice"),
    ],
)
def test_the_command_ends_with_two_and_one_message(course, monkeypatch, capsys, arguments, said):
    course("a/one", "x = 1")
    monkeypatch.setattr("sys.argv", ["run", *arguments])
    with pytest.raises(SystemExit) as end:
        tools.run.main()
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_no_notebooks_at_all_is_a_sentence(course, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run"])
    with pytest.raises(SystemExit) as end:
        tools.run.main()
    assert end.value.code == 2
    assert "there are no notebooks in" in capsys.readouterr().err


def test_the_exit_code_tells_of_a_failure(course, tmp_path, monkeypatch):
    course("a/one", "x = 1", "raise ValueError('boom')")
    monkeypatch.setattr(tools.run, "BUILD", tools.run.ROOT / "build" / "tests" / tmp_path.name)
    monkeypatch.setattr("sys.argv", ["run", "--notebook", "a/one"])
    assert tools.run.main() == 1


def test_accepted_outputs_are_clean_and_leave_no_trace_of_a_progress_bar(course):
    bar = (
        f"import sys\nsys.path.insert(0, {str(tools.run.ROOT)!r})\nfrom helpers.training import progress_bar\n"
        "with progress_bar(3, 'x') as bar:\n    bar.update(3)\n    bar.refresh()"
    )
    path = course("a/one", "x = 2", bar, "print(x)")
    tools.regression.accept.accept(path)
    notebook = json.loads(path.read_text())
    assert [cell["outputs"] for cell in notebook["cells"][:2]] == [[], []]
    assert notebook["cells"][2]["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["2\n"]}]
    assert [cell["execution_count"] for cell in notebook["cells"]] == [1, 2, 3]
    assert [cell["metadata"] for cell in notebook["cells"]] == [{"tags": ["parameters"]}, {}, {}]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


def test_a_notebook_that_is_accepted_is_named_with_what_changed(course, monkeypatch, capsys):
    course("a/one", "x = 1", "print(x)")
    monkeypatch.setattr("sys.argv", ["accept", "a/one"])
    assert tools.regression.accept.main() == 0
    said = capsys.readouterr().out
    assert said.startswith("accepted a/one: \ncell [2]\n")
    assert "stdout 1" in said


@pytest.mark.parametrize("name", ["accept", "portable"])
@pytest.mark.parametrize(("argument", "said"), [("", "there are no notebooks in"), ("a/one", "no notebook 'a/one'")])
def test_no_notebook_is_a_sentence_for_the_others_too(course, monkeypatch, capsys, name, argument, said):
    monkeypatch.setattr("sys.argv", [name, argument])
    with pytest.raises(SystemExit) as end:
        import_module(f"tools.regression.{name}").main()
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_a_notebook_that_fails_is_not_accepted(course, monkeypatch, capsys):
    path = course("a/one", "x = 1", "raise ValueError('boom')")
    before = path.read_bytes()
    monkeypatch.setattr("sys.argv", ["accept", "a/one"])
    assert tools.regression.accept.main() == 1
    assert "kept as it was: a/one" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"[]", b"", b'{"cells": "\xe9"}'])
def test_what_is_no_notebook_is_not_accepted(course, monkeypatch, capsys, content):
    path = course("a/one", "x = 1")
    path.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["accept", "a/one"])
    assert tools.regression.accept.main() == 1
    assert "\na/one is no notebook: " in capsys.readouterr().err
    assert path.read_bytes() == content


def half(self, content):
    """Write as a disk does that is full after ten bytes."""
    with self.open("wb") as file:
        file.write(content[:10])
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_accepting_loses_nothing(course, monkeypatch):
    path = course("a/one", "x = 1")
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        write_atomically("{}", path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["one.ipynb"]
