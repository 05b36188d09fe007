"""Where a network computes: on a GPU, if there is one, for as long as a helper works with it.

Networks and tensors stay on the processor, where cells and random numbers are. A helper takes a network along to the
best device and brings it back; whoever moves a network to a device (`model.to("cuda:1")`) has it compute there.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain

import torch
from torch import Tensor, nn

from helpers.checks import check_model, warn

VARIABLE = "COURSE_DEVICE"
PROCESSOR = torch.device("cpu")


def best_device() -> torch.device:
    """Return the device that the environment's variable COURSE_DEVICE names, else CUDA's, else the processor.

    Raises:
        ValueError: the variable names no device that works here.

    Warns:
        UserWarning: once, if there is a GPU that does not work, such as one too old for this PyTorch.
    """
    return _device(os.environ.get(VARIABLE, ""))


@cache
def _device(asked: str) -> torch.device:
    """Return the best device, which has been tried: it computes."""
    with warnings.catch_warnings():  # of a driver too old, and of the first product in the thread that goes backward
        warnings.simplefilter("ignore")
        if not asked and not torch.cuda.is_available():
            return PROCESSOR
        try:
            device = torch.device(asked or "cuda")
            weight = torch.ones(1, 1, device=device, requires_grad=True)
            (weight @ weight).sum().backward()
            weight.grad.item()
        except Exception as error:  # whatever is wrong with a device
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        else:
            return device
    if asked:
        raise ValueError(f"expected {VARIABLE} to be a device that works here, such as cpu, got {asked!r}: {cause}")
    warn(f"the GPU cannot compute, so the processor does ({VARIABLE}=cpu says so beforehand): {cause}")
    return PROCESSOR


@contextmanager
def on_best_device(model: nn.Module) -> Iterator[None]:
    """Let a network that lives on the processor live on the best device meanwhile, in full float32.

    Its parameters and buffers stay the same objects, so that an optimizer or a loss that has them goes on with them;
    their values move, and come back as they are then, also after an exception. What cannot move stays: a network that
    is scripted or compiled, has weights of another class than PyTorch's, or of float64, for a GPU of Apple's.
    """
    check_model(model)
    device = best_device()
    weights = [*model.parameters(), *model.buffers()]
    if device.type == "cpu" or not _moves(model, weights, device):
        yield
        return
    tf32, before = torch.backends.cudnn.allow_tf32, [weight.data for weight in weights]
    try:
        torch.backends.cudnn.allow_tf32 = False  # which keeps 10 bits of a float32
        with torch.inference_mode(False):
            for weight, values in zip(weights, before, strict=True):
                weight.data = _there(values, device)
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
        with torch.inference_mode(False):
            for weight, values in zip(weights, before, strict=True):
                values.copy_(weight.data)
                weight.data = values
                if weight.grad is not None:
                    weight.grad = weight.grad.to(values.device)


def _moves(model: nn.Module, weights: list[Tensor], device: torch.device) -> bool:
    """Return whether the network can be moved and lives on the processor, all of it."""
    if any(isinstance(part, torch.jit.ScriptModule) or hasattr(part, "_orig_mod") for part in model.modules()):
        return False  # the latter is compiled
    if device.type == "mps" and any(weight.dtype == torch.float64 for weight in weights):
        return False
    return all(type(w) in (Tensor, nn.Parameter) and w.device == PROCESSOR and not w.is_inference() for w in weights)


def _there(values: Tensor, device: torch.device) -> Tensor:
    """Return the values on the device, in the order in memory that a GPU is fastest with."""
    return values.to(device, memory_format=torch.contiguous_format)


def device_of(model: nn.Module, images: Tensor) -> torch.device:
    """Return where the network lives: where its first weight is, or the images if it has none."""
    return next((weight.device for weight in chain(model.parameters(), model.buffers())), images.device)


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the type of the model's first weights, PyTorch's default if it has none."""
    check_model(model)
    kinds = (weight.dtype for weight in chain(model.parameters(), model.buffers()) if weight.is_floating_point())
    return next(kinds, torch.get_default_dtype())
