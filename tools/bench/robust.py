"""Measure how robust the networks in `data/` are, by our attacks and by others', into `data/robust.csv`.

The notebooks of part 5 quote the table, and hold a sample of it against attacks of their own. Rows are kept in `build/`
as they come, so that an interrupted run goes on where it was.
"""

import csv
from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.adversarial import pgd
from helpers.bounds import certified
from helpers.cnn import load_cnn
from helpers.data import DATA, load_mnist
from helpers.training import predict
from tools.bench.peers import ROOT, peer, usual
from tools.regression.notebooks import write_atomically
from tools.study import table

NETWORKS = {"standard": {"batch_norm": False}, "robust": {"robust": True}, "interval": {"interval": True}}
EPS = (0.1, 0.2, 0.3)
STEPS = 100
FEW, SOME, ALL = 500, 1000, 10_000  # the first of the test set
FIELDS = ["network", "eps", "attack", "images", "right"]
TABLE = DATA / "robust.csv"
BEGUN = ROOT / "build" / TABLE.name
Withstood = dict[str, Tensor]  # by the attack's name, which images are still right, (N,) bool


def by_nothing(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Withstood:
    """Return which images are right as they are, and which are certified."""
    clean = predict(model, images).argmax(1) == labels
    return {"clean": clean, "certified": certified(model, images, labels, eps=eps)}


def by_pgd(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Withstood:
    """Return which images withstand each of four PGD attacks from random starts, and which withstand all."""
    withstood = {}
    for seed, name in enumerate(("pgd_cross_entropy", "pgd_margin_1", "pgd_margin_2", "pgd_margin_3")):
        loss = "margin" if "margin" in name else "cross_entropy"
        options = {"random_start": True, "early_stop": True, "generator": torch.Generator().manual_seed(seed)}
        attacked = pgd(model, images, labels, eps=eps, alpha=eps / 10, steps=STEPS, loss=loss, **options)
        withstood[name] = predict(model, attacked).argmax(1) == labels
    return withstood | {"worst_of_four": torch.stack(list(withstood.values())).all(0)}


def by_peers(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Withstood:
    """Return which images withstand foolbox' PGD, torchattacks' Square and AutoAttack, and Square beside our PGDs."""
    by_ours = by_pgd(model, images, labels, eps)["worst_of_four"]
    library, model = peer("foolbox"), usual(model)
    torch.manual_seed(0)  # of its random start
    attack = library.attacks.LinfPGD(rel_stepsize=0.1, steps=STEPS, random_start=True)
    attacked = {
        "foolbox_pgd": attack(library.PyTorchModel(model, (0, 1), device="cpu"), images, labels, epsilons=eps)[1]
    }
    attack = peer("torchattacks").Square(model, norm="Linf", eps=eps, n_queries=5000, seed=0)  # AutoAttack's last part
    attacked["square"] = attack(images, labels).detach()
    attack = peer("torchattacks").AutoAttack(model, norm="Linf", eps=eps, version="standard", n_classes=10, seed=0)
    attacked["autoattack"] = attack(images, labels).detach()
    for name, x in attacked.items():
        if not ((x - images).abs().max() <= eps + 1e-6 and x.min() >= 0 and x.max() <= 1):
            raise ValueError(f"expected images within eps {eps} and [0, 1] from {name}")
    withstood = {name: predict(model, x).argmax(1) == labels for name, x in attacked.items()}
    return withstood | {"worst_of_four_and_square": by_ours & withstood["square"]}


# What is measured of each network: by which attacks, on how many of the first test images, at which eps.
MEASURED: list[tuple[str, Callable[..., Withstood], int, tuple[float, ...]]] = [
    *((network, by_nothing, ALL, (0.0, *EPS)) for network in NETWORKS),
    ("robust", by_pgd, SOME, (0.1, 0.2)),
    ("robust", by_pgd, ALL, (0.3,)),
    ("standard", by_pgd, SOME, EPS),
    ("robust", by_peers, FEW, (0.3,)),
]


def main() -> None:
    """Measure what is not kept yet, print each row, and move the table into place when it is whole."""
    images, labels = load_mnist(train=False)
    rows = list(csv.DictReader(BEGUN.read_text().splitlines())) if BEGUN.exists() else []
    kept = {(row["network"], float(row["eps"]), row["made_by"]) for row in rows}
    print(",".join(FIELDS))
    for network, attacks, count, radii in MEASURED:
        for eps in radii:
            if (network, eps, attacks.__name__) in kept:
                continue
            withstood = attacks(load_cnn(**NETWORKS[network]), images[:count], labels[:count], eps)
            for size in sorted({FEW, SOME, count} & set(range(count + 1))):
                for name, right in withstood.items():
                    row = [network, eps, name, size, int(right[:size].sum())]
                    rows.append(dict(zip([*FIELDS, "made_by"], [*row, attacks.__name__], strict=True)))
                    print(*row, sep=",", flush=True)
            write_atomically(table(rows, [*FIELDS, "made_by"]), BEGUN)
    write_atomically(table(rows, FIELDS), TABLE)
    BEGUN.unlink()


if __name__ == "__main__":
    main()
