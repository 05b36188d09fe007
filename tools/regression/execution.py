"""How a notebook is executed, by every tool and test: nbclient runs its cells, and leaves Ctrl-C to whoever asked."""

import asyncio
import os
from contextlib import suppress
from itertools import compress
from pathlib import Path
from queue import Empty

import nbformat
from jupyter_client.asynchronous.client import AsyncKernelClient
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from tools.regression.compare import marks
from tools.regression.notebooks import CELL_TIMEOUT, ROOT, write_atomically
from tools.regression.outputs import coalesced

STARTUP = ROOT / "build" / "rounding"  # what IPython reads in a kernel that is to round in another way
WAKE = 20  # seconds
ROUNDED = "import torch\nassert torch.nn.Linear.forward.__module__ != torch.nn.Linear.__module__, 'not rounded'"


class CellError(RuntimeError):
    """A cell did not run to its end; the message is its number, its source, and why."""

    def __init__(self, number: int, source: str, cause: str):
        indented = "\n".join(f"    {line}" for line in source.splitlines())
        super().__init__(f"cell [{number}]\n{indented}\n{cause}")
        self.number, self.cause = number, cause


async def run_cells(
    notebook: NotebookNode, folder: Path, timeout: int = CELL_TIMEOUT, environment: dict[str, str] | None = None
) -> None:
    """Execute the cells in place, in a new kernel in the folder, with these variables more; the kernel ends with them.

    nbclient's own `execute` takes SIGINT and SIGTERM for itself, and its caller goes on after them; this does not.

    What nbval's marks say of a cell holds here as well: a skipped one stays as it was, and some may raise.

    Raises:
        CellError: a cell raised, had no end within `timeout` seconds, or its kernel died; later ones have no outputs.
        RuntimeError: the kernel does not start.
    """
    chosen = [cell.cell_type == "code" and not marks(cell).get("skip") for cell in notebook.cells]
    code = list(compress(notebook.cells, chosen))
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    # No word of the kernel on its loopback, nor of an interrupt.
    options = {"record_timing": False, "extra_arguments": ["--log-level=CRITICAL"]}
    client = NotebookClient(notebook, kernel_name="python3", timeout=timeout, on_cell_executed=stays, **options)
    manager = client.create_kernel_manager()
    number, waking = 0, None
    try:
        await client.async_start_new_kernel(cwd=str(folder), env={**os.environ, **(environment or {})})
        client.kc = manager.client()
        client.kc.start_channels()
        client.kc.allow_stdin = False
        await answers(client.kc)
        waking = asyncio.create_task(wake(client.kc))
        for index, cell in enumerate(notebook.cells):
            # papermill's cell of parameters has the number of the one that it follows
            number += cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
            if not chosen[index]:
                continue
            client.allow_errors = marks(cell).get("check_exception", False)
            try:
                await client.async_execute_cell(cell, index)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                if asyncio.current_task().cancelling():  # which nbclient takes for a dead kernel
                    raise asyncio.CancelledError from None
                raise CellError(number, cell.source, cause(error, cell, timeout)) from None
    finally:
        for cell in code:  # only now, since until then a display may be updated
            cell.outputs = coalesced(cell.outputs)
        if waking:
            waking.cancel()
        if client.kc:
            client.kc.stop_channels()
        await manager.shutdown_kernel(now=True)


async def answers(kernel: AsyncKernelClient) -> None:
    """Wait until a kernel answers and its messages are heard; jupyter_client's own way waits for 0.2 s of silence too.

    Raises:
        RuntimeError: the kernel died, or had no answer to any of sixty questions.
    """
    for _ in range(60):
        if not await kernel.is_alive():
            raise RuntimeError("the kernel died while it started")
        kernel.kernel_info()
        with suppress(Empty):
            await kernel.get_shell_msg(timeout=1)
            await kernel.get_iopub_msg(timeout=0.2)
            return
    raise RuntimeError("the kernel does not answer")


async def wake(kernel: AsyncKernelClient) -> None:
    """Ask something now and then: what ipykernel 7 has left unread (its issue 1554) it reads with the next request."""
    while True:
        await asyncio.sleep(WAKE)
        kernel.kernel_info()


def stays(execute_reply: dict, **_: object) -> None:
    """Raise if a cell that went well has called `exit()`: the kernel goes a moment later, and cells after it fail."""
    if any(part.get("source") == "ask_exit" for part in execute_reply["content"].get("payload", [])):
        raise DeadKernelError


def cause(error: Exception, cell: NotebookNode, timeout: int) -> str:
    """Return why the cell failed."""
    if not isinstance(error, CellExecutionError):
        return "the kernel died" if isinstance(error, DeadKernelError) else f"no end within {timeout} s"
    said = f"{error.ename}: {error.evalue}"
    if error.ename == "SystemExit":
        return f"{said}; what follows never ran"
    shown = any(output.output_type == "error" for output in cell.outputs)
    told = "" if shown else "".join(part.text for part in coalesced(cell.outputs) if part.get("name") == "stderr")
    return f"{said}\n{told}".rstrip("\n")  # of a group of exceptions, stderr alone tells


async def executed(path: Path, environment: dict[str, str] | None = None) -> NotebookNode:
    """Return the notebook with the outputs of a new execution, in a kernel with these variables more.

    With ROUNDING among them the kernel rounds as `rounding` says.

    Raises:
        CellError: as `run_cells` does.
    """
    notebook = nbformat.read(path, as_version=4)
    if "ROUNDING" not in (environment or {}):
        await run_cells(notebook, path.parent, environment=environment)
        return notebook
    script = STARTUP / "profile_default" / "startup" / "rounding.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(__file__).with_name("rounding.py").read_bytes(), script)
    notebook.cells.append(nbformat.v4.new_code_cell(ROUNDED))
    await run_cells(notebook, path.parent, environment={**environment, "IPYTHONDIR": str(STARTUP)})
    del notebook.cells[-1]
    return notebook
