"""The network: its shapes, its checks, and the two trained copies."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import helpers.cnn
from helpers.adversarial import pgd
from helpers.cnn import DigitCNN, check_images, check_labels, checkpoint, in_chunks, in_mode, load_cnn
from helpers.occlusion import occlusion_map
from helpers.training import predict


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
    ],
)
def test_forward_says_what_came(images, said):
    with pytest.raises(ValueError, match=said):
        DigitCNN()(images)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.full((1, 1, 28, 28), 255.0), "0..255"),
        (torch.full((1, 1, 28, 28), -0.01), "-0.01"),
        (torch.full((1, 1, 28, 28), float("nan")), "nan"),
        (torch.zeros(0, 1, 28, 28), "none"),
    ],
)
def test_images_outside_their_range_are_refused(images, said):
    with pytest.raises(ValueError, match=said):
        check_images(images)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.tensor([0, 10]), "0 to 10"),
        (torch.tensor([-1, 3]), "-1 to 3"),
        (torch.tensor([1]), r"\(1,\)"),
        (torch.tensor([1.0, 2.0]), "float32"),
        ([1, 2], "list"),
    ],
)
def test_labels_outside_their_range_are_refused(labels, said):
    with pytest.raises(ValueError, match=said):
        check_labels(labels, 2)


def test_in_mode_restores_every_module_also_after_an_exception():
    model = DigitCNN(batch_norm=True).train()
    model.bn1.eval()  # as one does to freeze it

    def work():
        with in_mode(model, training=False):
            assert not any(module.training for module in model.modules())
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        work()
    assert model.training
    assert model.bn2.training
    assert not model.bn1.training


@pytest.fixture
def threads():
    """A function that sets how many threads PyTorch has; afterwards it has as many as before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("rows", "size"), [(1, 4), (4, 4), (5, 4), (23, 4), (24, 4), (7, 100)])
def test_chunks_are_in_order_small_and_even(threads, count, rows, size):
    threads(count)
    numbers = torch.arange(rows)
    parts = in_chunks(lambda a, b: (a, b, torch.get_num_threads()), numbers, 2 * numbers, size=size)
    first, second, used = zip(*parts, strict=True)
    assert torch.equal(torch.cat(first), numbers)
    assert torch.equal(torch.cat(second), 2 * numbers)
    lengths = [len(part) for part in first]
    assert max(lengths) <= size
    assert len(set(lengths[:-1])) <= 1  # only the last may be smaller
    assert set(used) == {1} or rows == 1
    assert torch.get_num_threads() == count


def test_chunks_are_worked_on_side_by_side(threads):
    threads(2)
    both = threading.Barrier(2)  # nobody passes alone
    assert in_chunks(lambda rows: both.wait(timeout=20) in (0, 1), torch.arange(2), size=1) == [True, True]


@pytest.mark.parametrize("enabled", [False, True])
def test_threads_compute_as_precisely_as_they_are_told(threads, enabled):
    threads(2)
    square = torch.ones(4, 4)
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        parts = in_chunks(lambda rows: rows @ square, torch.ones(8, 4), size=2)
    assert {part.dtype for part in parts} == {torch.bfloat16 if enabled else torch.float32}


def test_after_a_chunk_fails_the_threads_are_as_before(threads):
    threads(2)
    begun = []

    def work(rows):
        begun.append(rows.item())
        raise ValueError(f"row {rows.item()}")

    with pytest.raises(ValueError, match="row 0"):
        in_chunks(work, torch.arange(1000), size=1)
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 2
    assert len(begun) < 1000  # what has not begun is left


def test_results_do_not_depend_on_the_number_of_threads(threads):
    torch.manual_seed(0)
    model, images, labels = DigitCNN().eval(), torch.rand(9, 1, 28, 28), torch.arange(9)
    results = []
    for count in (1, 2):
        threads(count)
        attacked = pgd(model, images, labels, eps=0.1, alpha=0.05, steps=3)
        results.append((predict(model, images), occlusion_map(model, images, labels, patch=20, stride=4), attacked))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


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
    torch.save(foreign, checkpoint(batch_norm=True))
    before = checkpoint(batch_norm=True).read_bytes()
    with pytest.raises(ValueError, match=r"does not hold the weights of DigitCNN\(batch_norm=True\)"):
        load_cnn()
    assert checkpoint(batch_norm=True).read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", pickle.dumps([1, 2])])
@pytest.mark.usefixtures("elsewhere")
def test_damaged_network_is_refused(damage):
    checkpoint(batch_norm=True).write_bytes(damage)
    with pytest.raises(ValueError, match="does not hold the weights"):
        load_cnn()


def test_truncated_network_is_refused(elsewhere):
    whole = (elsewhere / "whole.pt", checkpoint(batch_norm=True))
    torch.save(DigitCNN(batch_norm=True).state_dict(), whole[0])
    whole[1].write_bytes(whole[0].read_bytes()[:100_000])
    with pytest.raises(ValueError, match="does not hold the weights"):
        load_cnn()


@pytest.mark.parametrize("place", [0, 20, 1_000_000, -200], ids=["first bytes", "header", "weights", "directory"])
def test_a_few_wrong_bytes_anywhere_are_found(elsewhere, place):
    path = checkpoint(batch_norm=True)
    torch.save(DigitCNN(batch_norm=True).state_dict(), path)
    content = bytearray(path.read_bytes())
    content[place : place + 50] = bytes(255 - byte for byte in content[place : place + 50])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cnn_batch_norm\.pt does not hold the weights.*git checkout"):
        load_cnn()
