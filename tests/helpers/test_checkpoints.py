"""The trained networks keep what the README promises of them."""

import pytest

from helpers.cnn import load_cnn
from helpers.data import load_mnist
from helpers.training import accuracy


@pytest.mark.parametrize(("batch_norm", "least"), [(False, 0.990), (True, 0.993)])
def test_accuracy_on_all_test_images(batch_norm, least):
    assert accuracy(load_cnn(batch_norm), *load_mnist(train=False)) >= least
