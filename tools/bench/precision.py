"""What bfloat16 does to occlusion maps: in seconds, and in probability."""

import torch
from torch import Tensor

from helpers.cnn import load_cnn
from helpers.data import load_mnist
from helpers.occlusion import occlusion_map
from tools.bench.occlusion import has_bfloat16
from tools.bench.rows import timed


def report() -> None:
    """Print the ratio of the seconds and the largest change of a probability."""
    images, labels = (part[:10] for part in load_mnist(train=False))
    model = load_cnn()

    def maps(rough: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=rough):
            return occlusion_map(model, images, labels)

    exact, rough = (
        min((timed(lambda rough=rough: maps(rough)) for _ in range(3)), key=lambda done: done.seconds)
        for rough in (False, True)
    )
    has = "has" if has_bfloat16() else "has no"
    ratio = exact.seconds / rough.seconds
    print(f"\nthis processor {has} bfloat16: occlusion maps take 1/{ratio:.2f} of the time under autocast,")
    print(f"and change by {(rough.value - exact.value).abs().max():.3f} in probability at most")
