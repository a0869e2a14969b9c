"""Optimizers by name: all that can step do, fused where there is a kernel, mistakes explained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.recipe.named import names
from zoo.recipe.steps import Train
from zoo.training.optimizers import make_optimizer


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


@pytest.mark.slow
def test_every_optimizer_on_offer_steps():
    listed = names("optimizers")
    assert {"SGD", "AdamW", "lamb", "lion"} <= set(listed)
    failed = {}
    for name in listed:
        model = small()
        before = [parameter.clone() for parameter in model.parameters()]
        try:
            optimizer = make_optimizer(model, Train(optimizer=name, lr=0.01))
        except InputError as error:
            if "cannot be used here" not in str(error):
                failed[name] = str(error)
            continue
        for _ in range(3):  # some move only from the second or third step on
            again = getattr(optimizer, "is_second_order", False)
            model(torch.ones(5, 4)).square().mean().backward(create_graph=again)
            optimizer.step()
            optimizer.zero_grad()
        if all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)):
            failed[name] = "nothing moved"
    assert set(failed) <= {"Muon"}, failed


def test_lbfgs_is_not_on_offer():
    with pytest.raises(InputError, match="no optimizer is called 'LBFGS'"):
        make_optimizer(small(), Train(optimizer="LBFGS"))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_fused_where_there_is_a_kernel(name):
    assert make_optimizer(small(), Train(optimizer=name)).param_groups[0]["fused"] is True
    chosen = make_optimizer(small(), Train(optimizer={name: {"foreach": True}}))
    assert not chosen.param_groups[0]["fused"]
    assert not make_optimizer(small().to("meta"), Train(optimizer=name)).param_groups[0].get("fused")


def decays(options: Train) -> list[float]:
    return sorted({group["weight_decay"] for group in make_optimizer(small(), options).param_groups})


def test_weight_decay_comes_from_the_step_the_optimizer_or_its_default():
    assert decays(Train(optimizer="AdamW")) == [0.0, 0.01]
    assert decays(Train(optimizer="AdamW", weight_decay=0.2)) == [0.0, 0.2]
    assert decays(Train(optimizer="SGD")) == [0.0]
    assert decays(Train(optimizer={"AdamW": {"weight_decay": 0.3}})) == [0.3]  # stated there, it goes for everything


def test_arguments_reach_the_optimizer():
    optimizer = make_optimizer(small(), Train(optimizer={"SGD": {"momentum": 0.9, "nesterov": True}}, lr=0.3))
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
    assert {group["lr"] for group in optimizer.param_groups} == {0.3}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("AdmaW", r"no optimizer is called 'AdmaW' \(did you mean .*AdamW"),
        ({"SGD": {"momentun": 0.9}}, r"optimizer SGD: .*momentun.*it takes lr, momentum"),
        ({"SGD": {"nesterov": True}}, r"optimizer SGD: Nesterov momentum requires a momentum"),
    ],
)
def test_mistakes_are_explained(given, message):
    with pytest.raises(InputError, match=message):
        make_optimizer(small(), Train(optimizer=given))
