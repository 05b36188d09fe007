"""The course's attacks and occlusion maps against other people's libraries; `make peers` installs those."""

import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.adversarial import fgsm, pgd
from helpers.cnn import load_cnn
from helpers.data import load_mnist
from helpers.occlusion import occlusion_map
from helpers.training import accuracy
from tools.bench.occlusion import mean_drop

PEERS = Path(__file__).resolve().parents[2] / "build" / "peers"
PATCH = 7


def peer(name: str):
    """Import a library from build/peers, behind everything the course itself uses; skip the test if it is not there."""
    if not (PEERS / "ready").is_file():
        pytest.skip(f"not compared with {name}: run `make peers` first")
    if str(PEERS) not in sys.path:
        sys.path.append(str(PEERS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at import, of things that are not ours to mend
        return import_module(name)


@pytest.fixture(scope="module")
def network():
    return load_cnn()


@pytest.fixture(scope="module")
def digits():
    images, labels = load_mnist(train=False)
    return images[:200], labels[:200]


class Doubtful(nn.Module):
    """The network in float64 with logits a fifth as large: there the peers' cross-entropy is not rounded away."""

    def __init__(self):
        super().__init__()
        self.network = load_cnn().double()

    def forward(self, images):
        return self.network(images) / 5


@pytest.fixture(scope="module")
def doubtful():
    return Doubtful()


@pytest.fixture(scope="module")
def precise(digits):
    return digits[0].double(), digits[1]


@pytest.mark.parametrize("eps", [0.1, 0.3])
def test_fgsm_is_that_of_torchattacks(doubtful, precise, eps):
    theirs = peer("torchattacks").FGSM(doubtful, eps=eps)(*precise)
    torch.testing.assert_close(fgsm(doubtful, *precise, eps=eps), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("eps", "steps", "count"), [(0.1, 10, 64), (0.3, 40, 16)])
def test_pgd_is_that_of_torchattacks(doubtful, precise, eps, steps, count):
    images, labels = precise[0][:count], precise[1][:count]
    theirs = peer("torchattacks").PGD(doubtful, eps=eps, alpha=0.01, steps=steps, random_start=False)(images, labels)
    ours = pgd(doubtful, images, labels, eps=eps, alpha=0.01, steps=steps)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_targeted_pgd_is_that_of_torchattacks(doubtful, precise):
    images, labels = precise[0][:30], precise[1][:30]
    targets = (labels + 1) % 10
    attack = peer("torchattacks").PGD(doubtful, eps=0.2, alpha=0.02, steps=10, random_start=False)
    attack.set_mode_targeted_by_label(quiet=True)
    # One image at a time: theirs divides the gradient by the batch's size, which can underflow to a sign of 0.
    theirs = torch.cat([attack(*pair) for pair in zip(images.split(1), targets.split(1), strict=True)])
    ours = pgd(doubtful, images, targets, eps=0.2, alpha=0.02, steps=10, targeted=True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_where_the_network_is_sure_the_peers_lose_the_gradient(network, digits):
    """In float32: equality with them would prove a fault."""
    theirs = peer("torchattacks").FGSM(network, eps=0.3)(*digits)
    left = accuracy(network, fgsm(network, *digits, eps=0.3), digits[1])
    assert accuracy(network, theirs, digits[1]) > left + 0.1


@pytest.mark.parametrize("eps", [0.05, 0.15])
def test_attacks_succeed_where_those_of_foolbox_do(doubtful, precise, eps):
    images, labels = precise[0][:24], precise[1][:24]
    foolbox = peer("foolbox")
    victim = foolbox.PyTorchModel(doubtful.eval(), bounds=(0, 1), device="cpu")
    attacks = {
        foolbox.attacks.LinfFastGradientAttack(): fgsm(doubtful, images, labels, eps=eps),
        foolbox.attacks.LinfPGD(abs_stepsize=0.01, steps=40, random_start=False): pgd(
            doubtful, images, labels, eps=eps, alpha=0.01, steps=40
        ),
    }
    for attack, ours in attacks.items():
        _, _, theirs = attack(victim, images, labels, epsilons=eps)
        assert torch.equal(doubtful(ours).argmax(1) != labels, theirs)


def test_occlusion_map_averages_to_captums_attribution(network, digits):
    images, labels = digits[0][:4], digits[1][:4]
    occlusion = peer("captum.attr").Occlusion(lambda x: network(x).softmax(1))
    theirs = occlusion.attribute(
        images, (1, PATCH, PATCH), baselines=0.5, target=labels, perturbations_per_eval=64, strides=(1, 1, 1)
    )
    with torch.no_grad():
        clean = network(images).softmax(1).gather(1, labels[:, None])[:, :, None]  # (N, 1, 1)
    drops = clean - occlusion_map(network, images, labels, patch=PATCH)  # (N, 22, 22)
    torch.testing.assert_close(mean_drop(drops, PATCH), theirs, rtol=0, atol=1e-5)
