"""Occlusion maps beside captum's."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.cnn import load_cnn
from helpers.data import load_mnist
from helpers.occlusion import occlusion_map
from tools.bench.peers import BATCHES, best_batch, peer, placed, usual
from tools.bench.rows import Row

PATCH = 7


def rows() -> list[Row]:
    """Maps of ten images on the processor, and in bfloat16 where it pays."""
    row = maps(10)
    if not has_bfloat16():
        return [row]

    def rough() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return row.ours()

    alike = agreement(10, limit=0.02)
    return [row, row._replace(work="the same in bfloat16", aim=1 / 4, ours=rough, agreement=alike)]


def maps(count: int, *, device: str = "cpu", sizes: Iterable[int] = BATCHES, aim: float = 1 / 2) -> Row:
    """Maps of the first test images; `sizes` are the numbers of positions that captum is tried at."""
    images, labels = (part[:count].to(device) for part in load_mnist(train=False))
    model, plain = placed(load_cnn(), device), usual(load_cnn().to(device))
    captum = peer("captum.attr").Occlusion(lambda x: plain(x).softmax(1))

    def theirs(batch: int) -> Tensor:
        return captum.attribute(
            images, (1, PATCH, PATCH), strides=(1, 1, 1), baselines=0.5, target=labels, perturbations_per_eval=batch
        )

    best = best_batch(theirs, sizes)
    return Row(
        f"occlusion maps, {count:,} images, patch {PATCH}",
        f"captum, {best} at a time",
        aim,
        lambda: occlusion_map(model, images, labels, patch=PATCH),
        lambda: theirs(best),
        agreement(count, limit=1e-5),
        rounds=5,
    )


def agreement(count: int, *, limit: float) -> Callable[[Tensor, Tensor], tuple[bool, str]]:
    """Return what compares the course's maps of the first test images with captum's attribution of them."""
    images, labels = (part[:count] for part in load_mnist(train=False))
    with torch.no_grad():
        probs = torch.cat([load_cnn().cpu()(some) for some in images.split(100)]).softmax(1)
    clean = probs.gather(1, labels[:, None])[:, :, None]  # (N, 1, 1)

    def said(maps: Tensor, attribution: Tensor) -> tuple[bool, str]:
        largest = (mean_drop(clean - maps.cpu(), PATCH) - attribution.cpu()).abs().max().item()
        return largest < limit, f"largest difference {largest:.0e}"

    return said


def has_bfloat16() -> bool:
    """Return whether this processor computes in bfloat16 itself."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def mean_drop(drops: Tensor, patch: int) -> Tensor:
    """Return the mean drop over the windows that cover each pixel: (N, H', W') at stride 1 -> (N, 1, 28, 28)."""
    ones = torch.ones(1, 1, patch, patch)
    total = F.conv2d(drops[:, None], ones, padding=patch - 1)
    return total / F.conv2d(torch.ones_like(drops)[:, None], ones, padding=patch - 1)
