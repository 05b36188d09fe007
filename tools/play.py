"""Write the playground as scripts for a web page into build/play, from which `make site` takes it."""

import json
import re
import shutil
from base64 import b64encode

from helpers.play import module, networks, packed, style, ten_digits
from tools.regression.notebooks import ROOT

BUILT = ROOT / "build" / "play"
PAGE = ROOT / "site" / "play.js"


def scripts() -> dict[str, str]:
    """Return the files of a page's playground: its script, its style, and a script with the weights of each network."""
    weights = {f"weights-{number}.js": model for number, model in enumerate(networks().values(), 1)}
    classic = re.sub(r"(?m)^export (default .*\n)?", "", module())  # a page from the file system cannot load modules
    given = {
        "/* @module@ */": classic,
        '"@networks@"': json.dumps(list(zip(networks(), weights, strict=True))),
        '"@digits@"': json.dumps(text_of(ten_digits().numpy().tobytes())),
    }
    page = PAGE.read_text("utf-8")
    for mark, text in given.items():
        page = page.replace(mark, text)
    packs = {file: f'playWeights("{file}", "{text_of(packed(model))}");\n' for file, model in weights.items()}
    return {"play.js": page, "play.css": style(), **packs}


def text_of(content: bytes) -> str:
    """Return bytes as letters, base64."""
    return b64encode(content).decode()


if __name__ == "__main__":
    shutil.rmtree(BUILT, ignore_errors=True)
    BUILT.mkdir(parents=True)
    for file, text in scripts().items():
        (BUILT / file).write_text(text, encoding="utf-8")
