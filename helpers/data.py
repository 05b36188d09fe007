"""MNIST as two tensors, read from the archives in `data/MNIST/raw` and never from the network."""

import tempfile
from pathlib import Path

from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.utils import calculate_md5

DATA = Path(__file__).resolve().parent.parent / "data"

# Bytes of each extracted file: a header of 16 or 8, then one byte a pixel or label.
EXTRACTED = {
    "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}


def load_mnist(train: bool) -> tuple[Tensor, Tensor]:
    """Return the 60,000 training or the 10,000 test images of MNIST with their labels.

    Args:
        train: the training images if true, the test images if false.

    Returns:
        images: (N, 1, 28, 28) float32 in [0, 1], 0 the background and 1 the full stroke.
        labels: (N,) int64 in 0..9.

    Raises:
        RuntimeError: an archive is missing or damaged; the message names it and the way out.
        OSError: the archives are still to be extracted, and `data/MNIST/raw` is read-only or the disk is full.

    Source: Y. LeCun and C. Cortes, the MNIST database of handwritten digits (CC BY-SA 3.0).
    """
    if not _is_extracted(DATA):
        _extract(DATA)
    split = MNIST(DATA, train=train)
    images = split.data.unsqueeze(1).float().div_(255)  # (N, 28, 28) uint8 -> (N, 1, 28, 28)
    return images, split.targets


def _is_extracted(root: Path) -> bool:
    """Tell whether all four files are there at their full length."""
    raw = root / "MNIST" / "raw"
    return all((raw / name).is_file() and (raw / name).stat().st_size == size for name, size in EXTRACTED.items())


def _extract(root: Path) -> None:
    """Let torchvision extract the archives in a folder of our own, then move each file into place at once.

    A move within one folder is atomic: another notebook sees a whole file or none, and what an
    interrupted extraction leaves behind is never mistaken for data.
    """
    raw = root / "MNIST" / "raw"
    for name, md5 in MNIST.resources:
        _check_archive(raw / name, md5)
    try:
        with tempfile.TemporaryDirectory(dir=raw, prefix="extracting-") as folder:
            private = Path(folder) / "MNIST" / "raw"
            private.mkdir(parents=True)
            for name, _ in MNIST.resources:
                (private / name).symlink_to(raw / name)
            MNIST(folder, download=True)  # finds the archives, verifies their MD5, extracts them
            for name in EXTRACTED:
                (private / name).replace(raw / name)
    except OSError as error:  # no permission, a read-only file system, a full disk
        raise OSError(error.errno, f"cannot extract the MNIST archives into {raw}: {error.strerror}") from error


def _check_archive(path: Path, md5: str) -> None:
    """Raise RuntimeError unless the file is there and has this MD5 (torchvision would go to the network)."""
    came = calculate_md5(path) if path.is_file() else "no file"
    if came != md5:
        raise RuntimeError(
            f"{path} is missing or damaged: expected MD5 {md5}, got {came}. "
            "Restore it with `git checkout -- data/MNIST/raw`, or clone the repository again."
        )
