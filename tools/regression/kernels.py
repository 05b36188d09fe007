"""Kernels that start at once, for the tests: copies of a process that has imported what the notebooks import.

Importing torch, and what it loads when an optimizer or `assert_close` is first used, takes longer than most notebooks.
A copy has nothing of the course, and knows nothing of another. What only a new process shows, it does not: a warning
while a library is imported, or a variable that is read then. So `make run` starts new ones, and so does one test in
tests/notebooks/test_colab.py.
"""

import gc
import os
import sys
import time
from contextlib import suppress
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from unittest.mock import patch

from jupyter_client.provisioning import local_provisioner

ROOT = Path(__file__).resolve().parents[2]  # not from `notebooks`, whose imports would be every kernel's
IMPORTED = [
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
        arguments = command[command.index("ipykernel_launcher") + 1 :]
        return KernelProcess(context, arguments, options.get("cwd") or Path.cwd(), options["env"], quiet)

    local_provisioner.launch_kernel = launch  # the one name of jupyter_client that is replaced


class KernelProcess:
    """What jupyter_client uses of the `subprocess.Popen` of a kernel."""

    stdin = stdout = stderr = None

    def __init__(self, context: BaseContext, *about: object):
        self._process = context.Process(target=_kernel, args=about, daemon=True)
        self._process.start()
        self.pid = self._process.pid
        with suppress(ProcessLookupError):  # it is gone already
            while self.poll() is None and os.getpgid(self.pid) != self.pid:  # else signals would reach this process
                time.sleep(0.001)

    def poll(self) -> int | None:
        """Return the exit code, or None while the kernel runs."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Return the exit code once there is one."""
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel, if it is there."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
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
    others = [p for p in sys.path if "site-packages" in p or not Path(p).resolve().is_relative_to(ROOT)]
    sys.path[:] = wished + others
    for name in [name for name in sys.modules if name.partition(".")[0] == "tools"]:
        del sys.modules[name]
    sys.modules.pop("rfc3987_syntax", None)  # which `tools` had put aside
    sys.argv[1:] = [*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
    gc.freeze()  # what is imported stays: no search for garbage need look at it
    Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


def _end_with(parent: BaseProcess) -> None:
    """End this process when the one that started it has ended, however that came about."""
    parent.join()
    os._exit(1)
