"""How any network is run on many images: in which mode, in what chunks, and what it may be given."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from helpers.adversarial import pgd
from helpers.batches import check_images, check_labels, in_chunks, in_mode
from helpers.cnn import DigitCNN
from helpers.occlusion import occlusion_map
from helpers.training import predict


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.full((1, 1, 28, 28), 255.0), "0..255"),
        (torch.full((1, 1, 28, 28), -0.01), "-0.01"),
        (torch.full((1, 1, 28, 28), float("nan")), "nan"),
        (torch.zeros(0, 1, 28, 28), "none"),
        (torch.zeros(2, 28, 28), r"\(N, C, H, W\), got \(2, 28, 28\)"),
        (torch.zeros(2, 3, 0, 28), r"\(N, C, H, W\), got \(2, 3, 0, 28\)"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "torch.uint8"),
    ],
)
def test_images_outside_their_range_are_refused(images, said):
    with pytest.raises(ValueError, match=said):
        check_images(images)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.tensor([0, 10]), "0..9, got 0 to 10"),
        (torch.tensor([-1, 3]), "-1 to 3"),
        (torch.tensor([1]), r"\(1,\)"),
        (torch.tensor([1.0, 2.0]), "float32"),
        (torch.tensor([1, 2], dtype=torch.int32), "torch.int64, got .* torch.int32"),
        (torch.tensor(1), r"\(2,\) .* got \(\)"),
    ],
)
def test_labels_outside_their_range_are_refused(labels, said):
    with pytest.raises(ValueError, match=said):
        check_labels(labels, 2, classes=10)


@pytest.mark.parametrize("nothing", [None, [0.5], 1.0])
def test_what_is_no_tensor_is_told(nothing):
    with pytest.raises(TypeError, match=f"expected images as a tensor, got {type(nothing).__name__}"):
        check_images(nothing)
    with pytest.raises(TypeError, match=f"expected labels as a tensor, got {type(nothing).__name__}"):
        check_labels(nothing, 1)


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
