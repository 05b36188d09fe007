"""The set-up cell as Colab and strangers run it: a notebook alone in an empty folder, and in odd places.

The course is published into a repository on this machine, to which git is told to turn for the public address.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from jupyter_client.provisioning import KernelProvisionerFactory
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

import tools.run
from tools.publish import PLACEHOLDER, ROOT, set_up_cell, stamped

REPOSITORY = "ada/digits"
URL = f"https://github.com/{REPOSITORY}"
COLD = "3_visualising/1_conv1_filters"  # runs in a new kernel, and imports most; all others are copies
CHEAP = [
    "2_mnist_cnn/3_layer_sizes",
    "1_foundations/3_fgsm_and_pgd",
    "3_visualising/1_conv1_filters",
    "4_adversarial/4_cost_curves",
]
PARAMETERS = yaml.safe_load((ROOT / "tests" / "notebooks" / "parameters.yml").read_text())
UNREACHABLE = "http://127.0.0.1:9/"  # no server listens there
WHERE = "import helpers\nprint(helpers.__file__)"


def git(*arguments: str, cwd: Path) -> str:
    settings = ["user.name=test", "user.email=test@example.org", "commit.gpgsign=false", "core.compression=0"]
    options = [part for setting in settings for part in ("-c", setting)]
    return subprocess.run(["git", *options, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The working tree as it is now, published: its folder, beside it a bare clone."""
    tree = tmp_path_factory.mktemp("published") / "tree"
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0"):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    for path, text in stamped(tree, REPOSITORY).items():
        path.write_text(text)
    git("init", "--quiet", "--initial-branch=main", cwd=tree)
    git("add", "--all", cwd=tree)
    git("commit", "--quiet", "--message=snapshot", cwd=tree)
    git("clone", "--quiet", "--bare", str(tree), "bare.git", cwd=tree.parent)
    git("repack", "-adq", "--window=0", cwd=tree.parent / "bare.git")  # else every clone packs it anew
    return tree


@pytest.fixture
def colab(tmp_path, monkeypatch, published):
    """An empty folder, in which `google.colab` can be imported, pip cannot, and the address leads to the bare clone."""
    stub = tmp_path / "stub"
    for name, text in {"google/colab": "", "pip": "raise ImportError('nothing may be installed')"}.items():
        (stub / name).mkdir(parents=True)
        (stub / name / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(stub))
    for name, value in {"GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C.UTF-8", "no_proxy": "*"}.items():
        monkeypatch.setenv(name, value)  # so that git says the same on every machine
    redirect(monkeypatch, (published.parent / "bare.git").as_uri())
    folder = tmp_path / "content"
    folder.mkdir()
    look = "from importlib.util import find_spec as f; import google.colab; print(f('helpers'), f('pip').origin)"
    assert run(look, folder).stdout == f"None {stub}/pip/__init__.py\n"
    return folder


def redirect(monkeypatch, to):
    """Tell git to turn to `to` whenever it is told the public address."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{to}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", URL)


def run(source: str, folder: Path):
    """Run the source as a python of its own in the folder."""
    return subprocess.run([sys.executable, "-c", source], cwd=folder, capture_output=True, text=True)


def outputs(*sources: str, folder: Path):
    """Return the outputs of the cells, run in a kernel in the folder."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    extra = ["--log-level=ERROR"]
    client = NotebookClient(
        notebook, allow_errors=True, extra_arguments=extra, resources={"metadata": {"path": folder}}
    )
    return [cell.outputs for cell in client.execute().cells]


@pytest.mark.parametrize("name", CHEAP)
def test_a_notebook_alone_in_an_empty_folder_fetches_the_course_once(colab, published, monkeypatch, name):
    alone = colab / Path(f"{name}.ipynb").name
    shutil.copy(published / "notebooks" / f"{name}.ipynb", alone)
    with monkeypatch.context() as patch:
        if name == COLD:
            patch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", "local-provisioner")
        execute(alone, PARAMETERS[name])
    redirect(monkeypatch, UNREACHABLE)  # from now on nothing can be cloned,
    trace = colab.parent / "trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))  # and nothing is tried
    if name != CHEAP[0]:  # the others show it with their first cells: set-up, parameters and imports
        notebook = nbformat.read(alone, 4)
        imports = next(i for i, cell in enumerate(notebook.cells) if "\nfrom helpers." in cell.source)
        notebook.cells = notebook.cells[: imports + 1]
        nbformat.write(notebook, alone)
    execute(alone, PARAMETERS[name])
    assert sorted(path.name for path in colab.iterdir()) == sorted([alone.name, "digits"])
    assert not trace.exists()
    assert (colab / "digits" / ".git" / "shallow").is_file()


def execute(path, parameters):
    """Execute the notebook in its folder; no cell may raise or warn."""
    out = path.parent.parent / "out.ipynb"
    assert tools.run.execute(path, parameters, out).failure is None
    shown = [output for cell in nbformat.read(out, 4).cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in shown if output.get("name") == "stderr"] == []


@pytest.mark.parametrize(
    ("repository", "cause"),
    [
        (REPOSITORY, f"{URL} cannot be cloned here: \"fatal: unable to access '{UNREACHABLE}': Failed to connect"),
        (PLACEHOLDER, f"https://github.com/{PLACEHOLDER} cannot be cloned here: 'a placeholder, until `make publish`"),
    ],
)
def test_an_address_that_cannot_be_reached_is_one_line(colab, monkeypatch, repository, cause):
    redirect(monkeypatch, UNREACHABLE)
    (shown,) = outputs(set_up_cell(repository).strip(), folder=colab)
    (error,) = [output for output in shown if output.output_type == "error"]
    assert error.ename == "SystemExit"
    assert error.evalue.startswith(f"Open this notebook inside a clone of the course: {cause}")
    assert "\n" not in error.evalue
    assert not any("line" in text or "File" in text for text in error.traceback), "frames in the traceback"
    assert list(colab.iterdir()) == []


def test_without_git_the_cause_is_one_line(colab, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    done = run(set_up_cell(REPOSITORY), colab)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "git" in done.stderr
    assert "not found" in done.stderr


def test_a_clone_that_is_interrupted_leaves_nothing_that_is_taken_for_the_course(colab, tmp_path, monkeypatch):
    fake = tmp_path / "bin" / "git"  # writes half of a clone and is killed
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/sh\nfor last; do :; done\nmkdir -p "$last/helpers" && : > "$last/helpers/cnn.py"\nkill -9 $$\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    assert run(set_up_cell(REPOSITORY), colab).returncode == 1
    assert not (colab / "digits").exists()
    fake.unlink()
    assert run(set_up_cell(REPOSITORY) + WHERE, colab).stdout == f"{colab}/digits/helpers/__init__.py\n"


def foreign(folder: Path) -> Path:
    """Put another package called helpers into the folder."""
    (folder / "helpers").mkdir(parents=True)
    (folder / "helpers" / "__init__.py").write_text("")
    return folder


@pytest.mark.parametrize("where", ["path", "folder"])
def test_another_package_of_that_name_is_not_imported(colab, tmp_path, monkeypatch, where):
    other = foreign(colab if where == "folder" else tmp_path / "other")
    monkeypatch.setenv("PYTHONPATH", str(other))
    assert run(WHERE, colab).stdout == f"{other}/helpers/__init__.py\n"
    done = run(set_up_cell(REPOSITORY) + WHERE, colab)
    assert done.stdout == f"{colab}/digits/helpers/__init__.py\n", done.stderr


def test_another_package_that_is_already_loaded_is_named_with_the_way_out(colab, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(foreign(tmp_path / "other")))
    done = run(f"import helpers\n{set_up_cell(REPOSITORY)}", colab)
    assert done.stderr.splitlines()[-1] == "another package `helpers` is loaded: restart the kernel"


@pytest.mark.parametrize("repository", [PLACEHOLDER, REPOSITORY])
@pytest.mark.parametrize(
    "folder",
    [".", "notebooks", "notebooks/1_foundations", "build/notebooks/1_foundations", "work/2_mnist_cnn", "a b/ü"],
)
def test_inside_a_clone_it_is_found_from_everywhere(published, monkeypatch, folder, repository):
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "none")
    (published / folder).mkdir(parents=True, exist_ok=True)
    source = set_up_cell(repository)
    done = run(source + source + WHERE, published / folder)  # run twice, as a learner does
    assert done.stdout == f"{published}/helpers/__init__.py\n", done.stderr


def test_the_cell_shows_nothing(published):
    assert outputs(set_up_cell(REPOSITORY).strip(), folder=published / "notebooks") == [[]]


def test_every_notebook_has_this_cell(published):
    for path in (published / "notebooks").glob("*/*.ipynb"):
        code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert "".join(code[0]["source"]) == set_up_cell(REPOSITORY).strip()
