"""What a network answers: each answer is one pass, and what are no logits, or images that it does not take, is told."""

import time
import warnings

import pytest
import torch
from torch import nn

from helpers.activations import record
from helpers.adversarial import fgsm, pgd
from helpers.answers import asking, logits
from helpers.cnn import DigitCNN
from helpers.fooling import adversarial_noise, fooling_images, targeted_images
from helpers.occlusion import occlusion_map, occlusion_winner
from helpers.training import accuracy, predict, train
from tests.helpers.toys import toy

USES = {
    "predict": lambda m, x, y: predict(m, x),
    "logits": lambda m, x, y: logits(m, x),
    "fgsm": lambda m, x, y: fgsm(m, x, y, eps=0.1),
    "pgd": lambda m, x, y: pgd(m, x, y, eps=0.1, alpha=0.03, steps=7, early_stop=True),
    "fooling_images": lambda m, x, y: fooling_images(m, y, alpha=0.05, steps=2, start=x, total_variation=1.0)[0],
    "targeted_images": lambda m, x, y: targeted_images(m, x, y, beta=10, alpha=0.05, steps=2)[0],
    "adversarial_noise": lambda m, x, y: adversarial_noise(m, x, y, alpha=0.05, steps=2, eps=0.1),
    "occlusion_map": lambda m, x, y: occlusion_map(m, x, y, patch=min(x.shape[2:])),
    "occlusion_winner": lambda m, x, y: occlusion_winner(m, x, patch=min(x.shape[2:])),
    "train": lambda m, x, y: train(m, x, y, epochs=1, seed=0),
}
uses = pytest.mark.parametrize("use", USES.values(), ids=USES)


@pytest.fixture
def one_thread():
    """All images in one chunk."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Answers(nn.Module):
    """A model of digits whose logits take another form."""

    def __init__(self, form):
        super().__init__()
        self.model, self.form = toy(1, 28, 28, 10), form

    def forward(self, images):
        return self.form(self.model(images))


@pytest.mark.usefixtures("one_thread")
@uses
@pytest.mark.parametrize(
    ("form", "came"),
    [
        (lambda logits: logits[:, :, None, None], r"\(\d, 10, 1, 1\)"),
        (lambda logits: logits[:, 0], r"\(\d,\)"),
        (lambda logits: logits[:1], r"\(1, 10\)"),
        (lambda logits: (logits, logits), "tuple"),
    ],
)
def test_logits_of_another_shape_are_refused(use, form, came):
    with pytest.raises(ValueError, match=rf"logits of shape \(N, classes\) from the model, here N = \d, got {came}"):
        use(Answers(form), torch.rand(3, 1, 28, 28), torch.tensor([1, 2, 3]))


def test_accuracy_and_training_refuse_what_predictions_do():
    images, labels = torch.rand(3, 1, 28, 28), torch.tensor([1, 2, 7])
    with pytest.raises(ValueError, match=r"\(\d, 10, 1, 1\)"):
        accuracy(Answers(lambda logits: logits[:, :, None, None]), images, labels)
    with pytest.raises(ValueError, match=r"labels in 0..4, got 1 to 7"):
        accuracy(Answers(lambda logits: logits[:, :5]), images, labels)
    with pytest.raises(ValueError, match=r"labels in 0..4, got 1 to 7"):
        train(Answers(lambda logits: logits[:, :5]), images, labels, epochs=1, seed=0)


@uses
def test_softmax_at_the_end_is_said_once(use):
    images, labels = torch.rand(300, 1, 28, 28), torch.arange(300) % 10
    with pytest.warns(UserWarning, match="Answers ends in softmax") as said:
        use(Answers(lambda logits: logits.softmax(1)), images, labels)
    assert len(said) == 1


def test_log_softmax_at_the_end_is_no_fault():
    images = torch.rand(3, 1, 28, 28)
    plain = Answers(lambda logits: logits)
    torch.testing.assert_close(predict(Answers(lambda logits: logits.log_softmax(1)), images), predict(plain, images))


def test_what_is_no_module_has_no_mode():
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module as the model, got function"):
        predict(lambda images: images, torch.rand(1, 1, 28, 28))


class Counts(nn.Module):
    """A model that counts how often it is asked, and in which mode."""

    def __init__(self, model):
        super().__init__()
        self.model, self.asked = model, []

    def forward(self, images):
        self.asked.append(self.training)
        return self.model(images)


@pytest.mark.usefixtures("one_thread")
def test_nothing_is_asked_beforehand():
    images, labels = torch.rand(1, 1, 28, 28), torch.tensor([1])
    for use, count in (("predict", 1), ("logits", 1), ("fgsm", 1), ("targeted_images", 2), ("occlusion_winner", 1)):
        model = Counts(toy(1, 28, 28, 10))
        USES[use](model, images, labels)
        assert model.asked == [False] * count, use
    model = Counts(toy(1, 28, 28, 10))
    pgd(model, images, labels, eps=0.1, alpha=0.1, steps=5)
    assert model.asked == [False] * 5


@pytest.mark.usefixtures("one_thread")
def test_training_asks_once_beforehand_so_that_nothing_is_learned_in_vain():
    images, labels = torch.rand(6, 1, 28, 28), torch.arange(6)
    options = {"epochs": 2, "seed": 0, "batch_size": 3, "evaluations": 1}
    model = Counts(toy(1, 28, 28, 10))
    train(model, images, labels, **options)
    assert model.asked == [False] + [True] * 4
    model = Counts(toy(1, 28, 28, 10))
    train(model, images, labels, validation=(images, labels), **options)
    assert model.asked == [False, True, True, False, True, True, False]


@uses
@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 20, 30), (1, 28, 27)])
def test_images_of_a_shape_that_the_model_does_not_take_are_told(use, shape):
    model, images = toy(1, 28, 28, 10), torch.rand(2, *shape)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    words = "to have 1 channels, but got 3" if shape[0] == 3 else "mat1 and mat2 shapes cannot be multiplied"
    came = ", ".join(map(str, shape))
    said = rf"expected images of a shape that the model takes, got \(\d+, {came}\) and torch.float32: .*{words}"
    with pytest.raises(ValueError, match=said) as caught:
        use(model, images, torch.tensor([1, 2]))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_record_tells_it_too():
    with pytest.raises(ValueError, match=r"got \(2, 3, 28, 28\) .*: .*but got 3 channels"):
        record(toy(1, 28, 28, 10), torch.rand(2, 3, 28, 28), ["0"])


@uses
def test_a_scripted_models_words_are_the_last_ones(use):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own: scripting is deprecated
        model = torch.jit.script(toy(1, 28, 28, 10))
    with pytest.raises(ValueError, match=r"float32: RuntimeError: Given groups=1"):
        use(model, torch.rand(2, 3, 28, 28), torch.tensor([1, 2]))


def test_images_of_colour_that_are_to_fool_need_a_start():
    model, targets = toy(3, 32, 32, 5), torch.tensor([1, 2])
    with pytest.raises(ValueError, match=r"(?s)got \(\d, 1, 28, 28\).*No start was given.*\(2, 1, 28, 28\)"):
        fooling_images(model, targets, alpha=0.1, steps=1)
    images, _ = fooling_images(model, targets, alpha=0.1, steps=1, start=torch.rand(2, 3, 32, 32))
    assert images.shape == (2, 3, 32, 32)


def test_a_full_memory_is_no_fault_of_the_images():
    class Full(DigitCNN):
        def forward(self, images):
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        predict(Full(), torch.rand(1, 1, 28, 28))


@pytest.mark.parametrize(
    ("images", "error", "said"),
    [
        (None, TypeError, "images as a tensor, got NoneType"),
        (torch.rand(28, 28), ValueError, r"got \(28, 28\)"),
        (2 * torch.ones(1, 1, 28, 28), ValueError, r"pixels in \[0, 1\], got 2 to 2"),
        (torch.rand(0, 1, 28, 28), ValueError, "at least one image, got none"),
    ],
)
def test_logits_are_of_images(images, error, said):
    with pytest.raises(error, match=said):
        logits(DigitCNN(), images)


def test_logits_are_those_of_eval_mode():
    model, images = toy(2, 6, 6, 3), torch.rand(7, 2, 6, 6)
    found = logits(model, images)
    assert model.training
    assert not found.requires_grad
    torch.testing.assert_close(found, model.eval()(images).detach())


class InMode(nn.Module):
    """Ends in softmax in one mode only."""

    def __init__(self, training):
        super().__init__()
        self.model, self.flat = toy(1, 6, 6, 3), training

    def forward(self, images):
        answers = self.model(images)
        return answers.softmax(1) if self.training == self.flat else answers


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("validated", [False, True])
def test_training_says_once_that_a_model_ends_in_softmax_in_either_mode(training, validated):
    images, labels = torch.rand(40, 1, 6, 6), torch.arange(40) % 3
    validation = (images, labels) if validated else None
    with pytest.warns(UserWarning, match="InMode ends in softmax") as said:
        train(InMode(training), images, labels, epochs=2, seed=0, validation=validation)
    assert [warning.filename for warning in said] == [__file__]


def test_a_model_that_ends_in_softmax_while_it_learns_predicts_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(InMode(True), torch.rand(2, 1, 6, 6))
        with asking(toy(1, 6, 6, 3)) as ask:
            ask(torch.rand(2, 1, 6, 6))
    with pytest.warns(UserWarning, match="InMode ends in softmax"):
        predict(InMode(False), torch.rand(2, 1, 6, 6))


class Keeps(nn.Module):
    """Keeps in itself, and reads again a moment later, what it was asked."""

    def __init__(self):
        super().__init__()
        self.model = toy(1, 6, 6, 3)

    def forward(self, images):
        self.kept = images
        time.sleep(0.002)
        return self.model(self.kept)


def test_threads_do_not_share_what_a_model_keeps_while_it_answers():
    model, images = Keeps().eval(), torch.rand(400, 1, 6, 6)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = predict(model, images)
        moved = fgsm(model, images, torch.arange(400) % 3, eps=0.1)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, model.model(images).softmax(1).detach())
    torch.testing.assert_close(moved, fgsm(model.model, images, torch.arange(400) % 3, eps=0.1))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_answers_that_are_no_numbers_are_refused(value):
    class Broken(nn.Module):
        def forward(self, images):
            answers = torch.ones(len(images), 3)
            answers[-1, 1] = value
            return answers

    images, labels = torch.rand(5, 1, 6, 6), torch.zeros(5, dtype=torch.int64)
    for work in (
        lambda: predict(Broken(), images),
        lambda: accuracy(Broken(), images, labels),
        lambda: occlusion_map(Broken(), images, labels, patch=3),
    ):
        with pytest.raises(ValueError, match="expected finite logits from the model"):
            work()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # PyTorch's own: scripting goes
def test_a_frozen_script_has_no_mode_and_answers():
    model, images = toy(1, 6, 6, 3).eval(), torch.rand(5, 1, 6, 6)
    frozen = torch.jit.freeze(torch.jit.script(model))
    torch.testing.assert_close(predict(frozen, images), predict(model, images))


def test_a_training_that_ends_in_weights_beyond_range_is_refused():
    with pytest.raises(ValueError, match=r"expected finite weights after the training \(lower max_lr\)"):
        train(toy(1, 6, 6, 3), torch.rand(6, 1, 6, 6), torch.arange(6) % 3, epochs=1, seed=0, max_lr=3e38)


def test_an_occlusion_map_needs_a_model():
    with pytest.raises(TypeError, match="got NoneType"):
        occlusion_map(None, torch.rand(1, 1, 6, 6), torch.zeros(1, dtype=torch.int64), patch=3)


def test_a_zero_gradient_in_half_precision_moves_nothing():
    class Dead(nn.Module):  # for dark images
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(36, 3, generator=torch.Generator().manual_seed(0)))

        def forward(self, images):
            return (images.flatten(1) - 0.5).relu() @ self.weight

    images = torch.stack([torch.full((1, 6, 6), 0.2), torch.full((1, 6, 6), 0.8)]).half()
    with pytest.warns(UserWarning, match="1 of 2 images is zero"):
        noise = adversarial_noise(Dead().half(), images, torch.zeros(2, dtype=torch.int64), alpha=0.1, steps=2)
    assert noise.isfinite().all()
    assert noise[0].eq(0).all()
    assert noise[1].ne(0).any()
