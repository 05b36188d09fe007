"""What a cell's outputs consist of, and how a change of them is measured and shown."""

import html
import json
import math
from base64 import b64decode
from collections.abc import Sequence
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nbformat import NotebookNode
from nbformat.v4 import new_output
from PIL import Image

from tools.regression.notebooks import ROOT

DIFF = ROOT / "build" / "diff"
FIGURE = "image/png"
SIDES = ("expected", "actual", "difference")
PAGE = """<!doctype html><meta charset=utf-8><title>What changed</title>
<style>td, th {border: 1px solid #ccc; vertical-align: top; padding: 4px} img {max-width: 30vw}</style><table>"""
WIDGET = "application/vnd.jupyter.widget-view+json"
BOXES = "images"  # in an output's metadata: where the pictures of pixels lie in a figure, as [left, top, width, height]
SHOWN = 400  # characters of a line that a report shows


class Change(NamedTuple):
    """A line of text or a figure that is not as before."""

    kind: str  # stdout, stderr, error, alt text, a MIME type; or output, if one is missing or of another kind
    expected: str | None  # None: there was none
    actual: str | None
    error: float  # relative, of a line's numbers; RMS of a figure; infinite if words, sizes or kinds differ
    place: str = ""  # where in a figure the error is

    def texts(self) -> tuple[str, str]:
        """Return both sides, of a long line the part around the first difference."""
        old, new = ("(nothing)" if text is None else text for text in (self.expected, self.actual))
        begin = max(common(old, new) - SHOWN // 2, 0) if max(len(old), len(new)) > SHOWN else 0
        return old[begin : begin + SHOWN], new[begin : begin + SHOWN]


def common(old: Sequence, new: Sequence) -> int:
    """Return how many items, from the first on, are the same."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(old), len(new)))


class Part(NamedTuple):
    """A text or a figure of a cell's outputs."""

    kind: str  # as of a `Change`
    content: str  # text, or a PNG in base64
    boxes: tuple[tuple[int, int, int, int], ...] = ()  # of a figure: where its pictures of pixels lie


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the notebook's code cells; JupyterLab numbers them in this order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def coalesced(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return the outputs with one text for each stream between two displays, however the prints were timed.

    stdout comes first there, since the order of the two is not certain; no text moves past a display.
    """
    found = []
    for is_stream, group in groupby(outputs, lambda output: output.output_type == "stream"):
        some = list(group)
        for name in ("stdout", "stderr") if is_stream else ():
            if text := "".join(output.text for output in some if output.name == name):
                found.append(new_output("stream", name=name, text="\n".join(map(_visible, text.split("\n")))))
        found += [] if is_stream else some
    return found


def _visible(line: str) -> str:
    """Return what carriage returns leave of a line, as a front end shows it: each overwrites only as far as it goes."""
    if "\r" not in line:
        return line
    left = ""
    for written in reversed(line.split("\r")):  # the last lies on top
        left += written[len(left) :]
    return left.rstrip(" ")


def parts(outputs: list[NotebookNode]) -> list[Part]:
    """Return what the outputs consist of, in order: (stdout, text), (image/png, base64), (alt text, text), ...

    Left out are widgets, and what a carriage return wiped.
    """
    found = []
    for output in coalesced(outputs):
        if output.output_type == "stream":
            found.append(Part(output.name, output.text))
        elif output.output_type == "error":
            found.append(Part("error", f"{output.ename}: {output.evalue}"))
        elif WIDGET not in output.data:
            boxes = _boxes(output.metadata.get(BOXES))
            found += sorted(
                Part(mime, _text(content), boxes if mime == FIGURE else ()) for mime, content in output.data.items()
            )
            found.append(Part("alt text", output.metadata.get(FIGURE, {}).get("alt", "")))
    return [part for part in found if part.content.strip()]


def _boxes(said: object) -> tuple[tuple[int, int, int, int], ...]:
    """Return the places of pictures that an output's metadata names; none if that is no list of four whole numbers."""
    places = said if isinstance(said, list) else []
    whole = all(isinstance(box, list) and [type(side) for side in box] == [int] * 4 for box in places)
    return tuple(map(tuple, places)) if whole else ()


def _text(content: object) -> str:
    """Return what a display holds as a text; of JSON, whatever the order of its keys."""
    return content if isinstance(content, str) else json.dumps(content, sort_keys=True)


def decoded(png: str) -> Image.Image:
    """Return the picture that a PNG in base64 holds, with its transparency, of 8 bits a channel.

    Raises:
        ValueError: it holds none, or a part of one.
    """
    try:
        picture = Image.open(BytesIO(b64decode(png)))
        picture.load()
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError is Pillow's for a broken PNG
        raise ValueError(f"a picture that cannot be read: {error}") from error
    if picture.mode.startswith("I"):  # 16 bits of grey, of which Pillow would take all but the darkest for white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture.convert("RGBA")


def _decoded_or_empty(png: str) -> Image.Image:
    """Return the picture, or a clear pixel for one that cannot be read."""
    try:
        return decoded(png)
    except ValueError:
        return Image.new("RGBA", (1, 1))


def describe(change: Change, notebook: str, number: int) -> str:
    """Return a change of the cell with this number in a few lines, and lay it side by side in `build/diff`."""
    folder = DIFF / notebook
    folder.mkdir(parents=True, exist_ok=True)
    old, new = change.texts()
    if change.kind == FIGURE:
        size = change.place if math.isinf(change.error) else f"RMS {change.error:.2g} {change.place}"
        name = _keep_pictures(change, folder, f"cell-{number}")
        sides = [f'<img src="{notebook}/{name}-{side}.png">' for side in SIDES]
        inside = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
        text = f"  figure          {size}\n  pictures        {inside}/{name}-{{{','.join(SIDES)}}}.png"
    else:
        size = f"relative error  {change.error:.2g}" if math.isfinite(change.error) else ""
        sides = [f"<pre>{html.escape(side)}</pre>" for side in (old, new)]
        text = f"  expected        {old}\n  actual          {new}\n  {size}".rstrip(" \n")
    with (folder / f"cell-{number:03}.html").open("a", encoding="utf-8") as file:
        cells = "".join(f"<td>{side}</td>" for side in sides)
        file.write(f"<tr><th>{notebook} cell [{number}]<br>{html.escape(size)}</th>{cells}</tr>\n")
    return text


def write_page() -> Path | None:
    """Lay all that `describe` kept side by side on one page, and return its path; None if nothing was kept."""
    rows = [path.read_text("utf-8") for path in sorted(DIFF.rglob("cell-*.html"))]
    if not rows:
        return None
    page = DIFF / "index.html"
    page.write_text(PAGE + "".join(f"<th>{side}</th>" for side in ("", *SIDES)) + "".join(rows), encoding="utf-8")
    return page


def _keep_pictures(change: Change, folder: Path, name: str) -> str:
    """Write a figure as it was, as it is, and the difference (white: none; the largest is black); return their name."""
    if earlier := len(list(folder.glob(f"{name}-*{SIDES[0]}.png"))):  # figures of the same cell
        name += f"-{earlier + 1}"
    old, new = _decoded_or_empty(change.expected), _decoded_or_empty(change.actual)
    apart = np.abs(np.asarray(old, dtype=int) - np.asarray(new.crop((0, 0, *old.size)), dtype=int))
    visible = apart.max(2)  # (H, W): of red, green, blue and transparency
    stretched = Image.fromarray((255 - 255 * visible / max(visible.max(), 1)).astype(np.uint8))
    for side, picture in zip(SIDES, (old, new, stretched), strict=True):
        picture.save(folder / f"{name}-{side}.png")
    return name
