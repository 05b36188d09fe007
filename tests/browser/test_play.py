"""The playground on the built page, opened from the file system, where a page may fetch nothing."""

import base64
import json
import re
import shutil
import struct
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, SITE
from playwright.sync_api import Page, expect

DESKTOP, PHONE = {"width": 1300, "height": 1000}, {"width": 320, "height": 640}
expect.set_options(timeout=60_000)  # on a machine with other work to do
PLAYGROUND = SITE / "_static" / "play"
RAISE = "Raise ε until the answer flips"
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
        page.wrong, page.loaded = [], set()
        page.on("requestfinished", lambda asked: page.loaded.add(Path(unquote(urlsplit(asked.url).path))))
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


def heard(page: Page):
    """Return what a screen reader is told once all has come to rest."""
    return page.locator(".play [role=status]")


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
        page.get_by_role("button", name=RAISE).click()
        expect(verdict(page, 1)).to_contain_text("Now read as")
        assert 0 < float(page.get_by_label("size ε").input_value()) < 0.5
        full = page.get_by_role("img", name=re.compile("occlusion map of the 3: the lowest"))
        expect(full).to_be_visible(timeout=300_000)
        expect(heard(page)).to_have_text(
            re.compile(r"reads a 3, .* With a perturbation of size 0\.\d\d it reads an? [^3],")
        )
        page.locator("#playground").screenshot(path=screenshots / "play.png")
        assert not page.wrong


# What a question to the module can use, beside the playground in the same page.
BESIDE = """async ({ source, weights, digits, digit, given }) => {
    const module = new Blob([source], { type: "text/javascript" });
    const { DigitCNN, attack, occlusion } = await import(URL.createObjectURL(module));
    const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const network = DigitCNN.read(bytes(weights));
    const image = Float64Array.from(bytes(digits).slice(784 * digit, 784 * (digit + 1)), (grey) => grey / 255);
    const { label } = network.forward(image);
    const attacked = (goal) => [...attack(network, image, { label, steps: 10, ...goal })].at(-1);
    const flips = (goal, read) => goal.target === undefined ? read !== label : read === goal.target;
    const smallest = (goal) => Array.from({ length: 41 }, (_, hundredths) => hundredths / 100)
        .find((eps) => flips(goal, attacked({ ...goal, eps }).seen.label));
    // The colour of each of the values (planes, side, side) that a canvas shows.
    const colours = (name, planes, side, columns = 1) => {
        const canvas = document.querySelector(`[data-play=${name}]`), pen = canvas.getContext("2d");
        const { data, width } = pen.getImageData(0, 0, canvas.width, canvas.height);
        return Array.from({ length: planes * side * side }, (_, i) => {
            const plane = Math.floor(i / side ** 2), row = Math.floor(i / side) % side;
            const y = Math.floor(plane / columns) * (side + 1) + row, x = (plane % columns) * (side + 1) + i % side;
            return Array.from(data.subarray(4 * (y * width + x), 4 * (y * width + x) + 4));
        });
    };
    // Whether what is larger is shown in a colour with more green, as viridis has.
    const rises = (values, shown) => Array.from(values, (value, i) => [value, shown[i][1]]).sort(([a], [b]) => a - b)
        .every(([, green], i, all) => !i || all[i - 1][1] <= green);
    QUESTION
}"""


def ask(page: Page, question: str, *, network: int = 1, digit: int = 5, given: object = None):
    """Return what the module itself says of one of the ten digits; `question` is the body of a function."""
    asked = {
        "source": (ROOT / "helpers" / "playground" / "network.js").read_text(),
        "weights": re.search(r', "(.*)"', (PLAYGROUND / f"weights-{network}.js").read_text())[1],
        "digits": re.search(r'imagesOf\(bytes\("(.*?)"', (PLAYGROUND / "play.js").read_text())[1],
        "digit": digit,
        "given": given,
    }
    return page.evaluate(BESIDE.replace("QUESTION", question), asked)


@pytest.mark.parametrize("digit", [5, 3, 7, 2])
def test_raising_ends_at_the_smallest_hundredth_that_flips(opened, digit):
    """The announcement is of where it came to rest; that the robust network withstands more is said on the page."""
    found = []
    with opened() as page:
        names = (
            page.get_by_role("group", name="Network").locator("input").evaluate_all("all => all.map(one => one.value)")
        )
        for network, name in enumerate(names or [None], 1):
            if name:
                page.get_by_label(name).check()
            page.get_by_role("button", name=f"take a {digit}").click()
            page.get_by_label("size ε").fill("0")
            expect(heard(page)).to_contain_text(f"reads a {digit}, ")
            expect(heard(page)).to_contain_text("size 0.00")
            page.get_by_role("button", name=RAISE).click()
            eps = ask(page, "return smallest({});", network=network, digit=digit)
            label = ask(page, "return attacked({ eps: given }).seen.label;", network=network, digit=digit, given=eps)
            expect(heard(page)).to_contain_text(f"size {eps:.2f} it reads {'an' if label == 8 else 'a'} {label},")
            assert page.get_by_label("size ε").input_value() == f"{eps:g}"
            found.append(eps)
    print(f"\na {digit} flips at", *found)
    assert found[0] > 0
    assert found == sorted(set(found))


def test_raising_says_where_it_fails(opened):
    with opened(reduced_motion="reduce") as page:
        expect(verdict(page)).to_contain_text("Read as a 5")
        page.get_by_label("steps").fill("1")
        assert page.get_by_label("steps").get_attribute("aria-valuetext") == "1: FGSM"
        target = ask(
            page, "return [0, 1, 2, 3, 4, 6, 7, 8, 9].find((target) => smallest({ target, steps: 1 }) === undefined);"
        )
        page.get_by_label("make it").select_option(str(target))
        page.get_by_role("button", name=RAISE).click()
        expect(verdict(page, 1)).to_contain_text("No ε up to 0.40 is enough.")
        expect(heard(page)).to_contain_text("No ε up to 0.40 is enough.")
        assert page.get_by_label("size ε").input_value() == "0.4"
        page.get_by_label("make it").select_option("5")
        expect(verdict(page, 1)).not_to_contain_text("enough")
        page.get_by_role("button", name=RAISE).click()
        expect(verdict(page, 1)).to_contain_text("It is so without a perturbation.")
        expect(heard(page)).to_contain_text("It is so without a perturbation.")


def test_what_is_painted_is_what_was_computed(opened):
    with opened() as page:
        page.get_by_label("size ε").fill("0.2")
        expect(heard(page)).to_contain_text("size 0.20")
        wrong = ask(
            page,
            """const { image: sum } = attacked({ eps: 0.2 }), shown = colours("change", 1, 28);
            const greys = colours("sum", 1, 28);
            return Array.from(sum, (value, i) => [value - image[i], shown[i][0] - shown[i][2], value, greys[i]])
                .filter(([change, redder, value, grey]) => Math.abs(grey[0] - 255 * value) > 0.51
                    || (Math.abs(change) < 1e-9 ? Math.abs(redder) > 2 : Math.sign(change) !== Math.sign(redder)));""",
        )
        assert wrong == [], "red is what was added, blue what was taken away"
        maps = """const { conv1, conv2 } = network.forward(image), toOne = (maps, area) => maps.map((value, i) =>
                value / Math.max(...maps.subarray(i - i % area, i - i % area + area), 1e-9));
            return [rises(toOne(conv1, 784), colours("maps1", 32, 28, 8)),
                rises(toOne(conv2, 196), colours("maps2", 32, 14, 8))];"""
        assert ask(page, maps) == [True, True]
        cover = page.get_by_role("img", name=re.compile("occlusion map of the 5: the lowest"))
        expect(cover).to_be_visible(timeout=300_000)
        rises, opaque, row, column = ask(
            page,
            """const all = colours("cover", 1, 28), shares = [...occlusion(network, image, label)];
            const shown = all.filter((_, i) => i % 28 > 2 && i % 28 < 25 && i >= 3 * 28 && i < 25 * 28);
            const least = shares.indexOf(Math.min(...shares));
            return [rises(shares, shown), all.filter((colour) => colour[3]).length,
                Math.floor(least / 22) + 4, least % 22 + 4];""",
        )
        assert rises
        assert opaque == 22**2, "each value stands at its patch's middle, and the patch never hangs over the edge"
        assert f"row {row}, column {column} of 28" in cover.get_attribute("aria-label")


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


def test_only_what_means_to_draw_draws(opened):
    with opened() as page:
        expect(verdict(page)).to_contain_text("Read as a 5")
        pad = page.locator(".play-pad")
        pad.click(button="right")
        pad.focus()
        for modifier in ("Alt", "Control", "Meta"):
            page.keyboard.press(f"{modifier}+ArrowUp")
            page.keyboard.press(f"{modifier}+Space")
        expect(heard(page)).to_contain_text("reads a 5")
        expect(verdict(page)).to_contain_text("Read as a 5")
        page.get_by_role("button", name="Clear").click()
        expect(heard(page)).to_have_text("The pad is empty.")
        expect(verdict(page, 1)).to_be_empty()
        expect(page.get_by_role("button", name=RAISE)).to_be_disabled()
        assert ask(page, 'return colours("change", 1, 28).filter(([red, , blue]) => red - blue > 2).length;') == 0


def test_the_network_is_asked_once_a_frame(opened):
    with opened() as page:
        expect(verdict(page)).to_contain_text("Read as a 5")
        page.get_by_role("button", name="Clear").click()
        page.locator(".play-pad").hover()
        page.mouse.down()
        asked = page.evaluate(
            """async () => {
                const frame = () => new Promise(requestAnimationFrame), pad = document.querySelector(".play-pad");
                const { left, top } = pad.getBoundingClientRect();
                const put = CanvasRenderingContext2D.prototype.putImageData;
                let asked = 0;
                await frame();
                await frame();
                CanvasRenderingContext2D.prototype.putImageData = function (...given) {
                    asked += this.canvas.dataset.play === "given";
                    put.apply(this, given);
                };
                for (let step = 0; step < 30; step++)
                    pad.dispatchEvent(new PointerEvent("pointermove",
                        { isPrimary: true, clientX: left + 100 + step, clientY: top + 50 + 4 * step }));
                await frame();
                await frame();
                return asked;
            }"""
        )
        page.mouse.up()
        assert asked == 1
        expect(verdict(page)).to_contain_text("Read as")


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
        page.get_by_role("button", name=RAISE).click()
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
    (tmp_path / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><div id="playground"></div><script src="play/play.js"></script>'
    )
    with opened(tmp_path / "index.html") as page:
        expect(verdict(page)).to_contain_text("Read as a 5")
        page.get_by_label(names[1]).check()
        expect(verdict(page)).to_contain_text("Read as a " + ("7" if names[1] == "another" else "5"))
        page.get_by_label(names[0]).check()
        expect(verdict(page)).to_contain_text("Read as a 5")
        second = "another.js" if names[1] == "another" else files[1][1]
        (tmp_path / "play" / second).rename(tmp_path / "elsewhere.js")
        page.reload()
        expect(verdict(page)).to_contain_text("Read as a 5")
        page.get_by_label(names[1]).check()
        for said in (verdict(page), heard(page)):
            expect(said).to_have_text(f"The network cannot be read: {second} is missing")
        expect(verdict(page, 1)).to_be_empty()
        assert page.locator(".play-answer td").all_inner_texts() == [""] * 40
        expect(page.get_by_role("button", name=RAISE)).to_be_disabled()
        (tmp_path / "elsewhere.js").rename(tmp_path / "play" / second)
        page.get_by_label(names[0]).check()
        expect(verdict(page)).to_contain_text("Read as a 5")
        page.get_by_label(names[1]).check()
        expect(verdict(page)).to_contain_text("Read as a " + ("7" if names[1] == "another" else "5"))
        (tmp_path / "play" / files[0][1]).write_text(f'playWeights("{files[0][1]}", "AAAA")')
        page.reload()
        expect(verdict(page)).to_have_text(re.compile(r"cannot be read: expected 1598156 bytes of weights .* got 3"))
        (tmp_path / "play" / files[0][1]).unlink()
        page.reload()
        expect(verdict(page)).to_contain_text(f"cannot be read: {files[0][1]} is missing")


def test_how_long_it_takes_and_how_much_it_weighs(opened):
    """Printed, not judged: `pytest -s` shows it."""
    median = """const median = (run) => Array.from({ length: 60 }, () => {
            const start = performance.now();
            run();
            return performance.now() - start;
        }).slice(20).sort((a, b) => a - b)[20];
        const seen = network.forward(image);
        return [median(() => network.forward(image)), median(() => network.gradient(seen, 3))];"""
    with opened() as page:
        expect(verdict(page)).to_contain_text("Read as")
        loaded = {path: path.stat().st_size / 1000 for path in page.loaded if path.is_file()}
        times = ask(page, median)
        page.evaluate(
            """() => {
                window.frames_at = [];
                const note = (now) => { frames_at.push(now); requestAnimationFrame(note); };
                requestAnimationFrame(note);
            }"""
        )
        draw_a_three(page)
        gaps = page.evaluate("frames_at.slice(1).map((now, i) => now - frames_at[i]).sort((a, b) => a - b)")
    playing = sum(size for path, size in loaded.items() if PLAYGROUND in path.parents)
    print(f"\nforward {times[0]:.1f} ms, gradient {times[1]:.1f} ms")
    print(f"while drawing a frame takes {gaps[len(gaps) // 2]:.0f} ms, the longest of {len(gaps)} {gaps[-1]:.0f} ms")
    print(f"the index loads {sum(loaded.values()):.0f} kB, {playing:.0f} kB of them to play with")
    assert max(times) < 1000
