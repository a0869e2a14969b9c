"""Optimizers and schedulers made before the model changed."""

import pytest
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, ReduceLROnPlateau, SequentialLR, StepLR

from zoo.lint import check_optimizer
from zoo.model.build import build
from zoo.model.freezing import freeze, trainable_parameters


@pytest.fixture
def resnet() -> nn.Module:
    return build("timm/resnet18").model


def test_an_optimizer_over_frozen_parameters(resnet):
    """All frozen, the classifier swapped, and then every parameter handed to SGD."""
    freeze(resnet, [""])
    resnet.fc = nn.Linear(512, 10)
    (trap,) = check_optimizer(resnet, SGD(resnet.parameters(), lr=1e-2, momentum=0.9))
    assert trap.kind == "optimizer"
    assert len(trap.where) == 60
    assert "fc.weight" not in trap.where
    assert "contains frozen parameters: conv1.weight" in trap.message
    assert check_optimizer(resnet, SGD(trainable_parameters(resnet).values(), lr=1e-2)) == []


def test_an_optimizer_made_before_the_head_was_swapped(resnet):
    optimizer = SGD(resnet.parameters(), lr=0.1)
    resnet.fc = nn.Linear(512, 10)
    absent, foreign = check_optimizer(resnet, optimizer)
    assert absent.where == ("fc.weight", "fc.bias")
    assert "are never updated" in absent.message
    assert foreign.where == ("[1000, 512]", "[1000]")


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: CosineAnnealingLR(optimizer, 10),
        lambda optimizer: StepLR(optimizer, 1),
        ReduceLROnPlateau,
        lambda optimizer: SequentialLR(optimizer, [ConstantLR(optimizer), StepLR(optimizer, 1)], [1]),
    ],
    ids=["cosine", "step", "plateau", "sequential"],
)
def test_a_scheduler_of_groups_that_are_gone_or_new(make):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = SGD([{"params": model[0].parameters()}, {"params": model[1].parameters()}], lr=0.1)
    scheduler = make(optimizer)
    assert check_optimizer(model, optimizer, scheduler) == []
    gone = optimizer.param_groups.pop()
    found = check_optimizer(model, optimizer, scheduler)
    assert {trap.kind for trap in found} == {"optimizer", "scheduler"}
    assert found[-1].where == ("1",)
    assert "was built for 2 parameter groups and the optimizer has 1" in found[-1].message
    optimizer.param_groups += [gone, {**gone, "params": []}]
    assert (
        "was built for 2 parameter groups and the optimizer has 3"
        in check_optimizer(model, optimizer, scheduler)[0].message
    )


def test_a_scheduler_of_another_optimizer_and_of_groups_that_are_frozen():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = SGD([{"params": model[0].parameters()}, {"params": model[1].parameters()}], lr=0.1)
    other = StepLR(SGD(model.parameters(), lr=0.1), 1)
    assert [trap.where for trap in check_optimizer(model, optimizer, other)] == [("StepLR",)]
    scheduler = StepLR(optimizer, 1)
    freeze(model, ["0"])
    assert [(trap.kind, trap.where) for trap in check_optimizer(model, optimizer, scheduler)] == [
        ("optimizer", ("0.weight", "0.bias")),
        ("scheduler", ("0",)),
    ]
