"""`make doctor` finds what was broken on purpose, says what to type, and never breaks itself; `make work` is kind."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import doctor
from tools.work import copy_notebooks

ROOT = Path(__file__).resolve().parents[2]
AGAIN = "type: rm -rf .venv; make .venv/ready"


@pytest.fixture
def patient(tmp_path, monkeypatch):
    """A healthy copy of all that the doctor looks at."""
    for name in ("helpers", "tools", "data"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "stub").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stub"))  # what a test puts there hides the real one
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    return tmp_path


def report(capsys) -> tuple[int, dict[str, str]]:
    """Return the exit code, and the rest of each check's line under `mark name`."""
    code = doctor.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 10
    return code, {" ".join(line.split()[:2]): line[15:] for line in lines[:-1]}


def replace_python(patient, script):
    (patient / ".venv").unlink()
    (patient / ".venv" / "bin").mkdir(parents=True)
    (patient / ".venv" / "bin" / "python").write_text(script)
    (patient / ".venv" / "bin" / "python").chmod(0o755)


def test_a_healthy_environment_is_all_well(patient, capsys):
    code, lines = report(capsys)
    assert code == 0, lines
    assert list(lines) == [f"ok {name}" for name in doctor.CHECKS]


def test_a_broken_torch_is_found_and_stops_no_other_check(patient, capsys):
    (patient / "stub" / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    code, lines = report(capsys)
    assert code == 1
    cause = "ImportError: libcudart.so.12: cannot open shared object file; type:"
    assert lines.pop("WRONG networks").startswith(cause)
    assert lines.pop("WRONG machine") == f"{cause} rm -rf .venv; make .venv/ready"
    assert list(lines) == ["ok python", "ok versions", "ok MNIST", "ok kernel", "ok disk"]


def test_a_kernel_that_dies_is_found(patient):
    (patient / "stub" / "ipykernel_launcher.py").write_text("raise SystemExit(1)")
    with pytest.raises(RuntimeError, match=AGAIN):
        doctor.CHECKS["kernel"]()


def test_a_damaged_network_is_found(patient):
    whole = (patient / "data" / "cnn.pt").read_bytes()
    (patient / "data" / "cnn.pt").write_bytes(whole[:-1000])
    with pytest.raises(RuntimeError, match=r"cnn\.pt does not hold the weights.*type: git checkout -- data"):
        doctor.CHECKS["networks"]()


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_or_missing_archive_is_found(patient, damage):
    path = patient / "data" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x") if damage == "changed" else path.unlink()
    with pytest.raises(RuntimeError, match=r"t10k-labels-idx1-ubyte\.gz is missing or damaged; type: git checkout"):
        doctor.mnist()


def test_the_sums_are_those_of_all_four_archives():
    assert doctor.mnist().startswith("4 archives")


def test_another_version_is_found(patient):
    lock = patient / "requirements/course.lock"
    lock.write_text(lock.read_text().replace("\ntorch==", "\ntorch==0."))
    with pytest.raises(RuntimeError, match=rf"torch is \S+, pinned 0\.\S+; {AGAIN}"):
        doctor.versions()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\necho 'undefined symbol: X' >&2\nexit 1\n", f"undefined symbol: X; {AGAIN}"),
        ("#!/bin/sh\nexit 3\n", f"exit code 3; {AGAIN}"),
        ("#!/nowhere/python\n", f"No such file or directory; {AGAIN}"),
    ],
)
def test_a_python_that_does_not_run_is_one_line_a_check(patient, capsys, script, said):
    replace_python(patient, script)
    code, lines = report(capsys)
    assert code == 1
    assert lines["WRONG python"].startswith(said)
    assert [line.split()[0] for line in lines] == ["WRONG", "WRONG", "ok", "WRONG", "WRONG", "WRONG", "ok"]


def test_an_old_python_is_found(patient, monkeypatch):
    monkeypatch.setattr(doctor, "PYTHON", doctor.PYTHON.replace("(3, 11)", "(3, 99)"))
    with pytest.raises(RuntimeError, match=rf"3\.\d+\.\S+, and 3.11 or newer is needed; {AGAIN} PYTHON=python3.12"):
        doctor.CHECKS["python"]()


def test_without_an_environment_it_says_how_to_make_one(patient):
    (patient / ".venv").unlink()
    command = [sys._base_executable, "-S", "-E", "-m", "tools.doctor"]  # sees the standard library only
    done = subprocess.run(command, cwd=patient, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "WRONG python   there is no .venv; type: make .venv/ready"
    assert done.returncode == 1
    assert done.stderr == ""


def test_a_build_folder_that_cannot_be_written_is_found(patient, capsys, monkeypatch):
    (patient / "build").write_text("a file")
    monkeypatch.setattr(doctor, "CHECKS", {"disk": doctor.disk})
    code, lines = report(capsys)
    assert code == 1
    assert lines["WRONG disk"].endswith("type: ls -ld . build data")


def test_a_full_disk_is_found(patient, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**8, 10**8))
    with pytest.raises(RuntimeError, match=r"0\.1 GB free"):
        doctor.disk()


@pytest.fixture
def clone(tmp_path):
    """Two notebooks of a course."""
    for name in ("1_foundations/1_a", "2_mnist_cnn/1_b"):
        (tmp_path / "notebooks" / name).parent.mkdir(parents=True)
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(f"the course's {name}")
    return tmp_path


def test_an_edited_copy_survives_an_update(clone):
    assert "2 notebooks copied, 0 already there" in copy_notebooks(clone)
    mine = clone / "work" / "1_foundations" / "1_a.ipynb"
    mine.write_text("my own answer")
    (clone / "notebooks" / "1_foundations" / "1_a.ipynb").write_text("the course's, updated")
    (clone / "notebooks" / "2_mnist_cnn" / "2_c.ipynb").write_text("a new one")
    said = copy_notebooks(clone)
    assert mine.read_text() == "my own answer"
    assert "1 notebooks copied, 1 already there" in said
    assert "1 left as they are" in said
    assert said.endswith("work/1_foundations/1_a.ipynb")
    assert not list(clone.glob("work/*/.*"))


def test_git_does_not_look_at_the_copies():
    ignored = ["git", "check-ignore", "--quiet", "work/1_foundations/1_a.ipynb"]
    assert subprocess.run(ignored, cwd=ROOT).returncode == 0
