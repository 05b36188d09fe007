"""How any network is run on many images: where, in which mode, in what chunks; and what it may be given.

A network here is any classifier: it takes images (N, C, H, W) with pixels in [0, 1] and returns logits (N, classes).
"""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from numbers import Integral, Real
from threading import RLock
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Result = TypeVar("Result")
# Images at a time that stay in a processor's cache, by what is done with them; measured on two cores.
IN_CACHE = {"attack": 64, "occlusion": 64, "prediction": 100}
IMAGES_OF_WORK = 1000  # what a deep network needs of a GPU's memory for one image, in images: estimated generously
_locks: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()  # one a network; gone with it


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the model in train or eval mode, and every module of it back as it was, also after an exception.

    The modes are set by `train`, so that a layer which does more there (merges weights, say) is told both times.
    Another thread that wants to set the same model's mode waits until this one is done.
    """
    check_model(model)
    with _locks.setdefault(model, RLock()):
        before = {module: module.training for module in model.modules()}  # a module comes before its parts
        try:
            model.train(training)
            yield
        finally:
            for module in 2 * list(before):  # twice: a part of two modules has been set by both
                if module.training != before[module]:
                    module.train(before[module])
            for module, mode in before.items():  # and where `train` does not set it
                module.training = mode


def in_chunks(
    work: Callable[..., Result], *tensors: Tensor, size: int, device: torch.device | None = None
) -> list[Result]:
    """Do the work on a few rows of the tensors at a time, and return what it made of each chunk.

    On a processor each of PyTorch's threads takes chunks of its own; if they shared every operation instead, they would
    wait for each other hundreds of times a second. The work itself says whether gradients are taken, since threads do
    not inherit that; `torch.autocast`, which they would not inherit either, is handed on.

    Args:
        work: takes a chunk of each tensor; called from several threads.
        tensors: each (N, ...), N >= 1, all on one device.
        size: rows of a chunk at most, a bound on the memory; `images_at_once` knows a good one.
        device: where each chunk is moved before the work, as `device_of` tells; None leaves it where it is. The tensors
            that the work returns, alone or in a tuple, go back to where the first of `tensors` is.
    """
    home = tensors[0].device
    device = device or home
    before = torch.get_num_threads()
    threads = min(before if device.type == "cpu" else 1, len(tensors[0]))
    rounds = -(-len(tensors[0]) // (size * threads))
    even = -(-len(tensors[0]) // (rounds * threads))  # rows of a chunk, so that all threads have as much to do
    chunks = list(zip(*(tensor.split(even) for tensor in tensors), strict=True))

    def there(chunk: tuple[Tensor, ...]) -> Result:
        result = work(*(part.to(device) for part in chunk))
        if isinstance(result, tuple):
            return tuple(part.to(home) if torch.is_tensor(part) else part for part in result)
        return result.to(home) if torch.is_tensor(result) else result

    if threads == 1:
        return [there(chunk) for chunk in chunks]
    precision = {"dtype": torch.get_autocast_dtype(device.type), "enabled": torch.is_autocast_enabled(device.type)}

    def in_thread(chunk: tuple[Tensor, ...]) -> Result:
        with torch.autocast(device.type, **precision):
            return there(chunk)

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(in_thread, chunks))
    finally:
        torch.set_num_threads(before)  # for threads that begin later


def images_at_once(images: Tensor, device: torch.device, work: str) -> int:
    """Return how many of these images to run at once: as `IN_CACHE` says of the work, or what a GPU's memory holds."""
    if device.type != "cuda":
        return IN_CACHE[work]
    free = torch.cuda.mem_get_info(device)[0]
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch holds it, and can use it
    return max(IN_CACHE[work], free // (IMAGES_OF_WORK * images[0].numel() * images.element_size()))


def device_of(model: nn.Module, images: Tensor) -> torch.device:
    """Return where the network lives and computes: where its first weight is, or the images if it has none."""
    return next((weight.device for weight in chain(model.parameters(), model.buffers())), images.device)


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the type of the model's first weights, PyTorch's default if it has none."""
    check_model(model)
    kinds = (weight.dtype for weight in chain(model.parameters(), model.buffers()) if weight.is_floating_point())
    return next(kinds, torch.get_default_dtype())


def classes_of(model: nn.Module, images: Tensor) -> int:
    """Return how many classes the model tells apart, as its logits of the first two images show.

    Raises:
        TypeError: the model is no module.
        ValueError: it returns something other than logits (N, classes), or refuses images of another type than its own.

    Warns:
        UserWarning: the logits are probabilities, as of a model that ends in softmax.
    """
    few = images[:2].detach().clone()  # which the model may change
    with in_mode(model, training=False), torch.no_grad():
        device = device_of(model, images)
        try:
            logits = model(few.to(device))
        except RuntimeError as error:
            if images.dtype == dtype_of(model) or torch.is_autocast_enabled(device.type):
                raise
            raise ValueError(f"expected images of the model's {dtype_of(model)}, got {images.dtype}") from error
    check_logits(logits, len(few))
    sums = logits.float().sum(1)  # (N,)
    if logits.min() >= 0 and torch.allclose(
        sums, torch.ones_like(sums), atol=1e-2 if logits.dtype.itemsize < 4 else 1e-4
    ):
        warnings.warn(
            f"expected logits, got what seem to be probabilities: {type(model).__name__} ends in softmax, and a second "
            "softmax makes its probabilities flat; leave out its last layer",
            stacklevel=3,
        )
    return logits.shape[1]


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
    low, high = (x.item() for x in torch.aminmax(images.detach()))
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise ValueError(f"expected pixels in [0, 1], got {low:g} to {high:g} (divide 0..255 by 255)")


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
    """Return the value as a number of Python; TypeError if it is none, ValueError if outside `least` to `most`."""
    if getattr(value, "ndim", None) == 0:  # of NumPy, or a tensor
        value = value.item()
    if not isinstance(value, Real):
        raise TypeError(f"expected {name} to be a number, got {value!r}")
    if whole and not isinstance(value, Integral):
        raise ValueError(f"expected {name} to be a whole number, got {value!r}")
    if not least <= value <= most:  # written so that NaN fails too
        limit = "" if most == float("inf") else f" and at most {most:g}"
        raise ValueError(f"expected {name} to be at least {least:g}{limit}, got {value!r}")
    return value
