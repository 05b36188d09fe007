"""Copy the notebooks to work/, to be changed freely: what `make work` runs; without make `python -m tools.work`.

A notebook that has exercises is copied from `exercises/`, where their answers are left out. A copy that was not edited
follows an update of the course; `work/.copied.json` tells the two apart.
"""

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path

from tools.regression.notebooks import ROOT, find_notebooks, read, title, write_atomically


def cells(path: Path) -> str:
    """Return a hash of the sources of a notebook's cells, which running it does not change; of a broken one, of all.

    Empty cells do not count: JupyterLab adds one where the last cell is run.
    """
    content = path.read_bytes()
    with suppress(ValueError):
        sources = [[cell["cell_type"], "".join(cell["source"])] for cell in read(path)["cells"]]
        content = json.dumps([[kind, source] for kind, source in sources if source.strip()]).encode()
    return hashlib.sha256(content).hexdigest()


def copy_notebooks(root: Path) -> str:
    """Copy what work/ does not have or what was not edited there, and say so; what was edited stays as it is."""
    memory, known = root / "work" / ".copied.json", {}
    with suppress(OSError, ValueError, AttributeError, TypeError):  # whatever somebody has made of the file
        kept = json.loads(memory.read_text("utf-8")).items()
        known = {name: state for name, state in kept if {"cells", "file"} <= state.keys()}
    new, fresh, same, edited = [], [], [], []
    for notebook in find_notebooks(folder=root / "notebooks"):
        name = f"{title(notebook)}.ipynb"
        copy, exercise = root / "work" / name, root / "exercises" / name
        source = exercise if exercise.is_file() else notebook
        state = {"cells": cells(source), "file": hashlib.sha256(source.read_bytes()).hexdigest()}
        before = known.get(name, state)  # of a copy from elsewhere: edited, unless it is the same
        if copy.exists() and cells(copy) not in (before["cells"], state["cells"]):
            edited.append(f"work/{name}")
            continue
        if copy.exists() and before["file"] == state["file"]:
            same.append(copy)
        else:
            (fresh if copy.exists() else new).append(copy)
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(source.read_bytes(), copy)
        known[name] = state
        write_atomically(json.dumps(known, indent=1), memory)
    said = f"work/: {len(new)} notebooks copied, {len(fresh)} brought up to date, {len(same)} as they were"
    if edited:
        said += f"\n{len(edited)} that you edited left as they are (remove one to have it copied again):"
    return "\n  ".join([said, *edited])


if __name__ == "__main__":
    try:
        print(copy_notebooks(ROOT))
    except OSError as error:
        sys.exit(f"make work: {error}")
