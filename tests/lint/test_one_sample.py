"""Batch norm in front of a batch of one sample, found on meta."""

import torch
from torch import nn

from zoo.lint import fails_on_one_sample
from zoo.model.freezing import freeze


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_what_follows_global_pooling_needs_two_samples():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    assert fails_on_one_sample(pooled, (2, 3, 8, 8))
    assert not fails_on_one_sample(network(), (2, 3, 8, 8))  # many values a channel
    assert not fails_on_one_sample(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (2, 3, 2, 2))
    freeze(pooled, ["1", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"])
    assert not fails_on_one_sample(pooled, (2, 3, 8, 8))


def test_the_model_stays_as_it_is():
    model = network().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not fails_on_one_sample(model, (2, 3, 8, 8))
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not fails_on_one_sample(model, (2, 5, 8, 8))  # another mistake, which others report
