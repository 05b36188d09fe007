"""Numbers that a notebook's prose quotes, and where they stand: in an output or in the code of the same notebook."""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal

from nbformat import NotebookNode

from tools.regression.outputs import Change

# Folded text, code, formulas, addresses, tags, and notebooks called by their number, in a title or a link. Nothing is
# looked for beyond the next mark of its kind, so that it takes time in proportion to the text.
LEFT_OUT = re.compile(
    r"<details>.*?</details>|```.*?```|`[^`]*`|\$\$.*?\$\$|(?<!\\)\$[^$]*\$|https?://\S+|<[^<>]*>"
    r"|(?m:^# \d+\.\d+\b)|\[(?:← )?\d\.\d\b[^][]*\](?=\()|\]\([^()]*\)",
    re.DOTALL,
)
QUOTED = re.compile(r"(?<![\w.,])(?:\d{1,3}(?:,\d{3})+|\d*)\.\d+(?![\w]|[.,]\d)")
NUMBER = re.compile(r"(?<![A-Za-z_])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d[\d_]*|(?=\.\d))(?:\.\d+)?(?:e[-+]?\d{1,3}(?!\d))?")
LINK = re.compile(r"\]\((?:\.\./)?((?:\w+/)?\w+)\.ipynb\)")


def quoted(cell: NotebookNode, number: re.Pattern = QUOTED) -> Iterator[tuple[str, str]]:
    """Yield line and number for each number of a Markdown cell outside formulas, code and folded text.

    Args:
        cell: the cell.
        number: what a number is; by default, one with a decimal point.
    """
    kept = LEFT_OUT.sub(lambda found: "\n" * found[0].count("\n"), cell.source)  # every line keeps its place
    for line, text in zip(cell.source.split("\n"), kept.split("\n"), strict=True):
        whole = line.strip()
        for found in number.finditer(text):
            yield whole, found[0]


def gone(changes: list[Change], notebook: NotebookNode) -> list[str]:
    """Return the lines of prose that quote a number which changed lines of the outputs said and do not say now."""
    old, new = _values(c.expected or "" for c in changes), _values(c.actual or "" for c in changes)
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line, number in quoted(cell, NUMBER):
                if stands_in(number, old) and not stands_in(number, new):
                    found[line] = None
    return list(found)


def numbers(notebook: NotebookNode) -> set[Decimal]:
    """Return all that a quote may repeat: the numbers of the notebook's code and of the outputs stored with it."""
    texts = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts.append(cell.source)
            texts += [output.get("text", "") for output in cell.outputs]
            texts += [output.data["text/plain"] for output in cell.outputs if "text/plain" in output.get("data", {})]
    return _values(texts)


def _values(texts: Iterable[str]) -> set[Decimal]:
    """Return the absolute values of all numbers in the texts."""
    found = {number[0] for text in texts for number in NUMBER.finditer(text) if len(number[0]) < 40}  # no hash
    return {abs(Decimal(number.replace(",", "").replace("_", ""))) for number in found}


def stands_in(quote: str, values: set[Decimal]) -> bool:
    """Return whether one of the values, rounded as the quote is, is what it says."""
    said = Decimal(quote.replace(",", ""))
    half = Decimal(1).scaleb(said.as_tuple().exponent) / 2
    return any(abs(value - said) <= half for value in values)
