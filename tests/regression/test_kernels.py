"""Kernels that are copied from a process with all imports done are as good as new ones."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from queue import Empty
from unittest.mock import AsyncMock, Mock

import nbformat
import pytest
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import start_new_kernel

from tools.regression import execution
from tools.regression.execution import answers, run_cells
from tools.regression.kernels import KernelProcess
from tools.regression.notebooks import ROOT
from tools.run import execute

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are copied on Linux only")


def printed(path, output):
    """Execute a notebook and return what its cells print."""
    assert execute(path, {}, output).failure is None
    cells = nbformat.read(output, as_version=4).cells
    return ["".join(part.text for part in cell.outputs) for cell in cells]


def test_a_kernel_finds_the_libraries_but_not_the_course(course, tmp_path):
    look = (
        "import sys\nfrom importlib.util import find_spec as f\nprint('torch' in sys.modules, f('helpers'), f('tools'))"
    )
    assert printed(course("a/looks", "x = 1", look), tmp_path / "out.ipynb") == ["", "True None None\n"]


def test_a_kernel_knows_nothing_of_another(course, tmp_path):
    source = "import os\nimport torch\nprint(hasattr(torch, 'left'), 'LEFT' in os.environ)"
    leave = "torch.left = os.environ['LEFT'] = 'here'"
    for name in ("first", "second"):
        path = course(f"a/{name}", "x = 1", source, leave)
        assert printed(path, tmp_path / "out.ipynb") == ["", "False False\n", ""]


def test_a_kernel_is_a_group_of_its_own_and_ends_when_told(tmp_path):
    manager, client = start_new_kernel(cwd=tmp_path)
    kernel = manager.provisioner.pid
    assert os.getpgid(kernel) == kernel != os.getpgid(0)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    assert ended(kernel)


def test_signals_to_a_kernel_that_is_gone_do_nothing(tmp_path):
    manager, client = start_new_kernel(cwd=tmp_path)
    client.stop_channels()
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    assert ended(manager.provisioner.pid)
    manager.interrupt_kernel()
    manager.shutdown_kernel(now=True)


def test_an_interrupt_while_a_kernel_starts_stays_an_interrupt(tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(KernelProcess, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(run_cells(nbformat.v4.new_notebook(), tmp_path))


@pytest.mark.parametrize(("alive", "said"), [(False, "the kernel died while it started"), (True, "does not answer")])
def test_a_kernel_that_never_answers_is_told(alive, said):
    kernel = AsyncMock(**{"is_alive.return_value": alive, "get_shell_msg.side_effect": Empty}, kernel_info=Mock())
    with pytest.raises(RuntimeError, match=said):
        asyncio.run(answers(kernel))


def test_a_request_that_a_kernel_has_left_unread_is_read_with_the_next(tmp_path, monkeypatch):
    held, send = [], AsyncZMQSocketChannel.send

    def late(channel, message):
        held.append(message)
        if message["header"]["msg_type"] != "execute_request":
            while held:
                send(channel, held.pop(0))

    monkeypatch.setattr(AsyncZMQSocketChannel, "send", late)
    monkeypatch.setattr(execution, "WAKE", 0.3)
    cells = [nbformat.v4.new_code_cell(f"print({number})") for number in (1, 2)]
    asyncio.run(asyncio.wait_for(run_cells(nbformat.v4.new_notebook(cells=cells), tmp_path), 60))
    assert [cell.outputs[0].text for cell in cells] == ["1\n", "2\n"]
    assert [cell.execution_count for cell in cells] == [1, 2]


def test_kernels_end_with_the_process_that_started_them(tmp_path):
    program = """
import time
from jupyter_client.manager import start_new_kernel
from tools.regression.kernels import IMPORTED, start_from_copies
IMPORTED.clear()  # quicker, and no difference to how it ends
start_from_copies()
manager, client = start_new_kernel()
print(manager.provisioner.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        kernel = int(starter.stdout.readline())
        server = int(subprocess.run(["ps", "-o", "ppid=", str(kernel)], capture_output=True, check=True).stdout)
        os.kill(kernel, 0)  # is there
        starter.kill()  # without a chance to tell anyone
    assert ended(kernel)
    assert ended(server)


def test_nothing_is_said_at_the_end_of_what_kernels_leave_behind(tmp_path):
    program = f"""
import asyncio
from pathlib import Path
from nbformat.v4 import new_code_cell, new_notebook
from tools.regression.execution import run_cells
from tools.regression.kernels import IMPORTED, start_from_copies
if __name__ == "__main__":
    IMPORTED[:] = ["ipykernel.kernelapp"]
    start_from_copies()
    left = "import multiprocessing\\nlock = multiprocessing.get_context('spawn').RLock()"  # as a progress bar has one
    asyncio.run(run_cells(new_notebook(cells=[new_code_cell(left)]), Path({str(tmp_path)!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def ended(process):
    """Wait until there is no such process, ten seconds at most."""
    for _ in range(100):
        with suppress(ProcessLookupError):
            os.kill(process, 0)
            time.sleep(0.1)
            continue
        return True
    return False
