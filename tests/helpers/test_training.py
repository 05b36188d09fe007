"""The training loop on tiny data: it learns, holds out, repeats, and refuses what it cannot use."""

import math

import pytest
import torch
from torch import nn

import helpers.training
from helpers.adversarial import fgsm
from helpers.cnn import DigitCNN
from helpers.training import accuracy, one_cycle, predict, train


def bars(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that a linear model tells apart: a bright row, the label its number."""
    labels = torch.arange(count) % 10
    images = torch.zeros(count, 1, 28, 28)
    images[torch.arange(count), 0, 2 * labels + 4] = 1
    return images, labels


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def test_it_learns_and_records_what_it_saw():
    images, labels = bars(250)
    model = linear()
    held = images[200:], labels[200:]
    history = train(model, images[:200], labels[:200], epochs=3, seed=0, batch_size=32, validation=held, evaluations=2)
    assert len(history.train_loss) == 3 * math.ceil(200 / 32)
    assert history.val_step == [3, 7, 10, 14, 17, 21]
    assert len(history.val_loss) == len(history.val_accuracy) == 6
    assert history.train_loss[0] == pytest.approx(math.log(10), rel=0.1)
    assert history.val_loss[-1] < history.val_loss[0]
    assert history.val_accuracy[-1] == 1 == accuracy(model, images, labels)


def test_every_image_is_drawn_once_an_epoch_and_none_of_the_validation_set(monkeypatch):
    seen = []
    plain = helpers.training.F.cross_entropy

    def spy(logits, labels, **options):
        if logits.requires_grad:
            seen.append(logits.detach()[:, 0])
        return plain(logits, labels, **options)

    class Echo(nn.Module):
        """Returns as logits the first pixel, in which each image carries its number."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(10))

        def forward(self, images):
            return images[:, 0, 0, :1] + 0 * self.weight

    monkeypatch.setattr(helpers.training.F, "cross_entropy", spy)
    images = torch.zeros(100, 1, 28, 28)
    images[:, 0, 0, 0] = torch.arange(100) / 100
    labels = torch.zeros(100, dtype=torch.int64)
    held = images[80:], labels[80:]
    train(Echo(), images[:80], labels[:80], epochs=2, seed=0, batch_size=16, validation=held)
    drawn = torch.cat(seen).view(2, 80)
    assert not torch.equal(drawn[0], drawn[1])
    for epoch in drawn:
        assert torch.equal(epoch.sort().values, images[:80, 0, 0, 0])


def test_label_smoothing_spreads_the_labels_in_training_only():
    images, labels = bars(60)
    sure = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False))
    with torch.no_grad():
        sure[1].weight.copy_(20 * images[:10].flatten(1) / 28)  # logit 20 for the right class, 0 for the others
    options = {"epochs": 1, "seed": 0, "validation": (images, labels), "batch_size": 60, "max_lr": 0.0}
    history = train(sure, images, labels, **options, label_smoothing=0.1)
    assert history.train_loss == [pytest.approx(20 - 20 * (0.9 + 0.01), rel=1e-4)]
    assert history.val_loss == pytest.approx([0] * len(history.val_loss), abs=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 100])
def test_one_cycle_rises_for_a_tenth_and_falls_to_the_end(steps):
    rates = [one_cycle(steps)(done) for done in range(steps + 1)]
    top = rates.index(max(rates))
    assert max(rates) == 1
    assert rates[-1] == 0 < rates[-2]
    assert rates == sorted(rates[: top + 1]) + sorted(rates[top + 1 :], reverse=True)
    assert top <= steps // 10


def test_the_seed_decides():
    images, labels = bars(100)
    runs = [train(linear(), images, labels, epochs=1, seed=seed).train_loss for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_the_global_generator_and_the_inputs_are_left_alone():
    images, labels = bars(60)
    before = images.clone(), labels.clone(), torch.get_rng_state()
    model = linear()
    state = torch.get_rng_state()
    train(model, images, labels, epochs=1, seed=3)
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("training", [False, True])
def test_mode_is_left_as_found(training):
    images, labels = bars(40)
    model = DigitCNN(batch_norm=True).train(training)
    train(model, images, labels, epochs=1, seed=0, validation=(images[:8], labels[:8]))
    predict(model, images[:4])
    assert model.training == training


def test_predictions_are_those_of_eval_mode_and_add_up_to_one():
    model = DigitCNN(batch_norm=True).train()
    before = model.bn1.running_mean.clone()
    images = torch.rand(7, 1, 28, 28)
    probs = predict(model, images)
    assert torch.equal(model.bn1.running_mean, before)
    assert model.training
    assert not probs.requires_grad
    torch.testing.assert_close(probs.sum(1), torch.ones(7))
    torch.testing.assert_close(probs, model.eval()(images).softmax(1).detach())


def test_batches_of_a_prediction_do_not_matter():
    images, _ = bars(1203)
    torch.testing.assert_close(
        predict(linear(), images)[[0, 99, 100, 1202]], predict(linear(), images[[0, 99, 100, 1202]])
    )


def test_under_autocast_probabilities_have_the_images_type_and_nearly_the_same_values():
    model, images = DigitCNN(), torch.rand(4, 1, 28, 28)
    exact = predict(model, images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = predict(model, images)
    assert rough.dtype == images.dtype
    assert 0 < (rough - exact).abs().max() < 0.02


def test_accuracy_is_a_fraction():
    images, labels = bars(10)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(images.flatten(1))  # each class's image as its template: all right
    assert accuracy(model, images, labels) == 1
    wrong = labels.clone()
    wrong[:3] = (wrong[:3] + 1) % 10
    assert accuracy(model, images, wrong) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 0}, "epochs .* got 0"),
        ({"epochs": 1.5}, "epochs .* got 1.5"),
        ({"batch_size": -1}, "batch_size .* got -1"),
        ({"evaluations": 0}, "evaluations .* got 0"),
        ({"label_smoothing": 1.0}, "label_smoothing .* got 1.0"),
        ({"validation": (bars(5)[0], bars(4)[1])}, "expected 5 labels"),
        ({"validation": 0}, "images and labels or None, got 0"),
        ({"validation": 50}, "images and labels or None, got 50"),
        ({"validation": (2 * bars(5)[0], bars(5)[1])}, r"\[0, 1\], got 0 to 2"),
        ({"images": 255 * bars(40)[0]}, r"\[0, 1\], got 0 to 255"),
        ({"images": bars(40)[0].squeeze(1)}, r"\(40, 28, 28\)"),
        ({"labels": bars(40)[1] + 1}, "0..9, got 1 to 10"),
        ({"labels": bars(39)[1]}, "expected 40 labels"),
        ({"model": linear().requires_grad_(False)}, "weights that can learn, got none .* frees frozen"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Identity())}, "weights that can learn, got none"),
        ({"seed": 1.5}, "seed to be a whole number, got 1.5"),
        ({"validation": (bars(5)[0][..., :20], bars(5)[1])}, r"got \(2, 1, 28, 20\) .*mat1 and mat2"),
        ({"validation": (bars(5)[0], bars(5)[1] + 6)}, "0..9, got 6 to 10"),
        ({"max_lr": float("inf")}, "max_lr .* got inf"),
        ({"max_lr": 1e39}, "max_lr .* got 1e[+]39"),
        ({"max_lr": float("nan")}, "max_lr .* got nan"),
        ({"max_lr": -0.1}, "max_lr .* got -0.1"),
        ({"images": bars(40)[0].double()}, "the model's torch.float32, got torch.float64"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(change, said):
    model = change.pop("model", None) or linear()
    before = [weight.detach().clone() for weight in model.parameters()]
    images, labels = bars(40)
    arguments = {"images": images, "labels": labels, "epochs": 1, "seed": 0} | change
    with pytest.raises(ValueError, match=said):
        train(model, arguments.pop("images"), arguments.pop("labels"), **arguments)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": None}, "images as a tensor, got NoneType"),
        ({"labels": None}, "labels as a tensor, got NoneType"),
        ({"max_lr": None}, "max_lr to be a number, got None"),
        ({"label_smoothing": "0.1"}, "label_smoothing to be a number, got '0.1'"),
    ],
)
def test_another_type_is_told(change, said):
    images, labels = bars(40)
    arguments = {"images": images, "labels": labels, "epochs": 1, "seed": 0} | change
    with pytest.raises(TypeError, match=said):
        train(linear(), arguments.pop("images"), arguments.pop("labels"), **arguments)


def test_weights_that_are_frozen_stay_as_they_are_and_the_others_learn():
    images, labels = bars(250)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 10))
    model[1].requires_grad_(False)
    frozen, before = model[1].weight.clone(), model[3].weight.detach().clone()
    history = train(model, images, labels, epochs=8, seed=0, validation=(images, labels))
    assert torch.equal(model[1].weight, frozen)
    assert not torch.equal(model[3].weight, before)
    assert history.val_accuracy[-1] > 0.95
    assert not model[1].weight.requires_grad


def test_a_training_that_runs_into_nan_says_so_at_the_end_of_the_epoch():
    class Bursts(nn.Module):
        """Its logits are NaN from the third batch on."""

        def __init__(self):
            super().__init__()
            self.model, self.asked = linear(), 0

        def forward(self, images):
            self.asked += self.training
            return self.model(images) * (torch.nan if self.asked > 2 else 1)

    images, labels = bars(100)
    model = Bursts()
    with pytest.raises(ValueError, match="finite losses, got nan in step 3 of the training: lower max_lr"):
        train(model, images, labels, epochs=5, seed=0, batch_size=20)
    assert model.asked == 5  # one epoch


def test_logits_that_no_weight_changes_are_told():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = linear()

        def forward(self, images):
            return self.model(images).detach()

    with pytest.raises(ValueError, match="a loss that depends on the weights"):
        train(Cut(), *bars(40), epochs=1, seed=0)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_a_model_learns_where_gradients_are_off(around):
    with around():
        images, labels = bars(60)
        model = linear() if around is torch.no_grad else None
    model = model or linear()
    expected = train(linear(), *bars(60), epochs=1, seed=0).train_loss
    with around():
        assert train(model, images, labels, epochs=1, seed=0).train_loss == expected


def test_losses_stay_where_they_are_until_training_ends(monkeypatch):
    """On a GPU each `item` waits for all that was asked of it."""
    asked, plain = [], torch.Tensor.item

    def item(tensor):
        asked.append(tensor)
        return plain(tensor)

    images, labels = bars(640)
    monkeypatch.setattr(torch.Tensor, "item", item)
    train(linear(), images, labels, epochs=1, seed=0, batch_size=10)
    few = len(asked)
    train(linear(), images, labels, epochs=1, seed=0, batch_size=5)
    assert len(asked) == 2 * few


def test_a_loss_is_what_each_step_learns_from():
    """Turned upside down before each step, the bars of one digit are those of another: nothing else may be learned."""
    images, labels = bars(250)
    shares = []

    def upside_down(model, batch, batch_labels, done):
        assert model.training
        shares.append(done)
        return nn.functional.cross_entropy(model(batch.flip(2)), batch_labels)

    turned, plain = linear(), linear()
    history = train(turned, images, labels, epochs=2, seed=0, loss=upside_down, validation=(images.flip(2), labels))
    assert history.train_loss == train(plain, images.flip(2), labels, epochs=2, seed=0).train_loss
    assert torch.equal(turned[1].weight, plain[1].weight)
    assert history.val_accuracy[-1] > 0.9 > 0.5 > accuracy(turned, images, labels)
    assert shares == [k / 8 for k in range(8)]


def test_pgd_in_training_leaves_a_model_that_the_same_attack_fools_less():
    """Each class a bright row and a faint one: the faint one, within reach of the attack, is not relied on."""
    images, labels = bars(500)
    images[torch.arange(500), 0, labels] = 0.08

    def attacked(model, batch, batch_labels, _):
        return nn.functional.cross_entropy(model(fgsm(model, batch, batch_labels, eps=0.1)), batch_labels)

    def robust(model):
        return accuracy(model, fgsm(model, images, labels, eps=0.3), labels)

    plain, hardened = linear(), linear()
    train(plain, images, labels, epochs=3, seed=0)
    train(hardened, images, labels, epochs=3, seed=0, loss=attacked)
    faint, bright = range(10), range(4, 24, 2)

    def weight_of_the_faint(model):
        rows = model[1].weight.view(10, 28, 28).mean(2)
        return sum(rows[k, faint[k]].item() for k in range(10)) / sum(rows[k, bright[k]].item() for k in range(10))

    assert weight_of_the_faint(hardened) < weight_of_the_faint(plain) / 2
    assert robust(hardened) >= robust(plain)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda *_: 1.0, "expected the loss to be a tensor of one number, got float"),
        (
            lambda model, images, *_: model(images),
            r"expected the loss to be a tensor of one number, got shape \(64, 10\)",
        ),
        (lambda model, images, *_: model(images).mean().detach(), "expected a loss that depends on the weights"),
    ],
)
def test_a_loss_that_is_none_is_told(wrong, said):
    with pytest.raises(ValueError, match=said):
        train(linear(), *bars(100), epochs=1, seed=0, loss=wrong)


def test_a_loss_of_ones_own_leaves_no_labels_to_smooth():
    with pytest.raises(ValueError, match="expected label_smoothing=0 with a loss of your own"):
        train(linear(), *bars(100), epochs=1, seed=0, loss=lambda model, x, *_: model(x).sum(), label_smoothing=0.1)


def usual(model, images, labels):
    return nn.functional.cross_entropy(model(images), labels)


def test_an_interrupted_training_goes_on_and_ends_as_if_nothing_had_been(tmp_path):
    images, labels = bars(200)
    options = {"epochs": 4, "seed": 3, "batch_size": 32, "validation": (images, labels)}
    whole, stopped = linear(), linear()
    expected = train(whole, images, labels, **options)
    kept = tmp_path / "not there yet" / "begun.pt"

    def interrupt(model, batch, batch_labels, done):
        if done > 0.6:
            raise KeyboardInterrupt
        return usual(model, batch, batch_labels)

    with pytest.raises(KeyboardInterrupt):
        train(stopped, images, labels, **options, loss=interrupt, resume=kept)
    assert kept.exists()
    asked = []
    again = linear(seed=7)  # whatever it is then
    count = train(again, images, labels, **options, loss=lambda *a: asked.append(1) or usual(*a[:3]), resume=kept)
    assert len(asked) == 2 * 7  # two epochs of four
    assert count == expected
    assert torch.equal(again[1].weight, whole[1].weight)
    assert not kept.exists()


def test_a_kept_training_of_another_recipe_is_refused(tmp_path):
    kept = tmp_path / "begun.pt"

    def interrupt(model, batch, batch_labels, done):
        if done > 0.6:
            raise KeyboardInterrupt
        return usual(model, batch, batch_labels)

    with pytest.raises(KeyboardInterrupt):
        train(linear(), *bars(100), epochs=3, seed=0, loss=interrupt, resume=kept)
    with pytest.raises(ValueError, match="remove it"):
        train(linear(), *bars(100), epochs=4, seed=0, resume=kept)
    assert kept.exists()
