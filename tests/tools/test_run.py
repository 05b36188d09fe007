"""`make run` and `make accept`: what they find, what they refuse, and what they say when a notebook fails."""

import errno
import json

import nbformat
import pytest

import tools.regression.accept
import tools.run
from tools.regression.notebooks import NOTEBOOKS, find_notebooks, parse_parameters, title, write_atomically
from tools.run import execute, execute_all, report


def test_every_notebook_of_the_course_is_found_in_order():
    found = [title(path) for path in find_notebooks()]
    there = (p.relative_to(NOTEBOOKS).with_suffix("") for p in NOTEBOOKS.rglob("*.ipynb"))
    assert found == sorted(str(p) for p in there if not any(part.startswith(".") for part in p.parts))
    assert found[0] == "1_foundations/1_tensors_and_gradients"


@pytest.mark.parametrize("name", ["a/one", "a/one.ipynb", "notebooks/a/one.ipynb", "./notebooks/a/one"])
def test_one_notebook_is_found_by_any_of_its_names(course, name):
    path = course("a/one", "x = 1")
    course("b/two", "x = 1")
    assert find_notebooks(name) == [path]


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


def test_a_killed_process_is_reported_and_the_others_go_on(course, tmp_path):
    kill = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"
    paths = [course("a/killed", "x = 1", kill), *(course(f"b/{name}", "x = 1") for name in ("one", "three", "two"))]
    outcomes = execute_all(paths, {}, tmp_path / "out")
    assert [outcome.failure is None for outcome in outcomes] == [False, True, True, True]
    assert "killed" in outcomes[0].failure


def test_a_kernel_that_dies_is_reported_with_its_cell(course, tmp_path):
    path = course("a/dies", "x = 1", "import os\nos._exit(1)", "x")
    assert execute(path, {}, tmp_path / "out.ipynb").failure == (
        "cell [2]\n    import os\n    os._exit(1)\nthe kernel died"
    )


def test_a_cell_that_hangs_is_reported_within_its_time(course, tmp_path):
    path = course("a/hangs", "x = 1", "while True:\n    pass")
    failure = execute(path, {}, tmp_path / "out.ipynb", timeout=2).failure
    assert failure == "cell [2]\n    while True:\n        pass\nno end within 2 s"


def test_a_full_disk_is_reported_and_the_source_is_whole(course, tmp_path, monkeypatch):
    path = course("a/one", "x = 1")
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("papermill.iorw.LocalHandler.write", full)
    assert "No space left on device" in execute(path, {}, tmp_path / "out.ipynb").failure
    assert path.read_bytes() == before


def test_what_is_not_a_notebook_is_reported(course, tmp_path):
    path = course("a/one", "x = 1")
    path.write_text("{")
    assert execute(path, {}, tmp_path / "out.ipynb").failure


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--notebook", "a/two"], "no notebook 'a/two'"),
        (["--notebook", "a/one", "--params", "y=1"], "no parameter 'y'"),
        (["--params", "x=1"], "PARAMS needs a NOTEBOOK"),
    ],
)
def test_the_command_ends_with_two_and_one_message(course, monkeypatch, capsys, arguments, said):
    course("a/one", "x = 1")
    monkeypatch.setattr("sys.argv", ["run", *arguments])
    assert tools.run.main() == 2
    assert said in capsys.readouterr().err


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


def test_a_notebook_that_fails_is_not_accepted(course, monkeypatch, capsys):
    path = course("a/one", "x = 1", "raise ValueError('boom')")
    before = path.read_bytes()
    monkeypatch.setattr("sys.argv", ["accept", "a/one"])
    assert tools.regression.accept.main() == 1
    assert "kept as it was: a/one" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_full_disk_while_accepting_loses_nothing(course, monkeypatch):
    path = course("a/one", "x = 1")
    before = path.read_bytes()

    def half(self, text, **_):
        self.write_bytes(text.encode()[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", half)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(nbformat.read(path, 4), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["one.ipynb"]
