"""A small classifier for the helpers' tests."""

import torch
from torch import nn


def toy(channels: int, height: int, width: int, classes: int) -> nn.Module:
    """Return a network for images (N, channels, height, width), in train mode, with the same weights each time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * height * width, classes),
    )
