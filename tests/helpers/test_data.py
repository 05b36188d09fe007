"""MNIST from its archives: right, whole, and with a clear error after every accident."""

import copy
import pickle
import shutil
import subprocess
import sys

import pytest
import torch

import helpers.data
from helpers.data import ARCHIVES, DATA, dither, dithered, load_mnist, split

RAW = DATA / "MNIST" / "raw"


@pytest.fixture
def torchvision_mnist():
    """torchvision's own MNIST, whose import takes a second: for the tests that need it."""
    from torchvision.datasets import MNIST

    return MNIST


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A data folder as a fresh clone has it."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ARCHIVES:
        shutil.copy(RAW / name, raw)
    monkeypatch.setattr(helpers.data, "DATA", tmp_path / "data")
    return raw


@pytest.mark.parametrize(("train", "count"), [(True, 60_000), (False, 10_000)])
def test_shapes_types_and_ranges(train, count):
    images, labels = load_mnist(train)
    assert images.shape == (count, 1, 28, 28)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    assert labels.shape == (count,)
    assert labels.dtype == torch.int64
    assert labels.unique().tolist() == list(range(10))


def test_pixels_and_labels_are_those_torchvision_reads(clone, torchvision_mnist):
    # It finds the archives, verifies and extracts them.
    theirs = torchvision_mnist(clone.parents[1], train=False, download=True)
    images, labels = load_mnist(train=False)
    assert torch.equal(labels, theirs.targets)
    assert torch.equal(images, theirs.data.unsqueeze(1) / 255)


def test_the_published_checksums_are_those_of_torchvision(torchvision_mnist):
    assert dict(torchvision_mnist.resources) == ARCHIVES


@pytest.mark.usefixtures("clone")
def test_reading_writes_nothing(clone):
    clone.chmod(0o555)
    load_mnist(train=False)
    assert sorted(path.name for path in clone.iterdir()) == sorted(ARCHIVES)
    clone.chmod(0o755)


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("damage", [lambda whole: whole[:-100], lambda whole: whole[:-1] + b"?", lambda whole: b""])
def test_a_damaged_archive_is_named_with_the_way_out(clone, name, damage):
    archive = clone / name
    archive.write_bytes(damage(archive.read_bytes()))
    before = archive.read_bytes()
    with pytest.raises(RuntimeError, match=rf"{name} is missing or damaged.*git checkout -- data/MNIST/raw"):
        load_mnist(train=name.startswith("train"))
    assert archive.read_bytes() == before


def test_a_missing_archive_is_named_with_the_way_out(clone):
    (clone / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(RuntimeError, match=r"train-labels-idx1-ubyte.gz is missing.*no file.*git checkout"):
        load_mnist(train=True)


def test_the_course_starts_without_importing_torchvision():
    code = "import sys, helpers.adversarial, helpers.training, helpers.show; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=DATA.parent).returncode == 0, "it takes two seconds to load"


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
def test_images_are_of_the_default_dtype():
    images, _ = load_mnist(train=False)
    assert images.dtype == torch.float64
    assert torch.equal((images * 255).round(), images * 255)  # every pixel is k / 255 to the last bit
    assert torch.equal(images, (images * 255).round() / 255)


def test_the_validation_set_is_drawn_by_its_seed_and_the_rest_is_left():
    images, labels = torch.arange(100.0)[:, None], torch.arange(100)
    (rest, rest_labels), (drawn, drawn_labels) = split(images, labels, validation=30, seed=1)
    assert (len(rest), len(drawn)) == (70, 30)
    assert torch.equal(torch.cat([rest_labels, drawn_labels]).sort().values, labels)
    assert torch.equal(rest[:, 0].long(), rest_labels)
    assert torch.equal(drawn[:, 0].long(), drawn_labels)
    assert drawn_labels.diff().min() > 0  # in their order, and not the last ones
    assert drawn_labels.max() - drawn_labels.min() > 60
    again = split(images, labels, validation=30, seed=1)[1][1]
    assert torch.equal(again, drawn_labels)
    assert not torch.equal(split(images, labels, validation=30, seed=2)[1][1], drawn_labels)


@pytest.mark.parametrize("validation", [0, 100, -1, 1.5])
def test_a_split_that_cannot_be_is_refused(validation):
    with pytest.raises(ValueError, match=f"validation to be .*, got {validation}"):
        split(torch.zeros(100, 1), torch.zeros(100), validation=validation)
    with pytest.raises(ValueError, match="as many labels as images, got 99 and 100"):
        split(torch.zeros(100, 1), torch.zeros(99))
    with pytest.raises(TypeError, match="two tensors, got NoneType and Tensor"):
        split(None, torch.zeros(99))


@pytest.mark.parametrize("name", ["test", "train", None])
def test_a_split_by_name_is_refused(name):
    with pytest.raises(TypeError, match=f"train to be True or False, got {name!r}"):
        load_mnist(name)


def test_a_noise_of_a_millionth_leaves_no_two_pixels_equal():
    flat = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)[:, None, None, None].expand(3, 1, 8, 8)
    noisy = dither(flat)
    assert all(len(image.unique()) == 64 for image in noisy)
    assert (noisy - flat).abs().max() <= 1e-6
    torch.testing.assert_close(dither(flat, share=1e-3) - flat, 1000 * (noisy - flat), rtol=1e-6, atol=0)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert torch.equal(noisy, dither(flat))
    assert not torch.equal(noisy, dither(flat, seed=1))


def test_a_model_sees_all_images_with_one_noise_of_a_billionth():
    flat = torch.ones(3, 1, 8, 8, dtype=torch.float64)
    plain = torch.nn.Identity()
    model = dithered(plain)
    noise = model(flat) - flat
    assert model is plain
    assert len(noise[0].unique()) == 64
    assert 0 <= noise.min() <= noise.max() <= 1.001e-9
    assert torch.equal(noise, noise[:1].expand_as(noise))  # whatever its place in a batch
    assert torch.equal(noise, model(flat) - flat)
    assert not torch.equal(noise, dithered(torch.nn.Identity(), seed=1)(flat) - flat)
    assert model(flat.float()).dtype == torch.float32
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(flat), model(flat))


def test_a_noise_for_no_model_is_refused():
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module"):
        dithered(torch.ones(1))


def test_what_cannot_be_dithered_is_refused():
    with pytest.raises(ValueError, match=r"expected images of torch.float64, got torch.float32"):
        dither(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\], got 2 to 2"):
        dither(torch.full((1, 1, 2, 2), 2.0, dtype=torch.float64))
    with pytest.raises(ValueError, match="share to be at least 0 and at most 1, got 2"):
        dither(torch.zeros(1, 1, 2, 2, dtype=torch.float64), share=2)
