"""What FGSM and PGD-40 leave right of the first 2,000 and of all 10,000 test images."""

from torch import Tensor

from helpers.adversarial import fgsm, pgd
from helpers.cnn import load_cnn
from helpers.data import load_mnist
from helpers.training import accuracy
from tools.bench.rows import timed


def report() -> None:
    """Print a line for each eps."""
    images, labels = load_mnist(train=False)
    model = load_cnn()

    def by_pgd(eps: float) -> Tensor:
        return pgd(model, images, labels, eps=eps, alpha=0.01, steps=40, early_stop=True)

    attacks = {"FGSM": lambda eps: fgsm(model, images, labels, eps=eps), "PGD-40": by_pgd}
    print(f"\n{'% right':10}" + "".join(f" {name + ' 2,000':>12} {'10,000':>8} {'seconds':>8}  " for name in attacks))
    for eps in (0.1, 0.2, 0.3):
        line = f"eps {eps:<6}"
        for attack in attacks.values():
            seconds, attacked = timed(lambda attack=attack, eps=eps: attack(eps))
            first, whole = accuracy(model, attacked[:2000], labels[:2000]), accuracy(model, attacked, labels)
            line += f" {100 * first:12.2f} {100 * whole:8.2f} {seconds:8.1f}  "
        print(line, flush=True)
