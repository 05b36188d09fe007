"""The course's network, two of other architectures that it is held against, and the trained copies of all."""

import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from helpers.checks import flag, number
from helpers.data import DATA


class DigitCNN(nn.Module):
    """Two convolutions and two linear layers: 799,078 parameters, 128 more with batch norm.

    Args:
        batch_norm: normalise after each convolution (Ioffe and Szegedy, 2015).

    Source: the architecture of part B of the assignment.
    """

    def __init__(self, batch_norm: bool = False):
        super().__init__()
        batch_norm = flag("batch_norm", batch_norm)
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(32) if batch_norm else nn.Identity()
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(32, 32, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm2d(32) if batch_norm else nn.Identity()
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(32 * 7 * 7, 500)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(500, 10)
        # (N, H, W, C) in memory: a processor's convolutions take about two thirds of the time; no value changes place.
        # A GPU is faster with (N, C, H, W): `model.to("cuda", memory_format=torch.contiguous_format)`.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 1, 28, 28) in [0, 1] to logits (N, 10), computed where the network is, returned to the images.

        Raises:
            TypeError: no tensor.
            ValueError: another shape, or a type that is not floating-point.
        """
        if not torch.is_tensor(images):
            raise TypeError(f"expected images as a tensor (N, 1, 28, 28), got {type(images).__name__}")
        if images.ndim != 4 or images.shape[1:] != (1, 28, 28):
            raise ValueError(f"expected images of shape (N, 1, 28, 28), got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise ValueError(f"expected images of a floating-point type, got {images.dtype}")
        x = images.to(self.conv1.weight.device)
        x = self.pool1(self.relu1(self.bn1(self.conv1(x))))  # (N, 32, 14, 14)
        x = self.pool2(self.relu2(self.bn2(self.conv2(x))))  # (N, 32, 7, 7)
        x = self.relu3(self.fc1(x.flatten(1)))  # (N, 500)
        return self.fc2(x).to(images.device)  # (N, 10)


class LeNet(nn.Sequential):
    """LeNet-5 with ReLU and max-pooling, 61,706 parameters: from images (N, 1, 28, 28) in [0, 1] to logits (N, 10).

    Source: Y. LeCun et al., Gradient-Based Learning Applied to Document Recognition (1998).
    """

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 6, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        )


class MLP(nn.Sequential):
    """One hidden layer of 200 units, 159,010 parameters: from images (N, 1, 28, 28) in [0, 1] to logits (N, 10)."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


def load_cnn(batch_norm: bool = True, *, robust: bool = False, interval: bool = False) -> DigitCNN:
    """Return the trained network from `data/`, in eval mode and with gradients off.

    Args:
        batch_norm: the network with batch norm (the course's best) or the one without.
        robust: instead, the one without batch norm that was trained adversarially, against PGD at eps 0.3.
        interval: instead, the one without batch norm that was trained on interval bounds, up to eps 0.2.

    Raises:
        FileNotFoundError: the file is missing.
        TypeError: one of the arguments is neither true nor false.
        ValueError: both others are asked for at once; or the file is damaged, or holds something other than this
            network's weights, NaN or infinity among it.
    """
    batch_norm, robust, interval = (
        flag(name, value) for name, value in [("batch_norm", batch_norm), ("robust", robust), ("interval", interval)]
    )
    if robust and interval:
        raise ValueError("expected robust or interval, got both")
    if robust or interval:
        return trained(DigitCNN(), "cnn_robust" if robust else "cnn_interval")
    return trained(DigitCNN(batch_norm), "cnn_batch_norm" if batch_norm else "cnn")


def load_lenet(seed: int = 1) -> LeNet:
    """Return a trained LeNet from `data/`, an independent judge: another architecture, started from another seed.

    It is in eval mode and with gradients off.

    Args:
        seed: 1, 2 or 3, of the weights' start and of the images' order.

    Raises:
        ValueError: another seed; and so are the errors of `load_cnn`.
    """
    return trained(LeNet(), f"lenet_{_seed(seed)}")


def load_mlp(seed: int = 1) -> MLP:
    """Return a trained MLP from `data/`, a network that knows nothing of neighbours; arguments as of `load_lenet`."""
    return trained(MLP(), f"mlp_{_seed(seed)}")


def _seed(seed: int) -> int:
    """Return the seed if there are trained networks of it."""
    return number("seed", seed, whole=True, least=1, most=3)


def trained(model: nn.Module, name: str) -> nn.Module:
    """Return the model with the weights of `data/<name>.pt`, in eval mode and with gradients off."""
    path = checkpoint(name)
    way_out = f"Restore it with `git checkout -- data/{path.name}`, or train it again with `make checkpoints`."
    if not path.is_file():
        raise FileNotFoundError(f"no trained network at {path}. {way_out}")
    try:
        with zipfile.ZipFile(path) as archive:  # which a checkpoint is: its checksums find damage that torch would load
            if archive.testzip():
                raise zipfile.BadZipFile(f"{archive.testzip()} fails its checksum")
        # weights_only: tensors are read, code in a foreign file is never run.
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        broken = [name for name, values in model.state_dict().items() if not values.isfinite().all()]
        if broken:
            raise ValueError(f"NaN or infinity in {', '.join(broken)}.")
    except Exception as error:  # a damaged file can fail in any way
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} does not hold the weights of {type(model).__name__}: {cause} {way_out}") from error
    return model.eval().requires_grad_(False)


def checkpoint(name: str) -> Path:
    """Return the path of a trained network."""
    return DATA / f"{name}.pt"
