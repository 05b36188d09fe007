"""Write the course's public address wherever it stands: what `make publish` runs.

`[project.urls]` in pyproject.toml is the one place; set-up cells, badges and README are stamped from it.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

from tools.regression.notebooks import ROOT, find_notebooks, read, write_atomically

PLACEHOLDER = "OWNER/REPOSITORY"

CLONE = """clone = f"GIT_ASKPASS=true git clone -q --depth 1 {url} {root}.$$"
    said = getoutput(f"{clone} && mv {root}.$$ {root}")"""
SET_UP = f"""
# The course is a folder around this notebook. Where there is none, as in Colab, it is
# cloned once into the current folder.
import importlib
import sys
from pathlib import Path
from subprocess import getoutput

url = "https://github.com/{PLACEHOLDER}"
root = Path(url.split("/")[-1]).resolve()
for folder in [Path.cwd(), *Path.cwd().parents]:
    if (folder / "helpers" / "cnn.py").is_file():
        root = folder.resolve()
        break
if not root.exists():
    {CLONE}
    if not root.exists():
        failed = f"{{url}} cannot be cloned here: {{said!r}}"
        sys.exit(f"Open this notebook inside a clone of the course: {{failed}}")
sys.path.insert(0, str(root))
if root not in Path(importlib.import_module("helpers").__file__).parents:
    sys.exit("another package `helpers` is loaded: restart the kernel")
"""
# In a line of pyproject.toml, after `git clone`, and in a link to Colab.
ADDRESS = re.compile(r"(repository = \"https://github\.com/|clone https://github\.com/|colab\S+/github/)[\w-]+/[\w.-]+")
COLAB = "https://colab.research.google.com"
BADGE = f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}/github/{{}}/blob/main/{{}})"


def set_up_cell(repository: str) -> str:
    """Return the source of the set-up cell; nobody's placeholder is ever cloned."""
    if repository != PLACEHOLDER:
        return SET_UP.replace(PLACEHOLDER, repository)
    without = SET_UP.replace(CLONE, 'said = "a placeholder, until `make publish` writes the real address"')
    return without.replace("from subprocess import getoutput\n", "")


def stamp_notebook(notebook: dict, name: str, repository: str) -> str:
    """Return the notebook's text with its first code cell and the badge under its title; the rest stays as it is."""
    title, _, rest = "".join(notebook["cells"][0]["source"]).partition("\n")
    rest = re.sub(r"^\n*\[!\[Open in Colab\].*", "", rest).lstrip("\n")
    first = f"{title}\n\n{BADGE.format(repository, name)}\n\n{rest}".rstrip("\n")
    notebook["cells"][0]["source"] = first.splitlines(keepends=True)
    set_up = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    set_up["source"] = set_up_cell(repository).strip().splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def stamped(root: Path, repository: str) -> dict[Path, str]:
    """Return every file that holds the address, with the text it should have; ValueError if one is no notebook."""
    texts = {}
    for path in (root / "pyproject.toml", root / "README.md"):
        texts[path] = ADDRESS.sub(rf"\g<1>{repository}", path.read_text(encoding="utf-8"))
    for path in find_notebooks(folder=root / "notebooks"):
        texts[path] = stamp_notebook(read(path), path.relative_to(root).as_posix(), repository)
    return texts


def address(root: Path) -> str:
    """Return the owner/name that pyproject.toml has."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["repository"].removeprefix("https://github.com/")


def main() -> int:
    """Stamp the files; without REPO, with the address that pyproject.toml has."""
    repository = " ".join(sys.argv[1:]) or address(ROOT)
    try:
        if not re.fullmatch(r"[A-Za-z0-9][\w-]*/\w[\w.-]*(?<!\.git)", repository, re.ASCII):
            raise ValueError(f"expected REPO=owner/name, such as REPO=ada/digits, got {repository!r}")
        changed = {path: text for path, text in stamped(ROOT, repository).items() if path.read_text("utf-8") != text}
    except ValueError as error:
        print(f"make publish: {error}", file=sys.stderr)
        return 2
    for path, text in changed.items():
        write_atomically(text, path)
    print(f"https://github.com/{repository}: {len(changed)} files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
