"""MNIST from its archives: right, whole, and mended after every accident."""

import gzip
import shutil
import subprocess
import sys

import pytest
import torch

import helpers.data
from helpers.data import DATA, EXTRACTED, load_mnist

ARCHIVES = [f"{name}.gz" for name in EXTRACTED]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A data folder as a fresh clone has it: archives, nothing extracted."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ARCHIVES:
        shutil.copy(DATA / "MNIST" / "raw" / name, raw)
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


def test_pixels_and_labels_are_those_of_the_archive():
    images, labels = load_mnist(train=False)
    pixels = gzip.decompress((DATA / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    digits = gzip.decompress((DATA / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    assert labels.tolist() == list(digits)
    assert torch.equal(
        (images[[0, 9_999]] * 255).round().byte().flatten(), torch.tensor([*pixels[:784], *pixels[-784:]]).byte()
    )


def test_a_fresh_clone_is_extracted_and_nothing_else_is_left(clone):
    load_mnist(train=False)
    assert sorted(path.name for path in clone.iterdir()) == sorted([*ARCHIVES, *EXTRACTED])


def test_a_half_extracted_file_is_mended(clone):
    load_mnist(train=False)
    path = clone / "t10k-images-idx3-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    images, _ = load_mnist(train=False)
    assert len(images) == 10_000
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_truncated_archive_is_named_with_the_way_out(clone, name):
    archive = clone / name
    archive.write_bytes(archive.read_bytes()[:-100])
    before = archive.read_bytes()
    with pytest.raises(RuntimeError, match=rf"{name} is missing or damaged.*git checkout -- data/MNIST/raw"):
        load_mnist(train=True)
    assert archive.read_bytes() == before
    assert sorted(path.name for path in clone.iterdir()) == sorted(ARCHIVES)


def test_a_missing_archive_is_named_with_the_way_out(clone):
    (clone / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(RuntimeError, match=r"train-labels-idx1-ubyte.gz is missing.*no file.*git checkout"):
        load_mnist(train=True)


def test_a_full_disk_leaves_no_half_file(clone, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", full)
    with pytest.raises(OSError, match="No space left"):
        load_mnist(train=True)
    assert sorted(path.name for path in clone.iterdir()) == sorted(ARCHIVES)


@pytest.mark.usefixtures("clone")
def test_a_folder_that_cannot_be_written_is_named(monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refused)
    with pytest.raises(PermissionError, match=r"cannot extract the MNIST archives into .*raw: Permission denied"):
        load_mnist(train=True)


def test_four_processes_that_start_at_once_all_read_whole_files(clone):
    code = (
        "import sys, pathlib, helpers.data as d; d.DATA = pathlib.Path(sys.argv[1]);"
        "x, y = d.load_mnist(False); print(len(x), int(y.sum()), round(float(x.double().sum())))"
    )
    command = [sys.executable, "-c", code, str(clone.parent.parent)]
    runs = [subprocess.Popen(command, cwd=DATA.parent, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {run.communicate(timeout=120)[0] for run in runs}
    assert [run.returncode for run in runs] == [0] * 4
    assert said == {"10000 44434 1038915\n"}
    assert sorted(path.name for path in clone.iterdir()) == sorted([*ARCHIVES, *EXTRACTED])
