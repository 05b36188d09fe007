"""The ascents on a logit: worked by hand on a linear model; what they share with the attacks is in test_adversarial."""

import pytest
import torch
from torch import nn

from helpers.cnn import DigitCNN, load_cnn
from helpers.data import load_mnist
from helpers.fooling import adversarial_noise, fooling_images, targeted_images


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


def untrained() -> nn.Module:
    torch.manual_seed(0)
    return DigitCNN(batch_norm=True)


def some_images(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_fooling_images_by_hand():
    start = torch.full((1, 1, 28, 28), 0.5)
    images, costs = fooling_images(TwoClasses(), torch.tensor([0]), alpha=0.1, steps=3, start=start)
    # The gradient is +-1/100, its (unbiased) standard deviation 1/100 times sqrt(784 / 783); pixels move 0.1 a step.
    move = 0.1 / (784 / 783) ** 0.5
    torch.testing.assert_close(images[0, 0, :14], torch.full((14, 28), 0.5 + 3 * move))
    torch.testing.assert_close(images[0, 0, 14:], torch.full((14, 28), 0.5 - 3 * move))
    torch.testing.assert_close(costs[:, 0], 784 * move / 100 * torch.arange(3.0), atol=1e-4, rtol=0)


def test_the_default_start_is_noise_around_mid_grey():
    targets = torch.zeros(20, dtype=torch.int64)
    images, costs = fooling_images(untrained(), targets, alpha=0.1, steps=0, generator=torch.Generator().manual_seed(0))
    assert costs.shape == (0, 20)
    assert images.mean() == pytest.approx(128 / 255, abs=0.005)
    assert images.std() == pytest.approx(0.1, abs=0.005)


def test_regularisers_smooth_the_image():
    def roughness(**options):
        generator = torch.Generator().manual_seed(0)
        images, _ = fooling_images(load_cnn(), torch.arange(10), alpha=0.05, steps=30, generator=generator, **options)
        return images.diff(dim=3).abs().mean().item()

    plain = roughness()
    assert roughness(blur=0.5) < 0.9 * plain
    assert roughness(total_variation=200.0) < 0.9 * plain
    assert roughness(jitter=2) != plain


def test_targeted_images_by_hand():
    images = torch.full((1, 1, 28, 28), 0.5)
    found, costs = targeted_images(TwoClasses(), images, torch.tensor([0]), beta=2.0, alpha=0.1, steps=2)
    move = 0.1 / (784 / 783) ** 0.5  # after the first step the error is move ** 2 everywhere
    torch.testing.assert_close(costs[:, 0], torch.tensor([0, 7.84 * move - 2 * move**2]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0, 0, :14], torch.full((14, 28), 0.5 + 2 * move))


def test_a_larger_beta_stays_closer():
    images, _ = load_mnist(train=False)
    targets = torch.full((8,), 3)

    def error(beta):
        found, _ = targeted_images(load_cnn(), images[:8], targets, beta=beta, alpha=0.01, steps=50)
        return (found - images[:8]).square().mean()

    assert error(1000.0) < 0.7 * error(0.0)


def test_noise_by_hand_with_and_without_a_bound():
    images = torch.full((1, 1, 28, 28), 0.9)
    free = adversarial_noise(TwoClasses(), images, torch.tensor([0]), alpha=0.2, steps=3)
    move = 0.2 / (784 / 783) ** 0.5
    torch.testing.assert_close(free[0, 0, :14], torch.full((14, 28), 3 * move))  # 0.9 + 0.6: beyond the range
    bound = adversarial_noise(TwoClasses(), images, torch.tensor([0]), alpha=0.2, steps=3, eps=0.3)
    assert bound.abs().max() == pytest.approx(0.3)


def test_the_noise_keeps_its_bound_to_the_last_bit():
    images, targets = some_images(2), torch.tensor([3, 4])
    for eps in (0.1, 0.3, 0.7):  # of which float32 has only numbers above, .7 aside
        noise = adversarial_noise(untrained(), images, targets, alpha=1.0, steps=2, eps=eps)
        assert noise.double().abs().max() <= eps
        assert noise.abs().max() == pytest.approx(eps, rel=1e-6)


def test_a_model_of_another_type_needs_no_start():
    targets, seeded = torch.arange(3), torch.Generator().manual_seed(0)
    images, costs = fooling_images(untrained().double(), targets, alpha=0.05, steps=2, generator=seeded)
    assert images.dtype == costs.dtype == torch.float64
    same, _ = fooling_images(untrained(), targets, alpha=0.05, steps=2, generator=seeded.manual_seed(0))
    torch.testing.assert_close(images.float(), same, rtol=0, atol=1e-3)  # from the same noise


@pytest.mark.parametrize("other", [float("nan"), float("inf")])
def test_a_logit_that_is_not_the_targets_is_not_overlooked(other):
    class Spoilt(TwoClasses):
        def forward(self, images):
            logits = super().forward(images)
            return torch.cat([logits[:, :9], torch.full((len(images), 1), other)], 1)

    images, targets = some_images(2), torch.tensor([0, 0])
    calls = [
        lambda model: fooling_images(model, targets, alpha=0.1, steps=1, start=images),
        lambda model: targeted_images(model, images, targets, beta=1, alpha=0.1, steps=1),
        lambda model: adversarial_noise(model, images, targets, alpha=0.1, steps=1),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="NaN or infinity for 2 of 2 images"):
            call(Spoilt())


def test_a_class_that_is_ruled_out_is_no_fault():
    class Without(TwoClasses):
        def forward(self, images):
            return torch.cat([super().forward(images)[:, :9], torch.full((len(images), 1), -torch.inf)], 1)

    found, _ = fooling_images(Without(), torch.tensor([0]), alpha=0.1, steps=1, start=some_images(1))
    assert torch.equal(
        found, fooling_images(TwoClasses(), torch.tensor([0]), alpha=0.1, steps=1, start=some_images(1))[0]
    )


@pytest.mark.parametrize(("height", "width"), [(1, 2), (2, 1), (1, 9), (3, 3), (5, 28)])
@pytest.mark.parametrize("options", [{"blur": 9.0}, {"blur": 0.3}, {"total_variation": 2.0}, {"jitter": 40}])
def test_regularisers_take_images_of_any_size(height, width, options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(height * width, 3))
    start, targets = torch.rand(2, 1, height, width), torch.tensor([0, 2])
    images, costs = fooling_images(model, targets, alpha=0.01, steps=2, start=start, **options)
    assert images.shape == start.shape
    assert images.isfinite().all()
    assert costs.isfinite().all()
    if "blur" in options:
        assert images.std() <= start.std() + 0.02
    if "total_variation" in options:
        rough = sum(start.diff(dim=dim).abs().mean((1, 2, 3)).nan_to_num(0) for dim in (2, 3))
        logit = model(start).gather(1, targets[:, None])[:, 0].detach()
        torch.testing.assert_close(costs[0], logit - 2 * rough)


def test_a_blur_of_next_to_nothing_changes_nothing():
    options = {"alpha": 0.1, "steps": 2, "start": some_images(1)}
    plain, _ = fooling_images(untrained(), torch.tensor([3]), **options)
    blurred, _ = fooling_images(untrained(), torch.tensor([3]), blur=1e-320, **options)
    assert torch.equal(plain, blurred)


def test_one_pixel_has_no_deviation_to_count_a_step_in():
    model, image, target = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)), torch.rand(1, 1, 1, 1), torch.tensor([0])
    for call in (
        lambda: fooling_images(model, target, alpha=0.1, steps=1, start=image),
        lambda: targeted_images(model, image, target, beta=1, alpha=0.1, steps=1),
        lambda: adversarial_noise(model, image, target, alpha=0.1, steps=1),
    ):
        with pytest.raises(ValueError, match=r"two pixels at least, .* got \(1, 1, 1, 1\)"):
            call()
