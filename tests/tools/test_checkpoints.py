"""`make checkpoints` leaves networks and sums that `make doctor` holds for whole."""

import shutil

import torch

from helpers.cnn import DigitCNN
from tools import checkpoints, doctor


def test_the_sum_of_new_weights_is_written_where_the_doctor_reads_it(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("README.md", "cnn.pt", "cnn_batch_norm.pt"):
        shutil.copy(doctor.ROOT / "data" / name, data)
    before = (data / "README.md").read_text()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(checkpoints, "DATA", data)
    monkeypatch.setattr("helpers.cnn.DATA", data)
    model = DigitCNN(batch_norm=False)
    checkpoints.keep(model, batch_norm=False)
    assert doctor.CHECKS["networks"]()
    stored = torch.load(data / "cnn.pt", weights_only=True)
    assert all(torch.equal(stored[name], value) for name, value in model.state_dict().items())
    changed = [line for line in (data / "README.md").read_text().splitlines() if line not in before.splitlines()]
    assert [line.split()[1] for line in changed] == ["`cnn.pt`"]
