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
    "0": ("0_play/1_draw_and_fool", 1),
    "1": ("1_foundations/1_tensors_and_gradients", 3),
    "2": ("2_mnist_cnn/2_predictions", 2),
    "3": ("3_visualising/4_occlusion", 4),
    "4": ("4_adversarial/1_non_targeted_images", 3),
    "5": ("5_defending/1_adversarial_training", 1),
}

PART = """### {part}

![{alt}](part-{number}.png)

{times} Level: {level}.

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


def one_figure_each(cell: dict) -> list[dict]:
    """Return the cell, then one without code for each figure after its first: MyST-NB knows one text a cell."""
    cells = [cell | {"outputs": []}] if "outputs" in cell else [cell]
    for output in cell.get("outputs", []):
        if figures({"outputs": [output]}) and figures(cells[-1]):
            bare = {"id": f"{cell['id']}-{len(cells)}", "metadata": {"tags": ["remove-input"]}}
            cells.append(cell | bare | {"outputs": []})
        cells[-1]["outputs"].append(output)
    return cells


def lay_out_notebook(path: Path, to: Path) -> None:
    """Copy a notebook: what is folded stays so, figures keep their texts, links lead to the page's own or GitHub's."""
    notebook = read(path)
    notebook["cells"] = [piece for cell in notebook["cells"] for piece in one_figure_each(cell)]
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            mine = f"exercises/{path.parent.name}/{path.name}"
            link = f"[Yours to solve, without the answers](../../{mine})\n" if (ROOT / mine).is_file() else ""
            text = re.sub(r"(?m)^\[!\[.*\n?", link, text)
            text = text.replace("](../../README.md)", "](../../index.md)")
            cell["source"] = re.sub(r"\]\(\.\./\.\./((?!index\.md|docs/).+?)\)", rf"]({REPOSITORY}/blob/main/\1)", text)
        if drawn := figures(cell):
            cell["metadata"]["mystnb"] = {"image": {"alt": drawn[0]["metadata"]["image/png"]["alt"]}}
        if cell["metadata"].get("jupyter", {}).get("source_hidden"):
            cell["metadata"].setdefault("tags", []).append("hide-input")
            says = re.match(r"# (.+?)(?:[.;:] |[.;:]?$)", text, re.MULTILINE)  # what the cell does
            prompt = says[1][0].upper() + says[1][1:] if says else "Folded code"
            cell["metadata"].setdefault("mystnb", {}).update(code_prompt_show=prompt, code_prompt_hide=prompt)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(notebook), encoding="utf-8")


def times(part: str) -> str:
    """Return how long a part takes, by the instructor's table; `.` is any part."""
    teaching = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    rows = re.findall(rf"(?m)^\| \[{part}\.\d.*\| (\d+)(?: \+ (\d+))? \| \d+ \|$", teaching)
    core, deeper = (sum(int(row[k] or 0) for row in rows) / 60 for k in (0, 1))
    if core < 0.5:
        return f"{60 * core:.0f} minutes, without exercises."
    return f"{len(rows)} notebooks, about {core:.0f} hours with the exercises, {deeper:.0f} more to go deeper."


def first_page_parts(readme: str) -> str:
    """Return the README's table of notebooks, one part after another with its picture, and the table of contents."""
    page = f"In all {times('.')}\n\n"
    for part, level, rows in re.findall(r"(?m)^\| \*\*(.+?)\*\* \| \*(.+)\* \|.*\n((?:\| \[.*\n?)+)", readme):
        name, number = PICTURES[part[0]]
        cells = read(ROOT / "notebooks" / f"{name}.ipynb")["cells"]
        picture = [drawn for cell in cells for drawn in figures(cell)][number - 1]
        (SOURCES / f"part-{part[0]}.png").write_bytes(b64decode("".join(picture["data"]["image/png"])))
        alt = picture["metadata"]["image/png"]["alt"]
        table = re.sub(r"\[`\w+`\]\((.+?)\)", r"[](/\1)", rows)  # called by their titles
        table = table.replace("](exercises/", f"]({REPOSITORY}/blob/main/exercises/")
        page += PART.format(part=part, number=part[0], alt=alt, times=times(part[0]), level=level, table=table)
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
    lay_out()
    shutil.rmtree(SITE, ignore_errors=True)
    status = build_main(["-q", "-W", "--keep-going", "-d", str(ROOT / "build/site-doctrees"), str(SOURCES), str(SITE)])
    if not status:
        print(f"open {(SITE / 'index.html').relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
