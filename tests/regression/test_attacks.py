"""The regression of the notebooks is attacked: each attack on a small course of one notebook must be caught and placed.

The attacked copies lie side by side in one course, so that one run of pytest meets them all. An attack has a copy of
its own, or shares one with attacks on other cells, which must not hide each other.
"""

import copy
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.regression import outputs
from tools.regression.accept import accept
from tools.regression.notebooks import ROOT

# The time budget of a cell here, for the one that hangs; where kernels are not copied, importing torch must fit in.
CELL_SECONDS = 4 if sys.platform == "linux" else 25
SOURCES = [
    """
import sys
from pathlib import Path

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "helpers" / "cnn.py").is_file())
sys.path.insert(0, str(root))
""",
    "seed = 0\neps = 0.2",
    """
import numpy as np

from helpers.adversarial import fgsm, pgd
from helpers.cnn import load_cnn
from helpers.data import load_mnist
from helpers.occlusion import occlusion_map
from helpers.show import SIGNED, image_grid, show_figure

all_images, all_labels = load_mnist(train=False)
images, labels = all_images[:8], all_labels[:8]
model = load_cnn()
""",
    """
print(f"{len(all_images):,} images of {images[0].numel()} pixels")
print(f"mean {images.mean():.4f}, standard deviation {images.std():.4f}")
""",
    """
print("digit   logit")
for digit, logit in enumerate(model(images[:1])[0].tolist()):
    print(f"{digit:>5} {logit:7.2f}")
""",
    """
titles = [str(label) for label in labels[:4].tolist()]
show_figure(image_grid(images[:4], titles=titles), alt="Four handwritten digits under their labels.")
""",
    """
titles = [str(label) for label in labels[4:].tolist()]
show_figure(image_grid(images[4:], titles=titles), alt="Four more handwritten digits under their labels.")
""",
    """
filters = model.conv1.weight.detach().clone()
limit = filters.abs().max().item()
figure = image_grid(filters, columns=8, cmap=SIGNED, limits=(-limit, limit), zoom=6)
show_figure(figure, alt="The filters of the first layer, in red and blue.")
""",
    """
attacked = fgsm(model, images, labels, eps=eps)
own = model(attacked).softmax(1)[range(8), labels].mean()
print(f"probability of the own class after FGSM {own:.4f}")
""",
    """
attacked = pgd(model, images, labels, eps=eps, alpha=0.05, steps=5)
print(f"right after PGD: {(model(attacked).argmax(1) == labels).sum()} of {len(images)}")
""",
    """
covered = occlusion_map(model, images, labels, patch=12, stride=4)
print("mean probability", " ".join(f"{value:.4f}" for value in covered.mean((1, 2))))
""",
    """
generator = np.random.default_rng(seed)
print(f"drawn {generator.random():.4f}, nearly {0.1239999:.7f}")
""",
    "assert (attacked - images).abs().max() <= eps + 1e-6",
]


class Attack(NamedTuple):
    """What is done to a copy, and where and how it must be found."""

    does: Callable[[NotebookNode], object]
    cell: int | None  # counted from 1; None: nothing may be found
    said: str = ""  # a pattern that the report of it must match


def code(notebook: NotebookNode, number: int) -> NotebookNode:
    """Return the code cell that JupyterLab numbers so."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"][number - 1]


def source(number: int, old: str, new: str) -> Callable[[NotebookNode], None]:
    """An attack that changes the source of a cell, whose stored outputs stay."""

    def change(notebook: NotebookNode) -> None:
        cell = code(notebook, number)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return change


def stored(number: int, pattern: str, change: Callable[[str], str]) -> Callable[[NotebookNode], None]:
    """An attack that changes the first match of the pattern in what a cell has printed."""

    def apply(notebook: NotebookNode) -> None:
        (output,) = code(notebook, number).outputs
        output.text, count = re.subn(pattern, lambda match: change(match[0]), output.text, count=1)
        assert count == 1

    return apply


def strip(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def strip_but_counts(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []


def store_traceback(notebook: NotebookNode) -> None:
    code(notebook, 4).outputs.append(new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"]))


def drop_alt_text(notebook: NotebookNode) -> None:
    code(notebook, 6).outputs[0].metadata = {}


def derive_a_parameter(notebook: NotebookNode) -> None:
    code(notebook, 2).source += "\nhalf = eps / 2"


def misquote(notebook: NotebookNode) -> None:
    notebook.mean = notebook.mean[:-1] + str(9 - int(notebook.mean[-1]))  # another last digit


def swap_figures(notebook: NotebookNode) -> None:
    one, other = code(notebook, 6).outputs[0].data, code(notebook, 7).outputs[0].data
    one["image/png"], other["image/png"] = other["image/png"], one["image/png"]


def nothing(notebook: NotebookNode) -> None:
    pass


def patch_helper(module: str, code: str) -> Callable[[NotebookNode], None]:
    """An attack on a helper: the folder of the notebook gets helpers of its own, which its set-up cell finds first."""

    def apply(notebook: NotebookNode) -> None:
        notebook.setdefault("patches", {})[module] = code

    return apply


FLIPPED = """
def fgsm(model, images, labels, *, eps, targeted=False):
    return pgd(model, images, labels, eps=eps, alpha=eps, steps=1, targeted=not targeted)
"""
SHIFTED = """
_right_map = occlusion_map
def occlusion_map(model, images, labels, **options):
    return _right_map(model, images.roll(1, -1), labels, **options)
"""
STATIC = {
    "untouched": Attack(nothing, None),
    "outputs_stripped": Attack(strip, 1, "not executed from top to bottom"),
    "outputs_stripped_numbers_kept": Attack(strip_but_counts, 4, "but 0 × stdout stored"),
    "traceback_stored": Attack(store_traceback, 4, "a stored ValueError"),
    "alt_text_removed": Attack(drop_alt_text, 6, "without a text"),
    "progress_bar_stored": Attack(stored(4, "$", lambda _: " 50%|###  | 5/10 [00:01<00:01]"), 4, "progress bar"),
    "parameter_derived": Attack(derive_a_parameter, 2, "is no literal"),
    "digit_of_a_number_in_prose_changed": Attack(misquote, None, r"says 0\.\d+, which no output does: The mean is"),
}
EXECUTES = {
    "untouched": Attack(nothing, None),
    "parameter_misspelt": Attack(nothing, None, "no parameter 'epz'.*seed=0, eps=0.2"),
    "generator_unseeded": Attack(source(12, "default_rng(seed)", "default_rng()"), 12, "run again|another output"),
    "clock_printed": Attack(
        source(12, "{generator.random():.4f}", "{__import__('time').time()}"), 12, "another output"
    ),
    "kernel_killed": Attack(source(9, "own =", "__import__('os')._exit(1)\nown ="), 9, "the kernel died"),
    "cell_hangs": Attack(source(10, "attacked =", "__import__('time').sleep(900)\nattacked ="), 10, "no end within"),
    "exception_after_ten_good_cells": Attack(source(11, "patch=12", "patch=80"), 11, "ValueError: expected patch"),
}
PUBLISHED = {
    "untouched": Attack(nothing, None),
    "last_bit_noise": Attack(source(3, "load_cnn()", "load_cnn()\nmodel.conv1.weight.data *= 1 + 1.2e-7"), None),
    "rounded_the_other_way": Attack(source(12, "0.1239999", "0.1240001"), None),
    "figure_swapped": Attack(swap_figures, 6, r"show_figure\(.*RMS.*cell-6-\{expected,actual,difference\}.png"),
    "filter_weight_wrong": Attack(source(8, ".clone()", ".clone()\nfilters[5, 0, 2, 2] += 0.1"), 8, "RMS .*difference"),
    "digit_label_changed": Attack(source(7, "labels[4:]", "labels[[4, 5, 6, 0]]"), 7, "RMS .*difference"),
    "number_changed_by_3_percent": Attack(
        stored(4, r"0\.\d+", lambda text: f"{1.03 * float(text):.4f}"), 4, r"expected +mean.*actual.*error +0\.029"
    ),
    "integer_off_by_one": Attack(stored(4, "784", lambda _: "785"), 4, "expected.*785.*actual.*784"),
    "outputs_stripped": Attack(strip, 1, "never executed"),
    "outputs_stripped_numbers_kept": Attack(strip_but_counts, 4, r"expected +nothing.*actual +stdout 10,000"),
    "added_and_broken": Attack(source(10, "argmax(1)", "argmax(7)"), 10, r"print\(.*IndexError: Dimension"),
    "kernel_killed": Attack(source(9, "own =", "__import__('os')._exit(1)\nown ="), 9, "the kernel died"),
    "cell_hangs": Attack(source(10, "attacked =", "__import__('time').sleep(900)\nattacked ="), 10, "no end within"),
    "exception_after_ten_good_cells": Attack(
        source(11, "patch=12", "patch=80"), 11, r"covered = occlusion_map.*ValueError: expected patch"
    ),
    "fgsm_with_its_sign_flipped": Attack(patch_helper("adversarial", FLIPPED), 9, "expected.*FGSM.*actual.*relative"),
    "occlusion_map_off_by_one_pixel": Attack(patch_helper("occlusion", SHIFTED), 11, "expected.*actual.*relative"),
}
STAGES = {"static": STATIC, "executes": EXECUTES, "published": PUBLISHED}
# Attacks of the last stage that share a copy: each list is executed once.
SHARED = [
    ["last_bit_noise", "rounded_the_other_way"],
    [
        "number_changed_by_3_percent",
        "figure_swapped",
        "filter_weight_wrong",
        "fgsm_with_its_sign_flipped",
        "occlusion_map_off_by_one_pixel",
    ],
    ["integer_off_by_one", "digit_label_changed", "added_and_broken"],
]
# The cells that differ in a copy, where they are not those of its attacks: each has a failure of its own.
DIFFER = {
    "figure_swapped": {6, 7},
    "outputs_stripped": set(range(1, len(SOURCES) + 1)),
    "outputs_stripped_numbers_kept": set(range(4, 13)),
}


def copies(stage: str) -> list[list[str]]:
    """Return the attacks of each notebook of a stage."""
    shared = SHARED if stage == "published" else []
    alone = [[attack] for attack in STAGES[stage] if not any(attack in attacks for attacks in shared)]
    return alone + shared


def names(stage: str) -> dict[str, str]:
    """Return the title of each attack's notebook, in a folder of its own so that helpers can lie beside it."""
    first = 10 + list(STAGES).index(stage) * 30  # two digits, so that the folders sort as they are numbered
    return {
        attack: f"{first + place}_{stage}/{place}_{attacks[0]}"
        for place, attacks in enumerate(copies(stage))
        for attack in attacks
    }


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A course of attacked copies of one notebook, with this repository's tools, helpers and tests."""
    root = tmp_path_factory.mktemp("attacked")
    for folder in ("tools", "helpers"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests" / "notebooks").mkdir(parents=True)
    for file in (
        "tests/conftest.py",
        "tests/notebooks/test_published.py",
        "tests/notebooks/test_execution.py",
        "tests/notebooks/prose.yml",
        "pyproject.toml",
    ):
        shutil.copy(ROOT / file, root / file)
    shutil.copytree(ROOT / "requirements", root / "requirements")
    (root / "data").symlink_to(ROOT / "data")
    # Copied kernels have no need of what these notebooks do not import, and it takes as long as all the rest.
    needed = '["ipykernel.kernelapp", "matplotlib.pyplot", "torch"]'
    with (root / "tests" / "conftest.py").open("a") as file:
        file.write(f"\nimport tools.regression.kernels\n\ntools.regression.kernels.IMPORTED[:] = {needed}\n")
    every = [(stage, attacks) for stage in STAGES for attacks in copies(stage)]
    titles = [names(stage)[attacks[0]] for stage, attacks in every]
    (root / "tests" / "notebooks" / "parameters.yml").write_text(
        f"{names('executes')['parameter_misspelt']}:\n  epz: 0.1\n"
        f"{names('executes')['untouched']}:\n  seed: 3\n  eps: 0.1\n"
    )

    cells = [new_code_cell(text.strip()) for text in SOURCES]
    cells[1].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    write(new_notebook(cells=cells, metadata=kernel), root, titles, 0)
    with (
        patch.object(outputs, "DIFF", root / "build" / "diff"),  # not on the page of this run
        patch("tools.regression.accept.elsewhere", lambda *_: ""),  # once is enough
    ):
        accept(path := root / "notebooks" / f"{titles[0]}.ipynb")
    accepted = nbformat.read(path, as_version=4)
    accepted.cells = [cell for cell in accepted.cells if cell.cell_type == "code"]
    accepted.mean = re.search(r"mean (0\.\d+)", code(accepted, 4).outputs[0].text)[1]
    for place, (stage, attacks) in enumerate(every):
        notebook = copy.deepcopy(accepted)
        for attack in attacks:
            STAGES[stage][attack].does(notebook)
        write(notebook, root, titles, place)
    return root


def write(notebook: NotebookNode, root: Path, titles: list[str], place: int) -> None:
    """Write a notebook between a title and links to its neighbours, and beside it the helpers that are its own."""
    path = root / "notebooks" / f"{titles[place]}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    if patches := notebook.pop("patches", {}):
        shutil.copytree(root / "helpers", path.parent / "helpers")
        (path.parent / "data").symlink_to(root / "data")
    for module, added in patches.items():
        with (path.parent / "helpers" / f"{module}.py").open("a") as file:
            file.write(added)
    folder, name = (part.split("_")[0] for part in titles[place].split("/"))
    links = [f"[x](../{titles[i]}.ipynb)" for i in (place - 1, place + 1) if 0 <= i < len(titles)]
    said = f"# {folder}.{name} Attacked\n\nThe mean is {notebook.pop('mean', 'unknown')}."
    prose = [new_markdown_cell(said), new_markdown_cell(" · ".join(links))]
    between = nbformat.from_dict({**notebook, "cells": [prose[0], *notebook.cells, prose[1]]})
    nbformat.write(between, path)


@pytest.fixture(scope="module")
def report(course) -> str:
    """What pytest says of all of them, from one run with a single worker, as the course's own user would start it."""
    test = "tests/notebooks/test_execution.py::test_it_runs_with_other_parameters_and_again"
    executed, published = names("executes"), dict.fromkeys(names("published").values())
    chosen = ["tests/notebooks/test_published.py", *(f"{test}[{name}]" for name in executed.values())]
    killed = executed["kernel_killed"]  # whose cells must then not be reached
    chosen += [f"notebooks/{name}.ipynb" for name in (killed, *published)]
    command = [sys.executable, "-m", "pytest", "-n1", "-p", "no:hypothesispytest", "-rfE", "--tb=short", "--color=no"]
    command += [*chosen, "-k", "_static or test_it_runs or ipynb", f"--nbval-cell-timeout={CELL_SECONDS}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("stage", "attack"), [(stage, attack) for stage in STAGES for attack in STAGES[stage]])
def test_it_is_caught_and_placed(stage, attack, report, record_property):
    title = names(stage)[attack]
    _, cell, said = STAGES[stage][attack]
    green = cell is None and not said
    place = f"cell [{cell}]" if cell else "the file"
    record_property("attack", f"{stage:10} {attack:34} must {'stay green' if green else f'be found in {place}'}")
    failures = re.findall(rf"^(?:FAILED|ERROR) \S*{re.escape(title)}\b", report, re.MULTILINE)
    if green:
        assert f"{title} " in report or stage == "static", report  # it is a row of the table
        assert failures == []
    else:
        where = f"{title} {place}" if cell else title
        assert where in report, report
        own = report[report.find(where) :].split("\n____")[0]
        assert re.search(said, own, re.DOTALL), own
        shares = next(attacks for attacks in copies(stage) if attack in attacks)
        differ = set().union(*(DIFFER.get(one, {STAGES[stage][one].cell}) for one in shares))
        assert stage == "static" or len(failures) == len(differ), failures


def row(report: str, title: str) -> list[str]:
    """Return the notebook's row of the table, without its title."""
    return next((line for line in report.splitlines() if re.match(rf"{title} +[\d.]+ ", line)), report).split()[1:]


def test_the_cells_after_one_that_raised_are_not_reached(report):
    killed = names("executes")["kernel_killed"]
    assert row(report, killed)[-2:] == [str(len(SOURCES)), "FAILED"]


def test_the_cells_after_a_difference_are_compared_all_the_same(report):
    swapped = names("published")["figure_swapped"]
    assert row(report, swapped)[-2:] == ["0", "FAILED"]
    assert re.search(rf"^FAILED .*{swapped}.*cell \[7\]", report, re.MULTILINE)


def test_pictures_of_a_changed_figure_are_kept(course, report):
    title = names("published")["figure_swapped"]
    assert title in report
    kept = sorted(path.name for path in (course / "build" / "diff" / title).iterdir())
    assert [name for name in kept if name.startswith("cell-6")] == [
        "cell-6-actual.png",
        "cell-6-difference.png",
        "cell-6-expected.png",
    ]
    page = (course / "build" / "diff" / "index.html").read_text()
    assert f"{title} cell [6]" in page
    assert f'src="{title}/cell-6-difference.png"' in page


def test_a_single_worker_changes_nothing(report):
    untouched = row(report, names("published")["untouched"])
    assert untouched[2] == f"{len(SOURCES)}c"  # compared, after the seconds of both stages
    assert untouched[-1] == "0"  # not reached, and not FAILED
