"""The training loop, what it recorded, and what a trained network predicts."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from IPython import get_ipython
from IPython.display import clear_output
from torch import Tensor, nn
from tqdm import tqdm

from helpers.batches import (
    check_images,
    check_labels,
    classes_of,
    device_of,
    images_at_once,
    in_chunks,
    in_mode,
    number,
)


class History(NamedTuple):
    """What `train` recorded: the training loss at every step, the validation set a few times an epoch."""

    train_loss: list[float]  # cross-entropy of the batch of step 1, 2, ...
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
) -> History:
    """Train the model in place with Adam and a one-cycle learning rate; show a progress bar meanwhile.

    In a notebook the bar is wiped at the end, with all that the cell has printed until then.

    Args:
        model: takes images (N, C, H, W), returns logits (N, classes); left in the mode it came in, and where it is.
        images: (N, C, H, W) float in [0, 1]; all of them are copied to the model's device at the start.
        labels: (N,) int64 in 0..classes - 1.
        epochs: passes over the images, at least 1.
        seed: of the order in which images are drawn; the weights' start is the model's own.
        batch_size: images a step.
        max_lr: the highest learning rate of the cycle, at least 0.
        label_smoothing: share of each label, in [0, 1), that is spread evenly over all classes while training.
        validation: images and labels, as above, that are only measured, as training goes; None measures nothing.
        evaluations: how many times an epoch they are measured.

    Raises:
        TypeError: what should be a tensor, a number or a model is none; nothing was trained.
        ValueError: images, labels or one of the numbers are not as above, or no logits came; nothing was trained.

    Warns:
        UserWarning: the model ends in softmax, which the loss takes once more.

    Source: D. P. Kingma and J. Ba, Adam (2015); L. N. Smith and N. Topin, Super-Convergence (2018);
        label smoothing: C. Szegedy et al. (2016).
    """
    if validation is not None and not (isinstance(validation, tuple | list) and len(validation) == 2):
        raise ValueError(f"expected validation to be images and labels or None, got {validation!r}")
    for part, part_labels in [(images, labels), validation or (images, labels)]:
        check_images(part)
        check_labels(part_labels, len(part), classes_of(model, part))
    epochs = number("epochs", epochs, whole=True, least=1)
    batch_size = number("batch_size", batch_size, whole=True, least=1)
    evaluations = number("evaluations", evaluations, whole=True, least=1)
    max_lr = number("max_lr", max_lr, most=torch.finfo(torch.float32).max)
    label_smoothing = number("label_smoothing", label_smoothing, most=1)
    if label_smoothing == 1:
        raise ValueError(f"expected label_smoothing to be below 1, got {label_smoothing!r}")
    if not all(weight.requires_grad for weight in model.parameters()):
        raise ValueError("expected a model that can learn, got frozen weights (model.requires_grad_() frees them)")

    steps = -(-len(images) // batch_size)  # an epoch; the last batch may be smaller
    measured = {epochs * steps * k // (epochs * evaluations) for k in range(1, epochs * evaluations + 1)}
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=max_lr, fused=True)  # fused: one pass over the weights a step
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, one_cycle(epochs * steps))
    device = device_of(model, images)
    images, labels = images.detach().to(device), labels.to(device)
    losses, history = [], History([], [], [], [])
    with in_mode(model, training=True), progress_bar(epochs * steps, "training") as bar:
        for _ in range(epochs):
            order = torch.randperm(len(images), generator=generator).to(device)
            for batch in order.split(batch_size):  # (batch_size,)
                loss = F.cross_entropy(model(images[batch]), labels[batch], label_smoothing=label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.detach())  # left where it is: a GPU does not wait for it
                bar.update()
                if validation and len(losses) in measured:
                    held_images, held_labels = validation
                    answers = logits(model, held_images)
                    held_labels = held_labels.to(answers.device)
                    history.val_step.append(len(losses))
                    history.val_loss.append(F.cross_entropy(answers, held_labels).item())
                    history.val_accuracy.append((answers.argmax(1) == held_labels).float().mean().item())
                    bar.set_postfix_str(f"validation accuracy {history.val_accuracy[-1]:.2%}")
    history.train_loss.extend(torch.stack(losses).tolist())
    return history


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
    check_images(images)
    classes_of(model, images)
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
    check_labels(labels, len(images))
    probs = predict(model, images)
    check_labels(labels, len(images), classes=probs.shape[1])
    return (probs.argmax(1) == labels.to(probs.device)).float().mean().item()


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return what `predict` turns into probabilities, (N, classes): in eval mode, without gradients, by chunks."""

    @torch.no_grad()
    def of_some(batch: Tensor) -> Tensor:
        return model(batch.clone())  # which the model may change

    device = device_of(model, images)
    with in_mode(model, training=False):
        return torch.cat(in_chunks(of_some, images, size=images_at_once(images, device, "prediction"), device=device))


@contextmanager
def progress_bar(total: int, label: str) -> Iterator[tqdm]:
    """Show a progress bar that leaves nothing behind: in a notebook the cell's output is cleared after it."""
    in_notebook = hasattr(get_ipython(), "kernel")
    try:
        with tqdm(total=total, desc=label, leave=False, file=sys.stdout if in_notebook else sys.stderr) as bar:
            yield bar
    finally:
        if in_notebook:
            clear_output()
