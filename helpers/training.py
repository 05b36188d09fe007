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

from helpers.batches import check_images, check_labels, in_chunks, in_mode


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
        model: takes images (N, 1, 28, 28), returns logits (N, 10); left in the mode it came in.
        images: (N, 1, 28, 28) float in [0, 1], on the model's device.
        labels: (N,) int64 in 0..9.
        epochs: passes over the images, at least 1.
        seed: of the order in which images are drawn; the weights' start is the model's own.
        batch_size: images a step.
        max_lr: the highest learning rate of the cycle.
        label_smoothing: share of each label, in [0, 1), that is spread evenly over the ten digits while training.
        validation: images and labels, as above, that are only measured, as training goes; None measures nothing.
        evaluations: how many times an epoch they are measured.

    Raises:
        ValueError: images, labels or one of the numbers are not as above; nothing was trained.

    Source: D. P. Kingma and J. Ba, Adam (2015); L. N. Smith and N. Topin, Super-Convergence (2018);
        label smoothing: C. Szegedy et al. (2016).
    """
    if validation is not None and not (isinstance(validation, tuple | list) and len(validation) == 2):
        raise ValueError(f"expected validation to be images and labels or None, got {validation!r}")
    for part, part_labels in [(images, labels), validation or (images, labels)]:
        check_images(part)
        check_labels(part_labels, len(part))
    whole = {"epochs": epochs, "batch_size": batch_size, "evaluations": evaluations}
    for name, number in whole.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"expected {name} to be a whole number of at least 1, got {number!r}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"expected label_smoothing in [0, 1), got {label_smoothing!r}")
    if not all(weight.requires_grad for weight in model.parameters()):
        raise ValueError("expected a model that can learn, got frozen weights (model.requires_grad_() frees them)")

    steps = -(-len(images) // batch_size)  # an epoch; the last batch may be smaller
    measured = {epochs * steps * k // (epochs * evaluations) for k in range(1, epochs * evaluations + 1)}
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=max_lr, fused=True)  # fused: one pass over the weights a step
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, one_cycle(epochs * steps))
    history = History([], [], [], [])
    with in_mode(model, training=True), progress_bar(epochs * steps, "training") as bar:
        for _ in range(epochs):
            for batch in torch.randperm(len(images), generator=generator).split(batch_size):  # (batch_size,)
                loss = F.cross_entropy(model(images[batch]), labels[batch], label_smoothing=label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                history.train_loss.append(loss.item())
                bar.update()
                if validation and len(history.train_loss) in measured:
                    held_images, held_labels = validation
                    answers = logits(model, held_images)
                    history.val_step.append(len(history.train_loss))
                    history.val_loss.append(F.cross_entropy(answers, held_labels).item())
                    history.val_accuracy.append((answers.argmax(1) == held_labels).float().mean().item())
                    bar.set_postfix_str(f"validation accuracy {history.val_accuracy[-1]:.2%}")
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
    """Return the probability of each digit, (N, 10) float in [0, 1], each row adding up to 1.

    Args:
        model: takes images (N, 1, 28, 28), returns logits (N, 10); used in eval mode, left in its own.
        images: (N, 1, 28, 28) float in [0, 1].

    Raises:
        ValueError: a wrong shape or type, or pixels outside [0, 1].
    """
    check_images(images)
    return logits(model, images).softmax(1, dtype=images.dtype)  # also under autocast


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the fraction, in [0, 1], of the images whose most probable digit is their label.

    Args:
        model: as in `predict`.
        images: as in `predict`.
        labels: (N,) int64 in 0..9.

    Raises:
        ValueError: images or labels are not as above.
    """
    check_labels(labels, len(images))
    return (predict(model, images).argmax(1) == labels).float().mean().item()


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return what `predict` turns into probabilities, (N, 10): in eval mode and without gradients, by 100 images."""

    @torch.no_grad()
    def of_some(batch: Tensor) -> Tensor:
        return model(batch)

    with in_mode(model, training=False):
        return torch.cat(in_chunks(of_some, images, size=100))


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
