"""`make doctor` finds what was broken on purpose, says what to type, and never breaks itself."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import doctor

ROOT = Path(__file__).resolve().parents[2]
AGAIN = "type: make -B install"


@pytest.fixture
def patient(tmp_path, monkeypatch):
    """A healthy copy of all that the doctor looks at."""
    for name in ("helpers", "tools", "data", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
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
    assert all(line.count("type: ") == line.startswith("WRONG") for line in lines), "one cure a line"
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


def test_a_broken_torch_is_told_as_that_and_nothing_else_is_wrong(patient, capsys):
    (patient / "stub" / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    code, lines = report(capsys)
    assert code == 1
    assert lines == lines | {
        "WRONG torch": f"ImportError: libcudart.so.12: cannot open shared object file; {AGAIN}"
    }  # which leaves data/ alone
    assert list(lines) == ["ok python", "WRONG torch", *(f"ok {name}" for name in list(doctor.CHECKS)[2:])]


def test_a_kernel_that_dies_is_found(patient):
    (patient / "stub" / "ipykernel_launcher.py").write_text("raise SystemExit(1)")
    with pytest.raises(RuntimeError, match=AGAIN):
        doctor.CHECKS["kernel"]()


@pytest.mark.parametrize("name", ["cnn.pt", "cnn_batch_norm.pt", "lenet_1.pt"])
def test_altered_weights_are_found_and_the_cure_says_what_it_discards(patient, name):
    whole = (patient / "data" / name).read_bytes()
    (patient / "data" / name).write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    cure = f"type: git checkout -- data/{name}, which throws away what you trained"
    with pytest.raises(RuntimeError, match=f"^data/{re.escape(name)} is altered; {re.escape(cure)}$"):
        doctor.CHECKS["networks"]()


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_damaged_or_missing_archive_is_found(patient, damage):
    path = patient / "data" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x") if damage == "altered" else path.unlink()
    name = "data/MNIST/raw/t10k-labels-idx1-ubyte.gz"
    with pytest.raises(RuntimeError, match=f"^{re.escape(f'{name} is {damage}; type: git checkout -- {name}')}$"):
        doctor.CHECKS["MNIST"]()


def test_the_sums_are_those_of_all_archives_and_all_networks():
    assert doctor.CHECKS["MNIST"]().startswith("4 files")
    there = len(list((doctor.ROOT / "data").glob("*.pt")))
    assert doctor.CHECKS["networks"]().startswith(f"{there} files")


def test_another_version_and_a_missing_package_are_found(patient):
    lock = patient / "requirements/course.lock"
    pins = lock.read_text()
    lock.write_text(pins.replace("\ntorch==", "\ntorch==0."))
    with pytest.raises(RuntimeError, match=rf"torch==0\.\S+; {AGAIN}"):
        doctor.CHECKS["versions"]()
    lock.write_text(re.sub(r"(?m)^ipywidgets==", "not-ipywidgets==", pins))  # the same as if it were not installed
    with pytest.raises(RuntimeError, match=rf"not-ipywidgets==\S+; {AGAIN}"):
        doctor.CHECKS["versions"]()


def test_ipywidgets_is_among_the_pins():
    assert "\nipywidgets==" in (ROOT / "requirements/course.lock").read_text()


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
    assert [line.split()[0] for line in lines] == ["WRONG", "WRONG", "WRONG", "ok", "ok", "WRONG", "ok"]


def test_an_old_python_is_found(patient, monkeypatch):
    monkeypatch.setattr(doctor, "PYTHON", doctor.PYTHON.replace("(3, 11)", "(3, 99)"))
    with pytest.raises(RuntimeError, match=rf"3\.\d+\.\S+, and 3.11 or newer is needed; {AGAIN} PYTHON=python3.12"):
        doctor.CHECKS["python"]()


def test_without_an_environment_it_says_how_to_make_one(patient):
    (patient / ".venv").unlink()
    command = [sys._base_executable, "-S", "-E", "-m", "tools.doctor"]  # sees the standard library only
    done = subprocess.run(command, cwd=patient, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == f"WRONG python   there is no environment; {AGAIN}"
    assert done.returncode == 1
    assert done.stderr == ""


def test_where_there_is_no_make_no_cure_names_it(patient, monkeypatch, capsys):
    """As on Windows, where conda is the way."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    (patient / ".venv").unlink()
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, 10**9))
    _, lines = report(capsys)
    assert lines["WRONG python"] == "there is no environment; type: conda env update --file environment.yml"
    assert len([line for line in lines if "WRONG" in line]) == 5
    assert not any("make" in text for text in lines.values())


def test_without_a_venv_the_python_that_asks_is_the_one_that_is_meant(patient):
    """As in an environment of conda, where the cure is pip's."""
    (patient / ".venv").unlink()
    assert sys.executable in doctor.CHECKS["python"]()
    (patient / "stub" / "torch.py").write_text("raise ImportError('broken')")
    with pytest.raises(RuntimeError, match=r"type: python -m pip install --requirement requirements/course.lock$"):
        doctor.CHECKS["torch"]()


def test_a_build_folder_that_cannot_be_written_is_found(patient, capsys, monkeypatch):
    (patient / "build").write_text("a file")
    monkeypatch.setattr(doctor, "CHECKS", {"disk": doctor.disk})
    code, lines = report(capsys)
    assert code == 1
    assert lines["WRONG disk"].endswith("type: ls -ld . build data")


@pytest.mark.parametrize(
    ("there", "free", "said"),
    [
        (True, 0.1, "0.1 GB free, and 1 GB is wanted; type: rm -rf build"),
        (True, 5, None),
        (False, 5, "5.0 GB free, and 6 GB is wanted; type: make -B install TORCH=cpu, which wants 2 GB"),
        (False, 7, None),
    ],
)
def test_the_room_that_is_needed_is_asked_for(patient, monkeypatch, there, free, said):
    """Six GB for an environment that is yet to be made, one for build/."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, free * 10**9))
    if not there:
        (patient / ".venv").unlink()
        monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    if said:
        with pytest.raises(RuntimeError, match=f"^{re.escape(said)}$"):
            doctor.disk()
    else:
        assert "can be written" in doctor.disk()
