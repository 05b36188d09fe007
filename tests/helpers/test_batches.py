"""How any network is run on many images: in which mode, in what chunks, and what it may be given."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from helpers.adversarial import fgsm, pgd
from helpers.batches import images_at_once, in_chunks, in_mode
from helpers.cnn import DigitCNN
from helpers.fooling import adversarial_noise, fooling_images, targeted_images
from helpers.occlusion import occlusion_map
from helpers.training import accuracy, predict, train
from tests.helpers.toys import toy


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


COLOUR, OBLONG = (3, 32, 32, 5), (1, 20, 30, 3)  # channels, height, width, classes
USES = {
    "predict": lambda m, x, y: predict(m, x),
    "fgsm": lambda m, x, y: fgsm(m, x, y, eps=0.1),
    "pgd": lambda m, x, y: pgd(m, x, y, eps=0.1, alpha=0.03, steps=7, early_stop=True),
    "fooling_images": lambda m, x, y: fooling_images(m, y, alpha=0.05, steps=2, start=x, total_variation=1.0)[0],
    "targeted_images": lambda m, x, y: targeted_images(m, x, y, beta=10, alpha=0.05, steps=2)[0],
    "adversarial_noise": lambda m, x, y: adversarial_noise(m, x, y, alpha=0.05, steps=2, eps=0.1),
}
uses = pytest.mark.parametrize("use", USES.values(), ids=USES)


@pytest.fixture(params=[COLOUR, OBLONG], ids=["3x32x32", "1x20x30"])
def anything(request):
    """A model of another shape than the course's, four images and their labels, the last class among them."""
    channels, height, width, classes = request.param
    images = torch.rand(4, channels, height, width, generator=torch.Generator().manual_seed(0))
    return toy(*request.param), images, torch.tensor([0, 1, 2, classes - 1])


@uses
def test_any_classifier_of_images_will_do(use, anything):
    model, images, labels = anything
    before = images.clone()
    result = use(model, images, labels)
    assert result.shape == images.shape or result.shape == (4, int(labels[-1]) + 1)
    alone = torch.cat([use(model, x, y) for x, y in zip(images.split(1), labels.split(1), strict=True)])
    torch.testing.assert_close(alone, result, rtol=0, atol=1e-4)
    assert torch.equal(images, before)
    assert model.training


def test_any_classifier_learns_and_is_fooled(anything):
    model, images, labels = anything
    assert train(model, images, labels, epochs=30, seed=0, validation=(images, labels)).val_accuracy[-1] == 1
    assert accuracy(model, images, labels) == 1
    assert accuracy(model, pgd(model, images, labels, eps=0.5, alpha=0.1, steps=20), labels) < 1


@uses
def test_images_may_come_as_peers_take_them(use, anything):
    """With a gradient, in another layout, as a view, from a model that is scripted or compiled."""
    model, images, labels = anything
    model.eval()
    expected = use(model, images, labels)
    wide = torch.zeros(4, *images.shape[1:3], 2 * images.shape[3])
    wide[..., ::2] = images
    given = {
        "with a gradient": images.clone().requires_grad_(),
        "channels last": images.to(memory_format=torch.channels_last),
        "a view": wide[..., ::2],
    }
    for name, other in given.items():
        result = use(model, other, labels)
        assert not result.requires_grad, name
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-4, msg=name)
    assert given["with a gradient"].grad is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own: scripting is deprecated, and compiling looks at a gradient
        for other in (torch.jit.script(model), torch.compile(model, backend="eager")):
            torch.testing.assert_close(use(other, images, labels), expected, rtol=0, atol=1e-4)


@uses
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-4), (torch.float16, 0.05)])
def test_images_and_model_may_have_another_type(use, dtype, close, anything):
    model, images, labels = anything
    images = images.half().float()
    expected = use(model, images, labels).double()
    result = use(model.to(dtype), images.to(dtype), labels)
    assert result.dtype == dtype
    assert (result.double() - expected).abs().mean() < close
    with pytest.raises(ValueError, match=f"expected images of the model's {dtype}, got torch.float32"):
        use(model, images, labels)


@uses
def test_a_model_may_normalise_in_place(use, anything):
    class InPlace(nn.Module):
        def __init__(self, model, copies):
            super().__init__()
            self.model, self.copies = model, copies

        def forward(self, images):
            images = images.clone() if self.copies else images
            return self.model(images.sub_(0.5).div_(0.25))

    model, images, labels = anything
    before = images.clone()
    result = use(InPlace(model, copies=False), images, labels)
    assert torch.equal(images, before)
    assert torch.equal(result, use(InPlace(model, copies=True), images, labels))


@uses
def test_labels_beyond_the_models_classes_are_refused(use, anything):
    model, images, labels = anything
    classes = int(labels[-1]) + 1
    if use is not USES["predict"]:
        with pytest.raises(ValueError, match=rf"labels in 0..{classes - 1}, got 1 to {classes}"):
            use(model, images, labels + 1)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, torch.tensor])
def test_numbers_may_be_those_of_numpy_and_torch(kind):
    model, images, labels = toy(1, 28, 28, 10), torch.rand(2, 1, 28, 28), torch.tensor([1, 2])
    whole = np.int64 if kind in (np.float32, np.float64) else kind
    found = pgd(model, images, labels, eps=kind(0.25), alpha=kind(0.125), steps=whole(3))
    assert torch.equal(found, pgd(model, images, labels, eps=0.25, alpha=0.125, steps=3))
    history = train(model, images, labels, epochs=whole(1), seed=0, max_lr=kind(0.0), label_smoothing=kind(0.5))
    assert len(history.train_loss) == 1


class Merges(nn.Linear):
    """A layer that adds a correction to its weights in eval mode, and takes it out in train mode."""

    def __init__(self):
        super().__init__(784, 10)
        self.merged = False

    def train(self, mode: bool = True):
        if self.merged == mode:
            self.merged = not mode
            with torch.no_grad():
                self.weight += 1 if self.merged else -1
        return super().train(mode)


@pytest.mark.parametrize("training", [False, True])
def test_a_layer_that_overrides_train_is_told_both_times(training):
    model = nn.Sequential(nn.Flatten(), Merges()).train(training)
    assert model[1].merged != training
    with in_mode(model, training=not training):
        assert model[1].merged == training
    assert model[1].merged != training
    assert model[1].training == training


def test_mixed_modes_are_restored_also_of_a_part_of_two_modules():
    part = Merges()
    first, second = nn.Sequential(part), nn.Sequential(nn.Dropout(), part)
    model = nn.Sequential(first, second).train()
    second.eval()
    part.train()
    before = [module.training for module in model.modules()]
    assert before == [True, True, True, False, False]
    for training in (False, True):
        with in_mode(model, training=training):
            assert {module.training for module in model.modules()} == {training}
        assert [module.training for module in model.modules()] == before
        assert not part.merged


def test_threads_that_predict_leave_mode_and_statistics_as_found():
    class Slow(DigitCNN):
        """Every thread is in the middle of its predictions while another one comes or goes."""

        def forward(self, images):
            threading.Event().wait(0.01)
            return super().forward(images)

    torch.manual_seed(0)
    model, images = Slow(batch_norm=True).train(), torch.rand(40, 1, 28, 28)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda start: predict(model, images[start:]), [0, 10, 20] * 4))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for start, result in zip([0, 10, 20] * 4, results, strict=True):
        torch.testing.assert_close(result, results[0][start:])


class Around(nn.Module):
    """Another model around the same network, slow enough that threads meet in it."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        threading.Event().wait(0.01)
        return self.net(images)


def test_threads_that_predict_with_models_around_one_network_leave_it_as_found():
    torch.manual_seed(0)
    net, images = DigitCNN(batch_norm=True).train(), torch.rand(40, 1, 28, 28)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    expected = predict(net, images)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda model: predict(model, images), [Around(net) for _ in range(12)]))
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    for result in results:
        torch.testing.assert_close(result, expected)


def within(seconds, work):
    """What the work returns, in a thread that may take so long."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "it waits for ever, or failed"
    return found[0]


@pytest.mark.parametrize("count", [1, 2])
def test_a_model_may_predict_with_its_parts(threads, count):
    class Together(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([DigitCNN(batch_norm=True), DigitCNN()])

        def forward(self, images):
            return torch.stack([predict(part, images) for part in self.parts]).mean(0).log()

    threads(count)
    torch.manual_seed(0)
    model, images = Together().train(), torch.rand(8, 1, 28, 28)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected = (predict(model.parts[0], images) + predict(model.parts[1], images)) / 2
    torch.testing.assert_close(within(60, lambda: predict(model, images)), expected)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_models_of_their_own_do_not_wait_for_each_other():
    begun, end = threading.Event(), threading.Event()

    class Waits(DigitCNN):
        def forward(self, images):
            begun.set()
            assert end.wait(60)
            return super().forward(images)

    images = torch.rand(2, 1, 28, 28)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(predict, Waits(), images)
        assert begun.wait(60)
        assert within(60, lambda: predict(DigitCNN(), images)).shape == (2, 10)
        assert not slow.done()
        end.set()
        assert slow.result().shape == (2, 10)


def test_chunks_are_worked_on_where_they_are_sent(threads):
    threads(2)  # a meta tensor stands in for one on a GPU, which takes one chunk at a time
    sent = []

    def work(rows):
        sent.append((rows.device.type, len(rows), threading.current_thread()))
        return len(rows)

    assert in_chunks(work, torch.arange(7), size=4, device=torch.device("meta")) == [4, 3]
    assert sent == [("meta", count, threading.main_thread()) for count in (4, 3)]


def test_a_gpu_takes_what_its_free_memory_holds(monkeypatch):
    images = torch.zeros(2, 1, 28, 28)  # 3,136 bytes each
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30_000_000_000, 80_000_000_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2_000_000_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1_000_000_000)
    assert images_at_once(images, gpu, "attack") == 31_000_000_000 // 3_136_000
    assert images_at_once(torch.zeros(2, 3, 4000, 4000), gpu, "attack") == 64
    assert images_at_once(images, torch.device("cpu"), "attack") == 64
