"""What a cell's outputs consist of, and how a change of them is measured and shown."""

import math
import re
from base64 import b64decode
from collections.abc import Iterator
from difflib import SequenceMatcher
from io import BytesIO
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from nbformat import NotebookNode
from PIL import Image, ImageChops

from tools.notebooks import ROOT

DIFF = ROOT / "build" / "diff"
FIGURE = "image/png"
WIDGET = "application/vnd.jupyter.widget-view+json"
TILE = 32  # side of a square of pixels; one changed letter is not diluted by the white paper of a whole figure


class Change(NamedTuple):
    """A line of text or a figure that is not as before."""

    kind: str  # stdout, stderr, error, alt text, a MIME type; or output, if one is missing or of another kind
    expected: str | None  # None: there was none
    actual: str | None
    error: float  # relative, of a line's numbers; RMS of a figure; infinite if words, sizes or kinds differ


def parts(outputs: list[NotebookNode]) -> list[tuple[str, str]]:
    """Return kind and content of the outputs in order: (stdout, text), (image/png, base64), (alt text, text), ...

    Left out are widgets, and what a carriage return wiped, such as a progress bar.
    """
    found = []
    for output in outputs:
        if output.output_type == "stream":
            before = found.pop()[1] if found and found[-1][0] == output.name else ""
            found.append((output.name, before + output.text))  # one text, however its prints were timed
        elif output.output_type == "error":
            found.append(("error", f"{output.ename}: {output.evalue}"))
        elif WIDGET not in output.data:
            found += sorted((mime, str(content)) for mime, content in output.data.items())
            found.append(("alt text", output.metadata.get(FIGURE, {}).get("alt", "")))
    # Asked first, since in a figure, one line of 100,000 characters, the pattern would take seconds to find nothing.
    left = [(kind, re.sub(r"[^\n]*\r(?!\n)", "", text) if "\r" in text else text) for kind, text in found]
    return [(kind, text) for kind, text in left if text.strip()]


def lines(old: str, new: str) -> Iterator[tuple[str | None, str | None]]:
    """Yield pairs of lines: one by one, or if a text has more lines than the other, aligned where they agree."""
    before, after = old.splitlines(), new.splitlines()
    blocks = [(0, len(before), 0, len(after))]
    if len(before) != len(after):
        blocks = [block for _, *block in SequenceMatcher(None, before, after, autojunk=False).get_opcodes()]
    for a, b, c, d in blocks:
        yield from zip_longest(before[a:b], after[c:d])


def figure_error(expected: str, actual: str) -> float:
    """Return the RMS difference of the worst tile of two PNGs in base64, in steps of 255; infinite if sizes differ."""
    old, new = (np.asarray(_decoded(png), dtype=float) for png in (expected, actual))  # (H, W, 3)
    if old.shape != new.shape:
        return math.inf
    squares = np.square(old - new).mean(2)  # (H, W)
    squares = np.pad(squares, [(0, -side % TILE) for side in squares.shape])
    tiles = squares.reshape(squares.shape[0] // TILE, TILE, -1, TILE)  # (rows, TILE, columns, TILE)
    return float(np.sqrt(tiles.mean((1, 3)).max()))


def _decoded(png: str) -> Image.Image:
    """Return the picture that a PNG in base64 holds, without transparency."""
    return Image.open(BytesIO(b64decode(png))).convert("RGB")


def describe(change: Change, notebook: str, number: int) -> str:
    """Return a change in a few lines; of a figure, write the pictures into `build/diff`.

    Args:
        change: what is not as before.
        notebook: folder and name.
        number: of the cell, from 1.
    """
    if change.kind == FIGURE:
        size = (
            "another size" if math.isinf(change.error) else f"RMS {change.error:.2g} in its worst {TILE}x{TILE} pixels"
        )
        return f"  figure          {size}\n  pictures        {_keep_pictures(change, notebook, number)}"
    said = [
        f"  expected        {'(nothing)' if change.expected is None else change.expected}",
        f"  actual          {'(nothing)' if change.actual is None else change.actual}",
    ]
    if math.isfinite(change.error):
        said.append(f"  relative error  {change.error:.2g}")
    return "\n".join(said)


def _keep_pictures(change: Change, notebook: str, number: int) -> str:
    """Write a figure as it was, as it is, and the difference (white: none); return where, as a pattern."""
    old, new = _decoded(change.expected), _decoded(change.actual)
    pictures = {"expected": old, "actual": new}
    pictures["difference"] = ImageChops.invert(ImageChops.difference(old, new.crop((0, 0, *old.size))))
    folder = DIFF / notebook
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        picture.save(folder / f"cell-{number}-{name}.png")
    return f"{folder.relative_to(ROOT)}/cell-{number}-{{{','.join(pictures)}}}.png"
