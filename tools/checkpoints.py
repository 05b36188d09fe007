"""Train both networks of the course from scratch into `data/`: what `make checkpoints` runs."""

import os

import torch

from helpers.cnn import DigitCNN, checkpoint
from helpers.data import load_mnist, split
from helpers.training import accuracy, train

EPOCHS = 8
SEED = 0


def main() -> None:
    """Train, say the test accuracy, and move each file into place once it is whole."""
    training, validation = split(*load_mnist(train=True))
    test_images, test_labels = load_mnist(train=False)
    for batch_norm in (False, True):
        torch.manual_seed(SEED)  # the weights' start
        model = DigitCNN(batch_norm)
        train(model, *training, validation=validation, epochs=EPOCHS, seed=SEED)
        path = checkpoint(batch_norm)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            torch.save(model.state_dict(), beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        print(
            f"{path.name}: {accuracy(model, *validation):.2%} of the {len(validation[0]):,} validation images, "
            f"{accuracy(model, test_images, test_labels):.2%} of the 10,000 test images"
        )


if __name__ == "__main__":
    main()
