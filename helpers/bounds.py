"""What no attack within a ball can exceed: interval bounds, layer by layer.

Pixels are in [0, 1], `eps` in the same units. A network here is a `DigitCNN`, or an `nn.Sequential` of the layers that
`LAYERS` names; batch norm is taken as it is in eval mode. What is bounded is bounded up to the rounding of its type.
"""

from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.ball import ball_around
from helpers.batches import images_at_once, in_chunks, in_mode
from helpers.checks import check_images, check_labels, check_model, number
from helpers.cnn import DigitCNN
from helpers.device import device_of, on_best_device

AFFINE = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
MONOTONE = (nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten, nn.Identity, nn.Dropout)
LAYERS = [kind.__name__ for kind in AFFINE + MONOTONE]


def interval_bounds(model: nn.Module, images: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """Return what each logit can be at least and at most, for any image within eps of each of the images.

    Gradients flow through the bounds to the weights.

    Args:
        model: a `DigitCNN`, or an `nn.Sequential` of layers that `LAYERS` names.
        images: (N, C, H, W) float in [0, 1], of the model's type and where it is.
        eps: the largest change of a pixel, at least 0; the changed image stays in [0, 1].

    Returns:
        low, high: (N, classes) each.

    Raises:
        TypeError: no tensor, no number or no model.
        ValueError: one of the arguments is not as above.

    Source: S. Gowal et al., On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models
        (2018).
    """
    return _through(_layers(model), images, eps)


def worst_logits(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    """Return the logits less the label's own, at most: (N, classes), 0 for the label itself.

    Where all but the label's own are below 0, no image within eps is misclassified. Each difference is bounded as one,
    through the last layer, which is tighter than the difference of two bounds. Cross-entropy of these logits is at
    least that of any image within eps: a loss to train on, since gradients flow through it to the weights.

    Args:
        model: as in `interval_bounds`, its last layer linear.
        images: as in `interval_bounds`.
        labels: (N,) int64 in 0..classes - 1.
        eps: as in `interval_bounds`.

    Raises:
        TypeError: as in `interval_bounds`, and so is ValueError; the source is the same.
    """
    *layers, last = _layers(model) or [None]
    if not isinstance(last, nn.Linear):
        raise ValueError(f"expected the last layer to be linear, got {type(last).__name__}")
    check_labels(labels, len(images), classes=last.out_features)
    low, high = _through(layers, images, eps)
    weight = last.weight - last.weight[labels][:, None]  # (N, classes, features): of each class, less the label's own
    middle, radius = (high + low) / 2, (high - low) / 2  # (N, features)
    worst = torch.einsum("ncf,nf->nc", weight, middle) + torch.einsum("ncf,nf->nc", weight.abs(), radius)
    return worst if last.bias is None else worst + last.bias - last.bias[labels][:, None]


def certified(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    """Return whether interval bounds prove that no image within eps is classified other than as its label, (N,) bool.

    Arguments and errors are those of `worst_logits`, but that the images may be elsewhere than the model: they are
    taken to it, a few at a time, and the answer is where they are. No gradients are taken.
    """
    check_model(model)
    check_images(images)
    check_labels(labels, len(images))

    @torch.no_grad()
    def proved(chunk: Tensor, own: Tensor) -> Tensor:
        worst = worst_logits(model, chunk, own, eps=eps)
        return (worst.scatter(1, own[:, None], -torch.inf) < 0).all(1)

    with in_mode(model, training=False), on_best_device(model):
        device = device_of(model, images)
        size = images_at_once(images, device, "attack")
        return torch.cat(in_chunks(proved, images, labels.to(images.device), size=size, device=device))


def _layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers in the order in which they are applied."""
    check_model(model)
    layers = list(model.children())
    if type(model).forward is DigitCNN.forward:
        layers.insert(layers.index(model.fc1), nn.Flatten())
    elif type(model).forward is not nn.Sequential.forward:
        raise ValueError(f"expected a DigitCNN or an nn.Sequential, got {type(model).__name__}")
    layers = [part for layer in layers for part in (_layers(layer) if isinstance(layer, nn.Sequential) else [layer])]
    for layer in layers:
        if not isinstance(layer, AFFINE + MONOTONE):
            raise ValueError(f"expected layers among {', '.join(LAYERS)}, got {type(layer).__name__}")
        if isinstance(layer, nn.BatchNorm2d) and not (layer.affine and layer.track_running_stats):
            raise ValueError("expected batch norm with weights and running statistics")
    return layers


def _through(layers: list[nn.Module], images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the least and the largest value of each feature after the layers."""
    check_images(images)
    low, high = ball_around(images, number("eps", eps))
    for layer in layers:
        try:
            if isinstance(layer, AFFINE):
                low, high = _affine(layer, low, high)
            elif not isinstance(layer, nn.Dropout):  # which does nothing in eval mode
                low, high = layer(low), layer(high)
        except RuntimeError as error:
            came = f"{tuple(low.shape)} and {low.dtype} for {layer}"
            raise ValueError(f"expected images of the model's shape and type, got {came}: {error}") from error
    return low, high


def _affine(layer: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bounds after W x + b: the middle goes through the layer, the radius through |W|."""
    middle, radius = (high + low) / 2, (high - low) / 2
    weight = layer.weight.abs()
    if isinstance(layer, nn.BatchNorm2d):
        mean, variance = layer.running_mean, layer.running_var
        middle = F.batch_norm(middle, mean, variance, layer.weight, layer.bias, eps=layer.eps)
        radius = F.batch_norm(radius, torch.zeros_like(mean), variance, weight, eps=layer.eps)
    else:
        absolute = copy(layer)  # threads share the layer, which must stay as it is
        absolute._parameters = {"weight": weight, "bias": None}
        middle, radius = layer(middle), absolute(radius)
    return middle - radius, middle + radius
