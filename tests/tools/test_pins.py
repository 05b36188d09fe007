"""The three lists of what is installed agree."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements/course.lock").read_text().splitlines()
    return {canonicalize_name(n): v for n, _, v in (line.partition("==") for line in lines if not line.startswith("#"))}


def test_the_lock_pins_every_package_exactly():
    assert all(version and "*" not in version for version in pins().values())


@pytest.mark.parametrize("text", WANTED)
def test_the_lock_satisfies_pyproject(text):
    wanted = Requirement(text)
    assert wanted.specifier.contains(pins()[canonicalize_name(wanted.name)])


def test_conda_users_get_the_same_pins():
    packages = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert {"pip": ["--requirement requirements/course.lock"]} in packages
    (python,) = (p for p in packages if isinstance(p, str) and p.startswith("python="))
    assert Requirement("python" + PROJECT["requires-python"]).specifier.contains(python.partition("=")[2])
