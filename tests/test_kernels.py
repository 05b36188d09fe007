"""Kernels that are copied from a process with all imports done are as good as new ones."""

import os
import sys
import time

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

from tools.run import execute

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are copied on Linux only")


def printed(path, output):
    """Execute a notebook and return what its cells print."""
    assert execute(path, {}, output).failure is None
    cells = nbformat.read(output, as_version=4).cells
    return ["".join(part.text for part in cell.outputs) for cell in cells]


def test_a_kernel_finds_the_libraries_but_not_the_course(course, tmp_path):
    look = "import sys\nfrom importlib.util import find_spec\nprint('torch' in sys.modules, find_spec('helpers'))"
    assert printed(course("a/looks", "x = 1", look), tmp_path / "out.ipynb") == ["", "True None\n"]


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
    for _ in range(100):
        if not manager.is_alive():
            break
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
