"""The built web page, opened in Chromium; one page a notebook, and the index."""

import json
import re
import tomllib
from collections import Counter
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, SITE

NOTEBOOKS = sorted(ROOT.glob("notebooks/[0-9]*/*.ipynb"))
PAGES = ["index.html", *(str(path.relative_to(ROOT).with_suffix(".html")) for path in NOTEBOOKS)]
FOUNDATIONS, OCCLUSION = (
    "notebooks/1_foundations/2_convolution_and_pooling.html",
    "notebooks/3_visualising/4_occlusion.html",
)
DESKTOP, PHONE = {"width": 1300, "height": 1000}, {"width": 390, "height": 844}
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
    for page, following in zip(PAGES, [*PAGES[1:], None], strict=True):
        assert button(page, "right-next") == following
        if following:
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
