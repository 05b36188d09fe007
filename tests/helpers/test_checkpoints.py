"""The trained networks keep what the README promises of them."""

import pytest

from helpers.adversarial import fgsm, pgd
from helpers.bounds import certified
from helpers.cnn import LeNet, load_cnn, load_lenet, trained
from helpers.data import load_mnist
from helpers.training import accuracy, predict


@pytest.mark.parametrize(("batch_norm", "least"), [(False, 0.990), (True, 0.993)])
def test_accuracy_on_all_test_images(batch_norm, least):
    assert accuracy(load_cnn(batch_norm), *load_mnist(train=False)) >= least


def test_the_judge_is_as_good_and_errs_elsewhere():
    """Of what the best network gets wrong, an independent one gets much right."""
    images, labels = load_mnist(train=False)
    judge, best = (predict(model, images).argmax(1) for model in (load_lenet(), load_cnn()))
    assert (judge == labels).float().mean() >= 0.990
    wrong = best != labels
    assert (judge == labels)[wrong].sum() >= 10


def test_the_robust_network_withstands_pgd_and_the_standard_one_does_not():
    images, labels = (part[:100] for part in load_mnist(train=False))
    assert accuracy(load_cnn(robust=True), *load_mnist(train=False)) >= 0.990
    options = {"eps": 0.3, "alpha": 0.05, "steps": 20, "early_stop": True}
    for model, least, most in ((load_cnn(robust=True), 0.9, 1), (load_cnn(), 0, 0.02)):
        assert least <= accuracy(model, pgd(model, images, labels, **options), labels) <= most


def test_the_network_trained_on_bounds_is_certified():
    images, labels = load_mnist(train=False)
    model = load_cnn(interval=True)
    assert accuracy(model, images, labels) >= 0.970
    assert certified(model, images[:1000], labels[:1000], eps=0.1).float().mean() >= 0.930


def test_the_network_trained_on_fgsm_withstands_fgsm_alone():
    images, labels = (part[:100] for part in load_mnist(train=False))
    model = trained(LeNet(), "lenet_fgsm")
    assert accuracy(model, fgsm(model, images, labels, eps=0.3), labels) >= 0.9
    assert accuracy(model, pgd(model, images, labels, eps=0.3, alpha=0.05, steps=20), labels) <= 0.02
