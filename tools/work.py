"""Copy the notebooks to work/, to be changed freely: what `make work` runs; without make `python -m tools.work`."""

import sys
from pathlib import Path

from tools.regression.notebooks import ROOT, find_notebooks, title, write_atomically


def copy_notebooks(root: Path) -> str:
    """Copy what work/ does not have yet, and say so; what is there is a learner's own and stays as it is."""
    new, same, other = [], [], []
    for source in find_notebooks(folder=root / "notebooks"):
        copy = root / "work" / f"{title(source)}.ipynb"
        if copy.exists():
            (same if copy.read_bytes() == source.read_bytes() else other).append(copy)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(source.read_bytes(), copy)
            new.append(copy)
    said = f"work/: {len(new)} notebooks copied, {len(same)} already there"
    if other:
        said += f"\n{len(other)} left as they are, which differ from the course's (remove one to have it copied again):"
    return "\n  ".join([said, *(str(copy.relative_to(root)) for copy in other)])


if __name__ == "__main__":
    try:
        print(copy_notebooks(ROOT))
    except OSError as error:
        sys.exit(f"make work: {error}")
