"""Finding the course's notebooks and their parameters; what every tool shares, from the standard library alone."""

from __future__ import annotations  # an old python can find notebooks, too

import ast
import json
import os
import shlex
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
WORKERS = 2  # notebooks at a time; each has one thread, since two threads in each of two workers fight
CELL_TIMEOUT = 900  # seconds
NO_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)  # what ast.literal_eval raises


def is_notebook(path: Path) -> bool:
    """Return whether this is a notebook's file; what macOS, editors and Jupyter leave beside one begins with a dot."""
    return path.suffix == ".ipynb" and path.is_file() and not any(part.startswith(".") for part in path.parts[-2:])


def find_notebooks(name: str = "", folder: Path | None = None, *, anywhere: bool = False) -> list[Path]:
    """Return every notebook in the folders of `notebooks/`, in the course's order, or the one called `name`.

    Args:
        name: folder and notebook, such as `2_mnist_cnn/1_train_and_test` or `2.1`; `.ipynb` and `notebooks/` may be
            there.
        folder: where to look instead of in `notebooks/`.
        anywhere: whether the name may also be the path of a notebook elsewhere, such as a learner's.

    Raises:
        ValueError: there is no such notebook; the message lists those there are.
    """
    found = sorted(filter(is_notebook, (folder or NOTEBOOKS).glob("*/*.ipynb")))
    wanted = (name or "").removeprefix("./").removeprefix("notebooks/").removesuffix(".ipynb")
    chosen = [path for path in found if wanted in ("", title(path), number(path))]
    if not chosen and anywhere and is_notebook(Path(name)):
        return [Path(name).resolve()]
    if wanted and not chosen:
        raise ValueError(f"no notebook {name!r}; there are\n  " + "\n  ".join(map(title, found)))
    return chosen


def number(path: Path) -> str:
    """Return the notebook's number as the course says it, such as `1.3`."""
    return ".".join(part.partition("_")[0] for part in (path.parent.name, path.stem))


def title(path: Path) -> str:
    """Return folder and name, such as `1_foundations/3_fgsm_and_pgd`."""
    return f"{path.parent.name}/{path.stem}"


def read(path: Path) -> dict:
    """Return the notebook's JSON.

    Raises:
        ValueError: the file is no notebook.
    """
    try:
        notebook = json.loads(path.read_text("utf-8"))
        [("".join(cell["source"]), cell["metadata"].get("tags"), cell["cell_type"]) for cell in notebook["cells"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{title(path)} is no notebook: {type(error).__name__}: {error}") from error
    return notebook


def parameters(path: Path) -> dict[str, object]:
    """Return the notebook's parameters and their defaults: the literals in the cell with the tag `parameters`.

    Raises:
        ValueError: the file is no notebook, it has several such cells, or that cell does more than assign values.
    """
    found = [cell for cell in read(path)["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    if len(found) > 1:
        raise ValueError(f"{title(path)} has {len(found)} cells with the tag parameters, expected one")
    source = "".join(text for cell in found for text in cell["source"])
    try:
        lines = ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(f"{title(path)}: its cell of parameters is no Python: {error}") from error
    known = {}
    for line in lines:
        if isinstance(line, (ast.Assign, ast.AnnAssign)):
            for target in line.targets if isinstance(line, ast.Assign) else [line.target]:
                if isinstance(target, ast.Name):
                    with suppress(*NO_LITERAL):  # what is computed from others is none
                        known[target.id] = ast.literal_eval(line.value)
        elif not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)):  # a text for the reader
            does = ast.get_source_segment(source, line).splitlines()[0]
            raise ValueError(f"{title(path)}: its cell of parameters is to assign values only, got `{does}`")
    return known


def parse_parameters(path: Path, text: str) -> dict[str, object]:
    """Read `epochs=1 seed=3` as values for the notebook's `parameters` cell.

    Raises:
        ValueError: not of the form name=value, a name given twice, brackets that hold no Python value since they lost
            their quotes, or what `check_parameters` raises.
    """
    known = parameters(path)
    values = {}
    try:
        for part in shlex.split(text):
            name, equals, value = part.partition("=")
            if not equals:
                raise ValueError(f"expected name=value, got {part!r}")
            if name in values:
                raise ValueError(f"{name} is given twice")
            is_text = isinstance(known.get(name), str)
            values[name] = value if is_text else _literal(value)
            if not is_text and values[name] == value and value.startswith(("(", "[", "{")):
                raise ValueError(f"{value} is no Python value; put it in quotes, such as {name}='{{\"a\": 1}}'")
    except ValueError as error:
        raise ValueError(f"cannot read {text!r}: {error}; {_listed(path)}") from error
    check_parameters(path, values)
    return values


def check_parameters(path: Path, values: dict[str, object]) -> None:
    """Check values for the notebook's `parameters` cell.

    Raises:
        ValueError: a name that the notebook does not have, a value of another kind than the default, or one that
            papermill does not hand over as it is, such as a tuple; the message lists the notebook's parameters.
    """
    from papermill.translators import PythonTranslator  # here, since notebooks are found without it

    known = parameters(path)
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"no parameter {name!r}; {_listed(path)}")
        kind = type(known[name])
        if kind is not type(value) and (kind, type(value)) != (float, int) and None not in (known[name], value):
            raise ValueError(f"expected {name} to be of type {kind.__name__}, got {value}; {_listed(path)}")
        if _literal(PythonTranslator.translate(value)) != value:
            raise ValueError(f"papermill cannot carry {name} = {value!r} into a notebook; {_listed(path)}")


def _listed(path: Path) -> str:
    """Return the parameters as a message lists them."""
    return f"{title(path)} has the parameters " + ", ".join(f"{n}={v!r}" for n, v in parameters(path).items())


def _literal(text: str) -> object:
    """Return the Python literal that the text spells, or the text itself."""
    with suppress(*NO_LITERAL):
        return ast.literal_eval(text)
    return text


def without_a_reader() -> None:
    """Let the kernels that this process starts know that nobody is there, though a front end may have started it."""
    for name in ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG"):  # by which code may know a reader
        os.environ.pop(name, None)


def one_thread_each() -> None:
    """Give every kernel that this process starts from now on one thread, unless the environment says how many."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):  # see the Makefile
        os.environ.setdefault(name, str(2**32))


def write_atomically(content: str | bytes, path: Path) -> None:
    """Write beside the place and move it there; a full disk or a kill leaves the old file as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content if isinstance(content, bytes) else content.encode())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
