"""The course's heavy work beside what a user would take instead: what `make bench` runs, one module a part.

Each piece of work is done by the course and by its peer in turn, in one process and on the same data, and the
median of the ratios is told together with a check that both computed the same (`rows`). Libraries get the same networks
in PyTorch's usual memory layout, and the best of several batch sizes (`peers`). Attacks are compared by how many images
they fool: in float32 the peers' cross-entropy loses a part of the gradient (in float64 PGD is that of torchattacks to
1e-12, see tests/helpers/test_peers.py). Seconds differ from computer to computer and minute to minute, ratios less.

The parts `start`, `occlusion`, `attacks`, `noise`, `training` and `course` are rows of one table, on the processor;
`gpu` has a table of its own, and a graphics card alone computes it. `peak`, `precision`, `growth` and `table` say one
more thing each.
"""
