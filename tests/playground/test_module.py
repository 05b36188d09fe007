"""The playground's module against PyTorch and the helpers, run by node, which nothing else of the course needs."""

import copy
import json
import shutil
import subprocess
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.adversarial import fgsm, pgd
from helpers.cnn import DigitCNN, load_cnn
from helpers.data import load_mnist
from helpers.occlusion import occlusion_map
from helpers.play import CLASSES, module, networks, packed, ten_digits
from tests.playground.strokes import DRAWN

ASKED, ATTACKED, COVERED = 200, 20, 2  # images
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="the module is not compared with PyTorch: there is no node")
VARIANTS = {"usual": True, "plain": False}  # with and without batch norm


def parameters(model: DigitCNN) -> list[torch.Tensor]:
    return [part for layer in (model.conv1, model.conv2, model.fc1, model.fc2) for part in (layer.weight, layer.bias)]


def unpacked(weights: bytes, kind: str = "<f2") -> DigitCNN:
    """Return the network that the packed weights are, in float64."""
    model, values = DigitCNN().double().requires_grad_(False), torch.from_numpy(np.frombuffer(weights, kind).copy())
    parts = parameters(model)
    for part, piece in zip(parts, values.double().split([part.numel() for part in parts]), strict=True):
        part.copy_(piece.view(part.shape))
    return model.eval()


def ask(folder: Path, files: dict[str, bytes], questions: list[list]) -> list:
    """Return what the module answers; `ask.mjs` says what can be asked."""
    for name, content in (
        files | {"module.mjs": module().encode(), "ask.json": json.dumps(questions).encode()}
    ).items():
        (folder / name).write_bytes(content)
    script = Path(__file__).with_name("ask.mjs")
    done = subprocess.run([NODE, script, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "answer.json").read_text())


@pytest.fixture(scope="module")
def images():
    everything, labels = load_mnist(train=False)
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))[:ASKED]
    return everything[drawn].double(), labels[drawn]


@pytest.fixture(scope="module")
def files():
    """The weights of both networks, in float16 as they are packed, and in float32."""
    models = {name: load_cnn(batch_norm) for name, batch_norm in VARIANTS.items()}
    wide = {f"{name}.f32": folded(model).numpy().tobytes() for name, model in models.items()}
    return {name: packed(model) for name, model in models.items()} | wide


@pytest.fixture(scope="module")
def answers(tmp_path_factory, images, files):
    """What each network of the module says of each image: logits (N, 10), gradients (N, 784), probs (N, 10), labels."""
    pairs = list(zip(pixels(images[0]), images[1].tolist(), strict=True))
    asked = [["both", name, *pair] for name in files for pair in pairs]
    found = iter(ask(tmp_path_factory.mktemp("node"), files, asked))
    by_name = {name: zip(*islice(found, ASKED), strict=True) for name in files}
    return {name: [torch.tensor(part, dtype=torch.float64) for part in parts] for name, parts in by_name.items()}


def pixels(images: torch.Tensor) -> list[list[float]]:
    return images.flatten(1).tolist()


def folded(model: DigitCNN) -> torch.Tensor:
    """Return the weights in float32, batch norm folded by another route: from what unit images become."""
    model = copy.deepcopy(model).double()
    parts = parameters(model)
    for at, conv, norm in ((0, model.conv1, model.bn1), (2, model.conv2, model.bn2)):
        conv.padding = (0, 0)
        units = torch.eye(conv.in_channels * 9).double().view(-1, conv.in_channels, 3, 3)
        bias = norm(conv(torch.zeros_like(units[:1])))[0, :, 0, 0]  # (32,)
        parts[at] = (norm(conv(units))[:, :, 0, 0] - bias).T
        parts[at + 1] = bias
    return torch.cat([part.flatten() for part in parts]).float()


class FirstPool(torch.nn.Module):
    """2 x 2 max-pooling whose gradient goes to the first of those equal but for rounding, as the module's does.

    Above the background many are equal, and torch rounds them differently at different places.
    """

    def forward(self, x):
        windows = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)  # (N, C, H / 2, W / 2, 4)
        largest = windows >= windows.amax(4, keepdim=True) - 1e-12
        first = largest & (largest.cumsum(4) == 1)
        return windows[first].view(first.shape[:4])


def gradients(model, images, labels):
    images, model = images.clone().requires_grad_(), copy.deepcopy(model)
    model.pool1 = model.pool2 = FirstPool()
    logits = model(images)
    own = torch.nn.functional.one_hot(labels, CLASSES).bool()
    losses = logits.masked_fill(own, -torch.inf).logsumexp(1) - logits[own]
    return torch.autograd.grad(losses.sum(), images)[0].flatten(1)


@pytest.mark.parametrize("name", [*VARIANTS, *(f"{name}.f32" for name in VARIANTS)])
def test_the_same_weights_give_the_same_answer_and_gradient(answers, images, files, name):
    model = unpacked(files[name], "<f4" if name.endswith(".f32") else "<f2")
    logits, slopes, probs, labels = answers[name]
    wanted = model(images[0])
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-9)
    torch.testing.assert_close(probs, wanted.softmax(1), rtol=0, atol=1e-9)
    assert (labels == wanted.argmax(1)).all()
    torch.testing.assert_close(slopes, gradients(model, *images), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_batch_norm_is_folded_away(answers, images, name):
    model = load_cnn(VARIANTS[name]).double()
    logits, slopes, *_ = answers[f"{name}.f32"]
    torch.testing.assert_close(logits, model(images[0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(slopes, gradients(model, *images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_float16_changes_little_and_no_label(answers, images, name):
    found, *_, labels = answers[name]
    wanted = load_cnn(VARIANTS[name]).double()(images[0])
    assert (labels == wanted.argmax(1)).all()
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)


def test_maps_and_occlusion_maps_are_the_helpers(tmp_path, images, files):
    model, (some, labels) = unpacked(files["usual"]), (images[0][:COVERED], images[1][:COVERED])
    asked = [["maps", "usual", image] for image in pixels(some)]
    asked += [["occlusion", "usual", *pair] for pair in zip(pixels(some), labels.tolist(), strict=True)]
    found = ask(tmp_path, files, asked)
    first = model.conv1(some).relu()
    second = model.conv2(model.pool1(first)).relu()
    for part, wanted in enumerate((first, second)):
        maps = torch.tensor([maps[part] for maps in found[:COVERED]], dtype=torch.float64)
        torch.testing.assert_close(maps, wanted.flatten(1), rtol=0, atol=1e-9)
    covered = torch.tensor(found[COVERED:], dtype=torch.float64)
    torch.testing.assert_close(covered, occlusion_map(model, some, labels).flatten(1), rtol=0, atol=1e-9)


ATTACKS = {"fgsm": (0.3, 1, False), "pgd": (0.15, 10, False), "targeted": (0.2, 5, True)}  # eps, steps, targeted


@pytest.mark.parametrize("kind", ATTACKS)
def test_attacks_are_the_helpers(tmp_path, images, files, kind):
    model, (some, labels) = unpacked(files["usual"]), (images[0][:ATTACKED], images[1][:ATTACKED])
    eps, steps, targeted = ATTACKS[kind]
    towards = (labels + 3) % CLASSES if targeted else labels
    targets = towards.tolist() if targeted else [None] * ATTACKED
    asked = [
        ["attack", "usual", image, {"label": label, "target": target, "eps": eps, "steps": steps}]
        for image, label, target in zip(pixels(some), labels.tolist(), targets, strict=True)
    ]
    found = torch.tensor(ask(tmp_path, files, asked), dtype=torch.float64)
    if kind == "fgsm":
        wanted = fgsm(model, some, labels, eps=eps).flatten(1)
    else:
        alpha = 2.5 * eps / steps
        wanted = pgd(model, some, towards, eps=eps, alpha=alpha, steps=steps, targeted=targeted).flatten(1)
    other = (found - wanted).abs() > 1e-9
    assert other.double().mean() < 1e-3  # where a gradient is 0 but for rounding, its sign may be either
    assert (model(found.view_as(some)).argmax(1) == model(wanted.view_as(some)).argmax(1)).all()
    assert (model(found.view_as(some)).argmax(1) != labels).double().mean() > 0.3


def test_every_float16_is_read_as_it_is(tmp_path):
    bits = np.arange(2**16, dtype="<u2")
    bits = bits[np.isfinite(bits.view("<f2"))]
    (found,) = ask(tmp_path, {"all": bits.tobytes()}, [["read", "all"]])
    assert np.array_equal(np.array(found), bits.view("<f2").astype(float))


def test_weights_of_a_wrong_length_or_with_nan_are_refused(tmp_path):
    whole = packed(load_cnn())
    broken = whole[:-2] + np.float16("nan").tobytes()
    files = {"short": whole[:-2], "nan": broken, "short.f32": whole[:-4], "whole": whole}
    said = ask(tmp_path, files, [["refused", name] for name in files])
    assert said[0] == "expected 1598156 bytes of weights (799078 float16), got 1598154"
    assert "NaN" in said[1]
    assert said[2].startswith("expected 799078 weights")
    assert said[3] == "accepted"


def test_digits_drawn_in_many_ways_are_read(tmp_path):
    files = {f"{n}": packed(model) for n, model in enumerate(networks().values())}
    drawn = ask(tmp_path, files, [["digit", strokes] for _, strokes in DRAWN])
    images = torch.tensor(drawn).view(-1, 1, 28, 28)
    read = load_cnn()(images).argmax(1).tolist()
    wrong = [(digit, seen) for (digit, _), seen in zip(DRAWN, read, strict=True) if digit != seen]
    assert len(DRAWN) == 20
    assert len(wrong) <= 2, f"drawn and read: {wrong}"


def test_a_drawing_is_placed_as_mnist_places_its_digits(tmp_path):
    """Wherever and however large it was drawn: 20 pixels, the centre of mass where MNIST's are, 256 greys."""
    asked = [["digit", [[[x + size * a, y + size * b] for a, b in ((0, 0), (0.3, 0), (0.2, 1))]]] for x, y, size in
             ((0.1, 0.1, 0.8), (0.5, 0.6, 0.3), (0, 0, 0.25))]  # fmt: skip
    nothing, dot, *images = torch.tensor(ask(tmp_path, {}, [["digit", []], ["digit", [[[0.2, 0.9]]]], *asked]))
    assert nothing.sum() == 0
    assert 3 < dot.sum() < 12
    middle = torch.arange(28) + 0.5
    mnist = load_mnist(train=False)[0].squeeze(1)
    typical = (mnist.sum(1) @ middle / mnist.sum((1, 2))).mean()
    for image in (image.view(28, 28) for image in images):
        rows = (image > 0.5).any(1).nonzero()
        assert rows.max() - rows.min() + 1 in (19, 20, 21)
        assert abs(image.sum(0) @ middle / image.sum() - typical) < 0.1
        assert abs(image.sum(1) @ middle / image.sum() - typical) < 0.1
        torch.testing.assert_close((image * 255).round() / 255, image, rtol=0, atol=1e-6)
        torch.testing.assert_close(image, images[0].view(28, 28), rtol=0, atol=0.02)


def test_lines_are_20_pixels_long_and_2_6_wide(tmp_path):
    """The pen's ends count. Ink fades over a pixel, so that the sum along a line's middle is its length, exactly."""
    asked = [["digit", [[[0.1 + x, 0.2], [0.1 + x, 0.2 + size]]]] for x, size in ((0, 0.8), (0.7, 0.3))]
    asked += [["digit", [[[0.2, y], [0.2 + size, y]]]] for y, size in ((0.1, 0.8), (0.9, 0.25))]
    down, shorter, across, narrower = torch.tensor(ask(tmp_path, {}, asked)).view(-1, 28, 28)
    for image in (down, shorter, across.T, narrower.T):
        assert image[:, 14].sum() == pytest.approx(20, abs=0.02)
        assert image[14].sum() == pytest.approx(2.6, abs=0.02)


def test_ten_digits_are_read_rightly_by_every_network():
    digits = ten_digits().view(-1, 1, 28, 28) / 255
    for name, model in networks().items():
        assert model(digits).argmax(1).tolist() == list(range(CLASSES)), name
