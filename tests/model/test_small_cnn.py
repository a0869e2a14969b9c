"""The network that plugins are tried on."""

import torch

from zoo.model.build import build
from zoo.model.heads import find_head


def test_images_of_any_size_give_scores():
    model = build("zoo/small_cnn", {"num_classes": 5, "in_channels": 1}).model
    assert [list(model(torch.rand(2, 1, size, size)).shape) for size in (16, 33)] == [[2, 5], [2, 5]]


def test_it_is_as_small_as_it_says_and_has_a_head():
    model = build("small_cnn", device="meta").model
    assert round(sum(parameter.numel() for parameter in model.parameters()), -3) == 9_000
    assert find_head(model) == "classifier"
