"""Say what is wrong with this machine's environment, and what to type: what `make doctor` runs.

Only the standard library is imported here, and each check asks a process of its own: one that is broken is one line.
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
AGAIN = "rm -rf .venv; make .venv/ready"
PINNED = ("torch", "torchvision", "matplotlib", "jupyterlab", "nbval", "papermill")
PYTHON = """
import platform, sys
assert sys.version_info >= (3, 11), f"{platform.python_version()}, and 3.11 or newer is needed"
print(platform.python_version(), sys.executable)
"""
VERSIONS = f"from importlib.metadata import version\nfor name in {PINNED}: print(name, version(name))"
NETWORKS = "from helpers.cnn import load_cnn; load_cnn(False); load_cnn(True); print('with and without batch norm')"
KERNEL = """
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(startup_timeout=60, extra_arguments=["--log-level=ERROR"])
said = []
client.execute_interactive("print(6 * 7)", timeout=60, output_hook=lambda m: said.append(m["content"].get("text")))
manager.shutdown_kernel(now=True)
print("starts and answers" if "42\\n" in said else 1 / 0)
"""
MACHINE = """
import os, torch
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, and the course needs none"
print(f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} of them; GPU: {gpu}")
"""


def ask(code: str, cure: str) -> str:
    """Return what the course's python prints when it runs the code; RuntimeError with its last line if it fails."""
    own = ROOT / ".venv" / "bin" / "python"
    if not own.exists() and not find_spec("torch"):  # with torch this python is that of conda, or of Colab
        raise RuntimeError("there is no .venv; type: make .venv/ready")
    command = [str(own) if own.exists() else sys.executable, "-c", code]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=90)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{getattr(error, 'strerror', 'no end within 90 s')}; type: {cure}") from error
    if done.returncode:
        raise RuntimeError(f"{(done.stderr.strip() or f'exit code {done.returncode}').splitlines()[-1]}; type: {cure}")
    return done.stdout.strip()


def versions() -> str:
    """Hold the installed versions against requirements/course.lock."""
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements/course.lock").read_text(), re.MULTILINE))
    there = dict(line.split() for line in ask(VERSIONS, AGAIN).splitlines())
    differ = [f"{name} is {there[name]}, pinned {pinned[name]}" for name in PINNED if there[name] != pinned[name]]
    if differ:
        raise RuntimeError(f"{', '.join(differ)}; type: {AGAIN}")
    return ", ".join(f"{name} {there[name]}" for name in PINNED)


def mnist() -> str:
    """Hold the four archives against the MD5 sums of data/README.md."""
    sums = re.findall(r"^\| `(\S+\.gz)` \| `(\w{32})` \|", (ROOT / "data/README.md").read_text(), re.MULTILINE)
    for name, md5 in sums:
        path = ROOT / "data" / "MNIST" / "raw" / name
        if not path.is_file() or hashlib.md5(path.read_bytes()).hexdigest() != md5:
            raise RuntimeError(f"{name} is missing or damaged; type: git checkout -- data")
    return f"{len(sums)} archives, their MD5 sums are right"


def disk() -> str:
    """Write where `make run` writes, and tell how much room there is."""
    (ROOT / "build").mkdir(exist_ok=True)
    tempfile.TemporaryFile(dir=ROOT / "build").close()
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < 1:
        raise RuntimeError(f"{free:.1f} GB free, and 1 GB is wanted; type: rm -rf build")
    return f"build/ can be written, {free:.0f} GB free"


CHECKS = {
    "python": lambda: ask(PYTHON, f"{AGAIN} PYTHON=python3.12"),
    "versions": versions,
    "MNIST": mnist,
    "networks": lambda: ask(NETWORKS, f"git checkout -- data, or if that is not it: {AGAIN}"),
    "kernel": lambda: ask(KERNEL, AGAIN),
    "machine": lambda: ask(MACHINE, AGAIN),
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
