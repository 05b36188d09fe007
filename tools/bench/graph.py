"""Training on a graphics card that never waits for the processor: a step is recorded once, as a CUDA graph.

A network as small as `DigitCNN` computes a step faster than Python can ask for it. A recorded step is asked for as a
whole: it reads its images, labels and rate from the same places in memory each time, where the next ones are copied.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.batches import in_mode
from helpers.training import one_cycle

WARM_UP = 3  # steps that are computed as usual, since what they set up cannot be recorded


def train_by_graph(
    model: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, batch_size: int, max_lr: float, seed: int
) -> None:
    """Train the model in place as `helpers.training.train` does, in bfloat16 and with labels smoothed by 0.1.

    Args:
        model: takes images (N, 1, 28, 28), returns logits (N, 10).
        images: (N, 1, 28, 28) in [0, 1], on the model's device; on a processor each step is computed as usual.
        labels: (N,) int64, on the same device.
        epochs: passes over the images, each without the N % batch_size images that are drawn last.
        batch_size: images a step.
        max_lr: the highest learning rate of the cycle.
        seed: of the order in which images are drawn.
    """
    device, count = images.device, len(images) // batch_size * batch_size
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(images), generator=generator)[:count] for _ in range(epochs)])
    batches = order.to(device).split(batch_size)
    cycle = one_cycle(len(batches))
    rates = torch.tensor([max_lr * cycle(done) for done in range(len(batches))], device=device)

    batch, answers, rate = images[:batch_size].clone(), labels[:batch_size].clone(), rates[0].clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True, capturable=images.is_cuda)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            logits = model(batch)
        F.cross_entropy(logits.float(), answers, label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad()

    play = step
    with in_mode(model, training=True), aside(device):
        for done, drawn in enumerate(batches):
            batch.copy_(images[drawn])
            answers.copy_(labels[drawn])
            rate.copy_(rates[done])
            if done == WARM_UP and images.is_cuda:
                play = recorded(step)
            play()
    if images.is_cuda:
        torch.cuda.synchronize()


def aside(device: torch.device) -> torch.cuda.StreamContext | nullcontext:
    """Return a context of a stream of its own, as recording demands, on a card; elsewhere one that does nothing."""
    if device.type != "cuda":
        return nullcontext()
    torch.cuda.synchronize()
    return torch.cuda.stream(torch.cuda.Stream())


def recorded(step: Callable[[], None]) -> Callable[[], None]:
    """Record the step without computing it, on the present stream; return what computes it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        step()
    return graph.replay
