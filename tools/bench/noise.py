"""Images made from noise or from digits, all at once beside one at a time."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.cnn import load_cnn
from helpers.data import load_mnist
from helpers.fooling import fooling_images, targeted_images
from helpers.training import accuracy
from tools.bench.peers import placed
from tools.bench.rows import Row

ALPHA, STEPS = 0.01, 200


def rows(device: str = "cpu") -> list[Row]:
    """Fooling images one class at a time, targeted images one pair at a time."""
    model = placed(load_cnn(), device)
    classes = torch.arange(10)
    start = (0.5 + 0.1 * torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    images, labels = load_mnist(train=False)
    digits = images[torch.stack([(labels == digit).nonzero()[0, 0] for digit in range(10)])].repeat(10, 1, 1, 1)
    targets = classes.repeat_interleave(10)  # (100,)
    classes, start, digits, targets = (part.to(device) for part in (classes, start, digits, targets))

    def fooling(at_a_time: int) -> Tensor:
        pairs = zip(classes.split(at_a_time), start.split(at_a_time), strict=True)
        made = [fooling_images(model, target, start=begin, alpha=ALPHA, steps=STEPS)[0] for target, begin in pairs]
        return torch.cat(made)

    def targeted(at_a_time: int) -> Tensor:
        pairs = zip(digits.split(at_a_time), targets.split(at_a_time), strict=True)
        return torch.cat([targeted_images(model, *pair, beta=100.0, alpha=ALPHA, steps=STEPS)[0] for pair in pairs])

    return [
        Row(
            f"fooling images, 10 classes, {STEPS} steps",
            "class by class",
            1 / 4,
            lambda: fooling(10),
            lambda: fooling(1),
            agreement(model, classes),
        ),
        Row(
            f"targeted images, 10 x 10, {STEPS} steps",
            "pair by pair",
            1 / 8,
            lambda: targeted(100),
            lambda: targeted(1),
            agreement(model, targets),
            rounds=1,
        ),
    ]


def agreement(model: nn.Module, aims: Tensor) -> Callable[[Tensor, Tensor], tuple[bool, str]]:
    """Return what compares how many images of both are taken for the class they aim at."""

    def said(ours: Tensor, theirs: Tensor) -> tuple[bool, str]:
        reached = [accuracy(model, x, aims) for x in (ours, theirs)]
        differ = (ours - theirs).abs().mean()
        text = f"on target {reached[0]:.0%} and {reached[1]:.0%}; mean difference of the pixels {differ:.0e}"
        return abs(reached[0] - reached[1]) <= 0.02, text

    return said
