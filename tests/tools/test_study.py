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
from torch.nn.functional import cross_entropy

from helpers.adversarial import pgd
from helpers.bounds import worst_logits
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

HERE = Path.cwd()

def quick(recipe, seed):
    (HERE / f"begun-{seed}").write_text(str(os.getpid()))
    while seed >= 2 and not (HERE / "go").exists():
        time.sleep(0.1)
    return [{"recipe": recipe, "batch_norm": norm, "seed": seed, "unasked": 0} for norm in (0, 1)]

if __name__ == "__main__":
    from tools import study  # and with it torch, for which the workers have no use here

    pairs = [("full", seed) for seed in range(6)]
    study.STUDIES = {"table": study.Study(quick, pairs, ["recipe", "batch_norm", "seed"])}
    study.DATA, study.BUILD = HERE, HERE / "build"
    study.study("table")
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
    assert "interrupted: 4 rows are kept, and `make study` goes on from there" in said
    assert "Traceback" not in said
    assert all(ended(int((tmp_path / f"begun-{seed}").read_text())) for seed in range(4))
    assert not (tmp_path / "begun-4").exists()
    assert not (tmp_path / "table.csv").exists()
    (tmp_path / "go").touch()
    (tmp_path / "begun-0").unlink()
    subprocess.run([sys.executable, script], **command, check=True, capture_output=True)
    assert not (tmp_path / "begun-0").exists()
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    pairs = [(seed, norm) for seed in range(6) for norm in range(2)]
    assert [{name: int(row[name]) for name in row if name != "recipe"} for row in rows] == [
        {"batch_norm": norm, "seed": seed} for seed, norm in pairs
    ]
    assert not list((tmp_path / "build").iterdir())


def test_what_a_step_of_the_robust_training_makes_smaller():
    torch.manual_seed(0)
    model, images, labels = DigitCNN().eval(), torch.rand(8, 1, 28, 28), torch.arange(8)
    clean = cross_entropy(model(images), labels)
    assert torch.equal(study.on_attacked(model, images, labels, 0.0), clean)  # eps is 0 at the start
    losses = [study.on_attacked(model, images, labels, done).item() for done in (0.0, 0.1, 0.25)]
    assert losses == sorted(losses)
    for done in (0.25, 0.9):  # and 0.3 from a quarter on
        start = torch.Generator().manual_seed(round(1e9 * done))
        options = {"steps": 10, "random_start": True, "generator": start}
        attacked = pgd(model, images, labels, eps=0.3, alpha=0.075, **options)
        assert torch.equal(study.on_attacked(model, images, labels, done), cross_entropy(model(attacked), labels))


def test_what_a_step_of_the_training_on_bounds_makes_smaller():
    torch.manual_seed(0)
    model, images, labels = DigitCNN().eval(), torch.rand(8, 1, 28, 28), torch.arange(8)
    clean = cross_entropy(model(images), labels)
    torch.testing.assert_close(study.on_bounds(model, images, labels, 0.0), clean)
    for done, eps, share in ((0.25, 0.1, 0.25), (0.5, 0.2, 0.5), (0.9, 0.2, 0.5)):
        worst = cross_entropy(worst_logits(model, images, labels, eps=eps), labels)
        expected = (1 - share) * clean + share * worst
        torch.testing.assert_close(study.on_bounds(model, images, labels, done), expected)


def test_a_trace_looks_at_the_network_four_times_an_epoch(monkeypatch):
    images, labels = torch.rand(400, 1, 28, 28), torch.arange(400) % 10
    monkeypatch.setattr(study, "load_mnist", lambda train: (images, labels))
    monkeypatch.setattr(study, "split", lambda *pair: (pair, (images[:40], labels[:40])))
    monkeypatch.setitem(study.SHORT, "epochs", 2)
    rows = study.trace("fgsm_random_start", 1)
    assert [row["epoch"] for row in rows] == ["0.00", "0.25", "0.50", "0.75", "1.00", "1.25", "1.50", "1.75", "2.00"]
    assert all(0 <= row[kind] <= 40 for row in rows for kind in ("clean", "fgsm", "pgd"))
    assert {(row["recipe"], row["seed"]) for row in rows} == {("fgsm_random_start", 1)}
    assert list(rows[0]) == study.TRACED
