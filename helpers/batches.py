"""How any network is run on many images: mode, chunks and threads; and what images and labels must be."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

CLASSES = 10
Result = TypeVar("Result")


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the model in train or eval mode, and every module of it back as it was, also after an exception."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


def in_chunks(work: Callable[..., Result], *tensors: Tensor, size: int) -> list[Result]:
    """Do the work on a few rows of the tensors at a time, and return what it made of each chunk.

    On a processor each of PyTorch's threads takes chunks of its own; if they shared every operation instead, they would
    wait for each other hundreds of times a second. The work itself says whether gradients are taken, since threads do
    not inherit that; `torch.autocast`, which they would not inherit either, is handed on.

    Args:
        work: takes a chunk of each tensor; called from several threads.
        tensors: each (N, ...), N >= 1, all on one device.
        size: rows of a chunk at most, a bound on the memory.
    """
    before, device = torch.get_num_threads(), tensors[0].device.type
    threads = min(before if device == "cpu" else 1, len(tensors[0]))
    rounds = -(-len(tensors[0]) // (size * threads))
    even = -(-len(tensors[0]) // (rounds * threads))  # rows of a chunk, so that all threads have as much to do
    chunks = list(zip(*(tensor.split(even) for tensor in tensors), strict=True))
    if threads == 1:
        return [work(*chunk) for chunk in chunks]
    precision = {"dtype": torch.get_autocast_dtype(device), "enabled": torch.is_autocast_enabled(device)}

    def in_thread(chunk: tuple[Tensor, ...]) -> Result:
        with torch.autocast(device, **precision):
            return work(*chunk)

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(in_thread, chunks))
    finally:
        torch.set_num_threads(before)  # for threads that begin later


def check_shape(images: Tensor) -> None:
    """Raise ValueError unless `images` is a float tensor (N, 1, 28, 28)."""
    if not torch.is_tensor(images) or images.ndim != 4 or images.shape[1:] != (1, 28, 28):
        came = tuple(images.shape) if torch.is_tensor(images) else type(images).__name__
        raise ValueError(f"expected images of shape (N, 1, 28, 28), got {came}")
    if not images.is_floating_point():
        raise ValueError(f"expected images of a floating-point type, got {images.dtype}")


def check_images(images: Tensor) -> None:
    """Raise ValueError unless `images` is a float tensor (N, 1, 28, 28), N >= 1, with every pixel in [0, 1]."""
    check_shape(images)
    if len(images) == 0:
        raise ValueError("expected at least one image, got none")
    low, high = (x.item() for x in torch.aminmax(images.detach()))
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise ValueError(f"expected pixels in [0, 1], got {low:g} to {high:g} (divide 0..255 by 255)")


def check_labels(labels: Tensor, count: int) -> None:
    """Raise ValueError unless `labels` is (count,) int64 with every label in 0..9."""
    if not torch.is_tensor(labels) or labels.shape != (count,) or labels.dtype != torch.int64:
        came = f"{tuple(labels.shape)} {labels.dtype}" if torch.is_tensor(labels) else type(labels).__name__
        raise ValueError(f"expected {count} labels of shape ({count},) and type torch.int64, got {came}")
    if count and not 0 <= labels.min() <= labels.max() < CLASSES:
        raise ValueError(f"expected labels in 0..9, got {labels.min().item()} to {labels.max().item()}")
