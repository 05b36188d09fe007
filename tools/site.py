"""Build the web page from README.md and the committed notebooks: what `make site` runs in build/site-env."""

import json
import re
import shutil
import sys
from base64 import b64decode
from pathlib import Path

from sphinx.cmd.build import build_main

from tools.publish import address
from tools.regression.notebooks import ROOT, find_notebooks, read

SOURCES = ROOT / "build" / "site-src"
SITE = ROOT / "build" / "site"
REPOSITORY = f"https://github.com/{address(ROOT)}"
# For each part of the course the notebook and the number of the figure that stand for it on the first page.
PICTURES = {
    "0 Play": ("0_play/1_draw_and_fool", 1),
    "1 Foundations": ("1_foundations/1_tensors_and_gradients", 3),
    "2 An MNIST CNN": ("2_mnist_cnn/2_predictions", 2),
    "3 Visualising it": ("3_visualising/4_occlusion", 4),
    "4 Fooling it": ("4_adversarial/1_non_targeted_images", 3),
}

PART = """### {part}

![{alt}](part-{number}.png)

| notebook, with its answers | the question | yours to solve |
|---|---|---|
{table}
```{{toctree}}
:hidden:
:glob:
:caption: {part}

notebooks/{number}_*/*
```

"""


def figures(cell: dict) -> list[dict]:
    """Return those of the cell's stored outputs that are figures."""
    return [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]


def lay_out_notebook(path: Path, to: Path) -> None:
    """Copy a notebook: contents lead to the page's own, the set-up cell is folded, figures keep their texts.

    Raises:
        ValueError: a cell has several figures; MyST-NB knows one text a cell.
    """
    notebook = read(path)
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text = re.sub(r"(?m)^\[!\[.*\n?", "", text).replace("](../../README.md)", "](../../index.md)")  # no badges
            cell["source"] = re.sub(r"\]\(\.\./\.\./((?!index\.md|docs/).+?)\)", rf"]({REPOSITORY}/blob/main/\1)", text)
        if drawn := figures(cell):
            if len(drawn) > 1:
                raise ValueError(f"{path.relative_to(ROOT)}: give each figure a cell of its own\n{text}")
            cell["metadata"]["mystnb"] = {"image": {"alt": drawn[0]["metadata"]["image/png"]["alt"]}}
    set_up = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    set_up["metadata"].setdefault("tags", []).append("hide-input")
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(notebook), encoding="utf-8")


def first_page_parts(readme: str) -> str:
    """Return the README's table of notebooks, one part after another with its picture, and the table of contents."""
    page = ""
    for part, rows in re.findall(r"^\| \*\*(.+?)\*\* \|.*\n((?:\| \[.*\n?)+)", readme, re.MULTILINE):
        name, number = PICTURES[part]
        cells = read(ROOT / "notebooks" / f"{name}.ipynb")["cells"]
        picture = [drawn for cell in cells for drawn in figures(cell)][number - 1]
        (SOURCES / f"part-{part[0]}.png").write_bytes(b64decode("".join(picture["data"]["image/png"])))
        alt = picture["metadata"]["image/png"]["alt"]
        table = re.sub(r"\[`\w+`\]\((.+?)\)", r"[](/\1)", rows)  # called by their titles
        table = table.replace("](exercises/", f"]({REPOSITORY}/blob/main/exercises/")
        page += PART.format(part=part, number=part[0], alt=alt, table=table)
    return page


def lay_out() -> None:
    """Write all that Sphinx reads into build/site-src."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    shutil.copytree(ROOT / "site", SOURCES)
    shutil.copytree(ROOT / "docs", SOURCES / "docs")
    shutil.copytree(ROOT / "build" / "play", SOURCES / "static" / "play")
    (SOURCES / ".github").mkdir()
    shutil.copy(ROOT / ".github" / "cover.png", SOURCES / ".github")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    introduction = readme.partition("\n")[2].partition("\n## ")[0]
    (SOURCES / "introduction.md").write_text(introduction, encoding="utf-8")
    (SOURCES / "parts.md").write_text(first_page_parts(readme), encoding="utf-8")
    for path in find_notebooks():
        lay_out_notebook(path, SOURCES / path.relative_to(ROOT))


def main() -> int:
    """Build the whole page afresh; any warning of Sphinx is a failure."""
    try:
        lay_out()
    except ValueError as error:
        sys.exit(f"make site: {error}")
    shutil.rmtree(SITE, ignore_errors=True)
    status = build_main(["-q", "-W", "--keep-going", "-d", str(ROOT / "build/site-doctrees"), str(SOURCES), str(SITE)])
    if not status:
        print(f"open {(SITE / 'index.html').relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
