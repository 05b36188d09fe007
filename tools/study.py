"""Train networks into `data/`: the course's, as `make checkpoints` asks, or many for a table, as `make study` does.

Notebook 2.6 draws its conclusions from that table, and trains one small pair itself, which must reproduce its row.
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
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import active_children, get_context

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from helpers.adversarial import pgd
from helpers.bounds import worst_logits
from helpers.cnn import MLP, DigitCNN, LeNet, checkpoint
from helpers.data import DATA, load_mnist, split
from helpers.training import accuracy, logits, train
from tools.regression.notebooks import ROOT, WORKERS, one_thread_each, write_atomically


def on_attacked(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
    """Return the loss on images after ten steps of PGD in a ball that grows to 0.3 over a quarter of the training."""
    eps = 0.3 * min(1, 4 * done)
    start = torch.Generator().manual_seed(round(1e9 * done))
    attacked = pgd(model, images, labels, eps=eps, alpha=eps / 4, steps=10, random_start=True, generator=start)
    return cross_entropy(model(attacked), labels)


def on_bounds(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
    """Return the mean of the losses on images and on the worst logits of a ball that grows to 0.2 over a half."""
    share = min(1, 2 * done)
    worst = cross_entropy(worst_logits(model, images, labels, eps=0.2 * share), labels)
    return (1 - share / 2) * cross_entropy(model(images), labels) + share / 2 * worst


USUAL = {"epochs": 8, "max_lr": 0.006}
ROBUST = {"epochs": 30, "max_lr": 0.002, "batch_size": 250, "evaluations": 1}
CHECKPOINTS = {  # the course's networks: how each is made, the seed of its start and of the images' order, its recipe
    "cnn": (partial(DigitCNN, batch_norm=False), 0, USUAL),
    "cnn_batch_norm": (partial(DigitCNN, batch_norm=True), 0, USUAL),
    **{f"lenet_{seed}": (LeNet, seed, USUAL) for seed in (1, 2, 3)},
    **{f"mlp_{seed}": (MLP, seed, USUAL) for seed in (1, 2, 3)},
    "cnn_robust": (DigitCNN, 0, ROBUST | {"loss": on_attacked}),
    "cnn_interval": (DigitCNN, 0, ROBUST | {"epochs": 12, "loss": on_bounds}),
}
SEEDS = 20  # networks of each kind
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
TABLE = DATA / "batch_norm_study.csv"
BEGUN = ROOT / "build" / TABLE.name


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
        begun = BEGUN.parent / f"{name}.begun.pt"  # an interrupted training goes on from here
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


def written(rows: list[dict[str, object]]) -> str:
    """Return the table as it is stored, recipe by recipe and seed by seed."""
    text = io.StringIO()
    table = csv.DictWriter(text, FIELDS, lineterminator="\n")
    table.writeheader()
    table.writerows(sorted(rows, key=lambda row: (list(RECIPES).index(row["recipe"]), int(row["seed"]))))
    return text.getvalue()


def study() -> None:
    """Train what the table does not have yet, two networks at a time; move it into place when it is whole."""
    one_thread_each()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    BEGUN.parent.mkdir(exist_ok=True)
    rows = list(csv.DictReader(BEGUN.read_text().splitlines())) if BEGUN.exists() else []
    done = {(row["recipe"], int(row["seed"])) for row in rows}
    left = [(recipe, seed) for recipe in RECIPES for seed in range(SEEDS) if (recipe, seed) not in done]
    deaf = (signal.SIGINT, signal.SIG_IGN)  # a worker hears of Ctrl-C from here
    with ProcessPoolExecutor(WORKERS, get_context("spawn"), signal.signal, deaf) as pool:
        try:
            for future in tqdm(as_completed([pool.submit(train_pair, *pair) for pair in left]), total=len(left)):
                rows += future.result()
                write_atomically(written(rows), BEGUN)
        except KeyboardInterrupt:
            for worker in active_children():
                worker.terminate()
            sys.exit(f"interrupted: {len(rows)} networks are kept, and `make study` goes on from there")
    write_atomically(written(rows), TABLE)
    BEGUN.unlink(missing_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("study")
    kinds.add_parser("checkpoints").add_argument("names", nargs="*", metavar="name", help=", ".join(CHECKPOINTS))
    asked = parser.parse_args()
    study() if asked.kind == "study" else checkpoints(asked.names)
