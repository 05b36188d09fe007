"""What README, CONTRIBUTING and data/README point to is there: files, headings, commands."""

import re

import pytest

from tools.publish import PLACEHOLDER
from tools.regression.notebooks import ROOT, find_notebooks

TEXTS = {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md", "data/README.md")}
TARGETS = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text("utf-8")))


@pytest.fixture(params=TEXTS)
def text(request):
    return TEXTS[request.param]


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files_and_headings(name):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", TEXTS[name]):
        path = (ROOT / name).parent / target
        assert path.exists(), f"{name} links to {target}"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)", path.read_text("utf-8"))
            assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings]


def test_the_table_lists_every_notebook_in_the_order_of_the_course():
    linked = re.findall(r"(?m)^\| \[`\w+`\]\((notebooks/.+?)\) \|", TEXTS["README.md"])
    assert linked == [path.relative_to(ROOT).as_posix() for path in find_notebooks()]


def test_no_link_leads_to_the_placeholder_of_an_address(text):
    outside_code = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    assert PLACEHOLDER not in outside_code


def test_commands_are_there(text):
    for line in re.findall(r"(?:`|^|\n)make ([^`\n#]+)", text):
        named = [word for word in re.sub(r'\w+=(".*?"|\S+)', "", line).split() if word.isalpha()]
        assert set(named) <= TARGETS, f"make {line}"
    for module in re.findall(r"python -m (tools\.\w+)", text):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module


def test_paths_of_the_repository_are_there(text):
    for path in re.findall(r"`((?:helpers|tools|tests|site|data|notebooks|requirements|\.github)/[^`\s]*)`", text):
        assert list(ROOT.glob(re.sub(r"<\w+>", "*", path))), path
