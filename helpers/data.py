"""MNIST as two tensors, read from the archives in `data/MNIST/raw` and never from the network."""

import gzip
import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from helpers.checks import check_images, check_model, flag, generator_of, number

DATA = Path(__file__).resolve().parent.parent / "data"

# Name and MD5 of each archive as published; torchvision's MNIST checks the same sums.
ARCHIVES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


def load_mnist(train: bool) -> tuple[Tensor, Tensor]:
    """Return the 60,000 training or the 10,000 test images of MNIST with their labels.

    Args:
        train: the training images if true, the test images if false.

    Returns:
        images: (N, 1, 28, 28) in [0, 1], 0 the background and 1 the full stroke; of torch's default dtype.
        labels: (N,) int64 in 0..9.

    Raises:
        RuntimeError: an archive is missing or damaged; the message names it and the way out.
        TypeError: `train` is neither true nor false, such as the name of a split.

    Source: Y. LeCun and C. Cortes, the MNIST database of handwritten digits (CC BY-SA 3.0).
    """
    split = "train" if flag("train", train) else "t10k"
    images = _read(f"{split}-images-idx3-ubyte.gz", header=16).view(-1, 1, 28, 28)  # (N * 784,) -> (N, 1, 28, 28)
    labels = _read(f"{split}-labels-idx1-ubyte.gz", header=8)  # (N,)
    return images.to(torch.get_default_dtype()).div_(255), labels.long()


def split(
    images: Tensor, labels: Tensor, *, validation: int = 5_000, seed: int = 0
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Draw a validation set from the training images: (the others, their labels), (the drawn ones, their labels).

    They are drawn, not taken from the end, since MNIST's images are in an order: the last ones are easier to read.

    Args:
        images: (N, ...).
        labels: (N,).
        validation: how many are drawn, 1 to N - 1.
        seed: of the drawing; the trained networks in `data/` have never seen the 5,000 of seed 0.

    Returns:
        Two pairs, each in the order in which the images came.

    Raises:
        TypeError: no tensors, or no numbers.
        ValueError: images and labels differ in number, or so many cannot be drawn.
    """
    if not (torch.is_tensor(images) and torch.is_tensor(labels)):
        raise TypeError(f"expected two tensors, got {type(images).__name__} and {type(labels).__name__}")
    if len(images) != len(labels):
        raise ValueError(f"expected as many labels as images, got {len(labels)} and {len(images)}")
    validation = number("validation", validation, whole=True, least=1, most=len(images) - 1)
    drawn = torch.zeros(len(images), dtype=torch.bool)
    drawn[torch.randperm(len(images), generator=generator_of(seed))[:validation]] = True
    return (images[~drawn], labels[~drawn]), (images[drawn], labels[drawn])


def dither(images: Tensor, *, share: float = 1e-6, seed: int = 0) -> Tensor:
    """Return the images with a tiny noise, so that what climbs from there is the same on every machine.

    Where an image is flat, two pixels of a max-pooling window are equal but for rounding, and the gradient goes through
    the larger one: which one that is, machines round differently. The noise decides for all of them. Where a climb
    makes pixels equal again, since it holds them at 0 and 1, `dithered` helps.

    Args:
        images: (N, C, H, W), pixels in [0, 1], float64.
        share: of the way to a random value in [0, 1] that each pixel goes, 0 to 1; a thousandth for images that are to
            be float32 afterwards, which cannot tell a millionth apart.
        seed: of the noise.

    Returns:
        Like `images`.

    Raises:
        TypeError: the images are no tensor, or share or seed is no number.
        ValueError: shape, type or pixels are others than expected, or the share is outside its range.
    """
    check_images(images)
    if images.dtype != torch.float64:
        raise ValueError(f"expected images of torch.float64, got {images.dtype}")
    noise = torch.rand(images.shape, dtype=torch.float64, generator=generator_of(seed))
    return images + number("share", share, most=1) * (noise.to(images.device) - images)


def dithered(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Return the model, which from now on sees every image with a noise of a billionth, the same for all of them.

    A climb that holds its pixels at 0 and 1 makes them equal again, whatever the noise of its start. Where that of
    `dither` still stands, it decides, since it is a thousand times larger.

    Args:
        model: takes images (N, C, H, W), of float64: in float32 nearly all of the noise is lost. Once a model is
            enough; a second time adds a second noise.
        seed: of the noise.

    Raises:
        TypeError: the model is no module, or the seed is no number.
    """
    check_model(model)
    model.register_forward_pre_hook(_Noise(seed))
    return model


class _Noise:
    """What a model is given, with the noise: a class, so that the model can be saved and copied."""

    def __init__(self, seed: int):
        generator_of(seed)
        self.seed = seed

    def __call__(self, _: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images, *others = given
        noise = torch.rand(images.shape[1:], dtype=torch.float64, generator=generator_of(self.seed))
        return images + 1e-9 * noise.to(images), *others


def _read(name: str, header: int) -> Tensor:
    """Return the bytes that follow the header of an archive, uint8.

    Reading the archive itself takes a fifth of a second longer than a file extracted from it, and there is no
    extracted file that could be half written, or written by two notebooks at once.
    """
    path = DATA / "MNIST" / "raw" / name
    content = path.read_bytes() if path.is_file() else None
    came = "no file" if content is None else hashlib.md5(content, usedforsecurity=False).hexdigest()
    if came != ARCHIVES[name]:
        raise RuntimeError(
            f"{path} is missing or damaged: expected MD5 {ARCHIVES[name]}, got {came}. "
            "Restore it with `git checkout -- data/MNIST/raw`, or clone the repository again."
        )
    return torch.frombuffer(bytearray(gzip.decompress(content)), dtype=torch.uint8, offset=header)
