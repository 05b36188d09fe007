"""The bounds: worked by hand, never exceeded by any image, exact where they can be."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from helpers.adversarial import pgd
from helpers.bounds import certified, interval_bounds, worst_logits
from helpers.cnn import DigitCNN, LeNet, load_cnn
from helpers.data import load_mnist


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight.data, layer.bias.data = torch.tensor(weight).float(), torch.tensor(bias).float()
    return layer


def by_hand() -> nn.Sequential:
    """Hidden a - b and a + b - 1 of two pixels, then logits h and k - h after ReLU."""
    first, second = linear([[1, -1], [1, 1]], [0, -1]), linear([[1, 0], [-1, 1]], [0, 0])
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second)


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [
        nn.Conv2d(1, 4, 3, padding=1, stride=2),
        nn.BatchNorm2d(4, eps=0.1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
    ]
    model = nn.Sequential(*layers, nn.Linear(16, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3)).double()
    model[1].running_mean.uniform_(-0.2, 0.2)
    model[1].running_var.uniform_(0.1, 2)
    model[1].weight.data.uniform_(-1, 1)  # negative ones turn an interval round
    model[1].bias.data.uniform_(-1, 1)
    return model.eval()


def some_images(count: int, side: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1), dtype=dtype)


def test_by_hand():
    images = torch.tensor([[[[0.6, 0.3]]]])
    low, high = interval_bounds(by_hand(), images, eps=0.1)
    # a in .5 to .7, b in .2 to .4: h in .1 to .5; a + b - 1 in -.3 to .1, after ReLU k in 0 to .1
    torch.testing.assert_close(low, torch.tensor([[0.1, -0.5]]))
    torch.testing.assert_close(high, torch.tensor([[0.5, 0.0]]))
    worst = worst_logits(by_hand(), images, torch.tensor([0]), eps=0.1)  # k - 2 h is at most .1 - .2
    torch.testing.assert_close(worst, torch.tensor([[0.0, -0.1]]))


def test_pixels_stay_in_the_range():
    images = torch.tensor([[[[0.95, 0.05]]]])
    low, high = interval_bounds(by_hand(), images, eps=0.1)  # a in .85 to 1, b in 0 to .15
    torch.testing.assert_close(low[:, 0], torch.tensor([0.7]))
    torch.testing.assert_close(high[:, 0], torch.tensor([1.0]))


def test_one_linear_layer_is_bounded_exactly():
    torch.manual_seed(0)
    model, images, labels = (
        nn.Sequential(nn.Flatten(), nn.Linear(9, 3)),
        0.4 + 0.2 * torch.rand(5, 1, 3, 3),
        [0, 1, 2, 0, 1],
    )
    corners = torch.tensor(list(itertools.product([-0.1, 0.1], repeat=9))).view(-1, 1, 1, 3, 3)
    labels = torch.tensor(labels)
    logits = torch.stack([model(images + corner) for corner in corners])  # (512, 5, 3)
    low, high = interval_bounds(model, images, eps=0.1)
    torch.testing.assert_close(low, logits.amin(0))
    torch.testing.assert_close(high, logits.amax(0))
    margins = logits - logits.gather(2, labels.expand(len(corners), 5)[:, :, None])
    torch.testing.assert_close(worst_logits(model, images, labels, eps=0.1), margins.amax(0))


def test_batch_norm_is_bounded_exactly():
    model, images = nn.Sequential(nn.BatchNorm2d(2, eps=0.1), nn.Flatten()).eval(), 0.3 + 0.4 * torch.rand(3, 2, 1, 1)
    model[0].weight.data, model[0].bias.data = torch.tensor([2.0, -1.0]), torch.tensor([0.1, 0.2])
    model[0].running_mean[:], model[0].running_var[:] = torch.tensor([0.5, -0.3]), torch.tensor([0.15, 2.0])
    ends = torch.stack([model(images - 0.1), model(images + 0.1)])
    low, high = interval_bounds(model, images, eps=0.1)
    torch.testing.assert_close(low, ends.amin(0))
    torch.testing.assert_close(high, ends.amax(0))


@pytest.mark.parametrize("eps", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_no_image_within_eps_exceeds_the_bounds(eps, seed):
    model, images, labels = small(seed), some_images(6, 8), torch.arange(6) % 3
    low, high = interval_bounds(model, images, eps=eps)
    worst = worst_logits(model, images, labels, eps=eps)
    generator = torch.Generator().manual_seed(seed)
    tried = [
        images,
        *(pgd(model, images, labels * 0 + k, eps=eps, alpha=eps / 4, steps=20, targeted=True) for k in range(3)),
    ]
    for k in range(200):  # points within, and corners
        change = eps * (2 * torch.rand(images.shape, generator=generator, dtype=torch.float64) - 1)
        tried.append((images + (change if k % 2 else eps * change.sign())).clamp(0, 1))
    for changed in tried:
        logits = model(changed)
        assert (logits >= low - 1e-12).all()
        assert (logits <= high + 1e-12).all()
        assert (logits - logits.gather(1, labels[:, None]) <= worst + 1e-12).all()
    if eps == 0:
        torch.testing.assert_close(low, model(images))
        torch.testing.assert_close(high, model(images))


def test_a_difference_is_bounded_at_least_as_well_as_its_parts():
    model, images, labels = small(), some_images(6, 8), torch.arange(6) % 3
    low, high = interval_bounds(model, images, eps=0.05)
    worst = worst_logits(model, images, labels, eps=0.05)
    apart = (high - low.gather(1, labels[:, None])).scatter(1, labels[:, None], 0)
    assert (worst <= apart + 1e-12).all()
    assert (worst < apart - 1e-3).any()


def test_a_larger_ball_has_wider_bounds_and_fewer_certified():
    torch.manual_seed(0)
    model = DigitCNN(batch_norm=True).double().eval()
    images = some_images(20, 28)
    labels = model(images).argmax(1)
    before = None
    for eps in (0, 1e-4, 1e-3, 0.01):
        worst, proved = worst_logits(model, images, labels, eps=eps), certified(model, images, labels, eps=eps)
        assert torch.equal(proved, worst.scatter(1, labels[:, None], -1).amax(1) < 0)
        if before:
            assert (worst >= before[0]).all()
            assert (proved <= before[1]).all()
        before = worst, proved
    assert certified(model, images, labels, eps=0).all()
    assert not certified(model, images, labels, eps=0.01).all()
    assert not certified(model, images, (labels + 1) % 10, eps=0).any()


@pytest.mark.parametrize("make", [LeNet, DigitCNN, lambda: DigitCNN(batch_norm=True)])
def test_the_networks_of_the_course_are_bounded(make):
    torch.manual_seed(0)
    model, images = make().double().eval(), some_images(3, 28)
    for eps in (0, 0.05):
        low, high = interval_bounds(model, images, eps=eps)
        attacked = pgd(model, images, torch.zeros(3, dtype=torch.int64), eps=eps, alpha=0.02, steps=5)
        assert (low - 1e-12 <= model(attacked)).all()
        assert (model(attacked) <= high + 1e-12).all()


def test_batch_norm_in_train_mode_is_bounded_as_in_eval_mode_and_left_as_it_is():
    model, images = small(), some_images(3, 8)
    expected = interval_bounds(model, images, eps=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    low, high = interval_bounds(model.train(), images, eps=0.1)
    assert torch.equal(low, expected[0])
    assert torch.equal(high, expected[1])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_ways_to_fill_the_border_are_bounded():
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect", bias=False)
    model, images = nn.Sequential(layer, nn.Flatten()).double(), 0.2 + 0.6 * some_images(2, 4)
    low, high = interval_bounds(model, images, eps=0.1)
    corner = 0.1 * model(torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)).sign().T.view(32, 1, 1, 4, 4)
    for sign in (-1, 1):  # the corner that is the worst for each of the 32 outputs
        worst = torch.stack([model(images + sign * each)[:, k] for k, each in enumerate(corner)], dim=1)
        assert (low - 1e-12 <= worst).all()
        assert (worst <= high + 1e-12).all()


def test_training_on_the_worst_logits_certifies_more():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    images, labels = torch.tensor([[[[0.7, 0.3]]], [[[0.3, 0.7]]]]), torch.tensor([0, 1])
    assert not certified(model, images, labels, eps=0.1).all()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(200):
        loss = cross_entropy(worst_logits(model, images, labels, eps=0.1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert certified(model, images, labels, eps=0.1).all()


def test_threads_share_the_network_and_leave_it_as_it_is():
    model, (images, labels) = load_cnn(interval=True), (part[:200] for part in load_mnist(train=False))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    alone = certified(model, images, labels, eps=0.2)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = certified(model, images, labels, eps=0.2)
    finally:
        torch.set_num_threads(threads)
    assert 0 < alone.sum() < 200
    assert torch.equal(alone, together)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_tie_is_no_certificate():
    model = nn.Sequential(nn.Flatten(), linear([[0, 0], [0, 0]], [0, 0]))
    assert not certified(model, torch.rand(3, 1, 1, 2), torch.tensor([0, 1, 0]), eps=0.1).any()


def test_a_network_within_a_network_is_opened():
    model, images, labels = by_hand(), torch.rand(5, 1, 1, 2), torch.tensor([0, 1, 0, 1, 0])
    nested = nn.Sequential(nn.Sequential(model[0], nn.Sequential(model[1], model[2])), model[3])
    expected = worst_logits(model, images, labels, eps=0.1)
    assert torch.equal(worst_logits(nested, images, labels, eps=0.1), expected)


def test_the_gradient_by_the_weights_is_that_of_the_bounds():
    model, images, labels = small(), some_images(4, 8), torch.tensor([0, 1, 2, 0])

    def total() -> torch.Tensor:
        return worst_logits(model, images, labels, eps=0.1).sum()

    for weight in (model[0].weight, model[1].weight, model[5].weight, model[5].bias, model[8].weight):
        (gradient,) = torch.autograd.grad(total(), weight)
        for place in range(0, weight.numel(), 5):
            values = []
            for change in (1e-6, -2e-6):
                weight.data.view(-1)[place] += change
                values.append(total().item())
            weight.data.view(-1)[place] += 1e-6
            assert gradient.view(-1)[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-6)


class Other(nn.Module):
    def forward(self, images):
        return images


ONE = torch.rand(2, 1, 28, 28)
NONE = torch.tensor([0, 0])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: certified(Other(), ONE, NONE, eps=0.1), "expected a DigitCNN or an nn.Sequential, got Other"),
        (lambda: interval_bounds(nn.Sequential(nn.Tanh()), ONE, eps=0.1), "expected layers among Conv2d.*, got Tanh"),
        (lambda: certified(nn.Sequential(nn.Flatten()), ONE, NONE, eps=0.1), "last layer to be linear, got Flatten"),
        (lambda: certified(nn.Sequential(), ONE, NONE, eps=0.1), "last layer to be linear, got NoneType"),
        (lambda: certified(DigitCNN(), ONE, NONE + 10, eps=0.1), "labels"),
        (lambda: certified(DigitCNN(), ONE, NONE[:1], eps=0.1), "labels"),
        (lambda: certified(DigitCNN(), ONE, NONE, eps=-0.1), "expected eps"),
        (lambda: certified(DigitCNN(), ONE + 1, NONE, eps=0.1), "pixels"),
        (lambda: certified(DigitCNN(), ONE.double(), NONE, eps=0.1), "images of the model's shape and type"),
        (lambda: certified(DigitCNN(), ONE[..., :20], NONE, eps=0.1), "images of the model's shape and type"),
        (
            lambda: interval_bounds(nn.Sequential(nn.BatchNorm2d(1, affine=False)), ONE, eps=0.1),
            "expected batch norm with weights and running statistics",
        ),
    ],
)
def test_bad_input_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_what_is_no_model_is_told():
    with pytest.raises(TypeError):
        certified(lambda images: images, ONE, NONE, eps=0.1)
