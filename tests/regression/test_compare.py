"""The comparison of outputs: what counts as the same, what does not, and what is said of it."""

import base64
import io
import math
import re
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_output
from nbval.plugin import IPyNbCell, IPyNbFile
from PIL import Image

import tools.regression.cells
import tools.regression.outputs
from tools.regression.cells import Cell
from tools.regression.compare import EXACT, NUMBER, RMS, Tolerance, changes, figure_error, relative_error
from tools.regression.notebooks import ROOT
from tools.regression.outputs import Change, Part, coalesced, describe, parts, write_page


def text(content, name="stdout"):
    """A stream output."""
    return new_output("stream", name=name, text=content)


def figure(pixels, alt="a picture", boxes=()):
    """A stored figure of (H, W) or (H, W, 3) values in 0..255, with small pictures in the boxes."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file, "png")
    data = {"image/png": base64.b64encode(file.getvalue()).decode()}
    return new_output("display_data", data=data, metadata={"image/png": {"alt": alt}, "images": list(boxes)})


def picture(pixels, boxes=()):
    """The part that such a figure is."""
    return parts([figure(pixels, boxes=boxes)])[0]


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("loss 0.1239999", "loss 0.1240001"),
        ("loss 0.1000", "loss 0.1009"),
        ("loss  9.99 |", "loss 10.01 |"),
        ("1,234.5 of 10", "1,236.5 of 10"),
        ("p = 2.49e-06", "p = 2.50e-06"),
        ("1e-07", "1.005e-07"),
        ("gain −0.500", "gain −0.501"),
        ("-0.00", "0.00"),
        ("97.96%", "97.90%"),
        ("[0.1000, nan, inf]", "[0.1001, nan, inf]"),
        ("0.5x and (0.25)", "0.501x and (0.251)"),
    ],
)
def test_floats_within_one_percent_are_the_same(expected, actual):
    assert relative_error(expected, actual) <= 0.01


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("loss 0.100", "loss 0.103"),
        ("loss 0.12", "loss 0.13"),
        ("93 of 10,000", "94 of 10,000"),
        ("10,000 images", "10,001 images"),
        ("1.0", "1"),
        ("nan", "0.5"),
        ("nan", "inf"),
        ("inf", "-inf"),
        ("+0.5", "-0.5"),
        ("0.00", "0.01"),
        ("torch 2.14.1", "torch 2.14.2"),
        ("conv1", "conv2"),
        ("0.5 s", "0.5 t"),
        ("two words", "two  words"),
        ("a 0.5", "a 0.5 0.5"),
        ("0.5.", "0.5"),
        ("1e-07", "1e-08"),
        ("it is 5. Then", "it is 6. Then"),
    ],
)
def test_anything_else_is_a_difference(expected, actual):
    assert relative_error(expected, actual) > 0.01


def test_the_error_is_relative_to_what_was_published():
    assert relative_error("a 2.0 b 1,000.0", "a 2.5 b 1,010.0") == pytest.approx(0.25)
    assert relative_error("0.0", "0.1") == math.inf


def test_where_a_tag_allows_more_integers_are_numbers():
    assert relative_error("93 of 10,000", "90 of 10,000", NUMBER) == pytest.approx(3 / 93)
    assert list(changes([text("93 wrong")], [text("90 wrong")], rtol=0.05)) == []
    assert [c.error for c in changes([text("93 wrong")], [text("90 wrong")])] == [math.inf]
    assert list(changes([text("conv1 93")], [text("conv2 93")], rtol=0.5)) != []


def test_a_tolerance_of_nought_compares_values_and_exact_compares_characters():
    assert list(changes([text("0.10")], [text("0.1")], rtol=0)) == []
    assert list(changes([text("0.1000000")], [text("0.1000001")], rtol=0)) != []
    assert list(changes([text("0.10")], [text("0.1")], EXACT)) == [Change("stdout", "0.10", "0.1", 0.0)]


def test_the_first_change_names_its_line():
    old, new = [text("a 1\nb 0.50\nc 2\n")], [text("a 1\nb 0.60\nc 3\n")]
    assert list(changes(old, new)) == [
        Change("stdout", "b 0.50", "b 0.60", pytest.approx(0.2)),
        Change("stdout", "c 2", "c 3", math.inf),
    ]
    assert describe(next(changes(old, new)), "a/one", 3).splitlines() == [
        "  expected        b 0.50",
        "  actual          b 0.60",
        "  relative error  0.2",
    ]


def test_a_line_that_was_added_does_not_change_those_after_it():
    assert list(changes([text("a\nb\nc\n")], [text("a\nnew\nb\nc\n")])) == [Change("stdout", None, "new", math.inf)]


@pytest.mark.parametrize(("old", "new"), [([], [text("a")]), ([text("a")], []), ([text("a")], [text("a", "stderr")])])
def test_outputs_that_come_or_go_are_changes(old, new):
    assert [change.kind for change in changes(old, new)] == ["output"]


def test_texts_are_joined_and_what_was_wiped_is_left_out():
    bar = [text("\r 50%"), text("\r100%"), text("\r     \r")]
    assert parts(bar) == []
    assert parts([*bar, text("done\n"), text("twice\n")]) == [Part("stdout", "done\ntwice\n")]
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "bar"}
    assert parts([new_output("display_data", data=widget)]) == []
    assert parts([new_output("error", ename="ValueError", evalue="no")]) == [Part("error", "ValueError: no")]


def test_the_text_of_a_figure_is_compared():
    white = np.full((40, 40), 255)
    assert [c.kind for c in changes([figure(white, "one")], [figure(white, "two")])] == ["alt text"]


def test_one_changed_letter_counts_however_large_the_figure():
    small, large = np.full((64, 64, 3), 255), np.full((960, 960, 3), 255)
    errors = []
    for white in (small, large):
        letter = white.copy()
        letter[10:17, 10:13] = 0
        errors.append(figure_error(picture(white), picture(letter))[0])
    assert errors[0] == errors[1] == pytest.approx(255 * math.sqrt(21 / 1024))
    assert errors[0] > RMS


def test_noise_is_no_change_unless_pixels_must_be_exact():
    paper = np.full((50, 70), 200)
    noisy = paper.copy()
    noisy[20:30, 20:30] += 1
    assert list(changes([figure(paper)], [figure(noisy)])) == []
    assert [change.kind for change in changes([figure(paper)], [figure(noisy)], EXACT)] == ["image/png"]


@pytest.fixture
def diff(tmp_path, monkeypatch):
    """The folder in which differences are kept."""
    monkeypatch.setattr(tools.regression.outputs, "ROOT", tmp_path)
    monkeypatch.setattr(tools.regression.outputs, "DIFF", tmp_path / "build" / "diff")
    return tmp_path / "build" / "diff"


def test_pictures_are_kept(diff, tmp_path):
    old, new = np.full((40, 40), 255), np.full((40, 50), 255)
    new[5, 5] = 0
    (change,) = changes([figure(old)], [figure(new)])
    said = describe(change, "a/one", 4)
    assert "another size" in said
    assert "build/diff/a/one/cell-4-{expected,actual,difference}.png" in said
    kept = {path.name: np.asarray(Image.open(path)) for path in (tmp_path / "build/diff/a/one").glob("*.png")}
    assert kept["cell-4-expected.png"].shape == (40, 40, 4)
    assert kept["cell-4-actual.png"].shape == (40, 50, 4)
    assert kept["cell-4-difference.png"].sum() == 255 * (40 * 40 - 1)


def test_a_pale_difference_is_stretched(diff):
    old, new = np.full((40, 40), 250), np.full((40, 40), 250)
    new[5, 5] = 247
    (change,) = changes([figure(old)], [figure(new)], EXACT)
    describe(change, "a/one", 4)
    difference = np.asarray(Image.open(diff / "a/one/cell-4-difference.png"))
    assert difference[5, 5] == 0
    assert difference.sum() == 255 * (40 * 40 - 1)


def test_what_differs_is_laid_side_by_side_on_one_page(diff):
    assert write_page() is None
    old, new = (
        [figure(np.full((40, 40), 255)), text("a < 1\nb 2.0")],
        [figure(np.zeros((40, 40))), text("a < 2\nb 2.5")],
    )
    for change in changes(old, new):
        describe(change, "a/one", 12)
    for change in changes([text("1")], []):
        describe(change, "a/one", 2)
    page = write_page().read_text()
    assert page.index("a/one cell [2]") < page.index("a/one cell [12]")
    assert "<td><pre>a &lt; 1</pre></td><td><pre>a &lt; 2</pre></td>" in page
    for source in re.findall(r'src="(.*?)"', page):
        assert (diff / source).is_file()
    assert len(re.findall("<img", page)) == 3


def test_pictures_are_compared_where_they_lie_and_named():
    """A small pale picture lies in four tiles, none of which would tell of it."""
    boxes = [[left, top, 32, 32] for top in (16, 80) for left in (16, 80, 144)]
    old = np.full((128, 192), 255)
    new = old.copy()
    new[80:112, 80:112] -= 3  # the image of row 2, column 2
    error, place = figure_error(picture(old, boxes), picture(new, boxes))
    assert error == pytest.approx(3)
    assert place == "in the image at row 2, column 2"
    assert figure_error(picture(old), picture(new))[0] < 2
    (change,) = changes([figure(old, boxes=boxes)], [figure(new, boxes=boxes)])
    assert "RMS 3 in the image at row 2, column 2" in describe(change, "a/one", 4)
    dot = old.copy()
    dot[36:40, 164:168] = 0  # a small thing is told by its tile's error and its image's name
    error, place = figure_error(picture(old, boxes), picture(dot, boxes))
    assert error == pytest.approx(255 * 4 / 32)
    assert place == "in the image at row 1, column 3"
    elsewhere = old.copy()
    elsewhere[2, 2] = 0
    assert figure_error(picture(old, boxes), picture(elsewhere, boxes))[1] == "in the 32x32 pixels at 0, 0"


def test_the_names_of_nbval_are_there():
    assert {"collect", "setup"} <= set(dir(IPyNbFile))
    assert {"repr_failure", "reportinfo", "runtest", "from_parent"} <= set(dir(IPyNbCell))
    assert issubclass(Cell, IPyNbCell)


def test_it_could_be_lifted_out():
    for path in Path(tools.regression.cells.__file__).parent.glob("*.py"):
        imported = re.findall(r"^ *(?:from|import) ((?:tools|helpers)\S*)", path.read_text("utf-8"), re.MULTILINE)
        assert all(name.startswith("tools.regression") for name in imported), f"{path.name} imports {imported}"
        course = re.search(r"helpers[./]|tests[./]|requirements[./]|test_[a-z]+\.py", path.read_text("utf-8"))
        assert not course, f"{path.name} speaks of the course's {course[0]}"


def one_cell(*outputs, tags=(), lock=""):
    """What `Cell.compare` needs to know of a cell with these outputs."""
    cell = new_code_cell(outputs=list(outputs), metadata={"tags": list(tags)})
    config = SimpleNamespace(getini=lambda name: lock, rootpath=ROOT)
    return SimpleNamespace(cell=cell, path=Path("a/one.ipynb"), cell_num=0, user_properties=[], config=config)


def holds(cell, *fresh):
    """Whether fresh outputs are taken for the published ones."""
    try:
        Cell.compare(cell, list(fresh))
    except pytest.fail.Exception:
        return False
    return True


def test_a_tag_sets_the_tolerance():
    old, new = text("0.500"), text("0.504")
    assert holds(one_cell(old), new)
    assert not holds(one_cell(old, tags=["rtol=0"]), new)
    assert not holds(one_cell(old, tags=["rtol=1e-3"]), new)
    assert holds(one_cell(old, tags=["rtol=0.2"]), text("0.59"))
    paper, shaded = figure(np.full((40, 40), 200)), figure(np.full((40, 40), 205))
    assert not holds(one_cell(paper), shaded)
    assert holds(one_cell(paper, tags=["rms=6"]), shaded)
    assert not holds(one_cell(paper, tags=["rms=4"]), shaded)


def test_figures_of_another_matplotlib_are_skipped_but_seen(tmp_path):
    lock = tmp_path / "a.lock"
    lock.write_text("numpy==1.0\nmatplotlib==2.1.4\n")
    black, white = figure(np.zeros((9, 9))), figure(np.full((9, 9), 255))
    cell = one_cell(white, lock=lock)
    with pytest.raises(pytest.skip.Exception, match=r"figures not compared: matplotlib 3\.\d+\.\d+ here, 2\.1\.4 in"):
        Cell.compare(cell, [black])
    assert cell.user_properties == [("cells compared", 1), ("figures not compared", 1)]
    assert not holds(one_cell(white, text("1"), lock=lock), black, text("2"))
    assert not holds(one_cell(white, lock=lock))
    assert holds(one_cell(text("1"), lock=lock), text("1"))
    lock.write_text(f"matplotlib=={version('matplotlib')}\n")
    assert not holds(one_cell(white, lock=lock), black)


def test_comment_marks_are_counted_as_tags_are():
    for source, tags in (("# NBVAL_IGNORE_OUTPUT\n1", []), ("# NBVAL_SKIP\n1", []), ("1", ["nbval-skip"])):
        assert Tolerance.of(new_code_cell(source, metadata={"tags": tags})).compared is False, source
    cell = one_cell(text("1"), figure(np.zeros((9, 9))))
    cell.cell.source = "# NBVAL_IGNORE_OUTPUT"
    assert holds(cell, text("2"))
    assert cell.user_properties == [("cells not compared", 1), ("figures not compared", 1)]


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("-0", "0"),
        ("x    -0 |", "x     0 |"),
        ("[-0.  1.]", "[0. 1.]"),
        ("[1. 2.]", "[1.0000 2.0001]"),
        ("tensor([1., 2.])", "tensor([1.0000, 2.0001])"),
        ("[1.e-07]", "[1.001e-07]"),
        ("\x1b[31m0.500\x1b[0m", "\x1b[31m0.501\x1b[0m"),
        ("a \x1b[31m  9.99\x1b[0m b", "a \x1b[31m 10.01\x1b[0m b"),
        ("1,000.4", "1,000.5"),
        ("1.5e+400", "1.501e+400"),
    ],
)
def test_other_ways_to_write_a_number_are_the_same(expected, actual):
    assert relative_error(expected, actual) <= 0.01


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("0.5,3,140.0", "0.5,3,120.0"),  # 140 and 120
        ("1,999.9", "2,000.1"),  # 1 and 2
        ("hash 12e45678901", "hash 12e45678902"),
        ("hash 5831e2", "hash 5832e2"),
        ("123e-4567-8", "124e-4567-8"),
        ("9" * 400 + ".5", "8" * 400 + ".5"),
        ("1.5e+400", "1.6e+400"),
        ("1.5e-400", "1.6e-400"),
        ("-0", "1"),
        ("0", "0.0"),
        ("it is 1000. Then", "it is 1001. Then"),
        ("[1000. 1.]", "[1001. 1.]"),
        ("[1000.]", "[1001.0]"),
        ("[1000.0]", "[1001.]"),
        ("2024e-05", "2025e-05"),
        ("\x1b[31m0.5\x1b[0m", "\x1b[32m0.5\x1b[0m"),
        ("\x1b[31mwrong\x1b[0m right", "wrong \x1b[31mright\x1b[0m"),
        ("\x1b[31m0.5\x1b[0m 0.7", "0.5 \x1b[31m0.7\x1b[0m"),
    ],
)
def test_what_looks_like_a_number_or_not_is_a_difference(expected, actual):
    assert relative_error(expected, actual) > 0.01


def test_a_header_over_a_column_that_grew_is_the_same():
    old, new = "digit  logit\n    0   9.99\n", "digit   logit\n    0   10.01\n"
    assert list(changes([text(old)], [text(new)])) == []
    assert list(changes([text(old)], [text(old.replace("  logit", "   logit"))])) != []  # no column grew
    assert list(changes([text(old)], [text(new)], EXACT)) != []
    one_column, grown = "      x\n0  9.99\n1  8.00\n", "       x\n0  10.01\n1   8.00\n"
    assert list(changes([text(one_column)], [text(grown)])) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("logit 9.99\n  #  #\n", "logit 10.01\n #   #\n"),  # a picture in letters, moved
        ("9.99\nif a:\n    b\n", "10.01\nif a:\nb\n"),  # an indent
        ("1 digit  logit\n\n9.99\n", "1 digit   logit\n\n10.01\n"),  # not over that column
        ("a  b\n9.99\n", "a    b\n10.01\n"),  # grown by more than the column
    ],
)
def test_no_other_spaces_may_change_because_a_number_grew(old, new):
    assert list(changes([text(old)], [text(new)])) != []


def test_no_text_moves_past_a_display():
    def display(content):
        return new_output("display_data", {"text/plain": content})

    published = [text("above\n"), display("FIGURE"), text("below\n")]
    assert coalesced(published) == published
    assert list(changes(published, [text("above\nbelow\n"), display("FIGURE")])) != []


def test_json_is_the_same_whatever_the_order_of_its_keys():
    old, new = (
        [new_output("display_data", {"application/json": content})]
        for content in ({"b": 1.0, "a": [2]}, {"a": [2], "b": 1.0})
    )
    assert list(changes(old, new)) == []
    new[0].data["application/json"]["b"] = 3.0
    assert list(changes(old, new)) != []


@pytest.mark.parametrize("tag", ["a=b=c", "rtol=tight", "rtol", "="])
def test_a_tag_that_nobody_reads_changes_nothing(tag):
    assert Tolerance.of(new_code_cell(metadata={"tags": [tag]})) == Tolerance()


@pytest.mark.parametrize(
    ("old", "new"), [("loss 0.123\r ", "loss 0.456\r "), ("accuracy 0.91\rok", "accuracy 0.55\rok")]
)
def test_what_a_shorter_text_does_not_cover_stays_visible(old, new):
    assert list(changes([text(old)], [text(new)])) != []


def test_what_stays_visible_beside_a_carriage_return_is_compared():
    assert parts([text("10 %\r")]) == [Part("stdout", "10 %")]
    assert list(changes([text("10 %\r")], [text("20 %\r")])) != []
    assert parts([text("10 %\r20 %\r"), text("done\r\nnext")]) == [Part("stdout", "done\nnext")]


def test_streams_have_one_order():
    out, err = text("a\n"), text("b\n", "stderr")
    assert parts([err, out]) == parts([out, err]) == [Part("stdout", "a\n"), Part("stderr", "b\n")]


@pytest.mark.parametrize(
    "content",
    [
        "50%\r" + "x" * 200_000,
        "255," * 40_000,
        " " * 100_000,
        "same\n" * 40_000,
        "ab" * 1_000_000,
        "1" * 90_000,
        ", ".join(map(str, range(15_000))) + "\n",
        "\x1b[3" * 30_000,
        "-1.5 " * 18_000,
        "1\n2\n" * 20_000,
    ],
)
@pytest.mark.parametrize("rtol", [0.01, 0.2, EXACT])
def test_large_texts_are_compared_in_seconds(content, rtol):
    start = time.perf_counter()
    for new in (content, "more\n" + content, content + "more", content.replace("\n", ";\n")):
        found = list(changes([text(content)], [text(new)], rtol))
        assert bool(found) == (new != content), new[:20]
        for change in found[:2]:
            assert all(len(side) <= 400 for side in change.texts())
    assert time.perf_counter() - start < 10


def test_a_text_over_the_limit_is_compared_exactly():
    long = "0.5\n" * 30_000
    (change,) = changes([text("0.5000\n" + long)], [text("0.5001\n" + long)])
    assert change == Change("stdout", "0.5000", "0.5001", math.inf)


def test_the_place_of_a_difference_in_a_long_line_is_shown():
    change = Change("stdout", "a" * 5000 + "1" + "b" * 5000, "a" * 5000 + "2" + "b" * 5000, math.inf)
    old, new = change.texts()
    assert old.replace("1", "2") == new
    assert old != new
    assert change._replace(expected="x", actual=None).texts() == ("x", "(nothing)")


def png(pixels, mode=None):
    """A stored figure of an array as Pillow writes it."""
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "png")
    return new_output("display_data", data={"image/png": base64.b64encode(file.getvalue()).decode()})


def test_transparency_is_compared():
    empty = np.zeros((64, 64, 4), np.uint8)
    for grey in (0, 255):  # a black or white disc that moved on clear paper
        old, new = empty.copy(), empty.copy()
        old[..., :3] = new[..., :3] = grey
        old[10:20, 10:20, 3] = new[40:50, 40:50, 3] = 255
        assert [change.kind for change in changes([png(old)], [png(new)])] == ["image/png"]
    hidden = empty.copy()
    hidden[..., :3] = 99  # a colour that nobody sees
    assert list(changes([png(empty)], [png(hidden)])) == []


WHOLE = png(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)).data["image/png"]


@pytest.mark.parametrize(
    "stored",
    ["AAAA", "A", "\u00e9", WHOLE[:400], WHOLE[:60], WHOLE[:200] + "AAAA" + WHOLE[204:]],
    ids=["no PNG", "no bytes", "no base64", "half", "no pixels", "a wrong byte"],
)
def test_a_picture_that_cannot_be_read_is_a_difference(diff, stored):
    broken, whole = (new_output("display_data", data={"image/png": content}) for content in (stored, WHOLE))
    for old, new in ((broken, whole), (whole, broken)):
        (change,) = changes([old], [new], rms=255)
        assert (change.kind, change.error) == ("image/png", math.inf)
        assert "cannot be read" in describe(change, "a/one", 4)
    assert not list(changes([broken], [broken]))


@pytest.mark.parametrize("boxes", [None, 3, "here", [1, 2], [[0, 0, 9]], [["0", 0, 9, 9]], [None], {"a": 1}])
def test_places_of_pictures_that_cannot_be_read_count_as_none(boxes):
    old, new = figure(np.zeros((40, 40))), figure(np.full((40, 40), 9))
    old.metadata["images"] = boxes
    (change,) = changes([old], [new])
    assert change.error == 9


def test_pictures_of_16_bits_are_compared():
    old = np.full((40, 40), 40_000, np.uint16)
    new = old.copy()
    new[10:20, 10:20] = 60_000
    (change,) = changes([png(old)], [png(new)])
    assert change.error == pytest.approx(np.sqrt(100 / 1024) * (60_000 // 256 - 40_000 // 256))


def test_a_second_figure_of_a_cell_has_pictures_of_its_own(diff):
    white, grey, black = (figure(np.full((40, 40), value)) for value in (255, 128, 0))
    found = list(changes([white, grey], [black, black]))
    said = [describe(change, "a/one", 4) for change in found]
    assert ["cell-4-2-{" in text for text in said] == [False, True]
    sources = re.findall(r'src="(.*?)"', write_page().read_text())
    assert len(set(sources)) == 6
    values = [int(np.asarray(Image.open(diff / source).convert("L"))[0, 0]) for source in sources]
    assert values == [255, 0, 0, 128, 0, 0]


def test_pictures_of_different_heights_share_a_row():
    boxes = [[0, 20, 40, 20], [60, 0, 40, 60], [0, 100, 40, 40], [60, 90, 40, 60]]
    old = np.full((160, 110), 255)
    places = ("1, column 1", "1, column 2", "2, column 1", "2, column 2")
    for (left, top, width, height), place in zip(boxes, places, strict=True):
        new = old.copy()
        new[top : top + height, left : left + width] = 0
        assert figure_error(picture(old, boxes), picture(new, boxes))[1] == f"in the image at row {place}"
