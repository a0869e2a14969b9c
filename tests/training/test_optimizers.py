"""Optimizers by name: all that can step do, fused where there is a kernel, mistakes explained."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from zoo.errors import InputError
from zoo.model.depths import layer_depths
from zoo.model.freezing import freeze
from zoo.recipe.catalogue import names
from zoo.steps.train import Train
from zoo.training.optimizers import load_state, make_optimizer, parameter_groups


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:Using backward\\(\\) with create_graph=True:UserWarning"
)  # second-order ones need it
@pytest.mark.filterwarnings("ignore:It is highly recommended to have .opt_einsum.:UserWarning")  # of timm's kron
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
    assert decays(Train(optimizer={"AdamW": {"weight_decay": 0.3}})) == [0.0, 0.3]


def test_weight_decay_on_all_is_torchs_own():
    for stated in ({"weight_decay": 0.3}, {"optimizer": {"AdamW": {"weight_decay": 0.3}}}):
        assert decays(Train(weight_decay_on="all", **stated)) == [0.3]


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


def rates(model: nn.Module, groups) -> dict[str, tuple[float, float]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_biases_and_norms_are_not_decayed():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    found = rates(model, parameter_groups(model, lr=0.1, weight_decay=0.3))
    assert {name for name, (_, decay) in found.items() if decay == 0.3} == {"0.weight", "3.weight"}
    assert {name for name, (_, decay) in found.items() if decay == 0.0} == {"0.bias", "1.weight", "1.bias", "3.bias"}
    every = rates(model, parameter_groups(model, lr=0.1, weight_decay=0.3, decay_all=True))
    assert {decay for _, decay in every.values()} == {0.3}


def test_what_a_model_spares_is_spared():
    model = timm.create_model("test_vit")
    found = rates(model, parameter_groups(model, lr=1.0, weight_decay=0.3))
    assert found["pos_embed"][1] == found["cls_token"][1] == 0.0
    assert found["patch_embed.proj.weight"][1] == 0.3
    wrapped = nn.Sequential(model, nn.ReLU())
    inside = rates(wrapped, parameter_groups(wrapped, lr=1.0, weight_decay=0.3))
    assert inside == {f"0.{name}": values for name, values in found.items()}


def test_frozen_parameters_are_in_no_group():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    freeze(model, ["0"])
    assert set(rates(model, parameter_groups(model, lr=1.0, weight_decay=0.1))) == {"1.weight", "1.bias"}
    freeze(model, [""])
    with pytest.raises(InputError, match="nothing to train: every parameter is frozen"):
        parameter_groups(model, lr=1.0, weight_decay=0.1)


def test_a_shared_parameter_is_in_one_group_once():
    first = nn.Linear(2, 2)
    model = nn.Sequential(first, first)
    assert sum(len(group["params"]) for group in parameter_groups(model, lr=1.0, weight_decay=0.1)) == 2


def test_lr_scale_takes_the_first_pattern_that_finds_the_name():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = parameter_groups(model, lr=0.1, weight_decay=0.0, lr_scale={r"^1\.bias": 3.0, r"^1\.": 2.0})
    assert {name: lr for name, (lr, _) in rates(model, groups).items()} == pytest.approx(
        {"0.weight": 0.1, "0.bias": 0.1, "1.weight": 0.2, "1.bias": 0.3}
    )


def test_every_pattern_that_finds_nothing_is_named():
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(InputError) as caught:
        parameter_groups(model, lr=1.0, weight_decay=0.0, lr_scale={"haed": 2.0, "(": 1.0, "0": 1.0})
    assert len(caught.value.problems) == 2
    assert "'haed' finds no trainable parameter (trainable are for instance 0.weight, 0.bias)" in str(caught.value)


def test_layer_decay_gives_real_rates_with_and_without_frozen_layers():
    model = timm.create_model("test_vit")
    depths = layer_depths(model)
    top = max(depths.values())
    for frozen in ([], ["blocks.0", "patch_embed"]):
        freeze(model, frozen)
        found = rates(model, parameter_groups(model, lr=0.5, weight_decay=0.1, layer_decay=0.7))
        assert found.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        for name, (lr, _) in found.items():
            assert lr == pytest.approx(0.5 * 0.7 ** (top - depths[name]))


def test_layer_decay_needs_a_chain_of_blocks():
    with pytest.raises(InputError, match="layer_decay: this model has no chain of blocks"):
        parameter_groups(nn.Sequential(nn.Linear(2, 2)), lr=1.0, weight_decay=0.1, layer_decay=0.5)


def test_restored_moments_lie_in_memory_as_their_parameters_do():
    """torch's fused step pairs them by memory: a contiguous moment of a channels-last weight is another weight's."""
    torch.manual_seed(0)
    start, gradients = torch.randn(8, 4, 3, 3), torch.randn(2, 8, 4, 3, 3)

    def made() -> tuple[nn.Conv2d, torch.optim.Optimizer]:
        layer = nn.Conv2d(4, 8, 3, bias=False).to(memory_format=torch.channels_last)
        with torch.no_grad():
            layer.weight.copy_(start)
        return layer, make_optimizer(layer, Train(lr=0.1))

    def step(layer, optimizer, gradient):
        layer.weight.grad = gradient.to(memory_format=torch.channels_last)
        optimizer.step()

    layer, optimizer = made()
    step(layer, optimizer, gradients[0])
    kept = optimizer.state_dict()
    moments = {key: value.contiguous().clone() for key, value in kept["state"][0].items()}
    other, restored = made()
    with torch.no_grad():
        other.weight.copy_(layer.weight)
    load_state(restored, {**kept, "state": {0: moments}})
    for one, its in ((layer, optimizer), (other, restored)):
        step(one, its, gradients[1])
    assert torch.equal(layer.weight, other.weight)
