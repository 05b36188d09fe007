"""What a network answers: its logits, of which each is checked as it comes, so that nothing is asked beforehand."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from helpers.batches import images_at_once, in_chunks, in_mode, twin
from helpers.checks import check_finite, check_images, check_labels, check_logits, check_model, warn
from helpers.device import VARIABLE, device_of, dtype_of, on_best_device


@contextmanager
def asking(
    model: nn.Module, labels: Tensor | None = None, *, training: bool = False
) -> Iterator[Callable[[Tensor], Tensor]]:
    """Give a function from images (n, C, H, W) to the model's logits (n, classes).

    Meanwhile the model is in one mode, and on the best device: `device_of` tells where the images are to be.
    Threads may share the function: each but the first asks modules of its own with the same weights, so that what a
    `forward` keeps in its module is no other thread's. A scripted or compiled model is shared.

    Args:
        model: any classifier.
        labels: (N,) int64 of at least 0, of which the logits must have all classes; None knows none.
        training: the mode.

    Raises:
        TypeError: the model is no module.
        ValueError: it does not take the images, its answer is no logits, or there are labels beyond its classes.

    Warns:
        UserWarning: at the end, if the first logits in either mode were probabilities, as of a softmax at the end.
    """
    check_model(model)
    known = 0 if labels is None else int(labels.max()) + 1
    own, first = threading.local(), threading.get_ident()
    flat: dict[bool, bool] = {}  # in train mode, in eval mode: whether the first logits were probabilities

    def ask(images: Tensor) -> Tensor:
        if threading.get_ident() != first and not hasattr(own, "model"):
            own.model = twin(model)
        logits = run(getattr(own, "model", model), images)
        check_logits(logits, len(images))
        if logits.shape[1] < known:
            check_labels(labels, len(labels), logits.shape[1])
        mode = getattr(model, "training", False)  # which a frozen script has not
        if mode not in flat:  # once, since a GPU must be waited for
            flat[mode] = _are_probabilities(logits.detach())
        return logits

    with in_mode(model, training=training), on_best_device(model):
        yield ask
    if any(flat.values()):
        warn(
            f"expected logits, got what seem to be probabilities: {type(model).__name__} ends in softmax, and a second "
            "softmax makes its probabilities flat; leave out its last layer"
        )


def run(model: nn.Module, images: Tensor) -> Tensor:
    """Return what the model answers to a copy of the images; ValueError with PyTorch's words if it fails."""
    try:
        return model(images.clone())  # which the model may change
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if images.dtype != dtype_of(model) and not torch.is_autocast_enabled(images.device.type):
            raise ValueError(f"expected images of the model's {dtype_of(model)}, got {images.dtype}") from error
        words = str(error).strip().splitlines() or [type(error).__name__]
        said = next((line for line in reversed(words) if line.startswith("RuntimeError: ")), words[0])  # of a script
        if "CUDA error" in said or "cuDNN error" in said:
            raise
        if "same device" in said or "should be the same" in said or "on MPS" in said:
            way_out = f"let its modules have all tensors, or set {VARIABLE}=cpu before the notebook starts"
            there = f"expected a model that lives on one device, here {images.device}"
            raise ValueError(f"{there}: {way_out}; {said}") from error
        came = f"{tuple(images.shape)} and {images.dtype}"
        raise ValueError(f"expected images of a shape that the model takes, got {came}: {said}") from error


def _are_probabilities(logits: Tensor) -> bool:
    """Return whether each row of the logits (N, classes) is at least 0 and adds up to 1, as far as they are precise."""
    sums = logits.float().sum(1)  # (N,)
    close = 1e-2 if logits.dtype.itemsize < 4 else 1e-4
    return bool((logits >= 0).all() & torch.isclose(sums, torch.ones_like(sums), atol=close).all())


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return what `predict` turns into probabilities, (N, classes): in eval mode, without gradients, by chunks.

    Arguments and errors are those of `predict`.
    """
    check_images(images)
    with asking(model) as ask:
        return ask_many(ask, images, device_of(model, images))


def ask_many(ask: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Tensor:
    """Return what `ask` answers to the images, (N, classes) on their device: without gradients, by chunks.

    Raises:
        ValueError: an answer is NaN or infinite.
    """
    size = images_at_once(images, device, "prediction")
    answers = torch.cat(in_chunks(torch.no_grad()(ask), images, size=size, device=device))
    check_finite("logits from the model", answers)
    return answers
