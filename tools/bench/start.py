"""Both splits of MNIST as tensors, in a process of their own; the seconds are those beyond `import torch`."""

import math
import subprocess
import sys

from tools.bench.peers import ROOT, SCRATCH, usual_dataset
from tools.bench.rows import Row, Timed

OURS = "from helpers.data import load_mnist; x, _ = load_mnist(True); load_mnist(False)"
THEIRS = (
    "from torchvision import transforms; from torchvision.datasets import MNIST;"
    f"splits = [MNIST({str(SCRATCH)!r}, train=train, transform=transforms.ToTensor()) for train in (True, False)];"
    "x, _ = (torch.stack([image for image, _ in split]) for split in splits)"
)


def rows() -> list[Row]:
    """Import and load, beside torchvision."""
    usual_dataset(train=True)  # extracts the archives before the clock runs

    def agreement(ours: float, theirs: float) -> tuple[bool, str]:
        return math.isclose(ours, theirs, rel_tol=1e-9), f"sum of the pixels {ours:.4f} and {theirs:.4f}"

    return [
        Row(
            "import and load both splits",
            "torchvision, ToTensor",
            1 / 5,
            lambda: in_process(OURS),
            lambda: in_process(THEIRS),
            agreement,
        )
    ]


def in_process(source: str) -> Timed:
    """Run the line in a new process; return its seconds and the sum of x."""
    report = "print(time.perf_counter() - start, x.double().sum().item())"
    program = f"import time, torch; start = time.perf_counter(); {source}; {report}"
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return Timed(*map(float, said.split()))
