"""Say what is wrong with this machine's environment, and what to type: what `make doctor` runs.

Without make it is `python -m tools.doctor`. Only the standard library is imported here, and each check asks a process
of its own: one that is broken is one line.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = """
import platform, sys
assert sys.version_info >= (3, 11), f"{platform.python_version()}, and 3.11 or newer is needed"
print(platform.python_version(), sys.executable)
"""
TORCH = """
import os, torch, torchvision
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, and the course needs none"
print(f"{torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores; GPU: {gpu}")
"""
# What is missing or of another version is an error, since there is nowhere to find it.
PINNED = ["-m", "pip", "--isolated", "install", "--quiet", "--dry-run", "--no-deps", "--no-index", "--requirement"]
PINNED += ["requirements/course.lock"]
KERNEL = """
import nbclient, nbformat
cell = nbformat.v4.new_code_cell("print(6 * 7)")
nbclient.execute(nbformat.v4.new_notebook(cells=[cell]), startup_timeout=60, timeout=60)
print("starts and answers", cell.outputs[0].text)
"""
OWN = Path(".venv/bin/python")  # under ROOT; with conda and in Colab it is not there


def again(option: str = "") -> str:
    """Return the command that makes the environment afresh on this machine; the option is one of make's."""
    return f"make -B install{option}" if shutil.which("make") else "conda env update --file environment.yml"


def ask(*question: str, cure: str = "") -> str:
    """Return what the course's python prints, given these arguments; RuntimeError with its last line if it fails."""
    python, cure = ROOT / OWN, cure or again()
    if not python.exists():
        python, cure = sys.executable, "python -m pip install --requirement requirements/course.lock"
        if not find_spec("torch"):
            raise RuntimeError(f"there is no environment; type: {again()}")
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore", "PIP_CONFIG_FILE": os.devnull}
    try:
        done = subprocess.run([python, *question], cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=90)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{getattr(error, 'strerror', 'no end within 90 s')}; type: {cure}") from error
    if done.returncode:
        raise RuntimeError(f"{(done.stderr.strip() or f'exit code {done.returncode}').splitlines()[-1]}; type: {cure}")
    return done.stdout.strip()


def sums(names: str, cure: str) -> str:
    """Hold the files in data/ that are called so against the MD5 sums of data/README.md."""
    rows = re.findall(rf"(?m)^\| `({names})` \|.* `(\w{{32}})` \|$", (ROOT / "data/README.md").read_text("utf-8"))
    for name, md5 in rows:
        name = f"data/{'MNIST/raw/' * name.endswith('.gz')}{name}"
        path = ROOT / name
        if not path.is_file():
            raise RuntimeError(f"{name} is missing; type: git checkout -- {name}")
        if hashlib.md5(path.read_bytes()).hexdigest() != md5:
            raise RuntimeError(f"{name} is altered; type: git checkout -- {name}{cure}")
    return f"{len(rows)} files, their MD5 sums are those of data/README.md"


def disk() -> str:
    """Write where `make run` writes, and tell how much room there is."""
    (ROOT / "build").mkdir(exist_ok=True)
    tempfile.TemporaryFile(dir=ROOT / "build").close()
    there = (ROOT / OWN).exists() or find_spec("torch")
    free, wanted = shutil.disk_usage(ROOT).free / 1e9, 1 if there else 6
    if free < wanted:
        cure = "rm -rf build" if there else again(" TORCH=cpu") + ", which wants 2 GB"
        raise RuntimeError(f"{free:.1f} GB free, and {wanted} GB is wanted; type: {cure}")
    return f"build/ can be written, {free:.0f} GB free"


CHECKS = {
    "python": lambda: ask("-c", PYTHON, cure=again(" PYTHON=python3.12")),
    "torch": lambda: ask("-c", TORCH),
    "versions": lambda: ask(*PINNED) or "those of requirements/course.lock",
    "MNIST": lambda: sums(r"\S+\.gz", ""),
    "networks": lambda: sums(r"\S+\.pt", ", which throws away what you trained"),
    "kernel": lambda: ask("-c", KERNEL),
    "disk": disk,
}


def main() -> int:
    """Print one line for each check and one for all; return 1 if something is wrong."""
    wrong = 0
    for name, check in CHECKS.items():
        try:
            mark, text = "ok", check()
        except Exception as error:  # whatever breaks in a check is what it has found
            cure = "; type: ls -ld . build data" if isinstance(error, OSError) else ""
            mark, text, wrong = "WRONG", f"{error}{cure}", wrong + 1
        print(f"{mark:5} {name:8} {' '.join(text.split())}", flush=True)
    print(f"{wrong} of {len(CHECKS)} are wrong; begin with the first" if wrong else "all is well")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
