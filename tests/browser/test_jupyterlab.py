"""JupyterLab on a copy of the repository, driven in Chromium as a student does: one notebook of each folder."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from conftest import ROOT
from playwright.sync_api import Page, expect
from test_play import draw_a_three, verdict

SLIDERS, TRAINING = "1_foundations/3_fgsm_and_pgd", "2_mnist_cnn/1_train_and_test"
PLAY = "0_play/1_draw_and_fool"
NOTEBOOKS = [PLAY, SLIDERS, TRAINING, "3_visualising/1_conv1_filters", "4_adversarial/4_cost_curves"]
# Fewer images than the notebook's own, but enough for a bar that is seen to move.
FEWER = {TRAINING: {"training_images": 30_000, "subset_sizes": [128, 512], "subset_views": 2048}}
PATIENCE = 400  # seconds for a notebook, on a machine with other work to do
IDLE = "Python 3 (ipykernel) | Idle"
# JupyterLab draws a traceback as it draws what is written to stderr; no cell of the course may do either.
ERRORS = "[data-mime-type='application/vnd.jupyter.stderr'], [data-mime-type='application/vnd.jupyter.error']"
BAR = re.compile(r"training:\s+(\d+)%\|")
SETTINGS = {
    # Every cell stays in the document, so that the whole notebook can be looked at.
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A copy of the course without stored outputs, so that every output seen is a new one."""
    copy = tmp_path_factory.mktemp("jupyterlab") / "course"
    for part in ("notebooks", "helpers", "data"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for path in copy.glob("notebooks/*/*.ipynb"):
        notebook = json.loads(path.read_text())
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
            if "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = with_values("".join(cell["source"]), FEWER.get(name(path), {}))
        path.write_text(json.dumps(notebook))
    return copy


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def with_values(source: str, values: dict[str, object]) -> str:
    """Return the source of a parameters cell with other values."""
    for parameter, value in values.items():
        source, found = re.subn(rf"^{parameter} = .*$", f"{parameter} = {value}", source, flags=re.MULTILINE)
        assert found == 1, f"no parameter {parameter}"
    return source


@pytest.fixture(scope="module")
def lab(course) -> str:
    """The address of a running JupyterLab, with a `{}` for what is to be opened."""
    beside = course.parent
    for setting, value in SETTINGS.items():
        plugin, _, file = setting.partition("/")
        path = beside / "settings" / "@jupyterlab" / plugin / f"{file}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(value))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    places = {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    environment = os.environ | {variable: str(beside / place) for variable, place in places.items()}
    said = beside / "jupyterlab.log"
    with said.open("w") as log:
        server = subprocess.Popen(
            [
                *(ROOT / ".venv/bin/python", "-m", "jupyterlab", "--no-browser", "--allow-root"),
                *(f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={course}"),
            ],
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}/api/status?token={token}", server, said)
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}&reset"
    finally:
        server.terminate()
        server.wait(60)


def wait_until_it_answers(address: str, server: subprocess.Popen, said: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return urlopen(address, timeout=5).close()
        except (URLError, TimeoutError):
            time.sleep(0.3)
    pytest.fail(f"JupyterLab does not answer:\n{said.read_text()}")


@pytest.fixture
def page(chromium) -> Page:
    context = chromium.new_context(viewport={"width": 1300, "height": 1000})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("title", NOTEBOOKS)
def test_all_cells_run_from_the_menu(lab, course, page, screenshots, title):
    path = course / "notebooks" / f"{title}.ipynb"
    page.goto(lab.format(path.relative_to(course)))
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text(IDLE).wait_for()
    assert not any(cell["outputs"] for cell in code_cells(path))

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Restart Kernel and Run All Cells…").click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    seen = watch_until_done(page, screenshots / f"jupyterlab-{path.parent.name}-bar.png")

    for number, picture in enumerate(page.locator(".jp-OutputArea-output img").all(), 1):
        assert picture.evaluate("picture => picture.complete && picture.naturalWidth > 0"), f"figure {number}"
    page.locator(".jp-OutputArea-output img").first.scroll_into_view_if_needed()
    page.screenshot(path=screenshots / f"jupyterlab-{path.parent.name}.png")
    if title == SLIDERS:
        move_a_slider(page)
        page.screenshot(path=screenshots / "jupyterlab-slider.png")
    page.keyboard.press("Control+s")
    saved = wait_for_saved(path)
    outputs = [output for cell in saved for output in cell["outputs"]]
    assert [cell["execution_count"] for cell in saved] == list(range(1, len(saved) + 1))
    assert not [output["ename"] for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= stored_figures(title)
    assert not BAR.search(json.dumps(outputs)), "a progress bar was left behind"
    if title == TRAINING:
        assert len(seen) >= 3, f"the progress bar did not move: {seen}"
        assert seen[0] < 50 < seen[-1]
    if title == PLAY:
        draw_and_fool(page)
        page.locator(".play").screenshot(path=screenshots / "jupyterlab-play.png")


def watch_until_done(page: Page, picture: Path) -> list[int]:
    """Wait until every cell has its number; return the per cents that the first progress bar showed meanwhile."""
    seen, ended, deadline = [], False, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        texts = page.locator(".jp-OutputArea-output pre").all_inner_texts()
        bars = [int(percent) for text in texts for percent in BAR.findall(text)]
        if bars and not ended and bars[-1] not in seen:
            if seen and bars[-1] < seen[-1]:
                ended = True  # the bar of the next training
            else:
                seen.append(bars[-1])
                if len(seen) == 3:
                    # The cell, for the bar itself is another element at every step.
                    cell = page.locator(".jp-CodeCell").filter(has_text=BAR).first
                    cell.evaluate("cell => cell.scrollIntoView()")
                    page.screenshot(path=picture)
        failed = page.locator(ERRORS)
        if failed.count():
            pytest.fail(f"a cell failed or warned:\n{failed.first.inner_text()}")
        prompts = page.locator(".jp-CodeCell .jp-InputArea-prompt").all_inner_texts()  # a folded cell has none
        if prompts and all(re.fullmatch(r"\[\d+\]:", text) for text in prompts) and page.get_by_text(IDLE).count():
            return seen
        time.sleep(0.1)
    return pytest.fail(f"no end within {PATIENCE} s; the prompts are {prompts}")


def move_a_slider(page: Page) -> None:
    """Move the first slider and wait for the figure under it to change."""
    slider = page.locator(".widget-slider .noUi-handle, .widget-slider [role=slider]").first
    figure = page.locator(".jp-OutputArea-output .widget-interact img, .widget-output img").first
    before = figure.get_attribute("src")
    slider.scroll_into_view_if_needed()
    slider.focus()
    for _ in range(3):
        slider.press("ArrowRight")
    deadline = time.monotonic() + 60
    while figure.get_attribute("src") == before:
        assert time.monotonic() < deadline, "the slider moved and the figure did not"
        time.sleep(0.1)
    page.get_by_text(IDLE).wait_for()
    assert figure.evaluate("picture => picture.naturalWidth") > 0


def draw_and_fool(page: Page) -> None:
    """Draw a 3 in the playground, fool the network, and let the next cell say what came back to Python."""
    expect(verdict(page)).to_contain_text("Read as a 5")
    page.locator(".play").get_by_role("button", name="Clear").click()
    draw_a_three(page)
    expect(verdict(page)).to_contain_text("Read as a 3")
    page.get_by_role("button", name="Raise ε until the answer flips").click()
    expect(verdict(page, 1)).to_contain_text("Now read as")
    page.locator(".play-pad").focus()
    page.keyboard.press("ArrowDown")  # which moves the pen, and no cell
    expect(page.locator(".play-pad")).to_be_focused()
    cell = page.locator(".jp-CodeCell").filter(has_text="image = playground.image")
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("read as 3")
    page.get_by_text(IDLE).wait_for()


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def wait_for_saved(path: Path) -> list[dict]:
    deadline = time.monotonic() + 60
    while any(cell["execution_count"] is None for cell in code_cells(path)):
        assert time.monotonic() < deadline, "the notebook was not saved"
        time.sleep(0.2)
    return code_cells(path)


def stored_figures(title: str) -> int:
    """Return how many figures the published notebook has."""
    cells = code_cells(ROOT / "notebooks" / f"{title}.ipynb")
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])
