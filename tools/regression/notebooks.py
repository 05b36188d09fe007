"""Finding the course's notebooks and their parameters; what `run`, `accept` and the tests share."""

import ast
import os
import re
import shlex
from pathlib import Path

import nbformat
from papermill.inspection import inspect_notebook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
WORKERS = 2  # notebooks at a time; each has one thread, since two threads in each of two workers fight
CELL_TIMEOUT = 900  # seconds


def find_notebooks(name: str | None = None) -> list[Path]:
    """Return every notebook under `notebooks/`, in the course's order, or the one called `name`.

    Args:
        name: folder and notebook, such as `2_mnist_cnn/1_train_and_test`; `.ipynb` and `notebooks/` may be there.

    Raises:
        ValueError: there is no such notebook; the message lists those there are.
    """
    found = sorted(p for p in NOTEBOOKS.glob("*/*.ipynb") if not p.parent.name.startswith("."))
    if not name:
        return found
    wanted = name.removeprefix("./").removeprefix("notebooks/").removesuffix(".ipynb")
    for path in found:
        if title(path) == wanted:
            return [path]
    raise ValueError(f"no notebook {name!r}; there are\n  " + "\n  ".join(map(title, found)))


def title(path: Path) -> str:
    """Return folder and name, such as `1_foundations/3_fgsm_and_pgd`."""
    return f"{path.parent.name}/{path.stem}"


def trains(path: Path) -> bool:
    """Return whether cells have tags that allow more or ignore: so does what trains, and takes longer than the rest."""
    cells = nbformat.read(path, as_version=4).cells
    return any(
        re.fullmatch(r"rtol=.*|nbval-ignore-output", tag) for cell in cells for tag in cell.metadata.get("tags", [])
    )


def heaviest_first(paths: list[Path]) -> list[Path]:
    """Return the notebooks, those that train a network before all others, so that none of them is left to the end."""
    return sorted(paths, key=lambda path: not trains(path))


def parse_parameters(path: Path, text: str) -> dict[str, object]:
    """Read `epochs=1 seed=3` as values for the notebook's `parameters` cell.

    Raises:
        ValueError: not of the form name=value, or what `check_parameters` raises; the message lists the
            notebook's parameters.
    """
    known = _parameters(path)
    try:
        parts = [part.partition("=") for part in shlex.split(text)]
    except ValueError as error:
        raise ValueError(f"cannot read {text!r} ({error}); {_listed(path, known)}") from error
    for name, equals, _ in parts:
        if not equals:
            raise ValueError(f"expected name=value, got {name!r}; {_listed(path, known)}")
    values = {name: value if isinstance(known.get(name), str) else _literal(value) for name, _, value in parts}
    check_parameters(path, values)
    return values


def check_parameters(path: Path, values: dict[str, object]) -> None:
    """Check values for the notebook's `parameters` cell.

    Raises:
        ValueError: a name that the notebook does not have, or a value of another kind than the default; the message
            lists the notebook's parameters.
    """
    known = _parameters(path)
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"no parameter {name!r}; {_listed(path, known)}")
        default = known[name]
        same_kind = type(value) is type(default) or (isinstance(default, float) and type(value) is int)
        if default is not None and value is not None and not same_kind:
            kind = type(default).__name__
            raise ValueError(f"expected {name} to be of type {kind}, got {value}; {_listed(path, known)}")


def _parameters(path: Path) -> dict[str, object]:
    """Return the notebook's parameters and their defaults."""
    return {name: _literal(about["default"]) for name, about in inspect_notebook(str(path)).items()}


def _listed(path: Path, known: dict[str, object]) -> str:
    """Return the parameters as a message lists them."""
    return f"{title(path)} has the parameters " + ", ".join(f"{name}={value!r}" for name, value in known.items())


def _literal(text: str) -> object:
    """Return the Python literal that the text spells, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def without_a_reader() -> None:
    """Let the kernels that this process starts know that nobody is there, though a front end may have started it."""
    for name in ("JPY_SESSION_NAME", "VSCODE_PID"):  # by which `helpers.show.sliders` knows a reader
        os.environ.pop(name, None)


def one_thread_each() -> None:
    """Give every kernel that this process starts from now on one thread, unless the environment says how many.

    And let glibc keep memory blocks of a few MB, which it else hands back and asks for again at every training step.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ.setdefault(name, str(2**32))


def write_atomically(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write the notebook beside its place and move it there; a full disk leaves the old file as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
