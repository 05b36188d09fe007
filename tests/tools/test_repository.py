"""What git, CI and those who cite the course are told."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("path", "attributes"),
    [
        ("notebooks/1_a/1_b.ipynb", {"text": "set", "eol": "lf"}),
        ("helpers/cnn.py", {"text": "auto", "eol": "lf"}),
        ("data/cnn.pt", {"text": "unset"}),
        ("data/MNIST/raw/train-labels-idx1-ubyte.gz", {"text": "unset"}),
        (".github/cover.png", {"text": "unset"}),
    ],
)
def test_line_endings_are_the_same_everywhere(path, attributes):
    command = ["git", "check-attr", *attributes, "--", path]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert dict(line.split(": ")[1:] for line in said.splitlines()) == attributes


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]


def test_every_step_of_ci_is_a_make_target():
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    commands += re.findall(r"(?m)^make .*", (ROOT / ".ci/run").read_text())
    assert len(commands) > 3
    for command in commands:
        make, *words = command.split()
        assert make == "make"
        assert set(words) <= targets
