"""How a notebook is executed: nbclient runs its cells, and leaves Ctrl-C to whoever asked for it."""

import asyncio
import os
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from tools.regression.notebooks import CELL_TIMEOUT


class CellError(RuntimeError):
    """A cell did not run to its end; the message is its number, its source, and why."""


async def run_cells(
    notebook: NotebookNode, folder: Path, timeout: int = CELL_TIMEOUT, environment: dict[str, str] | None = None
) -> None:
    """Execute the cells in place, in a new kernel in the folder, with these variables more; the kernel ends with them.

    nbclient's own `execute` takes SIGINT and SIGTERM for itself, and its caller goes on after them; this does not.

    Raises:
        CellError: a cell raised, had no end within `timeout` seconds, or its kernel died; later ones have no outputs.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    # One text a cell, however its prints were timed; no word of the kernel on its loopback, nor of an interrupt.
    options = {"coalesce_streams": True, "record_timing": False, "extra_arguments": ["--log-level=CRITICAL"]}
    client = NotebookClient(notebook, kernel_name="python3", timeout=timeout, on_cell_executed=stays, **options)
    manager = client.create_kernel_manager()
    number = 0
    try:
        await client.async_start_new_kernel(cwd=str(folder), env={**os.environ, **(environment or {})})
        await client.async_start_new_kernel_client()
        for index, cell in enumerate(notebook.cells):
            number += cell.cell_type == "code"
            try:
                await client.async_execute_cell(cell, index)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                if asyncio.current_task().cancelling():  # which nbclient takes for a dead kernel
                    raise asyncio.CancelledError from None
                source = "\n".join(f"    {line}" for line in cell.source.splitlines())
                raise CellError(f"cell [{number}]\n{source}\n{cause(error, cell, timeout)}") from None
    finally:
        if client.kc:
            client.kc.stop_channels()
        await manager.shutdown_kernel(now=True)


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
    shown = any(output.output_type == "error" for output in cell.outputs)  # of a group of exceptions, stderr alone is
    return said + "".join(f"\n{output.text}" for output in cell.outputs if output.get("name") == "stderr") * (not shown)
