"""What a cell's outputs consist of, and how a change of them is measured and shown."""

import html
import math
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nbformat import NotebookNode
from PIL import Image

from tools.regression.notebooks import ROOT

DIFF = ROOT / "build" / "diff"
FIGURE = "image/png"
SIDES = ("expected", "actual", "difference")
WIDGET = "application/vnd.jupyter.widget-view+json"
BOXES = "images"  # in an output's metadata: where the pictures of pixels lie in a figure, as [left, top, width, height]
WIPED = re.compile(r"[^\n]*\r(?!\n)")


class Change(NamedTuple):
    """A line of text or a figure that is not as before."""

    kind: str  # stdout, stderr, error, alt text, a MIME type; or output, if one is missing or of another kind
    expected: str | None  # None: there was none
    actual: str | None
    error: float  # relative, of a line's numbers; RMS of a figure; infinite if words, sizes or kinds differ
    place: str = ""  # where in a figure the error is


class Part(NamedTuple):
    """A text or a figure of a cell's outputs."""

    kind: str  # as of a `Change`
    content: str  # text, or a PNG in base64
    boxes: tuple[tuple[int, int, int, int], ...] = ()  # of a figure: where its pictures of pixels lie


def parts(outputs: list[NotebookNode]) -> list[Part]:
    """Return what the outputs consist of, in order: (stdout, text), (image/png, base64), (alt text, text), ...

    Left out are widgets, and what a carriage return wiped, such as a progress bar.
    """
    found = []
    for output in outputs:
        if output.output_type == "stream":
            before = found.pop().content if found and found[-1].kind == output.name else ""
            found.append(Part(output.name, before + output.text))  # one text, however its prints were timed
        elif output.output_type == "error":
            found.append(Part("error", f"{output.ename}: {output.evalue}"))
        elif WIDGET not in output.data:
            boxes = tuple(map(tuple, output.metadata.get(BOXES, ())))
            found += sorted(
                Part(mime, str(content), boxes if mime == FIGURE else ()) for mime, content in output.data.items()
            )
            found.append(Part("alt text", output.metadata.get(FIGURE, {}).get("alt", "")))
    # Asked first, since in a figure, one line of 100,000 characters, the pattern would take seconds to find nothing.
    left = [part._replace(content=WIPED.sub("", part.content)) if "\r" in part.content else part for part in found]
    return [part for part in left if part.content.strip()]


def decoded(png: str) -> Image.Image:
    """Return the picture that a PNG in base64 holds, without transparency."""
    return Image.open(BytesIO(b64decode(png))).convert("RGB")


def describe(change: Change, notebook: str, number: int) -> str:
    """Return a change in a few lines, and lay it side by side in `build/diff` for `write_page`.

    Args:
        change: what is not as before.
        notebook: folder and name.
        number: of the cell, from 1.
    """
    folder = DIFF / notebook
    folder.mkdir(parents=True, exist_ok=True)
    shown = folder / f"cell-{number:03}.html"
    if change.kind == FIGURE:
        size = change.place if math.isinf(change.error) else f"RMS {change.error:.2g} {change.place}"
        sides = [f'<img src="{name}">' for name in _keep_pictures(change, notebook, number)]
        inside = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
        pictures = f"{inside}/cell-{number}-{{{','.join(SIDES)}}}.png"
        text = f"  figure          {size}\n  pictures        {pictures}"
    else:
        old, new = ("(nothing)" if text is None else text for text in (change.expected, change.actual))
        size = f"relative error  {change.error:.2g}" if math.isfinite(change.error) else ""
        sides = [f"<pre>{html.escape(text)}</pre>" for text in (old, new)]
        text = f"  expected        {old}\n  actual          {new}" + f"\n  {size}" * bool(size)
    with shown.open("a", encoding="utf-8") as file:
        cells = "".join(f"<td>{side}</td>" for side in sides)
        file.write(f"<tr><th>{notebook} cell [{number}]<br>{html.escape(size)}</th>{cells}</tr>\n")
    return text


def write_page() -> Path | None:
    """Lay all that `describe` kept side by side on one page, and return its path; None if nothing was kept."""
    rows = [path.read_text("utf-8") for path in sorted(DIFF.rglob("cell-*.html"))]
    if not rows:
        return None
    page = DIFF / "index.html"
    head = "<tr><th></th>" + "".join(f"<th>{side}</th>" for side in SIDES) + "</tr>"
    style = "td, th {border: 1px solid #ccc; vertical-align: top; padding: 4px} img {max-width: 30vw}"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><title>What changed</title><style>{style}</style>"
        f"<table>{head}{''.join(rows)}</table>\n",
        encoding="utf-8",
    )
    return page


def _keep_pictures(change: Change, notebook: str, number: int) -> list[str]:
    """Write a figure as it was, as it is, and the difference (white: none; the largest is black); return where."""
    old, new = decoded(change.expected), decoded(change.actual)
    apart = np.abs(np.asarray(old, dtype=int) - np.asarray(new.crop((0, 0, *old.size)), dtype=int))
    stretched = Image.fromarray((255 - 255 * apart / max(apart.max(), 1)).astype(np.uint8))
    names = []
    for side, picture in zip(SIDES, (old, new, stretched), strict=True):
        picture.save(DIFF / notebook / f"cell-{number}-{side}.png")
        names.append(f"{notebook}/cell-{number}-{side}.png")
    return names
