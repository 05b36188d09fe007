"""The network: its shapes, its checks, and the two trained copies."""

import pickle

import pytest
import torch
from torch import nn

import helpers.cnn
from helpers.cnn import DigitCNN, LeNet, checkpoint, load_cnn, load_lenet, load_mlp


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A data folder of the test's own, empty."""
    monkeypatch.setattr(helpers.cnn, "DATA", tmp_path)
    return tmp_path


@pytest.mark.parametrize("batch_norm", [False, True])
def test_logits_are_those_of_the_layers_one_after_another(batch_norm):
    torch.manual_seed(0)
    model = DigitCNN(batch_norm).eval()
    images = torch.rand(3, 1, 28, 28)
    norm = (model.bn1, model.bn2) if batch_norm else (nn.Identity(), nn.Identity())
    x = images
    for conv, bn in zip((model.conv1, model.conv2), norm, strict=True):
        x = nn.functional.max_pool2d(bn(conv(x)).clamp(min=0), 2)
    expected = (x.reshape(3, 1568) @ model.fc1.weight.T + model.fc1.bias).clamp(min=0) @ model.fc2.weight.T
    torch.testing.assert_close(model(images), expected + model.fc2.bias)


def test_counts_of_parameters_and_buffers():
    plain, normed = DigitCNN(), DigitCNN(batch_norm=True)
    assert sum(p.numel() for p in plain.parameters()) == 320 + 9_248 + 784_500 + 5_010
    assert sum(p.numel() for p in normed.parameters()) == 799_078 + 128
    assert sum(b.numel() for b in normed.buffers()) == 130


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(28, 28), r"\(N, 1, 28, 28\), got \(28, 28\)"),
        (torch.zeros(2, 3, 28, 28), r"got \(2, 3, 28, 28\)"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "torch.uint8"),
        ([[0.0]], "list"),
        (None, "NoneType"),
    ],
)
def test_forward_says_what_came(images, said):
    with pytest.raises(ValueError if torch.is_tensor(images) else TypeError, match=said):
        DigitCNN()(images)


def test_lenet_has_the_parameters_of_its_paper_but_for_the_output_layer():
    """C1 156, then every map of S2 in C3 (2,416), C5 48,120, F6 10,164, and a linear output of 850."""
    model = LeNet()
    assert sum(p.numel() for p in model.parameters()) == 156 + 2_416 + 48_120 + 10_164 + 850
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 10)


def test_load_lenet_is_frozen_and_in_eval_mode():
    model = load_lenet()
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_networks_of_several_seeds_differ():
    for load in (load_lenet, load_mlp):
        images, weights = torch.rand(2, 1, 28, 28), set()
        for seed in (1, 2, 3):
            model = load(seed)
            assert not model.training
            assert model(images).shape == (2, 10)
            weights.add(model[1 if load is load_mlp else 0].weight.sum().item())
        assert len(weights) == 3
        with pytest.raises(ValueError, match="expected seed"):
            load(4)


def test_two_trainings_at_once_are_told():
    with pytest.raises(ValueError, match="expected robust or interval, got both"):
        load_cnn(robust=True, interval=True)


@pytest.mark.parametrize("which", ["robust", "interval"])
def test_the_networks_that_defend_have_no_batch_norm_and_weights_of_their_own(which):
    model = load_cnn(**{which: True})
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in DigitCNN().named_parameters()]
    assert not torch.equal(model.fc2.weight, load_cnn(batch_norm=False).fc2.weight)


def test_load_cnn_is_frozen_and_in_eval_mode():
    for batch_norm in (False, True):
        model = load_cnn(batch_norm)
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
        assert isinstance(model.bn1, nn.BatchNorm2d) == batch_norm


def test_missing_network_says_how_to_get_it(elsewhere):
    with pytest.raises(FileNotFoundError, match="make checkpoints"):
        load_cnn()
    assert not list(elsewhere.iterdir())


class Malicious:
    """Would run code if it were unpickled without care."""

    def __reduce__(self):
        return (pytest.fail, ("code in a checkpoint was run",))


@pytest.mark.parametrize(
    "foreign",
    [
        DigitCNN(batch_norm=False).state_dict(),
        nn.Linear(2, 2).state_dict(),
        {"conv1.weight": "text"},
        torch.zeros(3),
        Malicious(),
    ],
    ids=["without batch norm", "another network", "no tensors", "a tensor", "malicious"],
)
@pytest.mark.usefixtures("elsewhere")
def test_foreign_network_is_refused(foreign):
    torch.save(foreign, checkpoint("cnn_batch_norm"))
    before = checkpoint("cnn_batch_norm").read_bytes()
    with pytest.raises(ValueError, match=r"cnn_batch_norm.pt does not hold the weights of DigitCNN"):
        load_cnn()
    assert checkpoint("cnn_batch_norm").read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", pickle.dumps([1, 2])])
@pytest.mark.usefixtures("elsewhere")
def test_damaged_network_is_refused(damage):
    checkpoint("cnn_batch_norm").write_bytes(damage)
    with pytest.raises(ValueError, match="does not hold the weights"):
        load_cnn()


def test_truncated_network_is_refused(elsewhere):
    whole = (elsewhere / "whole.pt", checkpoint("cnn_batch_norm"))
    torch.save(DigitCNN(batch_norm=True).state_dict(), whole[0])
    whole[1].write_bytes(whole[0].read_bytes()[:100_000])
    with pytest.raises(ValueError, match="does not hold the weights"):
        load_cnn()


@pytest.mark.parametrize("place", [0, 20, 1_000_000, -200], ids=["first bytes", "header", "weights", "directory"])
def test_a_few_wrong_bytes_anywhere_are_found(elsewhere, place):
    path = checkpoint("cnn_batch_norm")
    torch.save(DigitCNN(batch_norm=True).state_dict(), path)
    content = bytearray(path.read_bytes())
    content[place : place + 50] = bytes(255 - byte for byte in content[place : place + 50])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cnn_batch_norm\.pt does not hold the weights.*git checkout"):
        load_cnn()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.usefixtures("elsewhere")
def test_weights_that_are_not_finite_are_refused(value):
    model = DigitCNN(batch_norm=True)
    with torch.no_grad():
        model.fc2.bias[3] = value
    torch.save(model.state_dict(), checkpoint("cnn_batch_norm"))
    with pytest.raises(ValueError, match=r"does not hold the weights .* NaN or infinity in fc2.bias. Restore it"):
        load_cnn()


def test_weights_are_laid_out_as_suits_a_processor_until_somebody_wants_another_layout():
    model = DigitCNN()
    assert model.conv1.weight.stride() == (9, 1, 3, 1)  # (out, height, width, in)
    assert model.double().conv2.weight.stride() == (288, 1, 96, 32)
    assert model.to(memory_format=torch.contiguous_format).conv2.weight.stride() == (288, 9, 3, 1)


def test_images_are_taken_from_another_device_and_logits_returned_there():
    images = torch.zeros(2, 1, 28, 28, device="meta")
    assert DigitCNN().to("meta")(images).device.type == "meta"
    with pytest.raises(NotImplementedError, match="meta"):  # they set out, but have no values to take
        DigitCNN()(images)
