"""The trained networks keep what the README promises of them."""

import pytest

from helpers.cnn import load_cnn, load_lenet
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
