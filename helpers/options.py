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
        TypeError: neither a tensor nor an array nor a list.
        ValueError: another shape, or no image at all.
    """
    if not isinstance(images, Tensor | np.ndarray | list | tuple):
        raise TypeError(f"expected images as a tensor, an array or a list of them, got {type(images).__name__}")
    arrays = [_array(image) for image in images] if getattr(images, "ndim", 1) else []
    fits = all(array.ndim == 2 or (array.ndim == 3 and len(array) in (1, 3)) for array in arrays)
    if not fits or len({array.shape[-2:] for array in arrays}) != 1 or not all(array.size for array in arrays):
        came = tuple(images.shape) if hasattr(images, "shape") else [array.shape for array in arrays]
        raise ValueError(f"expected images of shape (N, H, W), (N, 1, H, W) or (N, 3, H, W), got {came}")
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
    many = isinstance(limits[0], tuple | list) or getattr(limits[0], "ndim", 0) > 0
    pairs = limits if many else [limits] * count
    pairs = [tuple(float(_array(number)) for number in pair) for pair in one_each(pairs, count, "limits")]
    for pair in pairs:
        if len(pair) != 2 or not -math.inf < pair[0] <= pair[1] < math.inf:  # NaN fails too
            raise ValueError(f"expected limits (low, high), two numbers in order, got {pair}")
    return pairs


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
    if len(values) != count:
        raise ValueError(f"expected {count} {name}, got {len(values)}")
    return list(values)
