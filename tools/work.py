"""Copy the notebooks to work/, where a learner may change them and git does not look: what `make work` runs."""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def copy_notebooks(root: Path) -> str:
    """Copy what work/ does not have yet, and say so; what is there is a learner's own and stays as it is."""
    new, same, other = [], [], []
    for source in sorted(root.glob("notebooks/[0-9]*/*.ipynb")):
        copy = root / "work" / source.relative_to(root / "notebooks")
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            beside = copy.with_name(f".{copy.name}.part")
            shutil.copyfile(source, beside)
            beside.replace(copy)
            new.append(copy)
        else:
            (same if copy.read_bytes() == source.read_bytes() else other).append(copy)
    lines = [f"work/: {len(new)} notebooks copied, {len(same)} already there"]
    if other:
        lines.append(
            f"{len(other)} left as they are, which differ from the course's (remove one to have it copied again):"
        )
        lines += [f"  {copy.relative_to(root)}" for copy in other]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        print(copy_notebooks(ROOT))
    except OSError as error:
        sys.exit(f"make work: {error}")
