"""The playground: a pad to draw a digit on, and what the network makes of it; in a notebook and on the web page.

What is computed and shown there is written in `playground/`: `network.js` holds the network, `paint.js` colours its
pixels, `pad.js` is drawn on, and `view.js` puts them together.
"""

import re
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from helpers.checks import number
from helpers.cnn import DigitCNN, checkpoint, load_cnn
from helpers.data import load_mnist
from helpers.reader import somebody_reads

SOURCES = Path(__file__).with_name("playground")
PARTS = ["network.js", "paint.js", "pad.js", "view.js"]  # each imports only from those before it
CLASSES, SIDE = 10, 28


class Playground:
    """A drawing pad with the trained network behind it, shown where there is a reader; elsewhere one of ten digits.

    `image` is what lies on the pad, at any time.

    Args:
        digit: the test digit that lies on the pad at first, 0 to 9.

    Raises:
        ImportError: there is a reader but no anywidget.
        TypeError: `digit` is no number.
        ValueError: `digit` is not in 0..9.
    """

    def __init__(self, digit: int = 5):
        digit = number("digit", digit, whole=True, most=CLASSES - 1)
        self._pixels = ten_digits()[digit].flatten().tolist()
        self._widget = None
        if somebody_reads():
            from IPython.display import display

            self._widget = _widget(self._pixels)
            display(self._widget)

    @property
    def image(self) -> Tensor:
        """What lies on the pad, (1, 1, 28, 28) in [0, 1], of torch's default dtype, as `load_mnist` returns images."""
        pixels = self._widget.pixels if self._widget else self._pixels
        return torch.tensor(pixels, dtype=torch.get_default_dtype()).div_(255).view(1, 1, SIDE, SIDE)


def _widget(pixels: list[int]):
    """Return the widget with these 784 pixels in 0..255 on its pad."""
    try:
        import anywidget
    except ImportError:
        raise ImportError("the playground needs anywidget: `pip install anywidget`, then restart the kernel") from None
    from traitlets import Bytes, Dict, Int, List

    class Widget(anywidget.AnyWidget):
        _esm = module()
        _css = style()
        networks = Dict().tag(sync=True)  # name -> weights
        digits = Bytes().tag(sync=True)
        pixels = List(Int()).tag(sync=True)

    weights = {name: packed(model) for name, model in networks().items()}
    return Widget(networks=weights, digits=ten_digits().numpy().tobytes(), pixels=pixels)


def module() -> str:
    """Return the whole playground as one ES module."""
    parts = [(SOURCES / name).read_text("utf-8") for name in PARTS]
    return re.sub(r"(?m)^import .*\n", "", "\n".join(parts))


def style() -> str:
    """Return the playground's style sheet."""
    return (SOURCES / "view.css").read_text("utf-8")


def networks() -> dict[str, DigitCNN]:
    """Return the networks to play with by their names: the course's, and the robust one where there is one."""
    found = {"trained as usual": load_cnn()}
    if checkpoint("cnn_robust").is_file():
        found["trained on attacked digits"] = load_cnn(robust=True)
    return found


def packed(model: DigitCNN) -> bytes:
    """Return the weights in float16, batch norm folded into the convolutions, laid out as in `network.js`.

    Args:
        model: a DigitCNN, with or without batch norm; used as it is in eval mode.
    """
    folded = (_folded(model.conv1, model.bn1), _folded(model.conv2, model.bn2))
    parts = [*folded[0], *folded[1], model.fc1.weight, model.fc1.bias, model.fc2.weight, model.fc2.bias]
    values = torch.cat([part.detach().flatten() for part in parts])  # (799078,)
    return values.half().cpu().numpy().astype("<f2").tobytes()


def _folded(conv: torch.nn.Conv2d, norm: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the one convolution that does what a convolution and its batch norm do."""
    if isinstance(norm, torch.nn.Identity):
        return conv.weight, conv.bias
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()  # (C,)
    return conv.weight * factor[:, None, None, None], norm.bias + (conv.bias - norm.running_mean) * factor


@cache
def ten_digits() -> Tensor:
    """Return a test image of each digit, (10, 784) uint8, all read rightly by the course's network.

    Of 500 drawn at random, each is the one of which it is less sure than of nine tenths of its digit: the surest stay
    as they are under any patch, and their occlusion maps show nothing.
    """
    images, labels = load_mnist(train=False)
    drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:500]
    images, labels = images[drawn].float(), labels[drawn]
    logits = load_cnn().float()(images)
    first, second = logits.topk(2).values.unbind(1)  # (500,) each
    surest = (first - second).masked_fill(logits.argmax(1) != labels, -torch.inf).argsort()  # the least sure come first
    ranked = [surest[labels[surest] == digit] for digit in range(CLASSES)]
    chosen = torch.stack([ranks[len(ranks) // 10] for ranks in ranked])  # (10,)
    return images[chosen].mul(255).round().to(torch.uint8).flatten(1)
