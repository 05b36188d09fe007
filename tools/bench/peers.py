"""What the course is compared with: libraries in build/peers, and the usual way to load MNIST and to train."""

import shutil
import sys
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from helpers.data import DATA
from tools.bench.rows import timed

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "build" / "peers"
SCRATCH = ROOT / "build" / "bench"
BATCHES = (4, 16, 64, 256)  # sizes that a peer is tried at on a processor


def peer(name: str) -> Any:
    """Import a library from build/peers, behind everything the course itself uses."""
    if str(PEERS) not in sys.path:
        sys.path.append(str(PEERS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)


def usual(model: nn.Module) -> nn.Module:
    """Return the network with its weights in PyTorch's usual layout."""
    return model.to(memory_format=torch.contiguous_format)


def placed(model: nn.Module, device: str) -> nn.Module:
    """Return the network on the device, in the layout that is faster there."""
    return model.to(device, memory_format=torch.channels_last if device == "cpu" else torch.contiguous_format)


def best_batch(work: Callable[[int], Any], sizes: Iterable[int] = BATCHES) -> int:
    """Return the batch size at which the work is fastest."""
    work(min(sizes))  # what only the first call costs
    return min(sizes, key=lambda batch: min(timed(lambda: work(batch)).seconds for _ in range(2)))


def usual_dataset(train: bool) -> Any:
    """Return MNIST as tutorials read it: torchvision, an image at a time through ToTensor."""
    from torchvision import transforms
    from torchvision.datasets import MNIST

    raw = SCRATCH / "MNIST" / "raw"
    if not raw.is_dir():
        shutil.copytree(DATA / "MNIST" / "raw", raw)
    return MNIST(SCRATCH, train=train, transform=transforms.ToTensor(), download=True)  # of files that are there


def usual_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, *, workers: int = 0) -> None:
    """Train one epoch as tutorials do: a DataLoader, batches of 100, each sent to where the network lives."""
    device = next(model.parameters()).device
    loader = torch.utils.data.DataLoader(usual_dataset(train=True), batch_size=100, shuffle=True, num_workers=workers)
    for images, labels in loader:
        loss = F.cross_entropy(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
