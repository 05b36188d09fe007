"""Kernels that start at once, for the tests: copies of a process that has imported what the notebooks import.

Importing torch, and what it loads when an optimizer or `assert_close` is first used, takes longer than most notebooks.
Nothing of the course itself is imported before the copy is made, and a copy knows nothing of another.
"""

import gc
import os
import sys
import time
from multiprocessing import forkserver, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from unittest.mock import patch

from jupyter_client.provisioning import local_provisioner

ROOT = Path(__file__).resolve().parent.parent  # not from tools.notebooks, whose imports would be every kernel's
IMPORTED = [
    __name__,
    "ipykernel.kernelapp",
    "matplotlib.pyplot",
    "scipy.stats",
    "torch._dynamo",
    "torch.distributed.tensor",
    "tqdm",
]


def start_from_copies() -> None:
    """Let every kernel that this process starts from now on be a copy; only on Linux, where copying is safe."""
    if sys.platform != "linux":
        return
    context = get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)

    def launch(command: list[str], **options: object) -> KernelProcess:
        with patch.dict(os.environ, MPLBACKEND="module://matplotlib_inline.backend_inline"):  # as a kernel has it
            forkserver.ensure_running()
        quiet = options.get("stderr") is not None  # nbval hands over /dev/null
        return KernelProcess(context, command[3:], options.get("cwd") or Path.cwd(), options["env"], quiet)

    local_provisioner.launch_kernel = launch  # the one name of jupyter_client that is replaced


class KernelProcess:
    """What jupyter_client uses of the `subprocess.Popen` of a kernel."""

    stdin = stdout = stderr = None

    def __init__(self, context: BaseContext, *about: object):
        self._process = context.Process(target=_kernel, args=about, daemon=True)
        self._process.start()
        self.pid = self._process.pid
        while self._process.is_alive() and os.getpgid(self.pid) != self.pid:  # else signals would reach this process
            time.sleep(0.001)

    def poll(self) -> int | None:
        """Return the exit code, or None while the kernel runs."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Return the exit code once there is one."""
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel."""
        os.kill(self.pid, number)


def _kernel(arguments: list[str], folder: str | Path, environment: dict[str, str], quiet: bool) -> None:
    """Be `python -m ipykernel_launcher` with these arguments."""
    os.setsid()  # a group of its own, so that an interrupt reaches the kernel alone
    if quiet:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # Only what a new python would have: the notebook finds the course, or fails.
    wished = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:] = wished + [p for p in sys.path if p.startswith(sys.prefix) or not p.startswith(str(ROOT))]
    # It ends when the process that it was copied from does.
    sys.argv[1:] = [*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
    gc.freeze()  # what is imported stays: no search for garbage need look at it
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()
