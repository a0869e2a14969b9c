"""The `init` step: by class, by path, by plugin, one value; what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo import registry
from zoo.errors import InputError
from zoo.model.build import build
from zoo.model.freezing import freeze
from zoo.model.initializers import initialize
from zoo.steps.init import Init

OWN = [name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]
INITIALIZERS = [*OWN, *(name.removesuffix("_") for name in OWN)]


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return build("tutorial/small_mlp").model


def test_normal_weights_and_zero_biases_for_every_linear():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 200), nn.BatchNorm1d(200), nn.Sequential(nn.Linear(200, 10)))
    touched = initialize(model, Init(type="Linear", weight={"normal": {"std": 0.01}}, bias="zeros"))
    assert touched == ["0.weight", "2.0.weight", "0.bias", "2.0.bias"]
    assert model[0].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert model[0].weight.mean().abs() < 1e-3
    assert model[2][0].bias.count_nonzero() == 0
    assert (model[1].weight == 1).all()


def test_xavier_on_one_part_and_a_constant_on_another(net):
    untouched = net[0].bias.clone()
    assert initialize(net, Init(match=r"^0$", weight="xavier_uniform_")) == ["0.weight"]
    bound = (6 / (4 + 8)) ** 0.5
    assert net[0].weight.abs().max() <= bound
    assert net[0].weight.abs().max() > bound / 2
    assert initialize(net, Init(match=r"^2$", weight={"constant": {"val": 42}})) == ["2.weight"]
    assert (net[2].weight == 42).all()
    assert torch.equal(net[0].bias, untouched)


def test_a_plugins_own_function(net):
    for name in ("uniform_keep_large", "tutorial/uniform_keep_large"):
        initialize(net, Init(type="Linear", weight=name))
        values = torch.cat([net[0].weight.flatten(), net[2].weight.flatten()])
        assert ((values == 0) | ((values.abs() >= 5) & (values.abs() <= 10))).all()
        assert 0 < (values == 0).sum() < len(values)
    before = net[0].weight.clone()
    initialize(net, Init(match="^0$", weight={"shift": {"by": 1}}))
    assert torch.equal(net[0].weight, before + 1)


def test_one_value_of_one_parameter(net):
    before = net[0].weight.clone()
    assert initialize(net, Init(parameter="0.weight", index=[0, 0], value=42)) == ["0.weight"]
    assert net[0].weight[0, 0] == 42
    assert torch.equal(net[0].weight.flatten()[1:], before.flatten()[1:])
    initialize(net, Init(parameter="0.weight", index=[1], value=3))
    assert (net[0].weight[1] == 3).all()
    initialize(net, Init(parameter="0.bias", value=-1))
    assert (net[0].bias == -1).all()
    assert net[0].weight.requires_grad


def test_a_buffer_and_a_path_with_a_space_are_reached():
    model = build("tutorial/fixed_hidden_mlp_buffer").model
    initialize(model, Init(parameter="rand_weight", index=[0, 0], value=7))
    assert model.rand_weight[0, 0] == 7
    blocks = build("tutorial/nested_blocks").model
    initialize(blocks, Init(parameter="0.block 1.0.bias", value=2))
    assert (blocks[0][1][0].bias == 2).all()
    assert initialize(blocks, Init(match="block 1", type="Linear", bias="zeros")) == [
        "0.block 1.0.bias",
        "0.block 1.2.bias",
    ]


def test_a_shared_parameter_is_filled_once_and_told_once():
    model = build("tutorial/shared").model
    torch.manual_seed(1)
    touched = initialize(model, Init(type="Linear", weight="normal"))
    assert touched == ["0.weight", "2.weight", "6.weight"]
    assert torch.equal(model[2].weight, model[4].weight)
    assert initialize(model, Init(match="^4$", weight="ones")) == ["2.weight"]
    initialize(model, Init(parameter="4.weight", index=[0, 0], value=100))
    assert model[2].weight[0, 0] == 100


def test_the_same_seed_gives_the_same_values(net):
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        initialize(net, Init(type="Linear", weight="trunc_normal_"))
        return net[0].weight.clone()

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_attention_and_recurrent_layers_have_their_weights_filled():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2), "rnn": nn.LSTM(4, 4)})
    touched = initialize(model, Init(match="^(attention|rnn)$", weight={"constant": {"val": 1}}, bias="zeros"))
    assert touched[:3] == ["attention.in_proj_weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0"]
    assert (model["attention"].in_proj_weight == 1).all()


def test_frozen_parameters_stand_still(net):
    freeze(net, ["0"])
    before = net[0].weight.clone()
    assert initialize(net, Init(type="Linear", weight="zeros")) == ["2.weight"]
    assert torch.equal(net[0].weight, before)
    with pytest.raises(InputError, match=r"0\.weight is frozen \(put init in front of freeze\)"):
        initialize(net, Init(match="^0$", weight="zeros"))
    with pytest.raises(InputError, match="is frozen"):
        initialize(net, Init(parameter="0.weight", value=0))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_meta_checks_what_the_real_run_does(name):
    arguments = {"constant": {"val": 1.0}, "sparse": {"sparsity": 0.5}}.get(name.removesuffix("_"), {})
    options = Init(match="^0$", weight={name: arguments} if arguments else name)
    answers = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            model = nn.Sequential(nn.Linear(4, 4))
        try:
            answers.append(initialize(model, options))
        except InputError as error:
            answers.append([problem.message.split(":")[1] for problem in error.problems])
    assert answers[0] == answers[1]


REFUSED = {
    "unknown type": (Init(type="Linaer", weight="zeros"), "did you mean Linear"),
    "unknown path": (Init(match="^3$", weight="zeros"), r"no module is matched by '\^3\$'"),
    "type and path": (Init(type="ReLU", match="^0$", weight="zeros"), "no module of type ReLU is matched"),
    "broken expression": (Init(match="(", weight="zeros"), "not a regular expression"),
    "unknown initializer": (Init(type="Linear", weight="xaviar_uniform"), "did you mean xavier_uniform"),
    "unknown plugin": (Init(type="Linear", weight="tutorial/shfit"), "did you mean tutorial/shift"),
    "unknown argument": (Init(type="Linear", weight={"normal": {"sdt": 1}}), "did you mean std"),
    "missing argument": (Init(type="Linear", weight="constant"), "constant needs val"),
    "no such parameter": (Init(type="ReLU", weight="zeros"), "type 'ReLU' has a weight"),
    "wrong rank": (Init(type="Linear", bias="xavier_uniform"), r"0\.bias \[8\] cannot be filled so"),
    "wrong value": (Init(type="Linear", weight={"normal": {"std": "wide"}}), "cannot be filled so"),
    "nothing to do": (Init(type="Linear"), "write weight or bias"),
    "two things": (Init(type="Linear", parameter="0.weight", value=1), "one of the two"),
    "no value": (Init(parameter="0.weight"), "takes both parameter and value"),
    "value alone": (Init(value=3), "takes both parameter and value"),
    "unknown parameter": (Init(parameter="0.wieght", value=1), r"did you mean 0\.weight"),
    "index out of range": (Init(parameter="0.weight", index=[8, 0], value=1), r"is \[8, 4\]; there is no element"),
    "index too long": (Init(parameter="0.bias", index=[0, 0], value=1), "there is no element"),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_refused_and_what_it_says(reason, device):
    options, says = REFUSED[reason]
    model = build("tutorial/small_mlp", device=device).model
    with pytest.raises(InputError, match=says):
        initialize(model, options)


def test_all_mistakes_at_once(net):
    with pytest.raises(InputError) as caught:
        initialize(net, Init(type="Linear", weight="xaviar_uniform", bias={"normal": {"sdt": 1}}))
    assert len(caught.value.problems) == 2


def test_a_failing_plugin_is_named(net, monkeypatch):
    def broken(tensor, *, factor: float = 1.0):
        raise ZeroDivisionError("no")

    monkeypatch.setattr(registry, "load", lambda name, kind: broken)
    with pytest.raises(InputError, match=r"0\.weight \[8, 4\] cannot be filled so: ZeroDivisionError: no"):
        initialize(net, Init(type="Linear", weight="tutorial/shift"))
