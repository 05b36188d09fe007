"""How much of the processor's matrix multiplication an epoch of training uses."""

import torch

from helpers.cnn import DigitCNN
from helpers.data import load_mnist
from helpers.training import train
from tools.bench.rows import timed

TRAINING_FLOP = 2 * (3 * 2_821_128 - 32 * 9 * 28 * 28)  # an image: forward, then to weights and inputs (not the pixels)


def report() -> None:
    """Print the rate of an epoch and that of a matrix product."""
    a = torch.rand(2048, 2048)
    best = min(timed(lambda: a @ a).seconds for _ in range(10))
    images, labels = load_mnist(train=True)
    torch.manual_seed(0)
    seconds = timed(lambda: train(DigitCNN(), images, labels, epochs=1, seed=0)).seconds
    rate, limit = len(images) * TRAINING_FLOP / seconds / 1e9, 2 * len(a) ** 3 / best / 1e9
    print(f"\none epoch of {len(images):,} images: {seconds:.1f} s, {rate:.0f} GFLOP/s")
    print(f"that is {rate / limit:.0%} of the {limit:.0f} GFLOP/s of a matrix product")
