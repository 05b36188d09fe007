"""`make checkpoints` leaves what `make doctor` holds for whole; an interrupted `make study` ends, and goes on later."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from helpers.cnn import DigitCNN
from tests.regression.test_kernels import ended
from tools import doctor, study


def test_the_sum_of_new_weights_is_written_where_the_doctor_reads_it(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("README.md", *(path.name for path in (doctor.ROOT / "data").glob("*.pt"))):
        shutil.copy(doctor.ROOT / "data" / name, data)
    before = (data / "README.md").read_text()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(study, "DATA", data)
    monkeypatch.setattr("helpers.cnn.DATA", data)
    model = DigitCNN(batch_norm=False)
    study.keep(model, "cnn")
    assert doctor.CHECKS["networks"]()
    stored = torch.load(data / "cnn.pt", weights_only=True)
    assert all(torch.equal(stored[name], value) for name, value in model.state_dict().items())
    changed = [line for line in (data / "README.md").read_text().splitlines() if line not in before.splitlines()]
    assert [line.split()[1] for line in changed] == ["`cnn.pt`"]


STUDY = """
import os, sys, time
from pathlib import Path
from tools import study

HERE = Path.cwd()

def quick(recipe, seed):
    (HERE / f"begun-{seed}").write_text(str(os.getpid()))
    while seed >= 2 and not (HERE / "go").exists():
        time.sleep(0.1)
    return [dict.fromkeys(study.FIELDS, 0) | {"recipe": recipe, "batch_norm": norm, "seed": seed} for norm in (0, 1)]

if __name__ == "__main__":
    study.train_pair, study.RECIPES, study.SEEDS = quick, {"full": ()}, 6
    study.TABLE, study.BEGUN = HERE / "table.csv", HERE / "build" / "table.csv"
    study.study()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_ends_and_goes_on_from_there(tmp_path, number):
    """Two pairs are done and two more are being trained when the interrupt comes, as a terminal sends it to all."""
    script = tmp_path / "script.py"
    script.write_text(STUDY)
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores it
    command = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(doctor.ROOT)}, "text": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True, "preexec_fn": heard}
    with subprocess.Popen([sys.executable, script], **command, **pipes) as process:
        deadline = time.monotonic() + 120
        while not all((tmp_path / f"begun-{seed}").exists() for seed in range(4)):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "interrupted: 4 networks are kept, and `make study` goes on from there" in said
    assert "Traceback" not in said
    assert all(ended(int((tmp_path / f"begun-{seed}").read_text())) for seed in range(4))
    assert not (tmp_path / "begun-4").exists()
    assert not (tmp_path / "table.csv").exists()
    (tmp_path / "go").touch()
    (tmp_path / "begun-0").unlink()
    subprocess.run([sys.executable, script], **command, check=True, capture_output=True)
    assert not (tmp_path / "begun-0").exists()
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [int(row["seed"]) for row in rows] == [seed for seed in range(6) for _ in range(2)]
    assert not list((tmp_path / "build").iterdir())
