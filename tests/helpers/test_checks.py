"""What the helpers may be given: each answer says what was expected and what came."""

import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import helpers.checks
from helpers.adversarial import fgsm, pgd
from helpers.checks import check_images, check_labels, flag, generator_of, home_of, number
from helpers.cnn import DigitCNN, load_cnn
from helpers.data import load_mnist, split
from helpers.fooling import fooling_images
from helpers.training import train


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


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        ("1", TypeError, "k to be a number, got '1'"),
        (None, TypeError, "k to be a number, got None"),
        (np.zeros(2), TypeError, "k to be a number, got array"),
        (True, TypeError, "k to be a number, got True"),
        (np.True_, TypeError, "k to be a number, got np.True_"),
        (torch.tensor(True), TypeError, r"k to be a number, got tensor\(True\)"),
        (2j, TypeError, "k to be a number, got 2j"),
        (Decimal(2), TypeError, r"k to be a number, got Decimal\('2'\)"),
        (1.5, ValueError, "k to be a whole number, got 1.5"),
        (Fraction(3, 2), ValueError, r"k to be a whole number, got Fraction\(3, 2\)"),
        (np.float64(2), ValueError, "k to be a whole number, got 2.0"),
        (0, ValueError, "k to be at least 1 and at most 9, got 0"),
        (10, ValueError, "k to be at least 1 and at most 9, got 10"),
    ],
)
def test_a_number_that_is_none_or_too_small_is_told(value, error, said):
    with pytest.raises(error, match=said):
        number("k", value, whole=True, least=1, most=9)
    with pytest.raises(ValueError, match="at least 0, got nan"):
        number("k", float("nan"))


@pytest.mark.parametrize("kind", [np.int8, np.int64, torch.tensor, int, np.array])
def test_a_whole_number_becomes_one_of_python(kind):
    assert type(number("k", kind(3), whole=True)) is int
    assert number("k", kind(3), whole=True) == 3


@pytest.mark.parametrize("value", [Fraction(1, 4), np.float32(0.25), torch.tensor(0.25), 0.25])
def test_a_number_with_a_fraction_becomes_one_of_python(value):
    assert type(number("k", value)) is float
    assert number("k", value) == 0.25


def test_a_fraction_is_a_step_like_its_float():
    images, labels, model = torch.rand(2, 1, 28, 28), torch.tensor([1, 2]), DigitCNN()
    found = pgd(model, images, labels, eps=Fraction(1, 4), alpha=Fraction(1, 8), steps=2)
    assert torch.equal(found, pgd(model, images, labels, eps=0.25, alpha=0.125, steps=2))


NO_FLAGS = ["1", "no", None, 0.5, 1, 0]


@pytest.mark.parametrize("value", NO_FLAGS)
@pytest.mark.parametrize(
    "call",
    [
        lambda m, x, y, value: fgsm(m, x, y, eps=0.1, targeted=value),
        lambda m, x, y, value: pgd(m, x, y, eps=0.1, alpha=0.1, steps=1, random_start=value),
        lambda m, x, y, value: pgd(m, x, y, eps=0.1, alpha=0.1, steps=1, early_stop=value),
        lambda m, x, y, value: load_mnist(value),
        lambda m, x, y, value: load_cnn(value),
        lambda m, x, y, value: DigitCNN(batch_norm=value),
    ],
)
def test_what_is_neither_true_nor_false_is_told(call, value):
    with pytest.raises(TypeError, match=f"to be True or False, got {value!r}"):
        call(DigitCNN(), torch.rand(1, 1, 28, 28), torch.tensor([1]), value)


@pytest.mark.parametrize("kind", [bool, np.bool_, torch.tensor, np.array])
def test_true_and_false_may_be_those_of_numpy_and_torch(kind):
    assert flag("x", kind(True)) is True
    assert flag("x", kind(False)) is False


@pytest.mark.parametrize("value", [3, "cpu", np.random.default_rng(0), torch.tensor(3)])
def test_what_is_no_generator_is_told_with_how_to_make_one(value):
    model, images, labels = DigitCNN(), torch.rand(1, 1, 28, 28), torch.tensor([1])
    said = r"expected generator to be a torch.Generator, such as torch.Generator\(\).manual_seed\(3\), or None, got"
    for call in (
        lambda: pgd(model, images, labels, eps=0.1, alpha=0.1, steps=1, generator=value),
        lambda: fooling_images(model, labels, alpha=0.1, steps=1, generator=value),
        lambda: fooling_images(model, labels, alpha=0.1, steps=1, start=images, generator=value),
    ):
        with pytest.raises(TypeError, match=said):
            call()
    assert home_of(torch.Generator()).type == home_of(None).type == "cpu"


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor, int])
def test_a_seed_may_be_any_whole_number(kind):
    images, labels = torch.rand(20, 1, 4, 4), torch.arange(20) % 2
    expected = torch.rand(3, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.rand(3, generator=generator_of(kind(3))), expected)
    assert torch.equal(
        split(images, labels, validation=5, seed=kind(3))[1][0], split(images, labels, validation=5, seed=3)[1][0]
    )

    def losses(seed):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        return train(model, images, labels, epochs=1, seed=seed, batch_size=4).train_loss

    assert losses(kind(3)) == losses(3) != losses(4)


@pytest.mark.parametrize(
    ("seed", "error", "said"),
    [
        (None, TypeError, "seed to be a number, got None"),
        ("3", TypeError, "seed to be a number, got '3'"),
        (1.5, ValueError, "seed to be a whole number, got 1.5"),
        (2**64, ValueError, "seed to be .* got 18446744073709551616"),
    ],
)
def test_what_is_no_seed_is_told(seed, error, said):
    images, labels = torch.rand(20, 1, 4, 4), torch.arange(20) % 2
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(error, match=said):
        split(images, labels, validation=5, seed=seed)
    with pytest.raises(error, match=said):
        train(model, images, labels, epochs=1, seed=seed)


def test_a_warning_names_the_line_that_called_the_helpers():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        helpers.checks.warn("directly")
        fgsm(Flat(), torch.rand(2, 1, 28, 28), torch.tensor([1, 2]), eps=0.1)  # from three functions further down
    assert [warning.filename for warning in caught] == [__file__] * 2


class Flat(DigitCNN):
    """A model that ends in softmax."""

    def forward(self, images):
        return super().forward(images).softmax(1)
