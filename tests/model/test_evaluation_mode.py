"""What keeps a network in the function that was evaluated, and how it is held there while it trains."""

import pytest
import torch
from torch import nn

from zoo.model.build import build
from zoo.model.evaluation_mode import chance_modules, running_statistics
from zoo.model.freezing import freeze, frozen_too


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("torchvision/mobilenet_v2", {}),
        ("timm/test_resnet", {}),
        ("timm/test_efficientnet", {"drop_path_rate": 0.5}),
        ("timm/test_vit", {"drop_path_rate": 0.5, "proj_drop_rate": 0.3}),
        ("torchvision/convnext_tiny", {"stochastic_depth_prob": 0.9}),
    ],
)
def test_held_it_trains_as_it_evaluates(name, arguments):
    torch.manual_seed(0)
    model = build(name, arguments).model
    images = torch.randn(4, 3, 160, 160)
    expected = model.eval()(images)
    with frozen_too(model, [*running_statistics(model), *chance_modules(model)]):
        answers = model.train()(images)
        assert torch.allclose(answers, expected, rtol=1e-4, atol=1e-5)
        answers.sum().backward()
        assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.train().modules())


def test_what_was_frozen_is_frozen_afterwards_and_nothing_else():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    before = freeze(model, ["0"])
    with frozen_too(model, [*running_statistics(model), *chance_modules(model)]) as frozen:
        assert set(before.parameters) == set(frozen.parameters) == {"0.weight", "0.bias"}
        assert set(frozen.buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
        assert [module.training for module in model.train()] == [False, False, False, True]
    assert [module.training for module in model.train()] == [False, True, True, True]
    assert not model[0].weight.requires_grad
    assert model[1].weight.requires_grad


def test_a_module_that_a_surgery_took_away_is_not_missed():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    freeze(model, ["0", "2"])
    del model[2]
    with frozen_too(model, chance_modules(model)) as frozen:
        assert set(frozen.parameters) == {"0.weight", "0.bias"}
