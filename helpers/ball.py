"""The ball that a bounded attack stays in, all images within eps of one, to the last bit."""

import torch
from torch import Tensor


def radius_within(eps: float, images: Tensor) -> Tensor:
    """Return eps in the images' type, or where that has no such number the next below."""
    radius = images.new_tensor(eps)
    return radius.nextafter(torch.zeros_like(radius)) if radius.item() > eps else radius


def ball_around(images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest image within eps and [0, 1]: never a bit further away, in any dtype."""
    radius = radius_within(min(eps, 1), images)  # a larger ball holds no more images

    def edge(shift: Tensor) -> Tensor:
        total = images + shift
        part = total - images
        error = (images - (total - part)) + (shift - part)  # of the sum, exactly (Knuth's TwoSum)
        outside = error * shift.sign() < 0  # it was rounded away from the image
        return torch.where(outside, total.nextafter(images), total).clamp(0, 1)

    return edge(-radius), edge(radius)
