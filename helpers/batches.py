"""How any network is run on many images: in which mode, in what chunks.

A network here is any classifier: it takes images (N, C, H, W) with pixels in [0, 1] and returns logits (N, classes).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from helpers.checks import check_model

Result = TypeVar("Result")
# Images at a time that stay in a processor's cache, by what is done with them; measured on two cores.
IN_CACHE = {"attack": 64, "occlusion": 64, "prediction": 100}
IMAGES_OF_WORK = 1000  # what a deep network needs of a GPU's memory for one image, in images: estimated generously
_LOCKS: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()  # one a module; gone with it
# The threads of `in_chunks` have locks of their own among themselves, since who called it holds these.
_locks = ContextVar("locks", default=_LOCKS)


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the model in train or eval mode, and every module of it back as it was, also after an exception.

    The modes are set by `train`, so that a layer which does more there (merges weights, say) is told both times.
    Another thread that wants to set the mode of this model, or of one that shares a module with it, waits until this
    one is done. So a model that waits in its `forward` for a thread which does that would wait for ever.
    """
    check_model(model)
    with ExitStack() as held:
        for module in sorted(set(model.modules()), key=id):  # in one order, so that no two threads wait for each other
            held.enter_context(_locks.get().setdefault(module, RLock()))
        # A module comes before its parts. A frozen script has no mode, and answers as in eval mode for ever.
        before = {module: module.training for module in model.modules() if hasattr(module, "training")}
        try:
            if model in before:
                model.train(training)
            yield
        finally:
            for module in 2 * list(before):  # twice: a part of two modules has been set by both
                if module.training != before[module]:
                    module.train(before[module])
            for module, mode in before.items():  # and where `train` does not set it
                module.training = mode


def twin(model: nn.Module) -> nn.Module:
    """Return a model with modules of its own and the same weights; one that is scripted or compiled stays as it is."""
    made = {}

    def of(module: nn.Module) -> nn.Module:
        if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):  # the latter is compiled
            return module
        if module not in made:
            made[module] = object.__new__(type(module))
            made[module].__dict__ = module.__dict__.copy()
            parts = {name: part if part is None else of(part) for name, part in module._modules.items()}
            made[module].__dict__["_modules"] = parts
        return made[module]

    return of(model)


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
    locks = WeakKeyDictionary()
    precision = {"dtype": torch.get_autocast_dtype(device.type), "enabled": torch.is_autocast_enabled(device.type)}

    def in_thread(chunk: tuple[Tensor, ...]) -> Result:
        _locks.set(locks)
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
