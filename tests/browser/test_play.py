"""The playground on the built page, opened from the file system, where a page may fetch nothing."""

import base64
import json
import re
import shutil
import struct
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, SITE
from playwright.sync_api import Page, expect

DESKTOP, PHONE = {"width": 1300, "height": 1000}, {"width": 360, "height": 780}
expect.set_options(timeout=60_000)  # on a machine with other work to do
PLAYGROUND = SITE / "_static" / "play"
# A 3 as a hand draws it, in shares of the pad.
THREE = [(0.3, 0.25), (0.45, 0.17), (0.63, 0.22), (0.66, 0.36), (0.47, 0.47)]
THREE += [(0.67, 0.58), (0.66, 0.76), (0.46, 0.84), (0.28, 0.76)]


@pytest.fixture
def opened(chromium):
    """A function that opens a file in a context of its own; whatever goes wrong or leaves the machine is noted."""

    @contextmanager
    def open_page(path=SITE / "index.html", viewport: dict = DESKTOP, **options):
        context = chromium.new_context(viewport=viewport, **options)
        context.set_default_timeout(90_000)
        page = context.new_page()
        page.wrong = []
        page.on(
            "request", lambda asked: asked.url.startswith(("file:", "data:", "blob:")) or page.wrong.append(asked.url)
        )
        page.on("requestfailed", lambda asked: page.wrong.append(f"failed: {asked.url}"))
        page.on("pageerror", lambda error: page.wrong.append(f"script: {error}"))
        page.goto(path.as_uri())
        yield page
        context.close()

    return open_page


def verdict(page: Page, at: int = 0):
    """Return the line that says what the network reads: of the image, or of the sum."""
    return page.locator(".play-verdict").nth(at)


def draw_a_three(page: Page) -> None:
    pad = page.locator(".play-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in THREE]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def test_a_three_is_drawn_and_read_and_the_network_fooled(opened, screenshots):
    with opened() as page:
        expect(verdict(page)).to_contain_text("Read as a 5")
        page.get_by_role("button", name="Clear").click()
        expect(verdict(page)).to_have_text("Draw a digit.")
        draw_a_three(page)
        expect(verdict(page)).to_contain_text("Read as a 3")
        page.get_by_role("button", name="Raise ε until the answer flips").click()
        expect(verdict(page, 1)).to_contain_text("Now read as")
        assert 0 < float(page.get_by_label("size ε").input_value()) < 0.5
        full = page.get_by_role("img", name=re.compile("occlusion map of the 3: the lowest"))
        expect(full).to_be_visible(timeout=300_000)
        heard = page.locator(".play [role=status]")
        expect(heard).to_have_text(re.compile(r"reads a 3, .* With a perturbation of size 0\.\d\d it reads an? [^3],"))
        page.locator("#playground").screenshot(path=screenshots / "play.png")
        assert not page.wrong


def test_a_target_is_reached(opened):
    with opened() as page:
        expect(verdict(page, 1)).to_contain_text("read as")
        page.get_by_role("button", name="take a 7").click()
        expect(verdict(page)).to_contain_text("Read as a 7")
        page.get_by_label("make it").select_option("3")
        page.get_by_label("size ε").fill("0.4")
        expect(verdict(page, 1)).to_contain_text("Now read as a 3")
        page.get_by_label("size ε").fill("0")
        expect(verdict(page, 1)).to_contain_text("Still read as a 7")


def test_a_digit_can_be_drawn_with_the_keyboard(opened):
    with opened() as page:
        expect(verdict(page)).to_contain_text("Read as")
        page.get_by_role("button", name="Clear").click()
        pad = page.get_by_role("application", name=re.compile("Drawing pad"))
        pad.focus()
        top = page.evaluate("scrollY")
        for key in ["ArrowUp", "Space", *["ArrowDown"] * 14, "Space", *["ArrowRight"] * 3]:
            page.keyboard.press(key)
        expect(verdict(page)).to_contain_text("Read as a 1")
        assert page.evaluate("scrollY") == top, "the arrow keys scrolled the page"


def test_all_can_be_reached_by_tab(opened):
    with opened() as page:
        expect(verdict(page)).to_contain_text("Read as")
        page.locator(".play-pad").focus()
        wanted = ["button", *(f"take {'an' if digit == 8 else 'a'} {digit}" for digit in range(10))]
        wanted += ["radio"] * page.get_by_role("group", name="Network").count()
        wanted += ["select-one", "size ε", "steps", "button", "radio"]
        for name in wanted:
            page.keyboard.press("Tab")
            assert page.evaluate("(at => at.getAttribute('aria-label') ?? at.type)(document.activeElement)") == name


@pytest.mark.parametrize(
    ("name", "viewport", "options"),
    [
        ("phone", PHONE, {"has_touch": True}),
        ("dark", DESKTOP, {"color_scheme": "dark"}),
        ("still", DESKTOP, {"reduced_motion": "reduce"}),
    ],
)
def test_it_works_and_is_in_nobodys_way(opened, screenshots, name, viewport, options):
    with opened(viewport=viewport, **options) as page:
        expect(verdict(page)).to_contain_text("Read as a 5")
        draw_a_three(page)
        expect(verdict(page)).to_contain_text("Read as a 3")
        page.get_by_role("button", name="Raise ε until the answer flips").click()
        expect(verdict(page, 1)).to_contain_text("Now read as")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        assert not page.wrong  # axe will ask for the style once more, in vain
        found = Axe().run(page, context="#playground").response["violations"]
        assert [
            f"{v['id']}: {n['html'][:200]}" for v in found if v["impact"] in ("serious", "critical") for n in v["nodes"]
        ] == []
        page.locator("#playground").screenshot(path=screenshots / f"play-{name}.png")


def test_a_switch_shows_another_network_where_there_is_one(opened, tmp_path):
    """Another network: the same weights, with a bias by which it reads a 7 in everything."""
    shutil.copytree(PLAYGROUND, tmp_path / "play")
    script = (tmp_path / "play" / "play.js").read_text()
    files = json.loads(re.search(r"fromEntries\((\[\[.*?\]\])", script)[1])
    names = [name for name, _ in files]
    if len(names) == 1:
        names.append("another")
        both = json.dumps([*files, [names[1], "another.js"]])
        (tmp_path / "play" / "play.js").write_text(script.replace(json.dumps(files), both))
        weights = base64.b64decode(re.search(r', "(.*)"', (PLAYGROUND / files[0][1]).read_text())[1])
        biases = struct.pack("<10e", *(1000.0 * (digit == 7) for digit in range(10)))
        changed = base64.b64encode(weights[: -len(biases)] + biases).decode()
        (tmp_path / "play" / "another.js").write_text(f'playWeights("another.js", "{changed}")')
    (tmp_path / "index.html").write_text('<!doctype html><div id="playground"></div><script src="play/play.js"></script>')
    with opened(tmp_path / "index.html") as page:
        expect(verdict(page)).to_contain_text("Read as a 5")
        page.get_by_label(names[1]).check()
        expect(verdict(page)).to_contain_text("Read as a " + ("7" if names[1] == "another" else "5"))
        page.get_by_label(names[0]).check()
        expect(verdict(page)).to_contain_text("Read as a 5")
        (tmp_path / "play" / files[0][1]).write_text(f'playWeights("{files[0][1]}", "AAAA")')
        page.reload()
        expect(verdict(page)).to_have_text(re.compile(r"cannot be read: expected 1598156 bytes of weights .* got 3"))
        (tmp_path / "play" / files[0][1]).unlink()
        page.reload()
        expect(verdict(page)).to_contain_text(f"cannot be read: {files[0][1]} is missing")


def test_how_long_it_takes_and_how_much_it_weighs(opened):
    """Printed, not judged: `pytest -s` shows it."""
    source = (ROOT / "helpers" / "playground" / "network.js").read_text()
    with opened() as page:
        expect(verdict(page)).to_contain_text("Read as")
        times = page.evaluate(
            """async (source) => {
                const { DigitCNN } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
                const network = new DigitCNN(Float32Array.from({ length: 799078 }, (_, i) => Math.sin(i) / 20));
                const image = Float64Array.from({ length: 784 }, (_, i) => (i * 7 % 11) / 11);
                const median = (run) => Array.from({ length: 60 }, () => {
                    const start = performance.now();
                    run();
                    return performance.now() - start;
                }).slice(20).sort((a, b) => a - b)[20];
                const seen = network.forward(image);
                return [median(() => network.forward(image)), median(() => network.gradient(seen, 3))];
            }""",
            source,
        )
    weight = {file.name: file.stat().st_size // 1000 for file in sorted(PLAYGROUND.iterdir())}
    print(f"\nforward {times[0]:.1f} ms, gradient {times[1]:.1f} ms; kB: {weight}")
    assert max(times) < 1000
