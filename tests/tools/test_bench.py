"""The table of `make bench`: what a row says, where a part is found, and training by a recorded step."""

from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.cnn import DigitCNN
from helpers.data import load_mnist
from tools.bench import gpu
from tools.bench.__main__ import REPORTS, ROWS, main
from tools.bench.graph import train_by_graph
from tools.bench.peers import usual
from tools.bench.rows import Row, Timed, measure


def row(*, ours=1.0, theirs=4.0, right=True, aim=1 / 2):
    """A row of which both sides tell their seconds."""
    return Row(
        "work", "peer", aim, lambda: Timed(ours, "a"), lambda: Timed(theirs, "b"), lambda a, b: (right, f"{a} and {b}")
    )


@pytest.mark.parametrize(
    ("made", "verdict"),
    [(row(), "reached"), (row(aim=1 / 5), "missed"), (row(right=False), "WRONG"), (row(theirs=0.5), "missed")],
)
def test_a_row_is_right_before_it_is_fast(made, verdict):
    assert measure(made).split()[-4:] == [verdict, "a", "and", "b"]


def test_the_ratio_is_the_median_of_the_turns_which_alternate():
    turns, seconds = [], iter([6.0, 1.0, 1.0, 4.0, 2.0, 2.0])  # theirs, ours; ours, theirs; theirs, ours

    def side(name):
        turns.append(name)
        return Timed(next(seconds), name)

    line = measure(row()._replace(ours=lambda: side("ours"), theirs=lambda: side("theirs")))
    assert turns == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert line.split()[2:5] == ["4.00", "1.00", "1/4.00"]  # the ratios are 1/6, 1/4 and 1/1


def test_a_warm_up_is_done_and_not_counted():
    done = []
    measure(row()._replace(ours=lambda: done.append("ours"), theirs=lambda: done.append("theirs"), warm_up=True))
    assert (done.count("ours"), done.count("theirs")) == (4, 4)


def test_each_part_is_the_module_of_its_name():
    for part in ROWS:
        assert callable(import_module(f"tools.bench.{part}").rows)
    for part in REPORTS:
        assert callable(import_module(f"tools.bench.{part}").report)


def test_an_unknown_part_is_told_which_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["attack"])
    said = capsys.readouterr().err
    assert "no part attack;" in said
    assert all(part in said for part in (*ROWS, *REPORTS))


def test_a_peer_gets_the_network_in_the_usual_layout():
    model = DigitCNN()
    before = model.conv2.weight.clone()
    assert not before.is_contiguous()
    assert usual(model).conv2.weight.is_contiguous()
    assert torch.equal(model.conv2.weight, before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card here")
def test_the_gpu_part_says_why_it_is_skipped(capsys):
    gpu.report()
    assert capsys.readouterr().out.strip() == "gpu: skipped, since PyTorch finds no CUDA card here"


def test_training_by_a_recorded_step_is_the_plain_loop():
    """On a processor nothing is recorded: that every image of every batch reaches the step, with its label and rate."""
    images, labels = (part[:130] for part in load_mnist(train=True))
    torch.manual_seed(0)
    ours, plain = (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    train_by_graph(ours, images, labels, epochs=2, batch_size=60, max_lr=0.01, seed=3)

    generator = torch.Generator().manual_seed(3)
    orders = [torch.randperm(130, generator=generator)[:120].view(2, 60) for _ in range(2)]
    optimizer = torch.optim.Adam(plain.parameters())
    for drawn, rate in zip(torch.cat(orders), (0.01, 0.0075, 0.005, 0.0025), strict=True):  # one cycle of four steps
        optimizer.param_groups[0]["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            logits = plain(images[drawn])
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels[drawn], label_smoothing=0.1).backward()
        optimizer.step()
    torch.testing.assert_close(ours[1].weight, plain[1].weight)
    torch.testing.assert_close(ours[1].bias, plain[1].bias)
