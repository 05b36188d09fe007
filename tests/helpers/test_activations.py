"""What layers answer to an image: recorded with hooks that are gone afterwards, drawn on one scale."""

import pytest
import torch
from torch import nn

from helpers.activations import record, show_activations
from helpers.cnn import DigitCNN


def untrained() -> nn.Module:
    torch.manual_seed(0)
    return DigitCNN(batch_norm=True).train()


def some_images(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_record_returns_what_the_layers_answered():
    model, images = untrained(), some_images(2)
    found = record(model, images, ["conv1", "relu1", "relu2", "fc2"])
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "conv1": (2, 32, 28, 28),
        "relu1": (2, 32, 28, 28),
        "relu2": (2, 32, 14, 14),
        "fc2": (2, 10),
    }
    assert model.training
    model.eval()
    torch.testing.assert_close(found["fc2"], model(images).detach())
    torch.testing.assert_close(found["relu1"], model.bn1(model.conv1(images)).clamp(min=0).detach())
    assert not any(value.requires_grad for value in found.values())


def test_an_in_place_layer_does_not_change_what_was_recorded():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True))
    with torch.no_grad():
        expected = model[0](some_images(1))
    assert torch.equal(record(model, some_images(1), ["0"])["0"], expected)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_hooks_are_gone_also_after_an_exception():
    class Breaks(DigitCNN):
        def forward(self, images):
            self.conv1(images)
            raise RuntimeError("boom")

    model = Breaks()
    with pytest.raises(ValueError, match="boom"):
        record(model, some_images(1), ["conv1"])
    assert hooks(model) == 0
    other = untrained()
    record(other, some_images(1), ["conv1"])
    assert hooks(other) == 0


def test_an_unknown_layer_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"conv1, bn1.*got conv3"):
        record(untrained(), some_images(1), ["conv1", "conv3"])


def test_a_layer_that_was_not_called_is_refused():
    class Skips(DigitCNN):
        def forward(self, images):
            return self.conv1(images)

    with pytest.raises(ValueError, match="got fc2, which it did not call"):
        record(Skips(), some_images(1), ["conv1", "fc2"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": "relu1"}, r"write \['relu1'\]"),
        ({"images": None}, "expected images as a tensor, got NoneType"),
        ({"model": len}, "expected a torch.nn.Module .* got builtin"),
    ],
)
def test_another_type_is_refused(change, said):
    arguments = {"model": untrained(), "images": some_images(1), "layers": ["relu1"]} | change
    with pytest.raises(TypeError, match=said):
        record(**arguments)


class Twice(nn.Module):
    """One ReLU after each of two layers, and the second layer under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()
        self.last = self.second

    def forward(self, images):
        return self.relu(self.last(self.relu(self.first(images))))


def test_a_layer_that_is_called_twice_is_refused():
    model = Twice()
    with pytest.raises(ValueError, match="got relu, called 2 times"):
        record(model, torch.ones(1, 2), ["first", "relu"])
    assert hooks(model) == 0


def test_a_layer_may_have_two_names():
    model, x = Twice(), torch.ones(1, 2)
    found = record(model, x, ["last", "second", "first"])
    expected = model.second(model.first(x).relu()).detach()
    assert torch.equal(found["last"], expected)
    assert torch.equal(found["second"], expected)
    assert list(found) == ["last", "second", "first"]


def test_a_layer_that_returns_a_tuple_is_refused():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(28, 4)
            self.fc = nn.Linear(4, 10)

        def forward(self, images):
            return self.fc(self.lstm(images[:, 0])[0][:, -1])

    model = Recurrent()
    with pytest.raises(TypeError, match="return a tensor, got lstm, which returned a tuple"):
        record(model, some_images(2), ["lstm"])
    assert hooks(model) == 0
    assert record(model, some_images(2), ["fc"])["fc"].shape == (2, 10)


def test_a_model_that_works_in_place_does_not_change_the_images():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Identity()

        def forward(self, images):
            return self.last(images.mul_(2))

    images = some_images(1)
    found = record(InPlace(), images, ["last"])["last"]
    assert torch.equal(images, some_images(1))
    assert torch.equal(found, 2 * images)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (2, 3, 20, 30)])
def test_any_images_of_the_models_type_are_recorded_and_drawn(kind, shape):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to(kind)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(kind)
    found = record(model, images.to(memory_format=torch.channels_last).requires_grad_(), ["0", "1"])
    assert torch.equal(found["1"], found["0"].relu())
    assert (found["1"].dtype, found["1"].requires_grad) == (kind, False)
    torch.testing.assert_close(found["0"], model[0](images).detach())
    first = show_activations(found["0"][0].requires_grad_()).axes[0].images[0]
    assert torch.equal(torch.tensor(first.get_array()).to(kind), found["0"][0, 0].detach())


def test_images_of_another_type_than_the_models_are_refused():
    with pytest.raises(ValueError, match=r"the model's torch\.float32, got torch\.float64"):
        record(untrained(), some_images(1).double(), ["conv1"])


def test_activations_are_drawn_on_one_scale():
    signed = torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]])
    assert [image.get_clim() for image in show_activations(signed).axes[0].images] == [(-2, 2)] * 2
    assert [image.get_clim() for image in show_activations(signed.relu()).axes[0].images] == [(0, 1)] * 2
    with pytest.raises(ValueError, match=r"got \(1, 2, 3, 4\)"):
        show_activations(torch.zeros(1, 2, 3, 4))
    with pytest.raises(TypeError, match="activation as a tensor, got dict"):
        show_activations({"relu1": signed})


def test_activations_of_any_type_are_drawn_and_those_that_are_none_are_told():
    (image,) = show_activations(torch.tensor([[[True, False]]])).axes[0].images
    assert image.get_array().tolist() == [[1, 0]]
    (image,) = show_activations(torch.tensor([[[-128, 3]]], dtype=torch.int8)).axes[0].images
    assert image.get_clim() == (-128, 128)
    for shape in [(0, 2, 2), (1, 0, 2)]:
        with pytest.raises(ValueError, match=rf"\(channels, height, width\), got \({shape[0]}, {shape[1]}, 2\)"):
            show_activations(torch.zeros(shape))
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite activations, got NaN or infinity"):
            show_activations(torch.tensor([[[value, 1.0]]]))


class Parts(nn.Module):
    """A model with a part that may be compiled or scripted."""

    def __init__(self, part):
        super().__init__()
        self.first, self.part = nn.Conv2d(1, 2, 3), part

    def forward(self, images):
        return self.part(self.first(images))


def parts() -> Parts:
    torch.manual_seed(0)
    return Parts(nn.Sequential(nn.ReLU(), nn.Conv2d(2, 1, 3)))


def in_place(model):
    model.compile(backend="eager")
    return model


def a_part(model):
    model.part = torch.compile(model.part, backend="eager")
    return model


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("compiled", [lambda model: torch.compile(model, backend="eager"), in_place, a_part])
def test_a_compiled_model_is_recorded_under_its_own_names(compiled, used):
    expected = record(parts(), some_images(2), ["first", "part.0", "part"])
    model = compiled(parts())
    if used:
        with torch.no_grad():
            model(some_images(2))
    found = record(model, some_images(2), ["first", "part.0", "part"])
    assert list(found) == list(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])
    assert hooks(model) == 0


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_scripted_model_is_refused_with_what_to_record_instead():
    said = "got 0 of one that is scripted or traced; record the model it was made from"
    for scripted in (torch.jit.script(parts().part), torch.jit.trace(parts().part, torch.rand(1, 2, 4, 4))):
        with pytest.raises(TypeError, match=said):
            record(scripted, torch.rand(1, 2, 4, 4), ["0"])
        model = Parts(scripted)
        with pytest.raises(TypeError, match=said.replace("0", "part.0")):
            record(model, some_images(1), ["first", "part.0"])
        assert list(record(model, some_images(1), ["first"])) == ["first"]  # which runs in Python


def test_names_may_come_from_anywhere_and_what_is_no_name_is_refused():
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.rand(3, 1, 2, 2)
    assert list(record(model, images, (name for name in ["0", "1"]))) == ["0", "1"]
    for wrong in (None, 3, [0], [model[0]]):
        with pytest.raises(TypeError, match="expected a list of layers' names"):
            record(model, images, wrong)
