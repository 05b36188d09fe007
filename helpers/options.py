"""What a reader may pass to a grid of images, made into one entry for each image, or refused."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.colors import Colormap
from torch import Tensor


def as_pictures(images: Tensor | np.ndarray | Sequence[Tensor | np.ndarray]) -> list[np.ndarray]:
    """Return each image as numbers (H, W) or, in colour, (H, W, 3).

    Args:
        images: (N, H, W), (N, 1, H, W) or (N, 3, H, W), or a list of (H, W), (1, H, W) or (3, H, W) of one size; of any
            type of number, on any device, with gradients or without.

    Raises:
        TypeError: neither a tensor nor an array nor a list, or not of numbers.
        ValueError: another shape, or no image at all.
    """
    if not isinstance(images, Tensor | np.ndarray | list | tuple):
        raise TypeError(f"expected images as a tensor, an array or a list of them, got {type(images).__name__}")
    arrays = [_array(image) for image in images] if getattr(images, "ndim", 1) else []
    fits = all(array.ndim == 2 or (array.ndim == 3 and len(array) in (1, 3)) for array in arrays)
    if not fits or len({array.shape[-2:] for array in arrays}) != 1 or not all(array.size for array in arrays):
        came = tuple(images.shape) if hasattr(images, "shape") else [array.shape for array in arrays]
        raise ValueError(f"expected images of shape (N, H, W), (N, 1, H, W) or (N, 3, H, W), got {came}")
    if any(array.dtype.kind not in "biuf" for array in arrays):
        raise TypeError(f"expected images of real numbers, got {', '.join({f'{array.dtype}' for array in arrays})}")
    flat = [array[0] if array.ndim == 3 and len(array) == 1 else array for array in arrays]
    return [array if array.ndim == 2 else np.moveaxis(array, 0, 2) for array in flat]  # (3, H, W) -> (H, W, 3)


def _array(values: Tensor | np.ndarray | float) -> np.ndarray:
    """Return a tensor or a number as an array; NumPy has no bfloat16."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def as_limits(limits: Sequence[float] | Sequence[Sequence[float]], count: int) -> list[tuple[float, float]]:
    """Return the lowest and the highest value drawn of each image, from one pair for all or a pair for each."""
    wrong = f"expected limits (low, high), two numbers in order, or {count} such pairs, got {limits!r}"
    if not _is_list(limits):
        raise TypeError(wrong)
    if len(limits) == 0:
        raise ValueError(wrong)
    pairs = one_each(limits, count, "limits") if _is_list(limits[0]) else [limits] * count
    if not all(_is_list(pair) and len(pair) == 2 for pair in pairs):
        raise ValueError(wrong)
    try:
        pairs = [tuple(float(_array(end)) for end in pair) for pair in pairs]
    except (TypeError, ValueError):  # no numbers
        raise TypeError(wrong) from None
    if not all(-math.inf < low <= high < math.inf for low, high in pairs):  # NaN fails too
        raise ValueError(wrong)
    return pairs


def check_scale(pictures: list[np.ndarray], scales: list[tuple[float, float]]) -> None:
    """Raise ValueError for images in 0..255 that would be drawn on the scale 0..1, all white."""
    for picture, scale in zip(pictures, scales, strict=True):
        if scale == (0, 1) and picture.dtype.kind in "iu" and picture.max() > 1:
            raise ValueError(f"expected whole numbers of at most 1, got {picture.max()}: use limits=(0, 255) for bytes")


def as_texts(values: Sequence | None, count: int, name: str) -> list[str]:
    """Return the values as texts, whole numbers and tensors of one number among them; for None no texts."""
    if values is None:
        return []
    if isinstance(values, str):
        raise TypeError(f"expected {count} {name}, got one text, {values!r}")
    return ["" if value is None else f"{value}" for value in one_each(values, count, name)]


def one_each(values: str | Colormap | Sequence | None, count: int, name: str) -> list:
    """Return one entry for each of `count` places; a text, a colour map or None stands for all of them."""
    if values is None or isinstance(values, str | Colormap):
        return [values] * count
    if not _is_list(values):
        raise TypeError(f"expected {count} {name} in a list, got {values!r}")
    if len(values) != count:
        raise ValueError(f"expected {count} {name}, got {len(values)}")
    return list(values)


def _is_list(values: Sequence | None) -> bool:
    """Return whether the values have an order and a length: a list, a range, a tensor of several numbers."""
    return not isinstance(values, str) and (getattr(values, "ndim", 0) > 0 or isinstance(values, Sequence))
