"""The course's network, the trained copies of it, and the checks that every function of images shares."""

import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from helpers.data import DATA

CLASSES = 10
Result = TypeVar("Result")


class DigitCNN(nn.Module):
    """Two convolutions and two linear layers: 799,078 parameters, 128 more with batch norm.

    Args:
        batch_norm: normalise after each convolution (Ioffe and Szegedy, 2015).

    Source: the architecture of part B of the assignment.
    """

    def __init__(self, batch_norm: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(32) if batch_norm else nn.Identity()
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(32, 32, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm2d(32) if batch_norm else nn.Identity()
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(32 * 7 * 7, 500)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(500, CLASSES)
        # (N, H, W, C) in memory: a processor's convolutions take about two thirds of the time; no value changes place.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 1, 28, 28) in [0, 1] to logits (N, 10); ValueError for another shape."""
        check_shape(images)
        x = self.pool1(self.relu1(self.bn1(self.conv1(images))))  # (N, 32, 14, 14)
        x = self.pool2(self.relu2(self.bn2(self.conv2(x))))  # (N, 32, 7, 7)
        x = self.relu3(self.fc1(x.flatten(1)))  # (N, 500)
        return self.fc2(x)  # (N, 10)


def load_cnn(batch_norm: bool = True) -> DigitCNN:
    """Return the trained network from `data/`, in eval mode and with gradients off.

    Args:
        batch_norm: the network with batch norm (the course's best) or the one without.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is damaged, or holds something other than this network's weights.
    """
    path = checkpoint(batch_norm)
    way_out = f"Restore it with `git checkout -- data/{path.name}`, or train it again with `make checkpoints`."
    if not path.is_file():
        raise FileNotFoundError(f"no trained network at {path}. {way_out}")
    model = DigitCNN(batch_norm)
    try:
        with zipfile.ZipFile(path) as archive:  # which a checkpoint is: its checksums find damage that torch would load
            if archive.testzip():
                raise zipfile.BadZipFile(f"{archive.testzip()} fails its checksum")
        # weights_only: tensors are read, code in a foreign file is never run.
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file can fail in any way
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} does not hold the weights of DigitCNN(batch_norm={batch_norm}): {cause} {way_out}"
        ) from error
    return model.eval().requires_grad_(False)


def checkpoint(batch_norm: bool) -> Path:
    """Return the path of the trained network with or without batch norm."""
    return DATA / ("cnn_batch_norm.pt" if batch_norm else "cnn.pt")


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
