"""The three lists of what is installed agree."""

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]


def pins(environment: str = "course") -> dict[str, str]:
    lines = (ROOT / f"requirements/{environment}.lock").read_text().splitlines()
    return {canonicalize_name(n): v for n, _, v in (line.partition("==") for line in lines if not line.startswith("#"))}


def installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


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


def test_colab_has_all_that_executes_the_notebooks():
    """In an environment with nothing but its lock, `tools.run` can be imported."""
    look = "import sys, tools.run; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    belongs_to = packages_distributions()
    needed = {canonicalize_name(package) for name in loaded.split() for package in belongs_to.get(name, [])}
    assert {"nbclient", "tqdm"} <= needed
    assert needed - {"setuptools"} <= set(pins("colab"))


def test_grading_has_the_versions_of_the_course_and_what_nbgrader_adds():
    lines = [line for line in (ROOT / "requirements/grading.lock").read_text().splitlines() if line[0] != "#"]
    assert lines[0] == "--requirement course.lock"
    added = [Requirement(line) for line in lines[1:]]
    assert "nbgrader" in {requirement.name for requirement in added}
    assert all(str(requirement.specifier).startswith("==") for requirement in added)
    assert not {canonicalize_name(requirement.name) for requirement in added} & set(pins())


def test_any_python_that_pyproject_allows_can_install_the_pins():
    """Also the first of its minor version: 3.11.0."""
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    there = {name: version for name, version in pins().items() if version == installed_version(name)}
    assert len(there) > 100
    for name in there:
        wanted = metadata(name)["Requires-Python"]
        assert SpecifierSet(wanted or "").contains(oldest), f"{name} wants python {wanted}"
