"""Kernels that start at once, where there are many: copies of a process that has imported what the notebooks import.

Importing torch, and what it loads when an optimizer or `assert_close` is first used, takes longer than most notebooks.
A copy has nothing of the course, and knows nothing of another. What only a new process shows, it does not: a warning
while a library is imported, or a variable that is read then. So `make run NOTEBOOK=...` starts a new one.
"""

import gc
import os
import sys
from contextlib import suppress
from importlib.metadata import EntryPoint
from multiprocessing import context, forkserver, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from unittest.mock import patch

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from tools.regression.notebooks import ROOT

IMPORTED = [
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    "matplotlib.pyplot",
    "scipy.stats",
    "torch._dynamo",
    "torch.distributed.tensor",
    "tqdm",
]


def start_from_copies() -> None:
    """Let every kernel that this process starts from now on be a copy; only on Linux, where copying is safe."""
    if sys.platform == "linux":
        forkserver.set_forkserver_preload(IMPORTED)
        factory = KernelProvisionerFactory.instance()
        factory.provisioners["copies"] = EntryPoint("copies", f"{__name__}:Copies", factory.GROUP_NAME)
        factory.default_provisioner_name = "copies"


class Copies(LocalProvisioner):
    """What jupyter_client asks for kernels: it would start `python -m ipykernel_launcher`, this copies a process."""

    async def launch_kernel(self, cmd: list[str], **options: object) -> KernelConnectionInfo:
        """Start a kernel with the arguments of this command."""
        # As a kernel has it; and kernels are stopped, so that locks they leave behind are nothing to tell.
        others = {
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYTHONWARNINGS": "ignore:resource_tracker",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # of which the debugger would warn in this terminal
        }
        with patch.dict(os.environ, others):
            forkserver.ensure_running()
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        about = (arguments, options.get("cwd") or Path.cwd(), options["env"])
        process = KernelProcess(target=_kernel, args=about, daemon=True)
        nothing = {"__spec__": None, "__file__": None}
        with patch.multiple(sys.modules["__main__"], create=True, **nothing):  # which the copy would import
            process.start()
        self.process = process  # only now: after an interrupt until here there is nothing to signal or to wait for
        self.pid = self.pgid = process.pid
        return self.connection_info

    async def kill(self, restart: bool = False) -> None:
        """End the kernel and see it end, where jupyter_client would look again after a tenth of a second."""
        await super().kill(restart)
        if self.process:
            self.process.join(5)


class KernelProcess(getattr(context, "ForkServerProcess", object)):  # which Windows does not have
    """A process with what jupyter_client uses of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the kernel runs."""
        return self.exitcode

    def wait(self) -> int | None:
        """Return the exit code once there is one."""
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to a kernel that has no group of its own yet, if it is there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _kernel(arguments: list[str], folder: str | Path, environment: dict[str, str]) -> None:
    """Be `python -m ipykernel_launcher` with these arguments."""
    os.setsid()  # a group of its own, so that an interrupt reaches the kernel alone
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
