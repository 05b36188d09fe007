"""When two executions of a cell say the same: words and integers exactly, floats and figures less so.

A word is everything but a number with a decimal point or an exponent (`0.5`, `-3e-06`, not `1`, `conv1`, `3.11.2`), so
`1.0` against `1` differs, and so does `nan` against `0.1`. A comma separates: of `1,234.5`, which may be two values, 1
is a word; `1,000.5` can be one number only. Spaces beside a number follow its width and do not count.
"""

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from nbformat import NotebookNode
from nbval.plugin import find_comment_markers, find_metadata_tags

from tools.regression.outputs import FIGURE, Change, Part, common, decoded, parts

RTOL, EXACT = 0.01, -1.0  # EXACT as a tolerance: every character and every pixel counts
RMS = 2.0  # of a figure's worst part, of 255: noise of 1e-4 gives 1.4 at most, a filter weight off by a tenth 2.8
LIMIT = 100_000  # characters; a longer text is compared exactly, and told by its first change
ALIGNED = 300  # lines; more that differ are not searched for those that agree
TILE = 32  # side of a square of pixels; one changed letter is not diluted by the white paper of a whole figure

# Patterns take time in proportion to the text: possessive (++), and no attempt within a number that was tried before.
COLOUR = re.compile(r"\x1b\[[\d;]*m")
_SIGN, _END = r"(?<![\w.])[-+−]?", r"(?!\d|\.\d)"
_DECIMALS = r"\.(?:\d*+e[-+]?\d{1,3}(?!\d)|\d++|(?=[]),]| +-?\d))"  # `1.` is a number in an array, not in `1. Then`
_POWER = r"\de[-+]\d{2,3}(?![\w-])"  # as Python writes it; 2024e-05 is a name
_ZERO_LED = r"(?:(?<!,)\d{1,3}(?:,\d{3})*,(?=0\d\d\.))?"
_THOUSANDS = r"(?<!,)\d{1,3}(?:,\d{3})++(?![\d,])"
FLOAT = re.compile(rf"({_SIGN}(?:{_ZERO_LED}\d++{_DECIMALS}|{_POWER}|0(?![\w.])){_END})")  # 0, since there is a -0
NUMBER = re.compile(rf"({_SIGN}(?:{_POWER}|(?:{_THOUSANDS}|\d++)(?:{_DECIMALS})?){_END})")


def relative_error(expected: str, actual: str, number: re.Pattern = FLOAT) -> float:
    """Return the largest relative error among the numbers of two lines; infinite if anything else differs."""
    if COLOUR.findall(expected) != COLOUR.findall(actual):
        return math.inf
    # word, number, word, ..., word; of a colour only the place stays, since its last letter would join the number
    old, new = (number.split(COLOUR.sub("\x1b", line)) for line in (expected, actual))
    if _words(old) != _words(new):
        return math.inf
    return max((_apart(a, b, number) for a, b in zip(old[1::2], new[1::2], strict=True) if a != b), default=0.0)


def _words(split: list[str]) -> list[str]:
    """Return the words of a line that was split at its numbers, without the spaces beside these."""
    words = split[:1] + [word.lstrip(" ") for word in split[2::2]]
    return [word.rstrip(" ") for word in words[:-1]] + words[-1:]


def _apart(old: str, new: str, number: re.Pattern) -> float:
    """Return the relative error of a number's text; infinite if it was 0, or is not of the same kind."""
    a, b = (Decimal(text.replace(",", "").replace("−", "-")) for text in (old, new))
    if a == b:
        zeros = [text.lstrip("-+−") == "0" for text in (old, new)]
        return math.inf if zeros[0] != zeros[1] else 0.0  # 0 is not 0.0, but -0 is 0
    decimals = "".join(text.partition(".")[2] for text in (old, new)).strip("0")
    whole = number is FLOAT and "." in (old[-1], new[-1]) and not decimals  # `1000.` is one in an array
    return math.inf if whole or not a else float(abs((a - b) / a))


def changes(expected: list, actual: list, rtol: float = RTOL, rms: float = RMS) -> Iterator[Change]:
    """Yield where a cell's outputs are not as expected, within the tolerances."""
    for old, new in zip_longest(parts(expected), parts(actual), fillvalue=Part("nothing", "")):
        if old.kind != new.kind:
            said = [f"{part.kind} {part.content * (part.kind != FIGURE)}".split("\n")[0].strip() for part in (old, new)]
            yield Change("output", *said, math.inf)
        elif old.content == new.content:
            continue
        elif old.kind == FIGURE:
            error, place = figure_error(old, new)
            if error > (0.0 if rtol == EXACT else rms):
                yield Change(FIGURE, old.content, new.content, error, place)
        else:
            yield from _text_changes(old, new, rtol)


def _text_changes(old: Part, new: Part, rtol: float) -> Iterator[Change]:
    """Yield the lines that differ by more than the tolerance."""
    number = NUMBER if rtol > RTOL else FLOAT
    pairs = list(lines(old.content, new.content))
    if max(len(old.content), len(new.content)) > LIMIT:
        yield from [Change(old.kind, a, b, math.inf) for a, b in pairs if a != b][:1]
        return
    grown = 0  # by how many characters the row below has grown, though its numbers are the same within tolerance
    found = []
    for a, b in reversed(pairs):
        error = 0.0 if a == b else math.inf if None in (a, b) else relative_error(a, b, number)
        # Only spaces beside words, as many as the row below it has grown: the header over a column.
        header = grown and error == math.inf and None not in (a, b) and len(b) - len(a) == grown
        header = header and a.split() == b.split() and any(map(str.isalpha, a))
        if a != b and error > rtol and not header:
            found.append(Change(old.kind, a, b, error))
        if error <= rtol and a is not None and a.strip():
            grown = len(b) - len(a) or grown
        elif not header:
            grown = 0
    yield from reversed(found)


class Tolerance(NamedTuple):
    """What a cell's tags allow."""

    rtol: float = RTOL
    rms: float = RMS
    compared: bool = True

    @classmethod
    def of(cls, cell: NotebookNode) -> "Tolerance":
        """Read the cell's tags, and nbval's marks."""
        tags = (re.fullmatch(r"(rtol|rms)=(\d*\.?\d+(?:e-?\d+)?)", tag) for tag in cell.metadata.get("tags", []))
        said = dict(tag.groups() for tag in tags if tag)  # of any other tag nothing is known here
        known = marks(cell)
        compared = known.get("check", True) and not known.get("skip")
        return cls(float(said.get("rtol", RTOL)), float(said.get("rms", RMS)), compared)

    @property
    def figures(self) -> bool:
        """Whether figures are compared."""
        return self.compared and self.rtol <= RTOL

    def changes(self, expected: list, actual: list) -> Iterator[Change]:
        """Yield where a cell's outputs are not as expected, and not as the tags allow either."""
        for change in changes(expected, actual, self.rtol, self.rms):
            if self.figures if change.kind == FIGURE else self.compared:
                yield change


def marks(cell: NotebookNode) -> dict[str, bool]:
    """Return what nbval's tags and comments (`nbval-skip`, `# NBVAL_SKIP`, ...) say: check, skip, check_exception."""
    return {**dict(find_metadata_tags(cell.metadata)), **dict(find_comment_markers(cell.source))}


def lines(old: str, new: str) -> Iterator[tuple[str | None, str | None]]:
    """Yield pairs of lines: one by one, or if a text has more lines than the other, aligned where they agree.

    Lines that agree at the beginning and at the end are left out.
    """
    before, after = (text.removesuffix("\n").split("\n") for text in (old, new))
    head = common(before, after)
    before, after = before[head:], after[head:]
    tail = common(before[::-1], after[::-1])
    before, after = before[: len(before) - tail], after[: len(after) - tail]
    blocks = [("replace", 0, len(before), 0, len(after))]
    if len(before) != len(after) and max(len(before), len(after)) <= ALIGNED:
        blocks = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    for _, a, b, c, d in blocks:
        yield from zip_longest(before[a:b], after[c:d])


def figure_error(expected: Part, actual: Part) -> tuple[float, str]:
    """Return by how much two figures differ, and where: the RMS, in steps of 255, of the worst picture or tile.

    The pictures of pixels that lie in the figure are compared each as a whole, and all of it in tiles; on black and on
    white paper, where it is transparent; infinite if the sizes differ or one cannot be read.
    """
    try:
        old, new = (np.asarray(decoded(part.content), dtype=float) for part in (expected, actual))  # (H, W, 4)
    except ValueError as error:
        return math.inf, str(error)
    if old.shape != new.shape:
        return math.inf, "another size"
    squares = np.maximum(*(np.square(_on(paper, old) - _on(paper, new)).mean(2) for paper in (0, 255)))  # (H, W)
    padded = np.pad(squares, [(0, -side % TILE) for side in squares.shape])
    tiles = padded.reshape(padded.shape[0] // TILE, TILE, -1, TILE).mean((1, 3))  # (rows, columns)
    row, column = np.unravel_index(tiles.argmax(), tiles.shape)
    error, place = math.sqrt(tiles.max()), f"in the {TILE}x{TILE} pixels at {column * TILE}, {row * TILE}"
    y, x = np.unravel_index(squares.argmax(), squares.shape)  # the worst pixel
    columns, rows = _numbered(expected.boxes, 0), _numbered(expected.boxes, 1)
    for box in expected.boxes:
        left, top, width, height = box
        picture = squares[max(top, 0) : top + height, max(left, 0) : left + width]
        own = math.sqrt(picture.mean()) if picture.size else 0.0
        if own > error or (left <= x < left + width and top <= y < top + height):
            error, place = max(own, error), f"in the image at row {rows[box]}, column {columns[box]}"
    return error, place


def _on(paper: int, pixels: np.ndarray) -> np.ndarray:
    """Return the colours (H, W, 3) of pixels (H, W, 4) on paper of this grey."""
    opaque = pixels[..., 3:] / 255
    return pixels[..., :3] * opaque + paper * (1 - opaque)


def _numbered(boxes: tuple[tuple[int, int, int, int], ...], side: int) -> dict[tuple[int, int, int, int], int]:
    """Return the column (side 0) or row (side 1) of each box: one more than of those that end before it begins."""
    found = {}
    for box in sorted(boxes, key=lambda box: box[side]):
        found[box] = 1 + max((found[b] for b in found if b[side] + b[side + 2] <= box[side]), default=0)
    return found
