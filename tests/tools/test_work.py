"""`make work` copies what is not there, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.work import copy_notebooks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path):
    """Two notebooks of a course."""
    for name in ("1_foundations/1_a", "2_mnist_cnn/1_b"):
        (tmp_path / "notebooks" / name).parent.mkdir(parents=True)
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(f"the course's {name}")
    return tmp_path


def test_an_edited_copy_survives_an_update(clone):
    assert "2 notebooks copied, 0 already there" in copy_notebooks(clone)
    mine = clone / "work" / "1_foundations" / "1_a.ipynb"
    mine.write_text("my own answer")
    (clone / "notebooks" / "1_foundations" / "1_a.ipynb").write_text("the course's, updated")
    (clone / "notebooks" / "2_mnist_cnn" / "2_c.ipynb").write_text("a new one")
    said = copy_notebooks(clone)
    assert mine.read_text() == "my own answer"
    assert "1 notebooks copied, 1 already there" in said
    assert "1 left as they are" in said
    assert said.endswith("work/1_foundations/1_a.ipynb")
    assert not list(clone.glob("work/*/.*"))


def test_stray_files_and_broken_notebooks_stop_nothing(clone):
    folder = clone / "notebooks" / "1_foundations"
    (folder / ".#1_a.ipynb").symlink_to("user@host.1234:5678")
    (folder / "._1_a.ipynb").write_bytes(b"\x00\x05\x16\x07")
    (folder / "folder.ipynb").mkdir()
    (folder / "2_latin.ipynb").write_bytes(b"\xe9")
    assert "3 notebooks copied" in copy_notebooks(clone)
    assert sorted(path.name for path in (clone / "work" / "1_foundations").iterdir()) == ["1_a.ipynb", "2_latin.ipynb"]


def test_any_python_can_do_it_without_make():
    done = subprocess.run([sys._base_executable, "-S", "-E", "-c", "import tools.work"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_git_does_not_look_at_the_copies():
    ignored = ["git", "check-ignore", "--quiet", "work/1_foundations/1_a.ipynb"]
    assert subprocess.run(ignored, cwd=ROOT).returncode == 0
