"""A processor that rounds in its own way, imitated in a kernel: what IPython runs there before the first cell.

Every Conv2d and Linear gets the last bit of its outputs, and of the gradient by its inputs, moved by one up or down or
left as it is, as a hash of the value, of its place and of the number in ROUNDING decides: sums that are equal on paper
need not be on a processor, which adds in another order at the end of a row. Only the most frequent value of a channel
stays equal to itself: on the black ground of an image a sum is the bias, exactly, on every processor. (Behind the first
layer the ground is a sum like others, and this imitation is milder than a processor may be.) Small numbers that are
exact, such as 3 or 0.25, are exact on every processor and stay so.
"""


def _round_differently():
    import os

    import torch
    from torch import nn

    seed = os.environ["ROUNDING"]

    def moved(values):
        """Return the values with their last bits moved; a gradient by them stays as it is."""
        whole = {torch.float32: torch.int32, torch.float64: torch.int64}.get(values.dtype)
        if whole is None:
            return values
        plain = values.detach()
        scaled = plain * 1024
        exact = (scaled == scaled.round()) & (scaled.abs() < 2**20) | ~scaled.isfinite()
        bits = plain.contiguous().view(whole)
        place = torch.arange(bits.numel(), device=bits.device).view(bits.shape)
        if plain.ndim == 4:  # images: the ground has one place
            ground = plain.flatten(2).mode().values
            place = place.masked_fill(plain == ground[..., None, None], 0)
        mixed = (bits.long() ^ (bits.long() >> 17)) * 0x2545F4914F6CDD1D
        mixed += place * 0x632BE59BD9B4E019 + int(seed) * 0x9E3779B97F4A7C1
        step = ((mixed >> 40) % 3 - 1).to(whole)  # -1, 0 or 1
        apart = (bits + step).view(values.dtype) - plain  # exactly one unit in the last place
        return values + apart.masked_fill(exact, 0)  # a sum: autograd keeps nothing for it

    def patched(kind):
        plain = kind.forward

        def forward(layer, input):  # noqa: A002 torch's name
            x = input.view_as(input)  # whose gradient is what comes through this layer alone
            if x.requires_grad:
                x.register_hook(moved)
            return moved(plain(layer, x))

        kind.forward = forward

    for kind in (nn.Conv2d, nn.Linear):
        patched(kind)


_round_differently()
del _round_differently
