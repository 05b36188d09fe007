"""Headless Chromium, the built page on a local port, and a folder for screenshots."""

import functools
import shutil
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def playwright():
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Browser:
    own = playwright.chromium.executable_path
    path = own if Path(own).exists() else next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.fail(
            "there is no Chromium; install it with `apt-get install chromium`, or with "
            "`build/site-env/bin/playwright install --with-deps chromium`"
        )
    browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    folder = ROOT / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Quiet(SimpleHTTPRequestHandler):
    """A file server that does not write down every request."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def address() -> str:
    """Where the built page is served, such as http://127.0.0.1:43210."""
    if not (SITE / "index.html").exists():
        pytest.fail("there is no page in build/site; run `make site`")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
