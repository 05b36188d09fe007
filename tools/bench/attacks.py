"""PGD-40 beside other libraries' PGD: with the same result, and with the same success."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from helpers.adversarial import pgd
from helpers.cnn import load_cnn
from helpers.data import load_mnist
from helpers.training import accuracy
from tools.bench.peers import BATCHES, best_batch, peer, placed, usual
from tools.bench.rows import Row

EPS, ALPHA, STEPS = 0.3, 0.01, 40
Attack = Callable[[Tensor, Tensor], Tensor]


def rows() -> list[Row]:
    """512 images on the processor, beside torchattacks and foolbox."""
    return [*pgd_rows("torchattacks", torchattacks), *pgd_rows("foolbox", foolbox)]


def torchattacks(model: nn.Module) -> Attack:
    """Return the PGD of torchattacks."""
    return peer("torchattacks").PGD(model, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)


def foolbox(model: nn.Module) -> Attack:
    """Return the PGD of foolbox, on the processor."""
    library = peer("foolbox")
    victim = library.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = library.attacks.LinfPGD(abs_stepsize=ALPHA, steps=STEPS, random_start=False)
    return lambda images, labels: attack(victim, images, labels, epsilons=EPS)[1]


def pgd_rows(
    name: str,
    library: Callable[[nn.Module], Attack],
    *,
    count: int = 512,
    device: str = "cpu",
    sizes: Iterable[int] = BATCHES,
    early_aim: float = 1 / 4,
) -> list[Row]:
    """PGD with every step and with early stop, beside one library; `sizes` are the batches that it is tried at."""
    images, labels = (part[:count].to(device) for part in load_mnist(train=False))
    model = placed(load_cnn(), device)
    attack = library(usual(load_cnn().to(device)))

    def theirs(batch: int, some: int = count) -> Tensor:
        pairs = zip(images[:some].split(batch), labels[:some].split(batch), strict=True)
        return torch.cat([attack(*pair) for pair in pairs])

    def ours(early_stop: bool) -> Tensor:
        return pgd(model, images, labels, eps=EPS, alpha=ALPHA, steps=STEPS, early_stop=early_stop)

    def success(ours: Tensor, theirs: Tensor) -> tuple[bool, str]:
        fooled = [1 - accuracy(model, x, labels) for x in (ours, theirs)]
        return abs(fooled[0] - fooled[1]) <= 0.005, f"fooled {fooled[0]:.2%} and {fooled[1]:.2%}"

    best = best_batch(lambda batch: theirs(batch, some=max(sizes)), sizes)
    every = Row(
        f"PGD-{STEPS}, {count:,} images, every step",
        f"{name}, {best} at a time",
        1 / 1.3,
        lambda: ours(early_stop=False),
        lambda: theirs(best),
        success,
    )
    early = every._replace(
        work=f"PGD-{STEPS}, {count:,} images, early stop", aim=early_aim, ours=lambda: ours(early_stop=True)
    )
    return [every, early]
