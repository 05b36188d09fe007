"""The course's heavy work beside what a user would take instead: what `make bench` runs.

Each piece of work is done by the course and by its peer in turn, in one process and on the same data, and the
median of the ratios is told together with a check that both computed the same. Libraries get the same networks in
PyTorch's usual memory layout, and the best of several batch sizes. Attacks are compared by how many images they fool:
in float32 the peers' cross-entropy loses a part of the gradient (in float64 PGD is that of torchattacks to 1e-12, see
tests/helpers/test_peers.py). Seconds differ from computer to computer and minute to minute, ratios less.
"""

import argparse
import math
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.adversarial import fgsm, pgd
from helpers.cnn import DigitCNN, load_cnn
from helpers.data import DATA, load_mnist
from helpers.fooling import fooling_images, targeted_images
from helpers.occlusion import occlusion_map
from helpers.training import accuracy, train
from tools.regression.notebooks import ROOT, find_notebooks

PEERS = ROOT / "build" / "peers"
SCRATCH = ROOT / "build" / "bench"
BATCHES = (4, 16, 64, 256)  # sizes that a peer is tried at
ENOUGH = 50_000  # training images, once each; with 40,000 one seed in ten stays at 98.96 %
TRAINING_FLOP = 2 * (3 * 2_821_128 - 32 * 9 * 28 * 28)  # an image: forward, then to weights and inputs (not the pixels)


class Row(NamedTuple):
    """One piece of work: both ways to do it, and what tells that they agree."""

    work: str
    peer: str
    aim: float  # the course's time as a fraction of the peer's, at most
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    agreement: Callable[[Any, Any], tuple[bool, str]]  # whether both did the work, and what tells so
    rounds: int = 3


class Timed(NamedTuple):
    """A result of work that knows its own seconds."""

    seconds: float
    value: Any


def measure(row: Row) -> str:
    """Do both in turn, `rounds` times; return a line of the table."""
    ratios, seconds = [], []
    for turn in range(row.rounds):
        done = {}
        for name in ("theirs", "ours") if turn % 2 == 0 else ("ours", "theirs"):
            start = time.perf_counter()
            result = getattr(row, name)()
            done[name] = result if isinstance(result, Timed) else Timed(time.perf_counter() - start, result)
        seconds.append((done["theirs"].seconds, done["ours"].seconds))
        ratios.append(done["ours"].seconds / done["theirs"].seconds)
    theirs, ours = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(ratios)
    right, said = row.agreement(done["ours"].value, done["theirs"].value)
    verdict = ("reached" if ratio <= row.aim else "missed") if right else "WRONG"
    times = f"{theirs:8.2f} {ours:8.2f}   1/{1 / ratio:<5.2f} 1/{1 / row.aim:<4.3g} {verdict:8}"
    return f"{row.work:36} {row.peer:30} {times} {said}"


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


def best_batch(work: Callable[[int], Any]) -> int:
    """Return the batch size at which the work is fastest."""
    work(BATCHES[0])  # what only the first call costs
    return min(BATCHES, key=lambda batch: min(_seconds(lambda: work(batch)) for _ in range(2)))


def usual_dataset(train: bool) -> Any:
    """Return MNIST as tutorials read it: torchvision, an image at a time through ToTensor."""
    from torchvision import transforms
    from torchvision.datasets import MNIST

    raw = SCRATCH / "MNIST" / "raw"
    if not raw.is_dir():
        shutil.copytree(DATA / "MNIST" / "raw", raw)
    return MNIST(SCRATCH, train=train, transform=transforms.ToTensor(), download=True)  # of files that are there


def usual_epoch(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Train one epoch as tutorials do: a DataLoader, batches of 100."""
    for images, labels in torch.utils.data.DataLoader(usual_dataset(train=True), batch_size=100, shuffle=True):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def training() -> list[Row]:
    """Until 99.0 % of the test images are right, on five seeds; and a single epoch."""
    images, labels = load_mnist(train=True)
    test = load_mnist(train=False)
    usual_dataset(train=True)  # extracts the archives before the clock runs

    def theirs(seed: int, until: float) -> float:
        torch.manual_seed(seed)
        model = usual(DigitCNN())
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        usual_epoch(model, optimizer)
        while (right := accuracy(model, *test)) < until:
            usual_epoch(model, optimizer)
        return right

    def ours(seed: int, count: int) -> float:
        torch.manual_seed(seed)
        model = DigitCNN()
        some = images[:count], labels[:count]
        train(model, *some, epochs=1, seed=seed, label_smoothing=0.1)
        return accuracy(model, *test)

    def agreement(least: float) -> Callable[[float, float], tuple[bool, str]]:
        return lambda ours, theirs: (min(ours, theirs) >= least, f"test accuracy {ours:.2%} and {theirs:.2%}")

    rows = [
        Row(
            f"until 99.0 % of the test, seed {seed}",
            "DataLoader, Adam 1e-3",
            1 / 5,
            lambda seed=seed: ours(seed, ENOUGH),
            lambda seed=seed: theirs(seed, 0.99),
            agreement(0.99),
            rounds=1,
        )
        for seed in range(5, 10)
    ]
    epoch = Row(
        "one epoch of 60,000",
        "DataLoader, batch 100",
        1 / 2.5,
        lambda: ours(0, 60_000),
        lambda: theirs(0, 0),
        agreement(0.97),
        rounds=2,
    )
    return [*rows, epoch]


def occlusion() -> list[Row]:
    """Occlusion maps of ten images."""
    images, labels = (part[:10] for part in load_mnist(train=False))
    model, plain = load_cnn(), usual(load_cnn())
    captum = peer("captum.attr").Occlusion(lambda x: plain(x).softmax(1))

    def theirs(batch: int) -> Tensor:
        return captum.attribute(
            images, (1, 7, 7), strides=(1, 1, 1), baselines=0.5, target=labels, perturbations_per_eval=batch
        )

    best = best_batch(theirs)

    def agreement(limit: float) -> Callable[[Tensor, Tensor], tuple[bool, str]]:
        def said(maps: Tensor, attribution: Tensor) -> tuple[bool, str]:
            with torch.no_grad():
                clean = model(images).softmax(1).gather(1, labels[:, None])[:, :, None]  # (N, 1, 1)
            largest = (mean_drop(clean - maps, 7) - attribution).abs().max().item()
            return largest < limit, f"largest difference {largest:.0e}"

        return said

    def ours(bfloat16: bool = False) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return occlusion_map(model, images, labels, patch=7)

    beside = f"captum, {best} at a time"
    row = Row("occlusion maps, 10 images, patch 7", beside, 1 / 2, ours, lambda: theirs(best), agreement(1e-5), 5)
    if not has_bfloat16():  # where it does not pay
        return [row]
    rough = row._replace(
        work="the same in bfloat16", aim=1 / 4, ours=lambda: ours(bfloat16=True), agreement=agreement(0.02)
    )
    return [row, rough]


def has_bfloat16() -> bool:
    """Return whether this processor computes in bfloat16 itself."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def mean_drop(drops: Tensor, patch: int) -> Tensor:
    """Return the mean drop over the windows that cover each pixel: (N, H', W') at stride 1 -> (N, 1, 28, 28)."""
    ones = torch.ones(1, 1, patch, patch)
    total = F.conv2d(drops[:, None], ones, padding=patch - 1)
    return total / F.conv2d(torch.ones_like(drops)[:, None], ones, padding=patch - 1)


def attacks() -> list[Row]:
    """PGD-40 on 512 images, with the same result and with the same success."""
    images, labels = (part[:512] for part in load_mnist(train=False))
    model, plain = load_cnn(), usual(load_cnn())
    options = {"eps": 0.3, "alpha": 0.01, "steps": 40}
    by_torchattacks = peer("torchattacks").PGD(plain, random_start=False, **options)
    foolbox = peer("foolbox")
    victim = foolbox.PyTorchModel(plain, bounds=(0, 1), device="cpu")
    by_foolbox = foolbox.attacks.LinfPGD(abs_stepsize=0.01, steps=40, random_start=False)

    def in_batches(attack: Callable[[Tensor, Tensor], Tensor], batch: int, count: int = 512) -> Tensor:
        pairs = zip(images[:count].split(batch), labels[:count].split(batch), strict=True)
        return torch.cat([attack(*pair) for pair in pairs])

    peers = {
        "torchattacks": by_torchattacks,
        "foolbox": lambda x, y: by_foolbox(victim, x, y, epsilons=0.3)[1],
    }

    def success(ours: Tensor, theirs: Tensor) -> tuple[bool, str]:
        fooled = [1 - accuracy(model, x, labels) for x in (ours, theirs)]
        return abs(fooled[0] - fooled[1]) <= 0.005, f"fooled {fooled[0]:.2%} and {fooled[1]:.2%}"

    rows = []
    for name, attack in peers.items():
        best = best_batch(lambda batch, attack=attack: in_batches(attack, batch, count=256))

        def theirs(attack: Callable = attack, best: int = best) -> Tensor:
            return in_batches(attack, best)

        rows += [
            Row(
                "PGD-40, 512 images, every step",
                f"{name}, {best} at a time",
                1 / 1.3,
                lambda: pgd(model, images, labels, **options),
                theirs,
                success,
            ),
            Row(
                "PGD-40, 512 images, early stop",
                f"{name}, {best} at a time",
                1 / 4,
                lambda: pgd(model, images, labels, early_stop=True, **options),
                theirs,
                success,
            ),
        ]
    return rows


def images_from_noise() -> list[Row]:
    """Fooling images one class at a time, targeted images one pair at a time."""
    model = load_cnn()
    classes = torch.arange(10)
    start = (0.5 + 0.1 * torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    images, labels = load_mnist(train=False)
    digits = images[torch.stack([(labels == digit).nonzero()[0, 0] for digit in range(10)])].repeat(10, 1, 1, 1)
    targets = classes.repeat_interleave(10)  # (100,)
    climb = {"alpha": 0.01, "steps": 200}

    def fooling(network: nn.Module, at_a_time: int) -> Tensor:
        pairs = zip(classes.split(at_a_time), start.split(at_a_time), strict=True)
        return torch.cat([fooling_images(network, target, start=begin, **climb)[0] for target, begin in pairs])

    def targeted(network: nn.Module, at_a_time: int) -> Tensor:
        pairs = zip(digits.split(at_a_time), targets.split(at_a_time), strict=True)
        return torch.cat([targeted_images(network, *pair, beta=100.0, **climb)[0] for pair in pairs])

    def agreement(aims: Tensor) -> Callable[[Tensor, Tensor], tuple[bool, str]]:
        def said(ours: Tensor, theirs: Tensor) -> tuple[bool, str]:
            reached = [accuracy(model, x, aims) for x in (ours, theirs)]
            differ = (ours - theirs).abs().mean()
            text = f"on target {reached[0]:.0%} and {reached[1]:.0%}; mean difference of the pixels {differ:.0e}"
            return abs(reached[0] - reached[1]) <= 0.02, text

        return said

    return [
        Row(
            "fooling images, 10 classes, 200 steps",
            "class by class",
            1 / 4,
            lambda: fooling(model, 10),
            lambda: fooling(model, 1),
            agreement(classes),
        ),
        Row(
            "targeted images, 10 x 10, 200 steps",
            "pair by pair",
            1 / 8,
            lambda: targeted(model, 100),
            lambda: targeted(model, 1),
            agreement(targets),
            rounds=1,
        ),
    ]


def start_up() -> list[Row]:
    """Both splits as tensors, in a process of their own; the seconds are those beyond `import torch`."""
    usual_dataset(train=True)  # extracts the archives before the clock runs
    ours = "from helpers.data import load_mnist; x, _ = load_mnist(True); load_mnist(False)"
    theirs = (
        "from torchvision import transforms; from torchvision.datasets import MNIST;"
        f"splits = [MNIST({str(SCRATCH)!r}, train=train, transform=transforms.ToTensor()) for train in (True, False)];"
        "x, _ = (torch.stack([image for image, _ in split]) for split in splits)"
    )

    def timed(source: str) -> Timed:
        report = "print(time.perf_counter() - start, x.double().sum().item())"
        program = f"import time, torch; start = time.perf_counter(); {source}; {report}"
        said = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        return Timed(*map(float, said.split()))

    def agreement(ours: float, theirs: float) -> tuple[bool, str]:
        return math.isclose(ours, theirs, rel_tol=1e-9), f"sum of the pixels {ours:.4f} and {theirs:.4f}"

    return [
        Row(
            "import and load both splits",
            "torchvision, ToTensor",
            1 / 5,
            lambda: timed(ours),
            lambda: timed(theirs),
            agreement,
        )
    ]


def whole_course() -> list[Row]:
    """`make run` against nbconvert, a notebook after the other."""

    def ours() -> int:
        return subprocess.run([sys.executable, "-m", "tools.run"], cwd=ROOT, capture_output=True).returncode

    def theirs() -> int:
        output = SCRATCH / "nbconvert"
        command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir"]
        runs = [[*command, output / path.parent.name, path] for path in find_notebooks()]
        return sum(subprocess.run(run, cwd=ROOT, capture_output=True).returncode for run in runs)

    return [
        Row(
            "the whole course",
            "nbconvert, one by one",
            1 / 1.8,
            ours,
            theirs,
            lambda ours, theirs: (ours == theirs == 0, f"exit codes {ours} and {theirs}"),
            rounds=1,
        )
    ]


def peak() -> None:
    """Say how much of the processor's matrix multiplication an epoch of training uses."""
    a = torch.rand(2048, 2048)
    best = min(_seconds(lambda: a @ a) for _ in range(10))
    images, labels = load_mnist(train=True)
    torch.manual_seed(0)
    seconds = _seconds(lambda: train(DigitCNN(), images, labels, epochs=1, seed=0))
    rate, limit = 60_000 * TRAINING_FLOP / seconds / 1e9, 2 * 2048**3 / best / 1e9
    print(f"\none epoch of 60,000 images: {seconds:.1f} s, {rate:.0f} GFLOP/s")
    print(f"that is {rate / limit:.0%} of the {limit:.0f} GFLOP/s of a matrix product")


def growth() -> None:
    """Say what occlusion maps and PGD cost for 10, 100 and 1,000 images, each in a process of its own."""
    print(f"\n{'images':>24} {'seconds':>8} {'seconds an image':>17} {'peak memory, MB':>16}")
    for name in ("occlusion", "PGD-10"):
        for count in (10, 100, 1_000):
            command = [sys.executable, "-m", "tools.bench", "--cost", name, str(count)]
            said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
            seconds, memory = map(float, said.split())
            print(f"{name:>16} {count:7,} {seconds:8.2f} {seconds / count:17.4f} {memory:16.0f}")


def cost(name: str, count: int) -> None:
    """Print the seconds and the megabytes that the process takes for the work."""
    images, labels = (part[:count].clone() for part in load_mnist(train=False))
    model = load_cnn()
    work = {
        "occlusion": lambda: occlusion_map(model, images, labels),
        "PGD-10": lambda: pgd(model, images, labels, eps=0.3, alpha=0.01, steps=10),
    }[name]
    seconds = _seconds(work)
    status = Path("/proc/self/status")  # of Linux; elsewhere ru_maxrss, which may be a parent's
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    print(seconds, (int(peak[1]) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024)


def precision() -> None:
    """Say what bfloat16 does to occlusion maps: in seconds, and in probability."""
    images, labels = (part[:10] for part in load_mnist(train=False))
    model, maps = load_cnn(), {}

    def work(enabled: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            maps[enabled] = occlusion_map(model, images, labels)

    exact, rough = (min(_seconds(lambda enabled=enabled: work(enabled)) for _ in range(3)) for enabled in (False, True))
    has = "has" if has_bfloat16() else "has no"
    print(f"\nthis processor {has} bfloat16: occlusion maps take 1/{exact / rough:.2f} of the time under autocast,")
    print(f"and change by {(maps[True] - maps[False]).abs().max():.3f} in probability at most")


def table() -> None:
    """Say what FGSM and PGD-40 leave right of the first 2,000 and of all 10,000 test images."""
    images, labels = load_mnist(train=False)
    model = load_cnn()
    print(
        f"\n{'% right':10}"
        + "".join(f" {name + ' 2,000':>12} {'10,000':>8} {'seconds':>8}  " for name in ("FGSM", "PGD-40"))
    )
    for eps in (0.1, 0.2, 0.3):
        line = f"eps {eps:<6}"
        for attack in (
            lambda eps=eps: fgsm(model, images, labels, eps=eps),
            lambda eps=eps: pgd(model, images, labels, eps=eps, alpha=0.01, steps=40, early_stop=True),
        ):
            start = time.perf_counter()
            attacked = attack()
            seconds = time.perf_counter() - start
            first, whole = accuracy(model, attacked[:2000], labels[:2000]), accuracy(model, attacked, labels)
            line += f" {100 * first:12.2f} {100 * whole:8.2f} {seconds:8.1f}  "
        print(line, flush=True)


def _seconds(work: Callable[[], Any]) -> float:
    """Return how long the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


ROWS = {
    "start": start_up,
    "occlusion": occlusion,
    "attacks": attacks,
    "noise": images_from_noise,
    "training": training,
    "course": whole_course,
}
MORE = {"peak": peak, "precision": precision, "growth": growth, "table": table}


def main() -> None:
    """Print the table, or the parts of it that are asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help="of " + " ".join([*ROWS, *MORE]) + "; all if left out")
    parser.add_argument("--cost", nargs=2, help=argparse.SUPPRESS)  # one measurement in a process of its own
    arguments = parser.parse_args()
    if arguments.cost:
        return cost(arguments.cost[0], int(arguments.cost[1]))
    unknown = set(arguments.parts) - {*ROWS, *MORE}
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {' '.join([*ROWS, *MORE])}")
    SCRATCH.mkdir(parents=True, exist_ok=True)
    cpus = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", cpus.read_text()) if cpus.is_file() else None
    machine = named[1] if named else platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if parts := [part for part in ROWS if part in (arguments.parts or ROWS)]:
        print(f"{'work':36} {'beside':30} {'its s':>8} {'ours s':>8}   {'ratio':7} {'aim':6}")
        for part in parts:
            for row in ROWS[part]():
                print(measure(row), flush=True)
    for part in MORE:
        if part in (arguments.parts or MORE):
            MORE[part]()
    return None


if __name__ == "__main__":
    main()
