"""What occlusion maps and PGD cost for 10, 100 and 1,000 images: seconds, and memory of the processor."""

import re
import resource
import subprocess
import sys
from pathlib import Path

from helpers.adversarial import pgd
from helpers.cnn import load_cnn
from helpers.data import load_mnist
from helpers.occlusion import occlusion_map
from tools.bench.peers import ROOT
from tools.bench.rows import timed

COUNTS = (10, 100, 1_000)
WORK = {
    "occlusion": occlusion_map,
    "PGD-10": lambda model, images, labels: pgd(model, images, labels, eps=0.3, alpha=0.01, steps=10),
}


def report() -> None:
    """Print a line for each kind and number of images, each computed in a process of its own."""
    print(f"\n{'images':>24} {'seconds':>8} {'seconds an image':>17} {'peak memory, MB':>16}")
    for name in WORK:
        for count in COUNTS:
            command = [sys.executable, "-m", "tools.bench.growth", name, str(count)]
            said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
            seconds, memory = map(float, said.split())
            print(f"{name:>16} {count:7,} {seconds:8.2f} {seconds / count:17.4f} {memory:16.0f}")


def cost(name: str, count: int) -> tuple[float, float]:
    """Do the work in this process; return its seconds and the megabytes that the process ever had."""
    images, labels = (part[:count].clone() for part in load_mnist(train=False))
    model = load_cnn()
    seconds = timed(lambda: WORK[name](model, images, labels)).seconds
    status = Path("/proc/self/status")  # of Linux; elsewhere ru_maxrss, which may be a parent's
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return seconds, (int(peak[1]) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


if __name__ == "__main__":
    print(*cost(sys.argv[1], int(sys.argv[2])))
