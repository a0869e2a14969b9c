"""Splitting a model: both halves together are the model, at any depth, in either mode."""

import pytest
import torch
from torch import nn

from zoo.model.freezing import freeze
from zoo.training.trunk.split import UnsplittableError, split

ARCHITECTURES = ["resnet18", "vit_tiny_patch16_224", "levit_128s", "tf_efficientnet_lite0", "test_convnext"]


@pytest.mark.parametrize("where", ["head", "half"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_halves_give_the_models_output(build, images, name, where):
    model = build(name, where)
    inputs = images(model, 4)
    parts = split(model, inputs[:3])
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = model(inputs)
    model.load_state_dict(kept)
    torch.manual_seed(3)
    got = parts.rest(*parts.trunk(inputs))
    assert torch.allclose(got, expected, rtol=1e-5, atol=1e-5 * float(expected.detach().abs().max()))


def test_rest_trains_the_models_own_parameters(build):
    model = build("resnet18", "half")
    inputs = torch.randn(4, 3, 64, 64)
    parts = split(model, inputs)
    own = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in parts.rest.parameters() if parameter.requires_grad} == own
    parts.rest(*[feature.detach() for feature in parts.trunk(inputs)]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_splitting_leaves_the_model_and_the_generator_as_they_were(build):
    model = build("resnet18", "half")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    split(model, torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training


def test_dropout_in_front_of_the_head_stays_in_the_rest(build):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 10))
    freeze(model, ["0"])
    model.train()
    parts = split(model, torch.randn(4, 3, 8, 8))
    features = parts.trunk(torch.randn(4, 3, 8, 8))
    assert not torch.equal(parts.rest(*features), parts.rest(*features))


def test_running_statistics_that_still_move_are_not_in_the_trunk():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)).train()
    model.requires_grad_(False)[3].requires_grad_(True)  # frozen by hand: its batch norm drifts
    parts = split(model, torch.randn(4, 3, 8, 8))
    assert any(isinstance(module, nn.BatchNorm2d) for module in parts.rest.modules())


def test_evaluation_mode_splits_too(build):
    model = build("tf_efficientnet_lite0", "half").eval()
    inputs = torch.randn(4, 3, 64, 64)
    parts = split(model, inputs)
    with torch.no_grad():
        assert torch.allclose(parts.rest(*parts.trunk(inputs)), model(inputs), rtol=1e-4, atol=1e-5)


class Untraceable(nn.Module):
    """Control flow on values: no tracer can follow it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        x = self.linear(x)
        while x.abs().sum() > 1:
            x = x / 2
        return x


def test_untraceable_frozen_module_is_kept_whole():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            return self.linear(x) if x.shape[-1] == 8 else x

    model = nn.Sequential(Branches(), nn.Linear(8, 2))
    freeze(model, ["0"])
    inputs = torch.randn(4, 8)
    parts = split(model.train(), inputs)
    assert parts.method == "module boundary"
    assert torch.equal(parts.rest(*parts.trunk(inputs)), model(inputs))


def test_a_batch_that_mixes_samples_is_refused_with_a_reason():
    model = nn.Sequential(Untraceable(), nn.Linear(8, 2))  # its loop runs over the sum of the whole batch
    freeze(model, ["0"])
    with pytest.raises(UnsplittableError, match=r"module boundary: .*differs"):
        split(model.train(), torch.randn(4, 8) * 3)


def test_nothing_frozen_is_refused_with_a_reason(build):
    with pytest.raises(UnsplittableError, match="nothing in front"):
        split(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)).train(), torch.randn(4, 8))
