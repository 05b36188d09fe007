"""Train networks into `data/`: the course's, as `make checkpoints` asks, or many for a table, as `make study` does.

Notebooks 2.6 and 5.1 draw conclusions from these tables, and hold a network against its row.
Rows are kept in `build/` as they come, so that an interrupted study goes on where it was.
"""

import argparse
import csv
import hashlib
import io
import re
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from itertools import product
from multiprocessing import active_children, get_context
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from helpers.adversarial import fgsm, pgd
from helpers.bounds import worst_logits
from helpers.cnn import MLP, DigitCNN, LeNet, checkpoint
from helpers.data import DATA, load_mnist, split
from helpers.training import accuracy, logits, train
from tools.regression.notebooks import ROOT, WORKERS, one_thread_each, write_atomically


def on_attacked(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    done: float,
    *,
    steps: int = 10,
    size: float = 0.25,
    random_start: bool = True,
) -> torch.Tensor:
    """Return the loss on images after PGD in a ball that grows to EPS over a quarter of the training.

    A step of it has `size` of the ball's radius.
    """
    eps = EPS * min(1, 4 * done)
    start = torch.Generator().manual_seed(round(1e9 * done))
    options = {"steps": steps, "random_start": random_start, "generator": start}
    return cross_entropy(model(pgd(model, images, labels, eps=eps, alpha=size * eps, **options)), labels)


def on_bounds(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
    """Return the mean of the losses on images and on the worst logits of a ball that grows to 0.2 over a half."""
    share = min(1, 2 * done)
    worst = cross_entropy(worst_logits(model, images, labels, eps=0.2 * share), labels)
    return (1 - share / 2) * cross_entropy(model(images), labels) + share / 2 * worst


EPS = 0.3
USUAL = {"epochs": 8, "max_lr": 0.006}
ROBUST = {"epochs": 30, "max_lr": 0.002, "batch_size": 250, "evaluations": 1}
SHORT = {"epochs": 3, "batch_size": 100}
INSIDE = {  # what is inside a short adversarial training of a LeNet
    "fgsm": partial(on_attacked, steps=1, size=1.0, random_start=False),
    "fgsm_random_start": partial(on_attacked, steps=1, size=1.25),
    "pgd": partial(on_attacked, steps=5, size=0.4),
}
CHECKPOINTS = {  # the course's networks: how each is made, the seed of its start and of the images' order, its recipe
    "cnn": (partial(DigitCNN, batch_norm=False), 0, USUAL),
    "cnn_batch_norm": (partial(DigitCNN, batch_norm=True), 0, USUAL),
    **{f"lenet_{seed}": (LeNet, seed, USUAL) for seed in (1, 2, 3)},
    **{f"mlp_{seed}": (MLP, seed, USUAL) for seed in (1, 2, 3)},
    "lenet_fgsm": (LeNet, 1, SHORT | {"loss": INSIDE["fgsm"]}),
    "cnn_robust": (DigitCNN, 0, ROBUST | {"loss": on_attacked}),
    "cnn_interval": (DigitCNN, 0, ROBUST | {"epochs": 20, "batch_size": 100, "loss": on_bounds}),
}
LABEL_SMOOTHING = 0.1
RECIPES = {  # images of the training set, in batches of so many, at a highest learning rate; one epoch each
    "full": (55_000, 64, 0.006),
    "small": (6_400, 64, 0.006),
    "short, .0005": (1_920, 24, 0.0005),
    "short, .006": (1_920, 24, 0.006),
    "short, .01": (1_920, 24, 0.01),
}
WINDOWS = [(1, 20), (21, 50), (101, 200), (761, 860)]  # steps over which the training loss is averaged
FIELDS = ["recipe", "batch_norm", "seed", "seconds", "validation_loss", "validation_wrong"]
FIELDS += [f"loss_{first}_{last}" for first, last in WINDOWS] + ["test_wrong"]
TRACED = ["recipe", "seed", "epoch", "clean", "fgsm", "pgd"]
LOOKS = 4  # an epoch
BUILD = ROOT / "build"


def keep(model: nn.Module, name: str) -> None:
    """Move the weights into place once they are whole, and write their MD5 sum into data/README.md."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    path, readme = checkpoint(name), DATA / "README.md"
    row = rf"(?m)^(\| `{re.escape(path.name)}` \|.* `)\w{{32}}(?=` \|$)"
    text = re.sub(row, rf"\g<1>{hashlib.md5(file.getvalue()).hexdigest()}", readme.read_text("utf-8"))
    write_atomically(file.getvalue(), path)
    write_atomically(text, readme)


def checkpoints(names: list[str]) -> None:
    """Train networks of the course from scratch, all or those that are named, and say their accuracies."""
    training, validation = split(*load_mnist(train=True))
    test = load_mnist(train=False)
    for name in names or CHECKPOINTS:
        make, seed, recipe = CHECKPOINTS[name]
        torch.manual_seed(seed)  # the weights' start
        model = make()
        begun = BUILD / f"{name}.begun.pt"  # an interrupted training goes on from here
        train(model, *training, seed=seed, validation=validation, resume=begun, **recipe)
        keep(model, name)
        right = (f"{accuracy(model, *them):.2%} of the {len(them[0]):,}" for them in (validation, test))
        print(f"{name}.pt: %s validation images, %s test images" % tuple(right))


def train_pair(recipe: str, seed: int) -> list[dict[str, object]]:
    """Train one network without and one with batch norm from the same seed, and return their rows."""
    images, batch_size, max_lr = RECIPES[recipe]
    (training_images, training_labels), validation = split(*load_mnist(train=True))
    test_images, test_labels = load_mnist(train=False)
    rows = []
    for batch_norm in (False, True):
        torch.manual_seed(seed)  # the weights' start
        model = DigitCNN(batch_norm)
        options = {"batch_size": batch_size, "max_lr": max_lr, "label_smoothing": LABEL_SMOOTHING}
        start = time.perf_counter()
        history = train(model, training_images[:images], training_labels[:images], epochs=1, seed=seed, **options)
        row = {"recipe": recipe, "batch_norm": int(batch_norm), "seed": seed}
        row["seconds"] = f"{time.perf_counter() - start:.1f}"
        answers = logits(model, validation[0])
        row["validation_loss"] = f"{cross_entropy(answers, validation[1]).item():.4f}"
        row["validation_wrong"] = (answers.argmax(1) != validation[1]).sum().item()
        for first, last in WINDOWS:
            losses = history.train_loss[first - 1 : last]
            row[f"loss_{first}_{last}"] = f"{sum(losses) / len(losses):.4f}" if len(losses) > last - first else ""
        if recipe == "full":  # the others only explore
            wrong = (logits(model, test_images).argmax(1) != test_labels).nonzero()[:, 0]
            row["test_wrong"] = " ".join(map(str, wrong.tolist()))
        rows.append(row)
    return rows


def trace(recipe: str, seed: int) -> list[dict[str, object]]:
    """Train one LeNet on attacked images, and return a row for every look at 500 validation images, attacked or not."""
    training, (images, labels) = split(*load_mnist(train=True))
    images, labels = images[:500], labels[:500]
    torch.manual_seed(seed)  # the weights' start
    model, steps = LeNet(), len(training[0]) // SHORT["batch_size"]  # an epoch
    taken, rows = 0, []

    def look() -> None:
        by_fgsm = fgsm(model, images, labels, eps=EPS)
        by_pgd = pgd(model, images, labels, eps=EPS, alpha=EPS / 6, steps=20, early_stop=True)
        right = [round(len(labels) * accuracy(model, x, labels)) for x in (images, by_fgsm, by_pgd)]
        rows.append(dict(zip(TRACED, [recipe, seed, f"{taken / steps:.2f}", *right], strict=True)))

    def loss(*batch: object) -> torch.Tensor:
        nonlocal taken
        if taken in {round(steps * k / LOOKS) for k in range(SHORT["epochs"] * LOOKS)}:
            look()
        taken += 1
        return INSIDE[recipe](*batch)

    train(model, *training, seed=seed, loss=loss, **SHORT)
    look()
    return rows


class Study(NamedTuple):
    """A table of many trainings."""

    train: Callable[[str, int], list[dict[str, object]]]  # from a recipe and a seed to the rows
    order: list[tuple[str, int]]  # the recipes and seeds
    fields: list[str]


STUDIES = {  # by the table's name
    "batch_norm_study": Study(train_pair, list(product(RECIPES, range(20))), FIELDS),
    "overfitting_study": Study(trace, list(product(INSIDE, (1, 2, 3))), TRACED),
}


def table(rows: list[dict[str, object]], fields: list[str]) -> str:
    """Return the rows as they are stored."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def study(name: str) -> None:
    """Train what the table does not have yet, two networks at a time; move it into place when it is whole."""
    asked, place = STUDIES[name], BUILD / f"{name}.csv"
    one_thread_each()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    BUILD.mkdir(exist_ok=True)
    rows = list(csv.DictReader(place.read_text().splitlines())) if place.exists() else []
    done = {(row["recipe"], int(row["seed"])) for row in rows}
    left = [pair for pair in asked.order if pair not in done]
    deaf = (signal.SIGINT, signal.SIG_IGN)  # a worker hears of Ctrl-C from here
    with ProcessPoolExecutor(WORKERS, get_context("spawn"), signal.signal, deaf) as pool:
        try:
            for future in tqdm(as_completed([pool.submit(asked.train, *pair) for pair in left]), name, len(left)):
                rows += future.result()
                rows.sort(key=lambda row: asked.order.index((row["recipe"], int(row["seed"]))))
                write_atomically(table(rows, asked.fields), place)
        except KeyboardInterrupt:
            for worker in active_children():
                worker.terminate()
            sys.exit(f"interrupted: {len(rows)} rows are kept, and `make study` goes on from there")
    write_atomically(table(rows, asked.fields), DATA / f"{name}.csv")
    place.unlink(missing_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("study").add_argument("names", nargs="*", metavar="name", help=", ".join(STUDIES))
    kinds.add_parser("checkpoints").add_argument("names", nargs="*", metavar="name", help=", ".join(CHECKPOINTS))
    asked = parser.parse_args()
    if asked.kind == "checkpoints":
        checkpoints(asked.names)
    else:
        for name in asked.names or STUDIES:
            study(name)
