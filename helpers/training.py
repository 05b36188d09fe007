"""The training loop, what it recorded, and what a trained network predicts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.answers import ask_many, asking, logits
from helpers.batches import in_mode
from helpers.checks import check_finite, check_images, check_labels, check_model, generator_of, number
from helpers.device import device_of
from helpers.reader import progress_bar
from helpers.resume import go_on, keep

Loss = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


class History(NamedTuple):
    """What `train` recorded: the training loss at every step, the validation set a few times an epoch."""

    train_loss: list[float]  # of the batch of step 1, 2, ...: its cross-entropy, or the loss that was given
    val_step: list[int]  # the steps after which the validation set was measured
    val_loss: list[float]  # cross-entropy
    val_accuracy: list[float]  # fraction in [0, 1]


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    seed: int,
    batch_size: int = 64,
    max_lr: float = 6e-3,
    label_smoothing: float = 0.0,
    validation: tuple[Tensor, Tensor] | None = None,
    evaluations: int = 5,
    loss: Loss | None = None,
    resume: Path | None = None,
) -> History:
    """Train the model in place with Adam and a one-cycle learning rate; show a progress bar meanwhile.

    In a notebook the bar is wiped at the end, with all that the cell has printed until then.

    Args:
        model: takes images (N, C, H, W), returns logits (N, classes); left in the mode it came in, and where it was.
            Weights that are frozen stay as they are.
        images: (N, C, H, W) float in [0, 1]; all of them are copied to where the model is trained, the best device.
        labels: (N,) int64 in 0..classes - 1.
        epochs: passes over the images, at least 1.
        seed: of the order in which images are drawn; the weights' start is the model's own.
        batch_size: images a step.
        max_lr: the highest learning rate of the cycle, at least 0.
        label_smoothing: share of each label, in [0, 1), that is spread evenly over all classes while training.
        validation: images and labels, as above, that are only measured, as training goes; None measures nothing.
        evaluations: how many times an epoch they are measured.
        loss: what each step makes smaller, by default the cross-entropy of the logits: takes the model, images
            (n, C, H, W) and labels (n,), which are where the model is trained, and the share of the training that is
            done, in [0, 1); returns one number. Adversarial training attacks the images in it. Where it draws random
            numbers, `resume` repeats them only if they come from a generator that it seeds itself, by that share; and a
            GPU draws others than a processor, for dropout as well.
        resume: a file that keeps the training after every epoch, and is gone at the end; where it is there already, the
            training goes on from it and ends as if it had never been interrupted. None keeps nothing.

    Raises:
        TypeError: what should be a tensor, a number or a model is none; nothing was trained.
        ValueError: images, labels, logits or one of the numbers are not as above, no weight can learn, or what `resume`
            holds is another training; nothing was trained. Or, at the end of an epoch, a loss was NaN or infinite.

    Warns:
        UserWarning: the model ends in softmax, in train or in eval mode; the loss takes it once more.

    Source: D. P. Kingma and J. Ba, Adam (2015); L. N. Smith and N. Topin, Super-Convergence (2018);
        label smoothing: C. Szegedy et al. (2016).
    """
    check_model(model)
    if validation is not None and not (isinstance(validation, tuple | list) and len(validation) == 2):
        raise ValueError(f"expected validation to be images and labels or None, got {validation!r}")
    held_images, held_labels = validation or (images, labels)
    for part, part_labels in [(images, labels), (held_images, held_labels)]:
        check_images(part)
        check_labels(part_labels, len(part))
    epochs = number("epochs", epochs, whole=True, least=1)
    batch_size = number("batch_size", batch_size, whole=True, least=1)
    evaluations = number("evaluations", evaluations, whole=True, least=1)
    max_lr = number("max_lr", max_lr, most=torch.finfo(torch.float32).max)
    label_smoothing = number("label_smoothing", label_smoothing, most=1)
    if label_smoothing == 1:
        raise ValueError(f"expected label_smoothing to be below 1, got {label_smoothing!r}")
    if loss and label_smoothing:
        raise ValueError(f"expected label_smoothing=0 with a loss of your own, got {label_smoothing!r}")
    generator = generator_of(seed)
    steps = -(-len(images) // batch_size)  # an epoch; the last batch may be smaller
    measured = {epochs * steps * k // (epochs * evaluations) for k in range(1, epochs * evaluations + 1)}
    losses, history = [], History([], [], [], [])
    recipe = [len(images), epochs, seed, batch_size, max_lr, label_smoothing]
    with torch.inference_mode(False), torch.enable_grad(), asking(model, labels, training=True) as ask:
        device = device_of(model, images)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        if not weights:
            raise ValueError("expected weights that can learn, got none (model.requires_grad_() frees frozen ones)")
        optimizer = torch.optim.Adam(weights, lr=max_lr, fused=True)  # fused: one pass over the weights a step
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, one_cycle(epochs * steps))
        parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
        if resume is not None and Path(resume).exists():
            losses, kept = go_on(Path(resume), recipe, parts, generator, device)
            history = History(*kept)
        with in_mode(model, training=False), torch.no_grad():  # what the model refuses, it refuses before it learns
            check_labels(held_labels, len(held_labels), classes=ask(held_images[:2].to(device)).shape[1])
        images, labels = images.detach().to(device), labels.to(device)
        with progress_bar(epochs * steps, "training") as bar:
            bar.update(len(losses))
            for _ in range(len(losses) // steps, epochs):
                order = torch.randperm(len(images), generator=generator).to(device)
                for batch in order.split(batch_size):  # (batch_size,)
                    optimizer.zero_grad()
                    if loss:
                        with _told_where(device):
                            value = loss(model, images[batch], labels[batch], len(losses) / (epochs * steps))
                        _check_loss(value)
                    else:
                        answers = ask(images[batch])
                        value = F.cross_entropy(answers, labels[batch], label_smoothing=label_smoothing)
                    if not value.requires_grad:
                        raise ValueError("expected a loss that depends on the weights, got one without a gradient")
                    value.backward()
                    optimizer.step()
                    torch.clear_autocast_cache()  # which has the weights as they were
                    schedule.step()
                    losses.append(value.detach())  # left where it is: a GPU does not wait for it
                    bar.update()
                    if validation and len(losses) in measured:
                        with in_mode(model, training=False):
                            answers = ask_many(ask, held_images, device)
                        right = held_labels.to(answers.device)
                        history.val_step.append(len(losses))
                        history.val_loss.append(F.cross_entropy(answers, right).item())
                        history.val_accuracy.append((answers.argmax(1) == right).float().mean().item())
                        bar.set_postfix_str(f"validation accuracy {history.val_accuracy[-1]:.2%}")
                _check_losses(losses)
                if resume is not None:
                    keep(Path(resume), recipe, parts, generator, losses, list(history))
        for weight in weights:  # the last step has no loss of its own
            check_finite("weights after the training (lower max_lr)", weight.detach())
    if resume is not None:
        Path(resume).unlink()
    history.train_loss.extend(torch.stack(losses).tolist())
    return history


@contextmanager
def _told_where(device: torch.device) -> Iterator[None]:
    """Add to an error in a loss where its images are, if not on the processor."""
    try:
        yield
    except RuntimeError as error:
        if device.type != "cpu":
            error.add_note(f"The loss gets its images on {device}: make tensors there, by `device=images.device`.")
        raise


def _check_loss(value: Tensor) -> None:
    """Raise ValueError unless the value is a tensor of one number."""
    if not torch.is_tensor(value) or value.ndim:
        came = f"shape {tuple(value.shape)}" if torch.is_tensor(value) else type(value).__name__
        raise ValueError(f"expected the loss to be a tensor of one number, got {came}")


def _check_losses(losses: list[Tensor]) -> None:
    """Raise ValueError if a training loss is NaN or infinite."""
    broken = (~torch.stack(losses).isfinite()).nonzero()
    if len(broken):
        step, value = broken[0].item() + 1, losses[broken[0]].item()
        raise ValueError(f"expected finite losses, got {value} in step {step} of the training: lower max_lr")


def one_cycle(steps: int) -> Callable[[int], float]:
    """Return the learning rate of each step as a fraction of the highest: up for a tenth of the steps, then down to 0.

    Args:
        steps: of the whole training, at least 1.

    Returns:
        A function of the steps done so far, 0 to steps, with values in [0, 1].
    """
    peak = max(1, steps // 10)
    return lambda done: min((done + 1) / peak, (steps - done) / (steps - peak + 1))


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Return the probability of each class, (N, classes) float in [0, 1], each row adding up to 1.

    Args:
        model: takes images (N, C, H, W), returns logits (N, classes); used in eval mode where it is, left in its own.
        images: (N, C, H, W) float in [0, 1]; the result is on their device and of their type.

    Raises:
        TypeError: no tensor, or no model.
        ValueError: a wrong shape or type, pixels outside [0, 1], or logits of another shape.

    Warns:
        UserWarning: the model ends in softmax, so that the probabilities are flat.
    """
    return logits(model, images).softmax(1, dtype=images.dtype)  # also under autocast


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the fraction, in [0, 1], of the images whose most probable class is their label.

    Args:
        model: as in `predict`.
        images: as in `predict`.
        labels: (N,) int64 in 0..classes - 1.

    Raises:
        TypeError: as in `predict`.
        ValueError: images, labels or logits are not as above.
    """
    check_images(images)
    check_labels(labels, len(images))  # before the work
    probs = predict(model, images)
    check_labels(labels, len(images), classes=probs.shape[1])
    return (probs.argmax(1) == labels.to(probs.device)).float().mean().item()
