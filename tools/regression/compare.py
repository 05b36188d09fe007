"""When two executions of a cell say the same: words and integers exactly, floats and figures less so.

A word is everything but a number with a decimal point or an exponent (`1,234.5`, `-3e-6`, not `1`, `conv1`, `3.11.2`),
so `1.0` against `1` differs, and so does `nan` against `0.1`. Spaces beside a number follow its width and do not count.
"""

import math
import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from nbformat import NotebookNode

from tools.regression.outputs import FIGURE, Change, Part, decoded, parts

RTOL, EXACT = 0.01, -1.0  # EXACT as a tolerance: every character and every pixel counts
RMS = 2.0  # of a figure's worst part, of 255: noise of 1e-4 gives 1.4 at most, a filter weight off by a tenth 2.8
_WHOLE = r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)"
FLOAT = re.compile(rf" *({_WHOLE}(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+)(?!\d|\.\d)) *")
NUMBER = re.compile(rf" *({_WHOLE}(?:\.\d+)?(?:e[-+]?\d+)?(?!\d|\.\d)) *")
TILE = 32  # side of a square of pixels; one changed letter is not diluted by the white paper of a whole figure


def relative_error(expected: str, actual: str, number: re.Pattern = FLOAT) -> float:
    """Return the largest relative error among the numbers of two texts; infinite if anything else differs."""
    old, new = number.split(expected), number.split(actual)  # word, number, word, ..., word
    if old[::2] != new[::2]:
        return math.inf
    values = [[float(text.replace(",", "").replace("−", "-")) for text in side[1::2]] for side in (old, new)]
    return max((abs(a - b) / abs(a) if a else math.inf for a, b in zip(*values, strict=True) if a != b), default=0.0)


def changes(expected: list, actual: list, rtol: float = RTOL, rms: float = RMS) -> Iterator[Change]:
    """Yield where a cell's outputs are not as expected, within the tolerances."""
    for old, new in zip_longest(parts(expected), parts(actual), fillvalue=Part("nothing", "")):
        if old.kind != new.kind:
            said = [f"{part.kind} {part.content * (part.kind != FIGURE)}".split("\n")[0].strip() for part in (old, new)]
            yield Change("output", *said, math.inf)
        elif old.kind == FIGURE:
            error, place = (0.0, "") if old.content == new.content else figure_error(old, new)
            if error > (0.0 if rtol == EXACT else rms):
                yield Change(FIGURE, old.content, new.content, error, place)
        else:
            for a, b in lines(old.content, new.content):
                error = math.inf if None in (a, b) else relative_error(a, b, NUMBER if rtol > RTOL else FLOAT)
                if a != b and error > rtol:
                    yield Change(old.kind, a, b, error)


class Tolerance(NamedTuple):
    """What a cell's tags allow."""

    rtol: float = RTOL
    rms: float = RMS
    compared: bool = True

    @classmethod
    def of(cls, cell: NotebookNode) -> "Tolerance":
        """Read the cell's tags."""
        tags = cell.metadata.get("tags", [])
        said = dict(tag.split("=") for tag in tags if "=" in tag)
        return cls(float(said.get("rtol", RTOL)), float(said.get("rms", RMS)), "nbval-ignore-output" not in tags)

    @property
    def figures(self) -> bool:
        """Whether figures are compared."""
        return self.compared and self.rtol <= RTOL

    def changes(self, expected: list, actual: list) -> Iterator[Change]:
        """Yield where a cell's outputs are not as expected, and not as the tags allow either."""
        for change in changes(expected, actual, self.rtol, self.rms):
            if self.figures if change.kind == FIGURE else self.compared:
                yield change


def lines(old: str, new: str) -> Iterator[tuple[str | None, str | None]]:
    """Yield pairs of lines: one by one, or if a text has more lines than the other, aligned where they agree."""
    before, after = old.splitlines(), new.splitlines()
    blocks = [(0, len(before), 0, len(after))]
    if len(before) != len(after):
        blocks = [block for _, *block in SequenceMatcher(None, before, after, autojunk=False).get_opcodes()]
    for a, b, c, d in blocks:
        yield from zip_longest(before[a:b], after[c:d])


def figure_error(expected: Part, actual: Part) -> tuple[float, str]:
    """Return by how much two figures differ, and where: the RMS, in steps of 255, of the worst picture or tile.

    The pictures of pixels that lie in the figure are compared each as a whole, and all of it in tiles; infinite if the
    sizes differ.
    """
    old, new = (np.asarray(decoded(part.content), dtype=float) for part in (expected, actual))  # (H, W, 3)
    if old.shape != new.shape:
        return math.inf, "another size"
    squares = np.square(old - new).mean(2)  # (H, W)
    padded = np.pad(squares, [(0, -side % TILE) for side in squares.shape])
    tiles = padded.reshape(padded.shape[0] // TILE, TILE, -1, TILE).mean((1, 3))  # (rows, columns)
    row, column = np.unravel_index(tiles.argmax(), tiles.shape)
    error, place = math.sqrt(tiles.max()), f"in the {TILE}x{TILE} pixels at {column * TILE}, {row * TILE}"
    y, x = row * TILE, column * TILE
    down, right = np.unravel_index(padded[y : y + TILE, x : x + TILE].argmax(), (TILE, TILE))
    y, x = y + down, x + right  # the worst pixel of the worst tile
    lefts, tops = (sorted({box[side] for box in expected.boxes}) for side in (0, 1))
    for left, top, width, height in expected.boxes:
        picture = squares[max(top, 0) : top + height, max(left, 0) : left + width]
        own = math.sqrt(picture.mean()) if picture.size else 0.0
        if own > error or (left <= x < left + width and top <= y < top + height):
            error, place = (
                max(own, error),
                f"in the image at row {tops.index(top) + 1}, column {lefts.index(left) + 1}",
            )
    return error, place
