"""State that is in no state dict."""

import pytest
import torch
from torch import nn

from zoo.lint import find_traps
from zoo.lint.hidden_state import find_hidden_state, hidden_differences, hidden_tensors, twin, unregistered
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.freezing import freeze


def assembled(model: nn.Module) -> Assembly:
    return Assembly(model, "own")


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("name", "where"), [("fixed_hidden_mlp", "rand_weight"), ("chimera", "2.rand_weight")])
def test_a_random_plain_attribute_is_hidden_state(name, where, device):
    traps = find_traps(build(f"tutorial/{name}", device=device), (2, 20), "mse")
    assert [trap.kind for trap in traps] == ["hidden_state"]
    assert traps[0].where == (where,)
    assert "register_buffer" in traps[0].suggestion


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_same_matrix_as_a_buffer_is_no_trap(device):
    assembly = build("tutorial/fixed_hidden_mlp_buffer", device=device)
    assert find_traps(assembly, (2, 20), "mse") == []


def test_constants_and_caches_are_no_hidden_state(monkeypatch):
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.arange(4.0)
            self.cache = {}

        def forward(self, x):
            return self.cache.setdefault("first", x * self.scale)

    used = Constant()
    used(torch.randn(4))
    monkeypatch.setattr("zoo.lint.hidden_state.build", lambda *_, **__: assembled(Constant()))
    assert find_hidden_state(assembled(used), (4,)) == []


@pytest.mark.parametrize("make", [lambda: nn.utils.weight_norm(nn.Linear(4, 4)), lambda: nn.LSTM(4, 4)])
@pytest.mark.filterwarnings(r"ignore:`torch\.nn\.utils\.weight_norm` is deprecated:FutureWarning")
def test_what_is_worked_out_from_parameters_is_no_hidden_state(make, monkeypatch):
    monkeypatch.setattr("zoo.lint.hidden_state.build", lambda *_, **__: assembled(make()))
    layer = make()
    assert find_traps(assembled(layer), (3, 4), "mse") == []
    assert not any(value.is_meta for value in vars(layer).values() if isinstance(value, torch.Tensor))


def test_attribute_names_are_given_with_their_containers(monkeypatch):
    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = {"noise": [torch.arange(4.0), torch.randn(4)]}

        def forward(self, x):
            return x + self.tables["noise"][1]

    monkeypatch.setattr("zoo.lint.hidden_state.build", lambda *_, **__: assembled(nn.Sequential(Tables())))
    (trap,) = find_hidden_state(assembled(nn.Sequential(Tables())), (2, 4))
    assert trap.where == ("0.tables['noise'][1]",)


def test_modules_in_a_plain_list_are_found():
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(4, 4), nn.Linear(4, 4)]
            self.kept = nn.ModuleList([nn.Linear(4, 4)])
            self.again = {"first": self.kept[0]}

        def forward(self, x):
            return self.kept[0](self.layers[1](self.layers[0](x)))

    (trap,) = unregistered(Listed())
    assert trap.where == ("layers[0]", "layers[1]")
    assert "nn.ModuleList" in trap.suggestion


class Hidden(nn.Module):
    def __init__(self, fill: float) -> None:
        super().__init__()
        self.register_buffer("table", torch.full((2,), fill), persistent=False)
        self.register_buffer("kept", torch.full((2,), fill))
        self.scales = {"first": (torch.full((1,), fill), 3)}


def test_hidden_tensors_are_those_that_the_state_dict_lacks():
    model = nn.Sequential(Hidden(1.0))
    assert dict(hidden_tensors(model)) == {
        "0.table": model[0].table,
        "0.scales['first'][0]": model[0].scales["first"][0],
    }
    assert hidden_differences(model, nn.Sequential(Hidden(1.0))) == []
    assert hidden_differences(model, nn.Sequential(Hidden(2.0))) == ["0.table", "0.scales['first'][0]"]
    assert hidden_differences(nn.Sequential(Hidden(float("nan"))), nn.Sequential(Hidden(float("nan")))) == []
    assert hidden_differences(model, nn.Sequential(nn.Identity())) == ["0.table", "0.scales['first'][0]"]


def test_a_twin_has_the_operations_and_what_is_frozen():
    assembly = build("tutorial/small_mlp")
    assembly.frozen = freeze(assembly.model, ["0"])
    before = torch.get_rng_state()
    one, same, other = twin(assembly, 1), twin(assembly, 1), twin(assembly, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one[0].weight, same[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)
    assert [p.requires_grad for p in one.parameters()] == [p.requires_grad for p in assembly.model.parameters()]
