"""The attacks: worked by hand on a linear model, held to their promises on any input."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import helpers.adversarial
import helpers.batches
from helpers.adversarial import fgsm, pgd, show_adversarial
from helpers.ball import ball_around
from helpers.cnn import DigitCNN, load_cnn
from helpers.data import load_mnist
from helpers.fooling import adversarial_noise, fooling_images, targeted_images
from helpers.training import accuracy


class TwoClasses(nn.Module):
    """Logits z and 0, z = the sum of the upper half minus the sum of the lower: every gradient is known."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 28, 28))
        with torch.no_grad():
            self.weight[:, 14:] = -1

    def forward(self, images):
        z = (images * self.weight).sum((1, 2, 3)) / 100
        return torch.cat([z[:, None], torch.zeros(len(images), 9)], dim=1)


def untrained(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return DigitCNN(batch_norm=True).train()  # in train mode on purpose: an attack must not use it


def some_images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ATTACKS = {
    "fgsm": lambda m, x, y: fgsm(m, x, y, eps=0.1),
    "pgd": lambda m, x, y: pgd(m, x, y, eps=0.1, alpha=0.03, steps=3),
    "fooling_images": lambda m, x, y: fooling_images(m, y, alpha=0.05, steps=3, start=x)[0],
    "fooling_images, regularised": lambda m, x, y: fooling_images(
        m, y, alpha=0.05, steps=3, start=x, jitter=3, blur=0.5, total_variation=1.0, generator=seeded()
    )[0],
    "targeted_images": lambda m, x, y: targeted_images(m, x, y, beta=10, alpha=0.05, steps=3)[0],
    "adversarial_noise": lambda m, x, y: adversarial_noise(m, x, y, alpha=0.05, steps=3, eps=0.1),
}
attacks = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


def test_fgsm_by_hand():
    images = torch.full((1, 1, 28, 28), 0.5)
    step = 0.25 * torch.ones(28, 28)
    step[14:] *= -1  # the gradient of logit 0
    zero = torch.tensor([0])
    torch.testing.assert_close(fgsm(TwoClasses(), images, zero, eps=0.25), images - step)  # away from class 0
    torch.testing.assert_close(fgsm(TwoClasses(), images, zero, eps=0.25, targeted=True), images + step)  # to class 0


def test_pgd_by_hand_stays_in_the_ball_and_in_the_range():
    images = torch.full((1, 1, 28, 28), 0.5)
    images[..., 0] = 0.05  # near the edge of the range
    attacked = pgd(TwoClasses(), images, torch.tensor([0]), eps=0.2, alpha=0.15, steps=4)
    assert torch.allclose(attacked[..., :14, 1:], torch.tensor(0.3))
    assert torch.allclose(attacked[..., 14:, 1:], torch.tensor(0.7))
    assert (attacked[..., :14, 0] == 0).all()
    assert torch.allclose(attacked[..., 14:, 0], torch.tensor(0.25))


def test_fgsm_is_one_step_of_pgd():
    images, labels = some_images(3), torch.tensor([1, 2, 3])
    one = pgd(untrained(), images, labels, eps=0.1, alpha=0.1, steps=1)
    assert torch.equal(fgsm(untrained(), images, labels, eps=0.1), one)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    eps=st.floats(0, 1),
    alpha=st.floats(0, 0.5),
    steps=st.integers(0, 4),
    random_start=st.booleans(),
    targeted=st.booleans(),
    early_stop=st.booleans(),
    loss=st.sampled_from(["cross_entropy", "margin"]),
    restarts=st.integers(1, 3),
)
def test_pgd_keeps_its_promises_on_any_input(
    seed, eps, alpha, steps, random_start, targeted, early_stop, loss, restarts
):
    images = some_images(3, seed).round(decimals=1)  # with pixels at 0 and 1
    labels = torch.tensor([0, 5, 9])
    generator = torch.Generator().manual_seed(seed)
    attacked = pgd(
        untrained(seed),
        images,
        labels,
        eps=eps,
        alpha=alpha,
        steps=steps,
        random_start=random_start,
        targeted=targeted,
        early_stop=early_stop,
        loss=loss,
        restarts=restarts if random_start else 1,
        generator=generator,
    )
    assert attacked.shape == images.shape
    assert (attacked.double() - images.double()).abs().max() <= eps
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    if steps == 0 and not random_start:
        assert torch.equal(attacked, images)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_signs_of_targeted_and_untargeted(seed):
    model, images = untrained(seed).eval(), some_images(4, seed) * 0.8 + 0.1
    labels = torch.randint(10, (4,), generator=torch.Generator().manual_seed(seed))

    def loss(x):
        return nn.functional.cross_entropy(model(x), labels, reduction="none").detach()

    assert (loss(fgsm(model, images, labels, eps=0.01)) > loss(images)).all()
    assert (loss(fgsm(model, images, labels, eps=0.01, targeted=True)) < loss(images)).all()


@pytest.mark.parametrize("targeted", [False, True])
def test_eps_zero_is_the_identity(targeted):
    images, labels = some_images(3), torch.tensor([1, 2, 3])
    assert torch.equal(fgsm(untrained(), images, labels, eps=0, targeted=targeted), images)
    random = {"random_start": True, "generator": torch.Generator().manual_seed(0)}
    assert torch.equal(pgd(untrained(), images, labels, eps=0, alpha=1, steps=3, targeted=targeted, **random), images)
    assert not adversarial_noise(untrained(), images, labels, alpha=1, steps=3, eps=0).any()


class TwoHills(nn.Module):
    """Margin max(2x - 1, .4 - 4x) of one pixel x against class 0: a valley at .23, a hill of .4 at 0, of 1 at 1."""

    def forward(self, images):
        x = images.flatten(1)
        return torch.cat([torch.zeros_like(x), torch.maximum(2 * x - 1, 0.4 - 4 * x)], dim=1)


def test_of_several_restarts_the_worst_point_of_each_image_is_kept():
    images, labels = torch.full((40, 1, 1, 1), 0.5), torch.zeros(40, dtype=torch.int64)
    options = {"eps": 0.5, "alpha": 0.1, "steps": 10, "random_start": True}
    once = pgd(TwoHills(), images, labels, **options, generator=seeded()).flatten()
    assert 0 < (once == 1).sum() < 40  # from a start above .23 it climbs the right hill, to a margin of 1
    assert ((once == 1) | (once == 0)).all()  # or else the left, to .4
    often = pgd(TwoHills(), images, labels, **options, restarts=8, generator=seeded()).flatten()
    assert (often == 1).all()
    aims = labels + 1
    often = pgd(TwoHills(), images, aims, targeted=True, **options, restarts=8, generator=seeded()).flatten()
    assert (often == 1).all()


class Ridge(nn.Module):
    """Two hills of one pixel x against class 0: at 0 of class 1 alone, by .5, at 1 of classes 1 and 2, by .4."""

    def forward(self, images):
        x = images.flatten(1)
        left = torch.cat([0 * x, 0.5 - 2 * x, -9 + 0 * x], dim=1)
        right = torch.cat([0 * x, 2 * x - 1.6, 2 * x - 1.6], dim=1)
        return torch.where(x < 0.5, left, right)


@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
def test_the_worst_point_is_that_of_the_largest_margin_whatever_the_loss(loss):
    images, labels = torch.full((40, 1, 1, 1), 0.5), torch.zeros(40, dtype=torch.int64)
    options = {"eps": 0.5, "alpha": 0.1, "steps": 10, "random_start": True, "loss": loss}
    assert (pgd(Ridge(), images, labels, **options, restarts=10, generator=seeded()) == 0).all()


def test_every_restart_is_an_attack():
    class Counted(TwoHills):
        def forward(self, images):
            calls.append(torch.is_grad_enabled())
            return super().forward(images)

    counts = []
    for restarts in (1, 2, 3):
        calls = []
        options = {"eps": 0.5, "alpha": 0.1, "steps": 4, "random_start": True, "restarts": restarts}
        pgd(Counted(), torch.full((1, 1, 1, 1), 0.5), torch.tensor([0]), **options, generator=seeded())
        counts.append(sum(calls))
    assert counts == [4, 8, 12]


def test_who_only_ties_is_attacked_again_and_who_is_fooled_is_left_alone():
    class Tied(TwoHills):
        def forward(self, images):
            return super().forward(images) - torch.tensor([0, 0.4])  # 0 on the left hill, where class 0 still wins

    images, labels = torch.full((40, 1, 1, 1), 0.5), torch.zeros(40, dtype=torch.int64)
    options = {"eps": 0.5, "alpha": 0.1, "steps": 10, "random_start": True, "early_stop": True}
    once = pgd(Tied(), images, labels, **options, generator=seeded())
    often = pgd(Tied(), images, labels, **options, generator=seeded(), restarts=12)
    fooled = Tied()(once).argmax(1) == 1
    assert 0 < fooled.sum() < 40
    assert (Tied()(often).argmax(1) == 1).all()
    assert torch.equal(often[fooled], once[fooled])


@pytest.mark.filterwarnings("error")  # who was not attacked again did not stand still
def test_restarts_attack_only_who_still_holds_when_they_stop_early():
    class Counted(TwoHills):
        asked = 0

        def forward(self, images):
            Counted.asked += torch.is_grad_enabled() * len(images)
            return super().forward(images) - torch.tensor([0, 0.5])  # so that on the left hill class 0 holds

    images, labels = torch.full((40, 1, 1, 1), 0.5), torch.zeros(40, dtype=torch.int64)
    options = {"eps": 0.5, "alpha": 0.1, "steps": 10, "random_start": True, "early_stop": True}
    asked = []
    for restarts in (1, 10, 20):  # after ten everybody is misclassified
        Counted.asked = 0
        attacked = pgd(Counted(), images, labels, **options, restarts=restarts, generator=seeded())
        asked.append(Counted.asked)
    assert (Counted()(attacked).argmax(1) == 1).all()
    assert asked[0] < asked[1] == asked[2]


def test_the_margin_climbs_towards_the_second_class_alone():
    images, label = torch.full((1, 1, 1, 3), 0.5), torch.tensor([0])

    class Three(nn.Module):  # logits 3 + a, 1 + b, .9 + 9c: the second is class 1 by .1, the third has the gradient
        def forward(self, images):
            a, b, c = images.flatten(1).T
            return torch.stack([3 + a, 2 + b, 9 * c - 2.1], dim=1)

    margin = pgd(Three(), images, label, eps=0.01, alpha=0.01, steps=1, loss="margin")
    torch.testing.assert_close(margin.flatten(), torch.tensor([0.49, 0.51, 0.50]))
    both = pgd(Three(), images, label, eps=0.01, alpha=0.01, steps=1)
    torch.testing.assert_close(both.flatten(), torch.tensor([0.49, 0.51, 0.51]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "hinge"}, "expected loss to be one of cross_entropy, margin, got 'hinge'"),
        ({"restarts": 0, "random_start": True}, "expected restarts"),
        ({"restarts": 1.5, "random_start": True}, "expected restarts"),
        ({"restarts": 2}, "expected random_start=True with restarts, got 2 attacks from the same point"),
    ],
)
def test_a_loss_or_restarts_that_are_none_are_told(options, said):
    with pytest.raises(ValueError, match=said):
        pgd(TwoHills(), torch.rand(2, 1, 1, 1), torch.tensor([0, 0]), eps=0.1, alpha=0.1, steps=1, **options)


@pytest.mark.parametrize("targeted", [False, True])
def test_early_stop_fools_as_many_and_leaves_the_fooled_alone(targeted):
    model = load_cnn()
    images, labels = (part[:30] for part in load_mnist(train=False))
    aims = (labels + 1) % 10 if targeted else labels
    options = {"eps": 0.15, "alpha": 0.02, "targeted": targeted}

    def succeeded(x):
        return (model(x).argmax(1) == aims) == targeted

    whole = pgd(model, images, aims, steps=12, **options)
    early = pgd(model, images, aims, steps=12, early_stop=True, **options)
    assert 0 < succeeded(whole).sum() < 30
    assert (succeeded(early) | ~succeeded(whole)).all()
    left, stopped = torch.ones(30, dtype=torch.bool), []
    for steps in range(13):  # each image is as it was when it first succeeded; the others have had all the steps
        then = pgd(model, images, aims, steps=steps, **options)
        now = left & (succeeded(then) if steps < 12 else True)
        torch.testing.assert_close(early[now], then[now], rtol=0, atol=1e-6)
        left &= ~now
        stopped.append(now.sum().item())
    assert sum(count > 0 for count in stopped[1:12]) > 3  # at many different steps


@attacks
def test_inference_mode_is_no_obstacle(attack):
    images, labels = some_images(3), torch.tensor([1, 2, 3])
    model = untrained()
    expected = attack(model, images, labels)
    with torch.inference_mode():
        assert torch.equal(attack(model, images.clone(), labels.clone()), expected)
        random = {"random_start": True, "early_stop": True, "generator": seeded()}
        pgd(model, images.clone(), labels.clone(), eps=0.1, alpha=0.03, steps=3, **random)


def test_the_generator_decides_the_random_start():
    def start(seed):
        generator = torch.Generator().manual_seed(seed)
        zeros = torch.zeros(2, dtype=torch.int64)
        options = {"eps": 0.1, "alpha": 0.0, "steps": 1, "random_start": True, "generator": generator}
        return pgd(untrained(), torch.full((2, 1, 28, 28), 0.5), zeros, **options)

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))
    assert (start(1) - 0.5).abs().mean() == pytest.approx(0.05, rel=0.1)  # uniform in the ball


@attacks
def test_everything_is_left_as_found(attack):
    model, images, labels = untrained(), some_images(3), torch.tensor([1, 2, 3])
    model.fc2.weight.grad = torch.ones_like(model.fc2.weight)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before, generator = images.clone(), torch.get_rng_state()
    result = attack(model, images, labels)
    assert torch.equal(images, before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(model.fc2.weight.grad, torch.ones_like(model.fc2.weight))
    assert model.conv1.weight.grad is None
    assert torch.equal(torch.get_rng_state(), generator)
    assert not result.requires_grad
    assert result.shape == images.shape
    assert result.dtype == images.dtype


@attacks
def test_it_works_on_a_frozen_network_and_without_gradients_around(attack):
    labels = torch.tensor([1, 2, 3])
    frozen = untrained().requires_grad_(False)
    with torch.no_grad():
        inside = attack(frozen, some_images(3), labels)
    torch.testing.assert_close(inside, attack(untrained(), some_images(3), labels))


@attacks
def test_images_do_not_depend_on_their_batch(attack, monkeypatch):
    labels = torch.tensor([1, 2, 3, 4, 5])
    together = attack(untrained(), some_images(5), labels)
    alone = torch.cat(
        [attack(untrained(), x, y) for x, y in zip(some_images(5).split(1), labels.split(1), strict=True)]
    )
    monkeypatch.setitem(helpers.batches.IN_CACHE, "attack", 2)
    chunked = attack(untrained(), some_images(5), labels)
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=0)
    torch.testing.assert_close(chunked, together, atol=1e-4, rtol=0)


def test_the_mode_is_restored_after_an_exception():
    class Breaks(DigitCNN):
        def forward(self, images):
            raise RuntimeError("boom")

    model = Breaks().train()
    with pytest.raises(ValueError, match="boom"):
        fgsm(model, some_images(1), torch.tensor([0]), eps=0.1)
    assert model.training


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, x, y: fgsm(m, 255 * x, y, eps=0.1), r"\[0, 1\]"),
        (lambda m, x, y: fgsm(m, x[:, 0], y, eps=0.1), r"\(3, 28, 28\)"),
        (lambda m, x, y: fgsm(m, x, y + 7, eps=0.1), "0..9, got 8 to 10"),
        (lambda m, x, y: fgsm(m, x, y[:2], eps=0.1), "expected 3 labels"),
        (lambda m, x, y: fgsm(m, x, y, eps=-0.1), "eps to be at least 0, got -0.1"),
        (lambda m, x, y: fgsm(m, x, y, eps=float("nan")), "eps to be at least 0, got nan"),
        (lambda m, x, y: pgd(m, x, y, eps=0.1, alpha=-1, steps=1), "alpha to be at least 0, got -1"),
        (lambda m, x, y: pgd(m, x, y, eps=0.1, alpha=0.1, steps=-1), "steps to be at least 0, got -1"),
        (lambda m, x, y: pgd(m, x, y, eps=0.1, alpha=0.1, steps=1.5), "whole number, got 1.5"),
        (lambda m, x, y: fooling_images(m, y - 2, alpha=0.1, steps=1), "got -1 to 1"),
        (lambda m, x, y: fooling_images(m, y, alpha=0.1, steps=1, start=x[:2]), "expected 2 labels"),
        (lambda m, x, y: fooling_images(m, y, alpha=0.1, steps=1, start=x + 1), r"\[0, 1\]"),
        (lambda m, x, y: fooling_images(m, y, alpha=0.1, steps=1, blur=-1), "blur"),
        (
            lambda m, x, y: fooling_images(m, y, alpha=0.1, steps=1, blur=10.0),
            "and at most 9, got 10",
        ),
        (lambda m, x, y: fooling_images(m, y, alpha=0.1, steps=1, jitter=1.5), "jitter to be a whole number"),
        (lambda m, x, y: fooling_images(m, y, alpha=float("inf"), steps=1), r"alpha .* at most 3\.4.*, got inf"),
        (
            lambda m, x, y: targeted_images(m, x, y, beta=1, alpha=1e39, steps=1),
            r"alpha .* at most 3\.4.* 1e\+39",
        ),
        (lambda m, x, y: targeted_images(m, x, y, beta=1e39, alpha=1, steps=1), r"beta .* at most 3\.4.* 1e\+39"),
        (lambda m, x, y: adversarial_noise(m, x, y, alpha=1e39, steps=1), r"alpha .* at most 3\.4.* 1e\+39"),
        (lambda m, x, y: fgsm(m, x, y.int(), eps=0.1), r"type torch.int64, got \(3,\) and torch.int32"),
        (lambda m, x, y: fgsm(m, x.double(), y, eps=0.1), "the model's torch.float32, got torch.float64"),
        (lambda m, x, y: fgsm(m.double(), x, y, eps=0.1), "the model's torch.float64, got torch.float32"),
        (lambda m, x, y: targeted_images(m, x, y, beta=-1, alpha=0.1, steps=1), "beta to be at least 0 .* got -1"),
        (lambda m, x, y: targeted_images(m, x[:2], y, beta=1, alpha=0.1, steps=1), "expected 2 labels"),
        (lambda m, x, y: adversarial_noise(m, x, y, alpha=0.1, steps=1, eps=-0.5), "eps to be at least 0"),
    ],
)
def test_bad_input_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call(untrained(), some_images(3), torch.tensor([1, 2, 3]))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, x, y: pgd(m, x, y, eps=None, alpha=0.1, steps=1), "eps to be a number, got None"),
        (lambda m, x, y: fgsm(m, x, y, eps="0.1"), "eps to be a number, got '0.1'"),
        (lambda m, x, y: fgsm(m, None, y, eps=0.1), "images as a tensor, got NoneType"),
        (lambda m, x, y: fgsm(m, x, None, eps=0.1), "labels as a tensor, got NoneType"),
        (lambda m, x, y: fgsm(None, x, y, eps=0.1), "torch.nn.Module as the model, got NoneType"),
        (lambda m, x, y: fooling_images(None, y, alpha=0.1, steps=1), "torch.nn.Module as the model, got NoneType"),
        (lambda m, x, y: fooling_images(m, None, alpha=0.1, steps=1), "labels as a tensor, got NoneType"),
        (lambda m, x, y: targeted_images(m, None, y, beta=1, alpha=0.1, steps=1), "images as a tensor, got NoneType"),
        (lambda m, x, y: adversarial_noise(m, x, 3, alpha=0.1, steps=1), "labels as a tensor, got int"),
        (lambda m, x, y: show_adversarial(x, None, y), "as tensors, got Tensor, NoneType, Tensor"),
    ],
)
def test_another_type_is_told(call, said):
    with pytest.raises(TypeError, match=said):
        call(untrained(), some_images(3), torch.tensor([1, 2, 3]))


def test_a_figure_shows_image_change_and_sum():
    images = some_images(2)
    figure = show_adversarial(images, images.flip(0), torch.eye(10)[:2], heads=["a", "b"])
    (grid,) = figure.axes
    assert len(grid.images) == 6
    assert [text.get_text() for text in grid.texts if "%" in text.get_text()] == ["0: 100.0%", "1: 100.0%"]
    torch.testing.assert_close(torch.tensor(grid.images[2].get_array()), (images.flip(0) - images)[0, 0])


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"changed": some_images(1)}, ValueError, r"equal shapes .* got \(2, 1, 28, 28\), \(1, 1, 28, 28\), \(2, 10\)"),
        ({"probs": torch.rand(2)}, ValueError, r"probs of shape \(N, classes\), got .*, \(2,\)"),
        ({"probs": torch.rand(3, 10)}, ValueError, r"probs of shape \(N, classes\), got .*, \(3, 10\)"),
        ({"probs": torch.rand(2, 0)}, ValueError, r"probs of shape \(N, classes\), got .*, \(2, 0\)"),
        ({"probs": 7 * torch.eye(10)[:2]}, ValueError, r"probs in \[0, 1\], got 0 to 7"),
        ({"probs": torch.full((2, 10), torch.nan)}, ValueError, r"probs in \[0, 1\], got nan"),
        ({"images": (255 * some_images(2)).byte()}, ValueError, "floating-point type, got torch.uint8"),
        ({"limit": None}, TypeError, "limit to be a number, got None"),
        ({"limit": -1}, ValueError, "limit to be at least 0, got -1"),
        ({"zoom": None}, TypeError, "zoom to be a number, got None"),
    ],
)
def test_what_cannot_be_shown_of_an_attack_is_told(change, error, said):
    arguments = {"images": some_images(2), "changed": some_images(2), "probs": torch.eye(10)[:2]} | change
    with pytest.raises(error, match=said):
        show_adversarial(**arguments)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    eps=st.one_of(st.floats(0, 1.5), st.sampled_from([0.1, 0.2, 0.3, 1e-12, float("inf")])),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)
def test_the_ball_and_the_range_hold_to_the_last_bit_in_every_dtype(seed, eps, dtype):
    images = some_images(2, seed).to(dtype)
    images[0, 0, :4] = 0
    images[0, 0, 4:8] = 1
    images[1, 0, 0] = torch.logspace(-12, 0, 28).to(dtype)  # tiny pixels beside a larger eps, and the reverse
    low, high = ball_around(images, eps)
    for edge in (low, high):
        assert edge.dtype == dtype
        assert edge.min() >= 0
        assert edge.max() <= 1
        for one, other in zip(edge.flatten().tolist(), images.flatten().tolist(), strict=True):
            assert eps == float("inf") or abs(Fraction(one) - Fraction(other)) <= Fraction(eps)  # without any rounding
    assert (low <= images).all()
    assert (images <= high).all()
    short = images.double() + eps - high.double()  # and hardly less than it could be
    assert (short[high < 1] <= 2 * torch.finfo(dtype).eps).all()


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """A thousand test images drawn at random, float32."""
    images, labels = load_mnist(train=False)
    some = torch.randperm(len(images), generator=seeded())[:1000]
    return images[some], labels[some]


def test_float32_takes_the_steps_of_float64(drawn):
    """With cross-entropy 16 % of the pixels of eps .3 went another way, and 25 % of the images seemed to hold."""
    images, labels = (part[:400] for part in drawn)  # of which two may differ
    model, precise = load_cnn(), load_cnn().double()
    for eps in (0.1, 0.2, 0.3):
        rough, exact = fgsm(model, images, labels, eps=eps), fgsm(precise, images.double(), labels, eps=eps)
        assert (rough - exact).abs().gt(1e-6).double().mean() < 0.01
        assert accuracy(model, rough, labels) == pytest.approx(accuracy(precise, exact, labels), abs=0.005)


class Times(nn.Module):
    """A model whose logits are those of another, times a factor: the same decisions, a softmax that saturates."""

    def __init__(self, model: nn.Module, factor: float):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, images):
        return self.factor * self.model(images)


PRECISIONS = {
    "bfloat16 autocast": lambda model, x, y, attack: under_autocast(torch.bfloat16, model, x, y, attack),
    "float16 autocast": lambda model, x, y, attack: under_autocast(torch.float16, model, x, y, attack),
    "half": lambda model, x, y, attack: attack(load_cnn().half(), x.half(), y).float(),
}


@pytest.mark.parametrize("precise", PRECISIONS.values(), ids=PRECISIONS)
def test_no_precision_hides_the_gradient(precise, drawn):
    """In float16 autocast cross-entropy left 79 % of the images where the truth is next to none."""
    model = load_cnn()
    for attack, count in (
        (lambda m, x, y: fgsm(m, x, y, eps=0.2), 500),
        (lambda m, x, y: pgd(m, x, y, eps=0.12, alpha=0.02, steps=8, early_stop=True), 100),
    ):
        images, labels = (part[:count] for part in drawn)
        fooled = 1 - accuracy(model, attack(model, images, labels), labels)
        assert 0.1 < fooled < 0.9
        assert 1 - accuracy(model, precise(model, images, labels, attack), labels) == pytest.approx(fooled, abs=0.02)


@pytest.mark.parametrize("factor", [10, 100])
def test_larger_logits_hide_nothing(factor, drawn):
    """Cross-entropy left 92.5 % of the images with logits times 10."""
    images, labels = drawn
    model, larger = load_cnn(), Times(load_cnn(), factor)
    left = accuracy(model, fgsm(model, images, labels, eps=0.2), labels)
    assert accuracy(larger, fgsm(larger, images, labels, eps=0.2), labels) == pytest.approx(left, abs=0.02)
    images, labels = images[:200], labels[:200]
    precise = Times(load_cnn().double(), factor)
    options = {"eps": 0.12, "alpha": 0.02, "steps": 8, "early_stop": True}
    left = accuracy(precise, pgd(precise, images.double(), labels, **options), labels)
    assert accuracy(larger, pgd(larger, images, labels, **options), labels) == pytest.approx(left, abs=0.02)


def under_autocast(dtype, model, images, labels, attack):
    with torch.autocast("cpu", dtype):
        return attack(model, images, labels)


def test_the_loss_is_log_odds_whose_gradient_never_rounds_away():
    logits = torch.tensor([[60.0, 0.0, -5.0], [1.0, 2.0, 3.0]], requires_grad=True)
    labels = torch.tensor([0, 2])
    loss = helpers.adversarial._log_odds_against(logits, labels)
    p = logits.detach().double().softmax(1)[[0, 1], labels]
    torch.testing.assert_close(loss[1].double(), ((1 - p) / p).log()[1])
    torch.testing.assert_close(loss[0].item(), math.log1p(math.exp(-5)) - 60)
    loss.sum().backward()
    assert logits.grad[0, 0] == -1  # cross-entropy's would be p - 1, which is 0 here
    assert nn.functional.cross_entropy(logits[:1].detach(), labels[:1]) == 0


class Broken(nn.Module):
    """A model with a fault in the middle of a good one."""

    def __init__(self, fault):
        super().__init__()
        self.model, self.fault = untrained().eval(), fault

    def forward(self, images):
        return self.fault(self.model, images)


STANDS = {
    "rounds its pixels": lambda model, x: model((8 * x).round() / 8),
    "constant": lambda model, x: model(x) * 0,
}


@pytest.mark.parametrize("attack", [ATTACKS[name] for name in ATTACKS if name != "fooling_images, regularised"])
@pytest.mark.parametrize("fault", STANDS.values(), ids=STANDS)
def test_a_gradient_that_is_zero_everywhere_is_no_robustness(attack, fault):
    labels = Broken(fault)(some_images(3)).argmax(1)  # so that there is something to attack
    with pytest.raises(ValueError, match="gradient of 3 of 3 images is zero in every pixel"):
        attack(Broken(fault), some_images(3), labels)


@attacks
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_told(attack, value):
    images, labels = some_images(3), torch.tensor([1, 2, 3])
    with pytest.raises(ValueError, match="NaN or infinity for 3 of 3 images"):
        attack(Broken(lambda model, x: model(x) * value), images, labels)
    if attack in (ATTACKS["fgsm"], ATTACKS["pgd"]):
        one = Broken(lambda model, x: model(x) * torch.where(x[:, 0, :1, 0] == images[1, 0, 0, 0], value, 1))
        with pytest.raises(ValueError, match="NaN or infinity for 1 of 3 images"):
            attack(one, images, labels)
    weights = untrained()
    weights.fc2.weight.data[0, 0] = value
    with pytest.raises(ValueError, match=r"NaN or infinity for \d of 3 images"):
        attack(weights, images, labels)


@attacks
def test_logits_without_a_gradient_are_told(attack):
    with pytest.raises(ValueError, match="logits that depend on the pixels"):
        attack(Broken(lambda model, x: model(x).detach()), some_images(3), torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("early_stop", [False, True])
def test_images_that_stand_still_are_counted(early_stop):
    images = some_images(4)
    images[2] = 0.5
    labels = untrained().eval()(images).argmax(1)

    def blind_to_grey(model, x):
        return model(torch.where((x == 0.5).all(3, keepdim=True).all(2, keepdim=True), x.detach(), x))

    with pytest.warns(UserWarning, match="gradient of 1 of 4 images is zero in every pixel"):
        attacked = pgd(Broken(blind_to_grey), images, labels, eps=0.1, alpha=0.05, steps=3, early_stop=early_stop)
    assert torch.equal(attacked[2], images[2])
    assert not torch.equal(attacked[0], images[0]) or early_stop


def test_a_small_step_is_not_rounded_away_in_bfloat16():
    images, labels = some_images(4).clamp(0.55, 0.95).bfloat16(), torch.tensor([1, 2, 3, 4])
    attacked = pgd(untrained().bfloat16(), images, labels, eps=0.3, alpha=0.001, steps=20)
    assert attacked.dtype == torch.bfloat16
    assert (attacked != images).double().mean() > 0.8
    assert (attacked.double() - images.double()).abs().max() <= 0.3


@pytest.mark.parametrize("early_stop", [False, True])
def test_a_gradient_that_dies_once_an_image_is_fooled_is_no_fault(early_stop):
    class Dies(nn.Module):
        """Class 0 above a mean of one half, where its logit has a slope; class 1 below, and no slope at all."""

        def forward(self, images):
            z = 10 * (images.mean((1, 2, 3)) - 0.5).relu()
            return torch.stack([z, torch.full_like(z, 0.5), *[torch.full_like(z, -9.0)] * 8], 1)

    images = torch.full((2, 1, 28, 28), 0.6)
    options = {"eps": 0.3, "alpha": 0.02, "early_stop": early_stop}
    attacked = pgd(Dies(), images, torch.tensor([0, 0]), steps=20, **options)
    assert (Dies()(attacked).argmax(1) == 1).all()
    already = pgd(Dies(), images - 0.3, torch.tensor([0, 0]), steps=3, **options)  # fooled before the first step
    assert torch.equal(already, images - 0.3)


def test_the_network_follows_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        assert load_cnn().fc1.weight.dtype == torch.float64
        assert (
            pgd(load_cnn(), load_mnist(train=False)[0][:2], torch.tensor([7, 2]), eps=0.1, alpha=0.1, steps=1).dtype
            == torch.float64
        )
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("large", [float("inf"), 1e39, 1.0])
def test_a_step_or_a_ball_without_bound_ends_at_the_edge_of_the_range(large):
    images, labels, model = some_images(3), torch.tensor([0, 0, 0]), TwoClasses()
    model.weight.data[:, 0] = 0  # the first row has no gradient, and stays
    edges = fgsm(model, images, labels, eps=large)
    assert torch.equal(edges[:, :, 0], images[:, :, 0])
    assert (edges[:, :, 1:14] == 0).all()
    assert (edges[:, :, 14:] == 1).all()
    random = {"random_start": True, "generator": seeded()}
    begun = pgd(untrained(), images, labels, eps=large, alpha=0.0, steps=1, **random)
    assert begun.isfinite().all()
    assert begun.min() >= 0
    assert begun.max() <= 1
    assert not torch.equal(begun, images)
