"""One idea of a device: networks and tensors stay where they are, helpers compute on the best one and give back."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import helpers.device
from helpers import answers, bounds
from helpers.activations import record
from helpers.adversarial import fgsm, pgd
from helpers.bounds import certified
from helpers.cnn import DigitCNN, LeNet
from helpers.device import VARIABLE, best_device, device_of, on_best_device
from helpers.fooling import adversarial_noise, fooling_images, targeted_images
from helpers.occlusion import occlusion_map, occlusion_winner
from helpers.training import accuracy, predict, train
from tests.helpers.gpu import GPU, Sent, There, here, on_gpu

IMAGES = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.arange(6)


def network(kind=LeNet):
    torch.manual_seed(0)
    return kind().double()


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU, imitated."""
    for module in (answers, bounds):
        monkeypatch.setattr(module, "on_best_device", on_gpu)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10_000_000, 80_000_000))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    with Sent():
        yield


HELPERS = {
    "accuracy": lambda model, x, y: torch.tensor(accuracy(model, x, y)),
    "adversarial_noise": lambda model, x, y: adversarial_noise(model, x, y, alpha=0.01, steps=2, eps=0.1),
    "certified": lambda model, x, y: certified(model, x, y, eps=1e-4),
    "fgsm": lambda model, x, y: fgsm(model, x, y, eps=0.1),
    "fooling_images": lambda model, x, y: fooling_images(
        model, y, alpha=0.01, steps=2, generator=torch.Generator().manual_seed(3), jitter=2, blur=0.5, total_variation=1
    )[0],
    "fooling_costs": lambda model, x, y: fooling_images(model, y, start=x, alpha=0.01, steps=2)[1],
    "occlusion_map": lambda model, x, y: occlusion_map(model, x, y, stride=7),
    "occlusion_winner": lambda model, x, y: occlusion_winner(model, x, stride=7),
    "pgd": lambda model, x, y: pgd(model, x, y, eps=0.1, alpha=0.02, steps=7, early_stop=True),
    "pgd_restarts": lambda model, x, y: pgd(
        model,
        x,
        y,
        eps=0.1,
        alpha=0.02,
        steps=2,
        random_start=True,
        restarts=2,
        generator=torch.Generator().manual_seed(3),
    ),
    "predict": lambda model, x, y: predict(model, x),
    "record": lambda model, x, y: record(model, x, ["0"])["0"],
    "targeted_images": lambda model, x, y: targeted_images(model, x, y, beta=1.0, alpha=0.01, steps=2)[0],
}


@pytest.mark.parametrize("away", [False, True], ids=["images on the processor", "images on the GPU"])
@pytest.mark.parametrize("name", HELPERS)
def test_helpers_compute_on_the_gpu_and_give_back_to_the_images(gpu, name, away):
    model, seen = network(), set()
    hook = model[0].register_forward_pre_hook(lambda module, inputs: seen.add(isinstance(inputs[0], There)))
    expected = HELPERS[name](model, IMAGES, LABELS)
    hook.remove()
    assert seen == {name != "record"}  # which opens the network where it is
    with pytest.MonkeyPatch.context() as plain:
        for module in (answers, bounds):
            plain.setattr(module, "on_best_device", on_best_device)
        on_processor = HELPERS[name](model, IMAGES, LABELS)
    assert torch.allclose(expected, on_processor)
    images, labels = (part.to(GPU) if away else part for part in (IMAGES, LABELS))
    result = HELPERS[name](model, images, labels)
    assert isinstance(result, There) == (away and name != "accuracy")
    assert torch.allclose(here(result), on_processor)


@pytest.mark.parametrize("name", HELPERS)
def test_helpers_compute_where_somebody_has_put_the_network(name):
    expected = HELPERS[name](network(), IMAGES, LABELS)
    model = network()
    with pytest.MonkeyPatch.context() as memory, on_gpu(model), Sent():
        memory.setattr(torch.cuda, "mem_get_info", lambda device: (10_000_000, 80_000_000))
        for about in ("memory_reserved", "memory_allocated"):
            memory.setattr(torch.cuda, about, lambda device: 0)
        result = HELPERS[name](model, IMAGES, LABELS)
        assert device_of(model, IMAGES) == GPU
    assert not isinstance(result, There)
    assert torch.allclose(result, expected)


def adversarial(model, images, labels, done):
    return F.cross_entropy(model(pgd(model, images, labels, eps=0.1, alpha=0.05, steps=2)), labels)


@pytest.mark.parametrize("loss", [None, adversarial])
def test_training_on_the_gpu_ends_with_the_same_weights_here(gpu, loss, tmp_path):
    options = {"epochs": 2, "seed": 1, "batch_size": 2, "loss": loss, "validation": (IMAGES, LABELS)}
    model, other = network(), network()
    weights = list(model.parameters())
    history = train(model, IMAGES, LABELS, **options)
    with pytest.MonkeyPatch.context() as plain:
        plain.setattr(answers, "on_best_device", on_best_device)
        expected = train(other, IMAGES, LABELS, **options)
    assert history.train_loss == pytest.approx(expected.train_loss)
    assert history.val_loss == pytest.approx(expected.val_loss)
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True))
    for mine, theirs in zip(weights, other.parameters(), strict=True):
        assert not isinstance(mine, There)
        assert torch.allclose(mine, theirs)


class Holding(nn.Sequential):
    """A network with a tensor of its own, in a list or not, beside its parameters and buffers."""

    def __init__(self, listed):
        super().__init__(nn.Flatten(), nn.Linear(784, 10).double())
        mean = torch.zeros(784, dtype=torch.float64)
        self.mean = [mean] if listed else mean

    def forward(self, images):
        return self[1](images.flatten(1) - (self.mean[0] if isinstance(self.mean, list) else self.mean))


def test_a_tensor_that_stays_behind_is_told(gpu):
    assert not isinstance(predict(Holding(listed=False), IMAGES), There)
    with pytest.raises(ValueError, match=r"lives on one device, here cuda:0: .* all tensors, or set COURSE_DEVICE"):
        predict(Holding(listed=True), IMAGES)


def test_a_loss_with_tensors_from_elsewhere_is_told_where_its_images_are(gpu):
    weight = torch.ones(10, dtype=torch.float64)

    def loss(model, images, labels, done):
        return F.cross_entropy(model(images), labels, weight=weight)

    with pytest.raises(RuntimeError, match="same device") as told:
        train(network(), IMAGES, LABELS, epochs=1, seed=0, loss=loss)
    assert told.value.__notes__ == [
        "The loss gets its images on cuda:0: make tensors there, by `device=images.device`."
    ]


# The move itself, with a copy on the processor in the GPU's place: `.data` takes no tensor that only says where it is.


@pytest.fixture
def moves(monkeypatch):
    """A best device to which weights are moved: here, but as other values in memory."""
    monkeypatch.setattr(helpers.device, "best_device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(
        helpers.device, "_there", lambda values, device: values.clone(memory_format=torch.contiguous_format)
    )


def test_weights_move_and_come_back_as_they_have_become(moves):
    model = DigitCNN(batch_norm=True)
    weights = [*model.parameters(), *model.buffers()]
    places = [weight.data_ptr() for weight in weights]
    with on_best_device(model):
        assert not {weight.data_ptr() for weight in weights} & set(places)
        assert model.conv2.weight.is_contiguous()
        model(torch.rand(2, 1, 28, 28)).sum().backward()  # train mode: the averages of batch norm change as well
        with torch.no_grad():
            for weight in model.parameters():
                weight += 1
        after = [weight.clone() for weight in weights]
    assert [weight.data_ptr() for weight in weights] == places
    assert all(torch.equal(weight, value) for weight, value in zip(weights, after, strict=True))
    assert model.bn1.num_batches_tracked == 1
    assert model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(weight.grad is not None for weight in model.parameters())
    torch.optim.SGD(model.parameters(), 0.1).step()  # gradients are where the weights are


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_weights_come_back_after_an_exception_and_in_every_mode(moves, mode):
    model = LeNet()
    before = {name: (weight.data_ptr(), weight.clone()) for name, weight in model.named_parameters()}

    def fails():
        with mode(), on_best_device(model):
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fails()
    for name, weight in model.named_parameters():
        assert weight.data_ptr() == before[name][0]
        assert torch.equal(weight, before[name][1])
    model(torch.rand(1, 1, 28, 28)).sum().backward()  # still weights that learn


def test_weights_come_back_when_the_gpu_is_full(moves, monkeypatch):
    model, taken = LeNet(), []

    def there(values, device):
        taken.append(values)
        if len(taken) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return values + 0

    monkeypatch.setattr(helpers.device, "_there", there)
    before = [weight.data_ptr() for weight in model.parameters()]
    with pytest.raises(torch.OutOfMemoryError):
        predict(model, IMAGES.float())
    assert [weight.data_ptr() for weight in model.parameters()] == before


def test_an_optimizer_and_a_graph_go_on_after_it(moves):
    model, other = LeNet(), LeNet()
    other.load_state_dict(model.state_dict())
    for network, moved in ((model, True), (other, False)):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
        for _ in range(3):
            loss = network(IMAGES.float()).square().sum()
            if moved:
                fgsm(network, IMAGES.float(), LABELS, eps=0.1)  # between forward and backward
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("where", [0, 2])  # before and after the weight
def test_what_shares_memory_stays_and_learns_all_the_same(moves, where):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Identity())
    model[where].register_buffer("view", model[1].weight.detach().T)
    before = model[1].weight.detach().clone()
    train(model, IMAGES.float(), LABELS, epochs=1, seed=0, batch_size=2)
    assert not torch.equal(model[1].weight, before)
    assert torch.equal(model[where].view.T, model[1].weight)


def test_two_names_of_one_weight_move_as_one(moves):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 784), nn.Linear(784, 784), nn.Linear(784, 10))
    model[2].weight = model[1].weight
    with on_best_device(model), torch.no_grad():
        model[1].weight += 1
        after = model[2].weight.clone()
    assert model[1].weight is model[2].weight
    assert torch.equal(model[1].weight, after)


def test_a_buffer_that_is_expanded_or_put_anew_comes_back(moves):
    model = LeNet()
    model.register_buffer("mean", torch.tensor([0.13]).expand(784))
    model.register_buffer("seen", torch.zeros(1))
    with on_best_device(model):
        assert model.mean.stride() == (1,)
        model.seen = model.seen + 1  # not in place
    assert model.mean.stride() == (0,)
    assert model.seen.item() == 1


def test_what_was_put_on_the_gpu_meanwhile_comes_back(monkeypatch):
    monkeypatch.setattr(helpers.device, "best_device", lambda: GPU)
    monkeypatch.setattr(helpers.device, "_there", lambda values, device: values.clone())
    model = LeNet()
    with on_best_device(model):
        model.kept = torch.zeros(2, device="meta")  # as a forward may; on a device that is not the processor
        monkeypatch.setattr(Tensor, "to", lambda tensor, device: torch.ones(2) if tensor.is_meta else tensor)
    assert torch.equal(model.kept, torch.ones(2))


def test_weights_come_back_when_copying_them_is_interrupted(moves, monkeypatch):
    model, copied = LeNet(), []
    before = [weight.data_ptr() for weight in model.parameters()]

    def interrupted(values, new):
        copied.append(values)
        if len(copied) == 3:
            raise KeyboardInterrupt
        return False

    def work():
        with on_best_device(model):
            pass

    monkeypatch.setattr(torch, "equal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert [weight.data_ptr() for weight in model.parameters()] == before


def test_gradients_left_on_the_weights_do_no_harm(gpu):
    """A loss that goes backward itself, by hand, after an earlier training has left gradients here."""

    def loss(model, images, labels, done):
        x = images.clone().requires_grad_()
        F.cross_entropy(model(x), labels).backward()
        return F.cross_entropy(model(x.detach() + 0.1 * x.grad.sign()), labels)

    model = network()
    F.cross_entropy(model(IMAGES), LABELS).backward()
    assert len(train(model, IMAGES, LABELS, epochs=1, seed=0, loss=loss).train_loss) == 1


def test_an_ensemble_of_networks_here_and_there_is_on_the_best_device_meanwhile(moves, monkeypatch):
    monkeypatch.setattr(helpers.device, "best_device", lambda: torch.device("meta"))
    model = nn.ModuleList([LeNet(), LeNet().to("meta")])  # the second is being trained, and others take it home
    before = model[0][0].weight.data_ptr()
    with on_best_device(model):
        assert model[0][0].weight.data_ptr() != before
    assert model[0][0].weight.data_ptr() == before
    assert model[1][0].weight.is_meta


def packed():
    model = LeNet()
    model[7]._packed_params = None  # by which a quantized layer is known
    return model


def by_its_method():
    model = LeNet()
    model._compiled_call_impl = model._call_impl  # as `model.compile()` leaves it
    return model


def in_inference_mode():
    with torch.inference_mode():
        return LeNet()


def scripted():
    return torch.jit.trace(LeNet(), torch.rand(1, 1, 28, 28))


def compiled():
    model = LeNet()
    model._orig_mod = None  # by which a compiled module is known
    return model


@pytest.mark.parametrize(
    ("make", "device"),
    [
        (scripted, "cuda"),
        (compiled, "cuda"),
        (by_its_method, "cuda"),
        (packed, "cuda"),
        (in_inference_mode, "cuda"),
        (lambda: LeNet().to("meta"), "cuda"),  # somebody has put it elsewhere
        (lambda: LeNet().double(), "mps"),  # which has no float64
        (nn.LazyLinear, "cuda"),
        (LeNet, "cpu"),
    ],
    ids=[
        "scripted",
        "compiled",
        "compiled by its method",
        "quantized",
        "inference",
        "elsewhere",
        "float64 on MPS",
        "not made yet",
        "the processor is the best",
    ],
)
@pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)  # of what is new or old in PyTorch
def test_what_cannot_move_stays(monkeypatch, make, device):
    monkeypatch.setattr(helpers.device, "best_device", lambda: torch.device(device))
    model = make(10) if make is nn.LazyLinear else make()
    monkeypatch.setattr(helpers.device, "_there", lambda values, device: pytest.fail("it was moved"))
    with on_best_device(model):
        pass


def test_within_autocast_for_the_processor_it_stays(moves):
    model = LeNet()
    before = model[0].weight.data_ptr()
    with torch.autocast("cpu", dtype=torch.bfloat16), on_best_device(model):
        assert model[0].weight.data_ptr() == before


def test_training_under_autocast_learns():
    """The cache of autocast has weights as they were."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = train(LeNet(), IMAGES.float(), LABELS, epochs=120, seed=0, max_lr=0.01).train_loss
    assert losses[-1] < losses[0] / 2  # bfloat16 has three digits, and processors round them differently


def test_float32_moves_to_mps(moves, monkeypatch):
    monkeypatch.setattr(helpers.device, "best_device", lambda: torch.device("mps"))
    model = LeNet()
    before = model[0].weight.data_ptr()
    with on_best_device(model):
        assert model[0].weight.data_ptr() != before


def test_another_thread_waits_until_the_network_is_back(moves):
    model, inside, end, seen = LeNet(), threading.Event(), threading.Event(), []
    before = model[0].weight.data_ptr()

    def attack():
        with answers.asking(model):
            inside.set()
            end.wait(60)

    def ask():
        with answers.asking(model):
            seen.append(model[0].weight.data_ptr())

    first, second = threading.Thread(target=attack), threading.Thread(target=ask)
    first.start()
    assert inside.wait(60)
    second.start()
    second.join(0.3)
    assert not seen  # it waits
    end.set()
    first.join(60)
    second.join(60)
    assert model[0].weight.data_ptr() == before
    assert len(seen) == 1


def test_a_network_is_where_its_weights_are():
    assert device_of(DigitCNN().to("meta"), IMAGES).type == "meta"
    assert device_of(nn.Flatten(), IMAGES).type == "cpu"


# Which device is the best.


@pytest.fixture
def asked(monkeypatch):
    """A function that sets COURSE_DEVICE, or takes it away; each time the device is looked for anew."""
    helpers.device._device.cache_clear()
    yield lambda name: monkeypatch.setenv(VARIABLE, name) if name else monkeypatch.delenv(VARIABLE, raising=False)
    helpers.device._device.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card here")
def test_without_a_gpu_the_processor_is_the_best(asked):
    asked(None)
    assert best_device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["cpu", " CPU"])
def test_the_variable_says_which(asked, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked(name)
    assert best_device() == torch.device("cpu")


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_a_device_is_tried_in_every_mode(asked, monkeypatch, mode):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    plain = torch.device
    monkeypatch.setattr(torch, "device", lambda name: plain("cpu" if name == "cuda" else name))
    asked(None)
    with mode():
        assert best_device() == plain("cpu")  # which stands in for it, without a warning
    assert not torch.backends.cudnn.allow_tf32  # full float32


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:99", "cpu,cuda"])
def test_a_device_that_does_not_work_is_refused(asked, name):
    asked(name)
    with pytest.raises(ValueError, match=rf"expected COURSE_DEVICE to be a device that works here.* got '{name}': \w"):
        best_device()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card here")
def test_a_gpu_that_does_not_work_is_told_once(asked, monkeypatch):
    asked(None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.warns(UserWarning, match="the GPU cannot compute, so the processor does") as told:
        assert best_device() == best_device() == torch.device("cpu")
    assert len(told) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA card here")
@pytest.mark.parametrize("name", HELPERS)
def test_on_a_gpu_that_is_there(asked, name):
    asked("cpu")
    expected = HELPERS[name](network(), IMAGES, LABELS)
    asked(None)
    for home in ("cpu", "cuda"):
        result = HELPERS[name](network(), IMAGES.to(home), LABELS.to(home))
        assert result.device.type == ("cpu" if name == "accuracy" else home)
        assert torch.allclose(result.cpu(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA card here")
@pytest.mark.parametrize("loss", [None, adversarial])
def test_training_on_a_gpu_that_is_there(asked, loss, tmp_path):
    options = {"epochs": 2, "seed": 1, "batch_size": 2, "loss": loss, "validation": (IMAGES, LABELS)}
    model, other = network(), network()
    asked(None)
    history = train(model, IMAGES, LABELS, **options, resume=tmp_path / "begun.pt")
    asked("cpu")
    expected = train(other, IMAGES, LABELS, **options)
    assert history.train_loss == pytest.approx(expected.train_loss)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert mine.device.type == mine.grad.device.type == "cpu"
        assert torch.allclose(mine, theirs)
