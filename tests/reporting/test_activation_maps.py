"""Grad-CAM on networks whose answer depends on a place that is known."""

import pytest
import timm
import torch
from torch import nn

from zoo.reporting.activation_maps import activation_maps


class Corner(nn.Module):
    """Class 1 is what is bright: a convolution that averages 4 x 4 pixels, pooled."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 2, 4, 4, bias=False), nn.ReLU(inplace=True))
        self.head = nn.Linear(2, 2, bias=False)
        nn.init.constant_(self.body[0].weight, 1 / 48)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def test_the_bright_corner_is_what_spoke_for_it():
    inputs = torch.zeros(2, 3, 16, 24)
    inputs[0, :, :4, :4] = inputs[1, :, 12:, 20:] = 1
    model = Corner().train()
    model.head.weight.requires_grad_(False)
    maps = activation_maps(model, inputs, torch.tensor([1, 1]), batch=1)
    assert maps.shape == (2, 4, 6)
    assert maps.amax((1, 2)).tolist() == [1, 1]
    assert (maps[0, 0, 0], maps[1, 3, 5]) == (1, 1)
    assert maps.sum() == 2
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [True, False]
    assert not model.body[0]._forward_hooks
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("name", "side"), [("test_resnet", None), ("test_vit", 10), ("test_convnext", None)])
def test_networks_of_other_families_have_one(name, side):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.1 + (parameter.ndim == 1)
    size = model.pretrained_cfg["input_size"][1:]
    maps = activation_maps(model, torch.rand(2, 3, *size), torch.tensor([1, 3]))
    assert maps.shape[0] == 2
    assert side is None or maps.shape[1:] == (side, side)
    assert maps.isfinite().all()
    assert maps[0].std() > 0


def test_where_there_is_none():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2))
    assert activation_maps(flat, torch.rand(1, 3, 4, 4), torch.tensor([0])) is None
    assert activation_maps(nn.Linear(4, 2), torch.rand(2, 4), torch.tensor([0, 1])) is None
