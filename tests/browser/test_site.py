"""The built web page, opened in Chromium; one page a notebook, and the index."""

import json
import re
import tomllib
from collections import Counter
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, SITE

NOTEBOOKS = sorted(ROOT.glob("notebooks/[0-9]*/*.ipynb"))
PAGES = ["index.html", *(str(path.relative_to(ROOT).with_suffix(".html")) for path in NOTEBOOKS)]
FOUNDATIONS, FORMULAS, OCCLUSION = (
    "notebooks/1_foundations/2_convolution_and_pooling.html",
    "notebooks/1_foundations/3_fgsm_and_pgd.html",
    "notebooks/3_visualising/4_occlusion.html",
)
DESKTOP, PHONE = {"width": 1300, "height": 1000}, {"width": 360, "height": 740}
REPOSITORY = (
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    .get("urls", {})
    .get("repository", "https://github.com/OWNER/REPOSITORY")
)


@pytest.fixture
def opened(chromium, address):
    """A function that opens a page and waits for its mathematics; the page notes what went wrong meanwhile."""

    @contextmanager
    def open_page(path: str, viewport: dict = DESKTOP, scheme: str = "light"):
        context = chromium.new_context(viewport=viewport, color_scheme=scheme)
        page = context.new_page()
        page.wrong = []
        context.route("**/*", lambda route: let_local_through(route, page.wrong))
        page.on("response", lambda answer: answer.ok or page.wrong.append(f"{answer.status} for {answer.url}"))
        page.on("pageerror", lambda error: page.wrong.append(f"script: {error}"))
        page.on("console", lambda said: said.type == "error" and page.wrong.append(f"console: {said.text}"))

        def let_local_through(route, wrong):
            if route.request.url.startswith((address, "data:", "blob:")):
                route.continue_()
            else:
                wrong.append(f"a request left the machine: {route.request.url}")
                route.abort()

        page.goto(f"{address}/{path}")
        if page.locator(".math").count():
            page.evaluate(
                "async () => { while (!window.MathJax?.startup?.promise) "
                "await new Promise(later => setTimeout(later, 20)); await MathJax.startup.promise }"
            )
        yield page
        context.close()

    return open_page


@pytest.mark.parametrize("path", PAGES)
def test_a_page_on_a_phone(opened, path):
    with opened(path, PHONE) as page:
        page.evaluate("document.querySelectorAll('details').forEach(hint => hint.open = true)")
        page.evaluate("document.querySelectorAll('img').forEach(picture => picture.loading = 'eager')")
        page.wait_for_load_state("networkidle")
        assert not page.wrong
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "wider than a phone"
        text = page.locator("article").inner_text()
        prose = page.evaluate(
            "() => { const copy = document.querySelector('article').cloneNode(true);"
            "copy.querySelectorAll('pre, code, mjx-container').forEach(part => part.remove());"
            "return copy.textContent }"
        )
        assert not re.search(r"\$|\\\(|\\\[|\\begin", prose), "mathematics that was not rendered"
        assert len(text) > 1000
        assert page.locator(".math").count() == page.locator(".math > mjx-container").count()
        assert page.locator("mjx-merror").count() == 0
        for picture in page.locator("article img").all():
            assert len(picture.get_attribute("alt")) > 20, picture.get_attribute("src")
            assert picture.evaluate("picture => picture.naturalWidth") > 0, picture.get_attribute("src")


def test_every_stored_figure_is_there_with_its_text():
    for path, page in zip(NOTEBOOKS, PAGES[1:], strict=True):
        cells = json.loads(path.read_text())["cells"]
        stored = [
            o["metadata"]["image/png"]["alt"]
            for c in cells
            for o in c.get("outputs", [])
            if "image/png" in o.get("data", {})
        ]
        shown = [dict(attributes)["alt"] for tag, attributes in tags(SITE / page) if tag == "img"]
        assert Counter(stored) <= Counter(shown), page


def test_next_leads_through_the_course_and_previous_back():
    """The buttons below each page; the notebooks have links of their own."""
    for page, following in pairwise([*PAGES, "docs/teaching.html", "docs/glossary.html"]):
        assert button(page, "right-next") == following
        assert button(following, "left-prev") == page


def button(page: str, name: str) -> str | None:
    """Return the page that a button below a page leads to."""
    links = [dict(attributes) for tag, attributes in tags(SITE / page) if tag == "a"]
    targets = [link["href"] for link in links if name in (link.get("class") or "").split()]
    return urlsplit(urljoin(f"/{page}", targets[0])).path[1:] if targets else None


def test_next_can_be_clicked(opened):
    with opened("index.html") as page:
        page.locator("a.right-next").click()
        page.wait_for_url(f"**/{PAGES[1]}")


def test_the_notebooks_own_links_lead_to_pages(opened):
    with opened(PAGES[1]) as page:
        page.locator("article a", has_text="contents").last.click()
        assert urlsplit(page.url).path in ("/", "/index.html")


def test_a_notebook_opens_in_colab(opened):
    with opened(PAGES[1]) as page:
        link = page.locator("a[href*='colab.research.google.com']").first.get_attribute("href")
        assert link == "https://colab.research.google.com/github/" + "/".join(
            [*REPOSITORY.split("/")[-2:], "blob/main", str(NOTEBOOKS[0].relative_to(ROOT))]
        )


def test_search_finds(opened):
    with opened("index.html") as page:
        page.locator(".search-button__button:visible, .search-button-field:visible").first.click()
        page.locator("input[name=q]:visible").fill("max-pooling")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="1.2 Convolution and pooling").first.wait_for()
        assert not page.wrong


def test_a_hint_is_folded_until_asked_for(opened):
    with opened(FOUNDATIONS) as page:
        hint = page.locator("details", has=page.locator("summary", has_text="On paper")).first
        assert not hint.locator("table").is_visible()
        hint.locator("summary").click()
        assert hint.locator("table").is_visible()
        assert hint.locator("mjx-container").first.is_visible()


def test_a_page_says_what_it_is_to_those_who_link_to_it():
    """Its icon, what a search engine prints below its name, the picture of a message that quotes its address."""
    described = Counter()
    for name in PAGES:
        found = [(tag, dict(attributes)) for tag, attributes in tags(SITE / name)]
        meta = {a.get("name", a.get("property")): a.get("content") for tag, a in found if tag == "meta"}
        described[meta["description"]] += 1
        assert meta["og:description"] == meta["description"]
        assert meta["og:title"] in (SITE / name).read_text()
        assert meta["og:image"].startswith("https://")
        assert (SITE / meta["og:image"].split("/", 4)[4]).is_file()
        icons = [a["href"] for tag, a in found if tag == "link" and a["rel"] == "icon"]
        assert [(SITE / name).parent.joinpath(icon).resolve().is_file() for icon in icons] == [True]
    assert set(described.values()) == {1}, "two pages say the same of themselves"
    assert min(map(len, described)) > 20


def test_the_footer_names_the_licences_and_nobody_else():
    for path in SITE.rglob("*.html"):
        text = path.read_text()
        assert "Author name not set" not in text
        assert "Copyright" not in text
    assert "MNIST: Y. LeCun and C. Cortes, CC BY-SA 3.0" in (SITE / PAGES[1]).read_text()


def test_the_index_begins_with_play_and_what_is_wrong(opened):
    with opened("index.html") as page:
        headings = page.locator("article h2").evaluate_all("all => all.map(title => title.firstChild.data)")
        assert headings == ["Play", "Where the source answers are wrong", "The course", "The path"]
        page.locator("section#play > #playground [data-play=status]", has_text="Read as a 5").wait_for(timeout=300_000)
        assert page.locator(".play-pad").bounding_box()["y"] < DESKTOP["height"] / 2
        assert page.locator("section#play > p a[href='docs/glossary.html']").count() == 1
        wrong = page.locator("section#where-the-source-answers-are-wrong table").first
        assert wrong.locator("tbody tr").count() == 3
        assert wrong.bounding_box()["y"] < 2.2 * DESKTOP["height"]
        for name in ("docs/teaching.html", "docs/glossary.html", PAGES[1]):
            assert page.locator(f"section#the-course a[href='{name}']").count() == 1


def test_each_part_has_a_picture_its_hours_and_a_level(opened):
    parts = sorted({path.parent.name[0] for path in NOTEBOOKS})
    teaching = (ROOT / "docs/teaching.md").read_text()
    with opened("index.html") as page:
        sections = page.locator("section#the-path > section")
        assert sections.count() == len(parts)
        for part, section in zip(parts, sections.all(), strict=True):
            minutes = [int(core) for core in re.findall(rf"(?m)^\| \[{part}\..*\| (\d+)[ +\d]* \| \d+ \|$", teaching)]
            text = section.locator("> p").nth(1).inner_text()
            many = f"{len(minutes)} notebooks, about {sum(minutes) / 60:.0f} hours"
            assert text.startswith(f"{sum(minutes)} minutes, " if part == "0" else many), text
            assert re.search(r"Level: \w+", text)
            assert section.locator("img").count() == 1
            assert section.locator("tbody tr").count() == len(minutes)


def test_each_notebook_leads_to_its_exercises():
    for path, page in zip(NOTEBOOKS, PAGES[1:], strict=True):
        mine = path.relative_to(ROOT / "notebooks").as_posix()
        for name in (page, "index.html"):
            links = [dict(attributes).get("href") for tag, attributes in tags(SITE / name) if tag == "a"]
            assert (f"{REPOSITORY}/blob/main/exercises/{mine}" in links) == (ROOT / "exercises" / mine).is_file()


def test_what_is_folded_in_a_notebook_is_folded_here():
    for path, page in zip(NOTEBOOKS, PAGES[1:], strict=True):
        cells = json.loads(path.read_text())["cells"]
        folded = sum(cell["metadata"].get("jupyter", {}).get("source_hidden", False) for cell in cells)
        found = [dict(attributes) for tag, attributes in tags(SITE / page) if tag == "details"]
        assert sum("hide" in hint.get("class", "").split() for hint in found) == folded


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_a_formula_is_a_stop_for_the_tabulator_only_where_it_scrolls(opened, viewport):
    with opened(FORMULAS, viewport) as page:
        page.wait_for_load_state("networkidle")
        formulas = page.evaluate(
            "() => [...document.querySelectorAll('mjx-container')].filter(formula => formula.checkVisibility())"
            ".map(formula => [formula.scrollWidth > formula.clientWidth + 2, formula.tabIndex === 0])"
        )
        assert len(formulas) > 100
        assert [stop for scrolls, stop in formulas] == [scrolls for scrolls, stop in formulas]
        assert sum(stop for scrolls, stop in formulas) < 15


def test_a_full_stop_stays_on_the_line_of_its_formula(opened):
    """And so does a bracket before one."""
    with opened(FORMULAS, PHONE) as page:
        lines = page.evaluate(
            """() => [...document.querySelectorAll('article p span.math, article li span.math')].flatMap(formula => {
              const tops = [];
              const walker = document.createTreeWalker(formula.closest('p, li'), NodeFilter.SHOW_TEXT);
              while (walker.nextNode()) {
                const text = walker.currentNode, range = document.createRange();
                const after = formula.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING;
                if (!after || formula.contains(text)) continue;
                if (!/^[.,;:!?)]/.test(text.data)) break;
                range.setStart(text, 0), range.setEnd(text, 1);
                const mark = range.getBoundingClientRect(), box = formula.getBoundingClientRect();
                if (mark.height) tops.push([formula.textContent, mark.bottom > box.top && mark.top < box.bottom]);
                break;
              }
              return tops;
            })"""
        )
        assert len(lines) > 20
        assert [formula for formula, together in lines if not together] == []


def test_the_switch_hides_the_code_of_every_page(opened):
    with opened(FOUNDATIONS) as page:
        switch = page.get_by_role("button", name="Hide all code")
        assert switch.get_attribute("aria-pressed") == "false"
        switch.focus()
        page.keyboard.press("Enter")
        assert page.locator(".cell_input:visible").count() == 0
        assert page.locator("details.hide:visible").count() == 0
        assert page.locator(".cell_output:visible").count() > 5
        page.locator("a.right-next").click()
        page.wait_for_url(f"**/{FORMULAS}")
        assert switch.get_attribute("aria-pressed") == "true"
        assert page.locator(".cell_input:visible").count() == 0
        switch.click()
        assert page.locator(".cell_input:visible").count() > 5
        page.goto(page.url.replace(FORMULAS, "index.html"))
        assert not switch.is_visible(), "there is no code to hide"


def test_search_puts_the_page_with_the_words_in_its_title_first(opened):
    with opened("search.html?q=batch+norm") as page:
        page.locator("#search-results li a").nth(5).wait_for()
        assert page.locator("#search-results li a").first.inner_text() == "2.6 Batch norm"


@pytest.mark.parametrize("path", ["index.html", FORMULAS])
def test_on_paper_nothing_is_cut_and_no_page_half_empty(opened, screenshots, path):
    """Paper is A4 with margins of 1 cm, in pixels of 1/96 inch; dark mode must not darken it."""
    width, height = 718, 1047
    with opened(path, {"width": width, "height": height}, "dark") as page:
        page.evaluate("document.querySelectorAll('img').forEach(picture => picture.loading = 'eager')")
        page.wait_for_load_state("networkidle")
        page.emulate_media(media="print", color_scheme="dark")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not(.hide):not([open])").count() == 0, "nobody can unfold paper"
        assert page.evaluate("getComputedStyle(document.querySelector('article p')).color") != "rgb(206, 214, 221)"
        cut = page.evaluate(
            "() => [...document.querySelectorAll('article :is(pre, mjx-container, img, table)')]"
            ".filter(part => part.checkVisibility() && (part.scrollWidth > part.clientWidth + 1"
            "  || part.getBoundingClientRect().right > innerWidth + 1)).map(part => part.textContent.slice(0, 60))"
        )
        assert cut == []
        tall = page.evaluate("document.querySelector('.bd-article-container').scrollHeight")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        pdf = page.pdf(path=screenshots / f"site-{Path(path).stem}.pdf", format="A4")
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 1.2 * tall / height + 1


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
@pytest.mark.parametrize("path", ["index.html", FOUNDATIONS, OCCLUSION])
def test_nothing_serious_is_in_anybodys_way(opened, path, viewport, scheme):
    with opened(path, viewport, scheme) as page:
        found = Axe().run(page).response["violations"]
        assert [
            f"{v['id']}: {n['html'][:200]}" for v in found if v["impact"] in ("serious", "critical") for n in v["nodes"]
        ] == []


@pytest.mark.parametrize(
    ("name", "viewport", "scheme"),
    [("desktop", DESKTOP, "light"), ("dark", DESKTOP, "dark"), ("phone", PHONE, "light")],
)
@pytest.mark.parametrize("path", ["index.html", FOUNDATIONS, OCCLUSION])
def test_pictures_of_the_pages(opened, screenshots, path, name, viewport, scheme):
    with opened(path, viewport, scheme) as page:
        page.screenshot(path=screenshots / f"site-{Path(path).stem}-{name}.png")
        page.locator("article img").first.scroll_into_view_if_needed()
        page.screenshot(path=screenshots / f"site-{Path(path).stem}-{name}-figure.png")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in re.findall(r"\d+", background)[:3]) / 3
        assert brightness < 60 if scheme == "dark" else brightness > 200


class Tags(HTMLParser):
    """Collects every opening tag of a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, attributes))


def tags(path: Path) -> list[tuple[str, list]]:
    parser = Tags()
    parser.feed(path.read_text())
    return parser.found


def test_no_link_is_broken():
    pages = {path: tags(path) for path in SITE.rglob("*.html") if "_static" not in path.parts}
    names = {
        path: {value for _, attributes in found for key, value in attributes if key == "id"}
        for path, found in pages.items()
    }
    for path, found in pages.items():
        for _, attributes in found:
            for key, value in attributes:
                if key not in ("href", "src") or not value or re.match(r"(https?|mailto|data|javascript):", value):
                    continue
                target = urlsplit(urljoin(path.as_uri(), value))
                file = Path(unquote(target.path))
                assert file.is_file(), f"{path.relative_to(SITE)} leads to {value}"
                if target.fragment and file in names and not target.fragment.startswith(":~:"):
                    assert unquote(target.fragment) in names[file], f"{path.relative_to(SITE)} leads to {value}"


def test_links_to_elsewhere_are_these():
    for path in SITE.rglob("*.html"):
        for tag, attributes in tags(path):
            for key, value in attributes:
                if key == "src" or (key == "href" and tag == "link"):
                    assert not re.match(r"(https?:)?//", value or ""), f"{path.name} fetches {value}"


def test_every_wrong_source_answer_has_its_row_on_the_index():
    wrong = Counter()
    for path in NOTEBOOKS:
        prose = "\n".join(
            "".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "markdown"
        )
        wrong[path.stem] = len(re.findall(r"^#+ What the .+ got wrong", prose, re.MULTILINE))
    rows = re.findall(r'href="notebooks/\w+/(\w+)\.html#', (SITE / "index.html").read_text())
    assert Counter(rows) == +wrong
