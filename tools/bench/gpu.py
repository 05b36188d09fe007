"""The heavy work on a graphics card, beside torchattacks, captum and the usual loop on the same card.

Networks and images lie on the card before the clock runs. All is float32, with TensorFloat-32 off so that both sides
can be compared to 1e-5, but for the training until 99.0 %. Needs neither JupyterLab nor nbval: PyTorch, torchvision,
matplotlib, IPython and tqdm, and the libraries of `make peers`.
"""

from collections.abc import Iterator

import torch

from helpers.cnn import DigitCNN, load_cnn
from helpers.data import load_mnist
from helpers.training import accuracy
from tools.bench import attacks, noise, occlusion, training
from tools.bench.graph import train_by_graph
from tools.bench.growth import WORK
from tools.bench.peers import placed
from tools.bench.rows import HEAD, Row, measure

ATTACKED = {512: (128, 512), 10_000: (500, 2_500, 10_000)}  # images, and the batches that torchattacks is tried at
MAPPED = {10: (16, 64, 484), 100: (4, 16, 64), 1_000: (1, 4, 16)}  # images, and positions of each that captum is given
WORKERS = 8  # processes that prepare the usual loop's images
RECIPE = {"epochs": 3, "batch_size": 500, "max_lr": 0.006}


def report(device: str = "cuda") -> None:
    """Print the table, each row once it is measured, and the memory; or that there is no card."""
    if device == "cuda" and not torch.cuda.is_available():
        print("\ngpu: skipped, since PyTorch finds no CUDA card here")
        return
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    print(f"\non {torch.cuda.get_device_name() if device == 'cuda' else device}")
    print(HEAD)
    for row in rows(device):
        print(measure(row._replace(warm_up=row.rounds > 1)), flush=True)
    if device == "cuda":
        memory(device)


def rows(device: str) -> Iterator[Row]:
    """Make each row once it is wanted, so that the tensors of two never share the card's memory."""
    for count, sizes in ATTACKED.items():
        yield from attacks.pgd_rows(
            "torchattacks", attacks.torchattacks, count=count, device=device, sizes=sizes, early_aim=1 / 3
        )
    for count, sizes in MAPPED.items():
        yield occlusion.maps(count, device=device, sizes=sizes, aim=1 / 1.5)
    yield from noise.rows(device)
    yield from training_rows(device)


def training_rows(device: str) -> Iterator[Row]:
    """Make the row of one epoch, and those until 99.0 % of the test images are right."""
    training.load_all(device)
    usual = f"DataLoader, {WORKERS} workers"
    yield Row(
        f"one epoch of {training.ALL:,}",
        usual,
        1 / 2,
        lambda: training.one_epoch(0, training.ALL, device=device),
        lambda: training.usual_loop(0, until=0, device=device, workers=WORKERS),
        training.agreement(0.97),
        rounds=2,
    )
    until_99(0, device)  # what only the first time costs
    for seed in training.SEEDS:
        yield Row(
            f"until 99.0 % of the test, seed {seed}",
            usual,
            1 / 30,
            lambda seed=seed: until_99(seed, device),
            lambda seed=seed: training.usual_loop(seed, until=0.99, device=device, workers=WORKERS),
            training.agreement(0.99),
            rounds=1,
        )


def until_99(seed: int, device: str) -> float:
    """Train by a recorded step; return how many of the test images are right."""
    torch.manual_seed(seed)
    model = placed(DigitCNN(), device)
    train_by_graph(model, *training.digits(True, device), **RECIPE, seed=seed)
    return accuracy(model, *training.digits(False, device))


def memory(device: str) -> None:
    """Print how much of the card's memory occlusion maps and PGD take for 10 to 10,000 images."""
    model = placed(load_cnn(), device)
    print(f"\n{'images':>24} {'peak memory of the card, MB':>30}")
    for name, work in WORK.items():
        for count in (10, 100, 1_000, 10_000):
            images, labels = (part[:count].to(device) for part in load_mnist(train=False))
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            work(model, images, labels)
            print(f"{name:>16} {count:7,} {torch.cuda.max_memory_allocated() / 1e6:30.0f}", flush=True)
