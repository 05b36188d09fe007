"""The Makefile: what is typed reaches the tools, one recipe makes all environments, one notebook is tested alone."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tools import doctor
from tools.test import selection

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements/course.lock").read_text()
TORCH, VISION = (re.search(rf"(?m)^{name}==(.*)$", LOCK)[1] for name in ("torch", "torchvision"))


def make(*arguments: str) -> str:
    """Return what make prints, also where `make test` has started this."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    options = {"cwd": ROOT, "env": environment, "check": True, "capture_output": True, "text": True}
    return subprocess.run(["make", *arguments], **options).stdout


def wheel(index: Path, name: str, version: str, *requires: str) -> None:
    """Add an empty wheel to the package index in a folder."""
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    about += "".join(f"Requires-Dist: {needed}\n" for needed in requires)
    folder, file = index / name, f"{name}-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(folder / file, "w") as archive:
        inside = f"{name}-{version}.dist-info"
        archive.writestr(f"{inside}/METADATA", about)
        archive.writestr(f"{inside}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{inside}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{file.replace("+", "%2B")}">{file}</a>')


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (["TORCH=cpu"], {"torch": f"{TORCH}+cpu", "torchvision": f"{VISION}+cpu"}),
        ([], {"torch": TORCH, "torchvision": VISION, "triton": "13"}),
    ],
)
def test_the_light_environment_has_the_same_versions_without_cuda(tmp_path, option, expected):
    pypi, cpu = tmp_path / "pypi", tmp_path / "cpu"
    wheel(pypi, "torch", TORCH, "triton")
    wheel(pypi, "torchvision", VISION, f"torch=={TORCH}")
    wheel(pypi, "triton", "13")
    wheel(cpu, "torch", f"{TORCH}+cpu")
    wheel(cpu, "torchvision", f"{VISION}+cpu", f"torch=={TORCH}")
    lock = tmp_path / "lock"
    lock.write_text(f"torch=={TORCH}\ntorchvision=={VISION}\n")
    # --always-make, since the environment may be there; -n, so that nothing is done
    (line,) = (line for line in make("-n", "--always-make", "install", *option).splitlines() if "pip install" in line)
    address = "https://download.pytorch.org/whl/cpu"
    assert (address in line) == bool(option)
    line = line.replace(address, cpu.as_uri()).replace("requirements/course.lock", str(lock))
    resolve = ["--index-url", pypi.as_uri(), "--dry-run", "--quiet", "--ignore-installed", "--report", "-"]
    command = [sys.executable, *shlex.split(line)[1:], *resolve]
    alone = {**os.environ, "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [part["metadata"] for part in json.loads(done.stdout)["install"]]
    assert {part["name"]: part["version"] for part in found} == expected


@pytest.mark.parametrize("target", ["install", "colab", "site", "lock"])
def test_every_environment_is_made_in_the_same_way(target):
    lines = make("-n", "--always-make", target, "TORCH=cpu", "PYTHON=python9").splitlines()
    first = next(number for number, line in enumerate(lines) if "sys.version_info < (3, 11)" in line)
    made = re.fullmatch(r"python9 -m venv --clear (\S+)", lines[first + 1])[1]
    install = f"{made}/bin/python -m pip install --disable-pip-version-check --extra-index-url"
    assert lines[first + 2] == f"touch {made}/cpu-only"
    assert lines[first + 3].startswith(install)


def test_another_torch_is_refused():
    done = subprocess.run(["make", "-n", "install", "TORCH=rocm"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "TORCH=cpu takes the same versions without CUDA; got TORCH=rocm" in done.stderr


FAKE = """#!/bin/sh
# A python that makes environments of which it is the python, and writes down what their pip is told.
[ "$1" = -c ] && exec echo "$PWD/.venv"
[ "$2" = venv ] && { rm -rf "$4"; mkdir -p "$4/bin"; exec cp "$0" "$4/bin/python"; }
echo "$@" >> told
"""


@pytest.mark.parametrize(("typed", "light"), [(["TORCH=cpu"], True), ([], False)])
def test_an_environment_without_cuda_is_made_again_without_it(tmp_path, monkeypatch, typed, light):
    """Where the lock has changed, and by the cure of `make doctor`; what a shell has as TORCH is for something else."""
    monkeypatch.setenv("TORCH", "/opt/torch")
    (tmp_path / "python").write_text(FAKE)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "requirements").mkdir()
    lock = tmp_path / "requirements" / "course.lock"
    lock.touch()
    here = ["-C", str(tmp_path), "-f", str(ROOT / "Makefile"), f"PYTHON={tmp_path}/python"]
    make(*here, "install", *typed)
    make(*here, "install")  # which has nothing to do
    os.utime(lock, (2**31, 2**31))
    make(*here, "install")
    make(*here, *doctor.again().split()[1:])
    told = (tmp_path / "told").read_text().splitlines()
    assert ["download.pytorch.org/whl/cpu" in line for line in told] == [light] * 3


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        (["run", "NOTEBOOK=a/b", "PARAMS=name=a$b x='1 2' $(HOME)"], ["--notebook", "a/b", "--params", None]),
        (["test", "ONLY=occlusion and not $x"], ["--notebook", "", "--only", None]),
    ],
)
def test_what_is_typed_reaches_the_tools_to_the_last_character(tmp_path, typed, passed):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo {ROOT}/.venv || printf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "ruff").symlink_to("/bin/true")
    (tmp_path / "ready").touch()
    passed[-1] = typed[-1].partition("=")[2]
    said = make(*typed, f"BIN={tmp_path}", f"READY={tmp_path / 'ready'}")
    assert said.splitlines()[-len(passed) :] == passed


def test_jupyterlab_takes_a_port_and_options():
    assert "-m jupyterlab --port=8890 --no-browser" in make("-n", "lab", "PORT=8890", "ARGS=--no-browser")
    assert "--port" not in make("-n", "lab")


def test_one_notebook_is_tested_alone():
    path = ROOT / "notebooks" / "a" / "one.ipynb"
    assert selection(None, "") == []
    assert selection(path, "")[0] == str(path)
    assert selection(path, "runs or links")[-2:] == ["-k", "one and (runs or links)"]


def collected(*options: str) -> list[str]:
    """Return the tests that `make test` would run with these options."""
    collect = {**os.environ, "PYTEST_ADDOPTS": "--collect-only --quiet -n0"}
    command = [sys.executable, "-m", "tools.test", *options]
    said = subprocess.run(command, cwd=ROOT, env=collect, capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if "::" in line]


def test_a_word_chooses_tests_that_execute_no_notebook():
    picture = ROOT / "build" / "diff" / "of-a-failure.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.touch()
    tests = collected("--only", "layer_sizes or failure_is_told")
    picture.unlink()  # raises where a mere list of tests removes what the last run has left
    assert not any("ipynb" in test or "test_it_runs" in test for test in tests)
    assert any("test_published.py" in test and "layer_sizes" in test for test in tests)
    assert any("test_execution.py::test_a_failure_is_told" in test for test in tests)


def test_that_is_its_execution_its_cells_and_its_static_tests():
    name = "2_mnist_cnn/3_layer_sizes"
    tests = collected("--notebook", name)
    kinds = {line.partition("::")[0] for line in tests}
    published, execution = (f"tests/notebooks/test_{what}.py" for what in ("published", "execution"))
    assert {f"notebooks/{name}.ipynb", published, execution} <= kinds
    assert all(name in line for line in tests)


def test_an_unknown_notebook_says_which_there_are():
    command = [sys.executable, "-m", "tools.test", "--notebook", "2_mnist_cnn/9_none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no notebook '2_mnist_cnn/9_none'" in done.stderr
    assert "2_mnist_cnn/3_layer_sizes" in done.stderr
