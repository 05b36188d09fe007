"""The public address: everything that holds it agrees, and `make publish` changes that and nothing else."""

import ast
import json
import shutil
import sys

import pytest

import tools.publish
from tools.publish import PLACEHOLDER, ROOT, address, set_up_cell, stamped


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of all that is stamped, which `make publish` takes for the repository."""
    for path in stamped(ROOT, address(ROOT)):
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    monkeypatch.setattr(tools.publish, "ROOT", tmp_path)
    return tmp_path


def publish(monkeypatch, repository):
    monkeypatch.setattr("sys.argv", ["publish", repository])
    return tools.publish.main()


def test_everything_that_holds_the_address_is_in_step():
    wrong = [
        str(path.relative_to(ROOT)) for path, text in stamped(ROOT, address(ROOT)).items() if path.read_text() != text
    ]
    assert not wrong, f"run `make publish`: {', '.join(wrong)}"


@pytest.mark.parametrize("repository", [PLACEHOLDER, "ada/digits"])
def test_the_set_up_cell_is_short_and_needs_only_the_standard_library(repository):
    source = set_up_cell(repository).strip()
    assert len(source.splitlines()) < 25
    assert max(map(len, source.splitlines())) <= 88
    nodes = list(ast.walk(ast.parse(source)))
    imported = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {"sys", "pathlib"} <= set(imported) <= sys.stdlib_module_names
    assert ("git clone" in source) == (repository != PLACEHOLDER)


def test_publishing_changes_the_address_and_nothing_else(copy, monkeypatch, capsys):
    before = {path: path.read_text() for path in copy.rglob("*.*") if path.is_file()}
    assert publish(monkeypatch, "ada/digits-2.0") == 0
    assert "https://github.com/ada/digits-2.0: 28 files changed" in capsys.readouterr().out
    assert address(copy) == "ada/digits-2.0"
    for path, text in before.items():
        assert PLACEHOLDER not in path.read_text()
        assert "ada/digits-2.0" in path.read_text()
        if path.suffix != ".ipynb":
            assert path.read_text() == text.replace(address(ROOT), "ada/digits-2.0")
            continue
        old, new = json.loads(text)["cells"], json.loads(path.read_text())["cells"]
        set_up = next(number for number, cell in enumerate(old) if cell["cell_type"] == "code")
        assert [number for number in range(len(old)) if old[number] != new[number]] == [0, set_up]
        assert {key for key in old[set_up] if old[set_up][key] != new[set_up][key]} == {"source"}
        link = f"https://colab.research.google.com/github/ada/digits-2.0/blob/main/{path.relative_to(copy)}"
        assert link in "".join(new[0]["source"])
    assert publish(monkeypatch, address(ROOT)) == 0
    assert {path: path.read_text() for path in before} == before


def test_publishing_twice_changes_nothing(copy, monkeypatch, capsys):
    publish(monkeypatch, "ada/digits")
    publish(monkeypatch, "ada/digits")
    publish(monkeypatch, "")
    monkeypatch.setattr("sys.argv", ["publish"])  # as `python -m tools.publish` alone
    tools.publish.main()
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["28", "0", "0", "0"]


@pytest.mark.parametrize(
    "repository",
    ["digits", "https://github.com/ada/digits", "ada/digits.git", "ada/", "a b/c", "ada/x;ls", "a/b/c", "ada/-x"],
)
def test_an_address_of_another_form_is_refused(copy, monkeypatch, capsys, repository):
    before = {path: path.read_text() for path in copy.rglob("*.*") if path.is_file()}
    assert publish(monkeypatch, repository) == 2
    assert f"expected REPO=owner/name, such as REPO=ada/digits, got {repository!r}" in capsys.readouterr().err
    assert {path: path.read_text() for path in before} == before


def test_a_file_that_is_no_notebook_is_named_and_nothing_is_written(copy, monkeypatch, capsys):
    broken = copy / "notebooks" / "4_adversarial" / "9_broken.ipynb"
    broken.write_bytes(b'{"cells": "\xe9"}')
    (broken.parent / ".#9_x.ipynb").symlink_to("user@host.1234:5678")
    before = {path: path.read_bytes() for path in copy.rglob("*.*") if path.is_file()}
    assert publish(monkeypatch, "ada/digits") == 2
    assert "make publish: 4_adversarial/9_broken is no notebook" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
