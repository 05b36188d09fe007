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

    The first time that a GPU is the best it is told to keep all bits of a float32 in convolutions.

    Raises:
        ValueError: the variable names no device that works here.

    Warns:
        UserWarning: once, if there is a GPU that does not work, such as one too old for this PyTorch.
    """
    return _device(os.environ.get(VARIABLE, "").strip().lower())


@cache
def _device(asked: str) -> torch.device:
    """Return the best device, which has been tried: it computes."""
    with warnings.catch_warnings():  # of a driver too old, and of the first product in the thread that goes backward
        warnings.simplefilter("ignore")
        if asked == "cpu" or not (asked or torch.cuda.is_available()):
            return PROCESSOR
        try:
            device = torch.device(asked or "cuda")
            with torch.inference_mode(False):  # which has gradients again
                weight = torch.ones(1, 1, device=device, requires_grad=True)
                (weight @ weight).sum().backward()
                weight.grad.item()
        except Exception as error:  # whatever is wrong with a device
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        else:
            torch.backends.cudnn.allow_tf32 = False  # which is on by default, and keeps 10 of 23 bits
            return weight.device
    if asked:
        raise ValueError(f"expected {VARIABLE} to be a device that works here, such as cpu, got {asked!r}: {cause}")
    warn(f"the GPU cannot compute, so the processor does ({VARIABLE}=cpu says so beforehand): {cause}")
    return PROCESSOR


@contextmanager
def on_best_device(model: nn.Module) -> Iterator[None]:
    """Let a network that lives on the processor live on the best device meanwhile.

    Its parameters and buffers stay the same objects, so that an optimizer or a loss that has them goes on with them;
    their values move, and come back as they are then, also after an exception. So do tensors that its modules have as
    plain attributes. Hooks see the best device. What cannot move stays: a network that is scripted, compiled or
    quantized, has weights that share memory or are of another class than PyTorch's, or of float64 for a GPU of Apple's,
    and any network within `torch.autocast("cpu")`.
    """
    check_model(model)
    device = best_device()
    if device.type == "cpu" or not _moves(model, device):
        yield
        return
    there = {id(tensor): tensor for _, _, tensor in _tensors(model)}.values()  # each once, whatever its names
    away = [tensor for tensor in there if tensor.device == PROCESSOR and tensor.is_leaf]
    others = {id(tensor) for tensor in there} - {id(tensor) for tensor in away}
    before = [tensor.data for tensor in away]
    try:
        with torch.inference_mode(False):
            for tensor, values in zip(away, before, strict=True):
                tensor.data = _there(values, device)
        torch.clear_autocast_cache()
        yield
    finally:
        with torch.inference_mode(False), torch.no_grad():
            after = [tensor.data for tensor in away]
            for tensor, values in zip(away, before, strict=True):  # first, since it takes no time and cannot fail
                tensor.data = values
            for values, new in zip(before, after, strict=True):
                new = new.to(PROCESSOR)
                if not torch.equal(values, new):
                    values.copy_(new)
            for own, name, tensor in _tensors(model):
                if tensor.device != PROCESSOR and id(tensor) not in others:  # what the model has put there meanwhile
                    own[name] = tensor.data.to(PROCESSOR)
                elif tensor.is_leaf and tensor.grad is not None:
                    tensor.grad = tensor.grad.to(PROCESSOR)
            torch.clear_autocast_cache()


def _tensors(model: nn.Module) -> list[tuple[dict, str, Tensor]]:
    """Return parameters, buffers and plain attributes of the modules: whose they are, under which name, and each."""
    places = chain.from_iterable((part._parameters, part._buffers, vars(part)) for part in model.modules())
    return [(own, name, value) for own in places for name, value in own.items() if isinstance(value, Tensor)]


def _moves(model: nn.Module, device: torch.device) -> bool:
    """Return whether the network can be moved, and is not elsewhere by somebody's wish."""
    for part in model.modules():
        made = isinstance(part, torch.jit.ScriptModule) or hasattr(part, "_orig_mod") or hasattr(part, "_packed_params")
        if made or getattr(part, "_compiled_call_impl", None):
            return False
    if torch.is_autocast_enabled("cpu"):
        return False
    weights = list({id(tensor): tensor for _, _, tensor in _tensors(model)}.values())
    if any(type(weight) not in (Tensor, nn.Parameter) or weight.is_inference() for weight in weights):
        return False
    if any(weight.device not in (PROCESSOR, device) for weight in weights):
        return False
    if device.type == "mps" and any(weight.dtype == torch.float64 for weight in weights):
        return False
    strided = [weight for weight in weights if weight.layout == torch.strided]
    places = [place for weight in strided if (place := weight.untyped_storage().data_ptr())]
    return len(set(places)) == len(places)


def _there(values: Tensor, device: torch.device) -> Tensor:
    """Return the values on the device, in the order in memory that a GPU is fastest with."""
    format_ = torch.contiguous_format if values.layout == torch.strided else torch.preserve_format
    return values.to(device, memory_format=format_)


def device_of(model: nn.Module, images: Tensor) -> torch.device:
    """Return where the network lives: where its first weight is, or the images if it has none."""
    return next((weight.device for weight in chain(model.parameters(), model.buffers())), images.device)


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the type of the model's first weights, PyTorch's default if it has none."""
    check_model(model)
    kinds = (weight.dtype for weight in chain(model.parameters(), model.buffers()) if weight.is_floating_point())
    return next(kinds, torch.get_default_dtype())
