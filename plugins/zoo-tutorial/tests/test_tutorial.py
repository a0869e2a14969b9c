"""The tutorials' networks, layers and initializers: their shapes, names, numbers and traps."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from zoo_tutorial import source
from zoo_tutorial.datasets import TRAITS, digit_ink, digit_traits, rows
from zoo_tutorial.initializers import shift, uniform_keep_large
from zoo_tutorial.layers import CenteredLayer, MyLinear, MyLinearDetached, MySequential

from zoo.errors import InputError
from zoo.testing import ArchitectureSourceContract, DatasetContract, InitializerContract, ModuleContract

SHAPES = {
    "net_a": ((2, 3, 32, 32), (2, 10)),
    "net_b": ((2, 3, 32, 32), (2, 10)),
    "net_b_longer": ((2, 3, 32, 32), (2, 10)),
    "net_b_shorter": ((2, 3, 32, 32), (2, 84)),
    "net_b_renamed": ((2, 3, 32, 32), (2, 10)),
    "net_b_reshaped": ((2, 3, 32, 32), (2, 20)),
    "cifar10_quick": ((64, 3, 32, 32), (64, 10)),
    "one_convolution": ((64, 3, 32, 32), (64, 6, 30, 30)),
    "fashion_mlp": ((2, 1, 28, 28), (2, 10)),
    "fashion_mlp_relu": ((2, 1, 28, 28), (2, 10)),
    "mlp": ((2, 20), (2, 10)),
    "small_mlp": ((2, 4), (2, 1)),
    "sequential_mlp": ((2, 20), (2, 10)),
    "nested_mlp": ((2, 20), (2, 16)),
    "fixed_hidden_mlp": ((2, 20), ()),
    "fixed_hidden_mlp_buffer": ((2, 20), ()),
    "chimera": ((2, 20), ()),
    "nested_blocks": ((2, 4), (2, 1)),
    "shared": ((2, 4), (2, 1)),
    "centered": ((4, 8), (4, 128)),
    "my_linear": ((2, 64), (2, 1)),
    "my_linear_detached": ((2, 64), (2, 1)),
}


class TestSource(ArchitectureSourceContract):
    namespace = "tutorial"
    sample = ("net_a", "cifar10_quick", "fashion_mlp", "one_convolution")


class TestCenteredLayer(ModuleContract):
    component = "tutorial/CenteredLayer"
    input_shape = (2, 3)


class TestMyLinear(ModuleContract):
    component = "tutorial/MyLinear"
    arguments: ClassVar = {"in_features": 4, "out_features": 2}
    input_shape = (3, 4)


class TestMyLinearDetached(TestMyLinear):
    component = "tutorial/MyLinearDetached"


class TestUniformKeepLarge(InitializerContract):
    component = "tutorial/uniform_keep_large"


class TestShift(InitializerContract):
    component = "tutorial/shift"


class TestRows(DatasetContract):
    component = "tutorial/rows"
    architecture = "tutorial/small_mlp"


class TestRowsOfClasses(DatasetContract):
    component = "tutorial/rows"
    architecture = "tutorial/mlp"
    arguments: ClassVar = {"features": 20, "outputs": 10, "task": "classification"}


class TestDigitInk(DatasetContract):
    component = "tutorial/digit_ink"


class TestDigitTraits(DatasetContract):
    component = "tutorial/digit_traits"


def test_every_network_is_listed_and_tested():
    assert sorted(source.names()) == sorted(SHAPES)


def test_names_come_without_torch():
    code = "import sys; from zoo_tutorial import source; list(source.names()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", SHAPES)
def test_each_network_maps_its_input_to_its_output(name):
    given, expected = SHAPES[name]
    model = source.build(name)
    assert model(torch.rand(given)).shape == expected
    image = source.preprocessing(name)
    assert (image is None) == (len(given) == 2)
    assert image is None or (image.channels, *image.size) == given[1:]


@pytest.mark.parametrize("name", SHAPES)
def test_each_network_is_built_on_meta_with_the_same_keys(name):
    with torch.device("meta"):
        empty = source.build(name)
    assert all(tensor.is_meta for tensor in empty.state_dict().values())
    real = source.build(name).state_dict()
    assert {k: v.shape for k, v in real.items()} == {k: v.shape for k, v in empty.state_dict().items()}


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(InputError, match="did you mean net_a"):
        source.build("net_aa")


def test_the_networks_of_the_warm_start_differ_as_they_should():
    keys = {name: dict(source.build(name).state_dict()) for name in SHAPES if name.startswith("net_")}
    saved = keys["net_a"]
    assert len(saved) == 10
    assert list(keys["net_b"]) == list(saved)
    assert set(keys["net_b_longer"]) - set(saved) == {"fc4.weight", "fc4.bias"}
    assert set(saved) - set(keys["net_b_shorter"]) == {"fc3.weight", "fc3.bias"}
    assert not set(saved) & set(keys["net_b_renamed"])
    assert [v.shape for v in keys["net_b_renamed"].values()] == [v.shape for v in saved.values()]
    changed = [name for name in saved if keys["net_b_reshaped"][name].shape != saved[name].shape]
    assert changed == ["fc3.weight", "fc3.bias"]


def test_the_renamed_network_computes_the_same():
    first, second = source.build("net_a"), source.build("net_b_renamed")
    second.load_state_dict(dict(zip(second.state_dict(), first.state_dict().values(), strict=True)))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(first(images), second(images))


def test_nine_layers():
    layers = [type(layer).__name__ for layer in source.build("cifar10_quick")]
    assert layers == ["Conv2d", "MaxPool2d"] * 3 + ["Flatten", "Linear", "Linear"]


def test_the_home_made_container_is_a_sequential():
    layers = nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 10)
    rows = torch.rand(2, 20)
    assert torch.equal(MySequential(*layers)(rows), nn.Sequential(*layers)(rows))


def test_a_name_with_a_space_is_reached():
    model = source.build("nested_blocks")
    assert "0.block 1.0.bias" in model.state_dict()
    assert model.get_parameter("0.block 1.0.bias") is model[0][1][0].bias


def test_shared_layers_are_one():
    model = source.build("shared")
    assert model[2] is model[4]
    model[2].weight.data[0, 0] = 100
    assert model[4].weight[0, 0] == 100
    assert len(list(model.parameters())) == 6


def test_the_chimera_holds_its_output_small():
    assert source.build("chimera")(torch.rand(2, 20)).abs() <= 1


def test_the_plain_attribute_is_in_no_state_dict_and_the_buffer_is():
    assert "rand_weight" not in source.build("fixed_hidden_mlp").state_dict()
    assert "rand_weight" in source.build("fixed_hidden_mlp_buffer").state_dict()


def test_centered_layer():
    assert CenteredLayer()(torch.tensor([1.0, 2, 3, 4, 5])).tolist() == [-2, -1, 0, 1, 2]
    assert source.build("centered")(torch.rand(4, 8)).mean().abs() < 1e-6


def test_my_linear_learns_and_its_detached_twin_does_not():
    right, wrong = MyLinear(5, 3), MyLinearDetached(5, 3)
    wrong.load_state_dict(right.state_dict())
    rows = torch.rand(2, 5, requires_grad=True)
    assert torch.equal(right(rows), wrong(rows))
    (right(rows) + wrong(rows)).sum().backward()
    assert right.weight.grad is not None
    assert right.bias.grad is not None
    assert wrong.weight.grad is None
    assert wrong.bias.grad is None


def test_keep_large_leaves_no_small_value():
    tensor = torch.zeros(50, 50)
    uniform_keep_large(tensor)
    assert ((tensor == 0) | (tensor.abs() >= 5)).all()
    assert tensor.abs().max() <= 10
    assert 0.4 < (tensor == 0).float().mean() < 0.6
    shift(tensor, by=1)
    assert (tensor == 1).any()


def test_rows_can_be_learned_and_come_again():
    first, again, other = rows(seed=1), rows(seed=1), rows(seed=2)
    inputs, targets = (torch.stack(column) for column in zip(*first.train, strict=True))
    solution = torch.linalg.lstsq(inputs, targets).solution
    assert (inputs @ solution - targets).std() < 0.02
    assert all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first.train, again.train, strict=True)
    )
    assert not torch.equal(first.train[0][0], other.train[0][0])
    classes = rows(features=20, outputs=10, task="classification")
    assert {target for _, target in classes.train} == set(range(10))


def test_the_digits_have_ink_and_traits():
    ink = [target for _, target in digit_ink().train]
    assert len(ink) == 1797
    assert 0 < min(ink) < max(ink) < 1
    traits = digit_traits()
    assert traits.classes == tuple(TRAITS)
    assert traits.train[2][1] == [1.0, 1.0, 0.0, 0.0]  # the third image is a 2: even and prime


IMAGE = torch.tensor([[1, 2, 0, 3, 1], [0, 1, 2, 3, 1], [1, 2, 1, 0, 0], [5, 2, 3, 1, 1], [2, 1, 0, 1, 1]]).float()
KERNEL = torch.tensor([[1, 2, 1], [0, 1, 0], [2, 1, 0]]).float()


@pytest.mark.parametrize(
    ("stride", "padding", "expected"),
    [
        (1, 0, [[10, 12, 12], [18, 16, 16], [13, 9, 3]]),
        (2, 0, [[10, 12], [13, 3]]),
        (1, 1, [[1, 3, 4, 10, 8], [5, 10, 12, 12, 6], [7, 18, 16, 16, 8], [11, 13, 9, 3, 4], [14, 13, 9, 7, 4]]),
    ],
)
def test_the_tutorials_convolution(stride, padding, expected):
    output = F.conv2d(IMAGE[None, None], KERNEL[None, None], stride=stride, padding=padding)
    assert output[0, 0].tolist() == expected


def test_the_tutorials_pooling():
    assert nn.MaxPool2d(3, ceil_mode=True)(IMAGE[None, None])[0, 0].tolist() == [[2, 3], [5, 1]]
    assert nn.MaxPool2d(3, ceil_mode=False)(IMAGE[None, None])[0, 0].tolist() == [[2]]
