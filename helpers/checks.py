"""What the helpers may be given: each check answers with what was expected and what came."""

import inspect
import warnings
from numbers import Integral, Real

import torch
from torch import Tensor, nn


def check_model(model: nn.Module) -> None:
    """Raise TypeError unless the model is a module of PyTorch."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module as the model, got {type(model).__name__}")


def check_images(images: Tensor) -> None:
    """Raise TypeError or ValueError unless `images` is a float tensor (N, C, H, W), N >= 1, with pixels in [0, 1]."""
    if not torch.is_tensor(images):
        raise TypeError(f"expected images as a tensor, got {type(images).__name__}")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"expected images of shape (N, C, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"expected images of a floating-point type, got {images.dtype}")
    if len(images) == 0:
        raise ValueError("expected at least one image, got none")
    check_range("pixels", images, " (divide 0..255 by 255)")


def check_range(name: str, values: Tensor, hint: str = "") -> None:
    """Raise ValueError unless all values, of which there is one at least, are in [0, 1]."""
    low, high = (x.item() for x in torch.aminmax(values.detach()))
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise ValueError(f"expected {name} in [0, 1], got {low:g} to {high:g}{hint}")


def check_finite(name: str, values: Tensor) -> None:
    """Raise ValueError if one of the values is NaN or infinite."""
    if not values.isfinite().all():
        raise ValueError(f"expected finite {name}, got {values[~values.isfinite()][0].item()}")


def check_labels(labels: Tensor, count: int, classes: int | None = None) -> None:
    """Raise TypeError or ValueError unless `labels` is (count,) int64, each in 0..classes - 1 (None: at least 0)."""
    if not torch.is_tensor(labels):
        raise TypeError(f"expected labels as a tensor, got {type(labels).__name__}")
    if labels.shape != (count,) or labels.dtype != torch.int64:
        came = f"{tuple(labels.shape)} and {labels.dtype}"
        raise ValueError(f"expected {count} labels of shape ({count},) and type torch.int64, got {came}")
    low, high = (x.item() for x in torch.aminmax(labels)) if count else (0, 0)
    if low < 0 or high >= (classes or high + 1):
        there = f"in 0..{classes - 1}" if classes else "of at least 0"
        raise ValueError(f"expected labels {there}, got {low} to {high}")


def check_logits(logits: Tensor, count: int) -> None:
    """Raise ValueError unless the model's answer is a tensor (count, classes)."""
    if not torch.is_tensor(logits) or logits.ndim != 2 or len(logits) != count or logits.shape[1] == 0:
        came = tuple(logits.shape) if torch.is_tensor(logits) else type(logits).__name__
        raise ValueError(f"expected logits of shape (N, classes) from the model, here N = {count}, got {came}")


def number(name: str, value: float, *, whole: bool = False, least: float = 0, most: float = float("inf")) -> float:
    """Return the value as a number of Python; TypeError if it is none, ValueError if outside `least` to `most`.

    A number of NumPy, a fraction or a tensor of one number will do; True and False will not.
    """
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, Real):
        raise TypeError(f"expected {name} to be a number, got {value!r}")
    if whole and not isinstance(plain, Integral):
        raise ValueError(f"expected {name} to be a whole number, got {plain!r}")
    if not least <= plain <= most:  # written so that NaN fails too
        limit = "" if most == float("inf") else f" and at most {most:g}"
        raise ValueError(f"expected {name} to be at least {least:g}{limit}, got {plain!r}")
    return int(plain) if isinstance(plain, Integral) else float(plain)


def flag(name: str, value: bool) -> bool:
    """Return the value as True or False of Python; TypeError if it is neither, such as a text."""
    plain = _plain(value)
    if not isinstance(plain, bool):
        raise TypeError(f"expected {name} to be True or False, got {value!r}")
    return plain


def generator_of(seed: int) -> torch.Generator:
    """Return a processor's generator with this seed; TypeError or ValueError unless it is a whole number."""
    return torch.Generator().manual_seed(number("seed", seed, whole=True, least=-(2**63), most=2**64 - 1))


def home_of(generator: torch.Generator | None) -> torch.device:
    """Return where random numbers are drawn: by a processor's generator, unless another is given; TypeError if none."""
    if generator is not None and not isinstance(generator, torch.Generator):
        made = "torch.Generator().manual_seed(3)"
        raise TypeError(f"expected generator to be a torch.Generator, such as {made}, or None, got {generator!r}")
    return generator.device if generator is not None else torch.device("cpu")


def warn(said: str) -> None:
    """Warn in the line that called the helpers, however deep in them the reason was found."""
    frame, depth, outermost = inspect.currentframe(), 1, 1
    while frame:
        if frame.f_globals.get("__name__", "").startswith("helpers."):
            outermost = depth
        frame, depth = frame.f_back, depth + 1
    warnings.warn(said, stacklevel=outermost + 1)


def _plain(value: float) -> float:
    """Return a number of NumPy or a tensor of one number as Python's own, and anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value
