"""A GPU, imitated: tensors that say they are on one, compute as on the processor, and refuse any that is elsewhere."""

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from helpers.device import _tensors

GPU = torch.device("cuda", 0)
COPIES = {"to", "copy_", "__set__"}  # take a tensor from one device to another
INDEXES = {"__getitem__", "__setitem__"}  # take an index from the processor


class There(Tensor):
    """A tensor that is on the GPU."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        if function == Tensor.device.__get__:
            return GPU
        if function in (Tensor.is_cuda.__get__, Tensor.is_cpu.__get__):
            return function == Tensor.is_cuda.__get__
        if name == "to":
            return moved(args[0], *args[1:], **kwargs)
        if name == "cpu":
            return moved(args[0], "cpu")
        if name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        tensors = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, Tensor)]
        foreign = [part for part in tensors if not isinstance(part, There) and part.ndim]
        if name in INDEXES and isinstance(args[0], There):
            foreign = [part for part in foreign if part.is_floating_point()]
        if foreign and name not in COPIES:
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got cuda:0 and cpu")
        if "device" in kwargs:
            kwargs["device"] = "cpu" if kwargs["device"] is not None else None
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **kwargs)
        if name == "rand_like":
            result = 1 - result  # a GPU draws other numbers
        return result if name == "copy_" and not isinstance(args[0], There) else there(result)


def there(result):
    """Return the result with its tensors on the GPU."""

    def one(part):
        return part.as_subclass(There) if isinstance(part, Tensor) and not isinstance(part, There) else part

    return tree_map(one, result)


def here(tensor):
    """Return the tensor on the processor."""
    return tensor.as_subclass(Tensor)


def moved(tensor, *args, **kwargs):
    """Do what `Tensor.to` does, which is asked for a device, a type, both, or those of another tensor."""
    asked = [*args, kwargs.pop("device", None)]
    like = [a.device for a in args if isinstance(a, Tensor)]
    devices = [torch.device(a) for a in asked if isinstance(a, str | torch.device)] + like + [tensor.device]
    types = [here(a) if isinstance(a, Tensor) else a for a in args if not isinstance(a, str | torch.device)]
    result = here(tensor).to(*types, **kwargs) if types or kwargs else here(tensor)
    if devices[0].type != tensor.device.type:
        result = result.clone()
    return result.as_subclass(There) if devices[0].type == "cuda" else result


class Sent(TorchFunctionMode):
    """Lets tensors of the processor go to the GPU, and new ones be made there."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        if name == "to" and not isinstance(args[0], There):
            return moved(*args, **kwargs)
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            made = function(*args, **(kwargs | {"device": "cpu"}))
            return made.as_subclass(There)
        return function(*args, **kwargs)


@contextmanager
def on_gpu(model):
    """Do what `on_best_device` does, with weights that are There: put in their places, since `.data` takes none."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module as the model, got {type(model).__name__}")
    places = [place for place in _tensors(model) if not isinstance(place[2], There)]
    made = {}
    for own, name, tensor in places:
        if id(tensor) not in made:
            copy = tensor.detach().clone(memory_format=torch.contiguous_format).as_subclass(There)
            if isinstance(tensor, nn.Parameter):
                copy = nn.Parameter(copy, tensor.requires_grad)
            made[id(tensor)] = copy
        own[name] = made[id(tensor)]
    try:
        yield
    finally:
        for own, name, tensor in places:
            tensor.data.copy_(here(made[id(tensor)].data))
            own[name] = tensor
