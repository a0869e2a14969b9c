"""Wires: what they run, what they survive, and where they cannot be."""

import copy
import pickle

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.model.surgeries import add_module
from zoo.model.wiring import runs_in_order, unwire, wire, wires

TEN = {"Linear": {"out_features": 10}}


class Net(nn.Module):
    """A forward that knows its children by name."""

    def __init__(self):
        super().__init__()
        self.stem, self.tail = nn.Linear(4, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 5))

    def forward(self, x):
        return self.tail(self.stem(x))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x():
    return torch.randn(3, 4)


def test_wires_run_in_the_order_they_were_made(net, x):
    expected = net(x)
    for name, factor in (("twice", 2.0), ("shift", None)):
        module = nn.Linear(5, 5)
        nn.init.eye_(module.weight)
        with torch.no_grad():
            module.weight *= factor or 1.0
            module.bias.fill_(0.0 if factor else 1.0)
        net.add_module(name, module)
        wire(net, name)
    assert wires(net) == ["twice", "shift"]
    assert torch.allclose(net(x), expected * 2 + 1)
    unwire(net, "twice")
    assert torch.allclose(net(x), expected + 1)


def test_only_a_sequential_with_its_own_forward_runs_in_order(net):
    class Backwards(nn.Sequential):
        def forward(self, x):
            return x

    assert runs_in_order(net.tail)
    assert not runs_in_order(net)
    assert not runs_in_order(Backwards(nn.ReLU()))


def test_wires_survive_copying(net, x):
    add_module(net, name="more", module=TEN)
    expected, keys = net(x), list(net.state_dict())
    twin = copy.deepcopy(net)
    with torch.no_grad():
        twin.more.weight.zero_()
    assert torch.equal(net(x), expected)  # the copy's wire leads to the copy's module
    assert torch.equal(twin(x), twin.more.bias.expand(3, 10))
    assert list(net.state_dict()) == keys == list(twin.state_dict())


def test_wires_survive_pickling_and_hooks_of_another_process(x, monkeypatch):
    model = add_module(nn.Identity(), name="more", module={"Linear": {"in_features": 4, "out_features": 2}})
    expected = model(x)
    thawed = pickle.loads(pickle.dumps(model))
    monkeypatch.setattr(torch.utils.hooks.RemovableHandle, "next_id", 0)  # as where the pickle is opened
    handles = [thawed.register_forward_hook(lambda *_: None) for _ in range(50)]
    assert torch.equal(thawed(x), expected)
    for handle in handles:
        handle.remove()
    assert torch.equal(thawed(x), expected)
    unwire(thawed, "more")
    unwire(thawed, "nothing")
    assert thawed(x) is x


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # dynamo looks at each attribute
def test_a_wired_model_compiles(net, x):
    add_module(net, name="more", module=TEN)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x), net(x))


def test_wires_are_part_of_an_exported_and_of_a_traced_model(x):
    model = nn.Sequential(Net(), nn.Linear(5, 2))
    add_module(model, path="0", name="more", module={"Linear": {"out_features": 5}})
    for exported in (torch.export.export(model, (x,)).module(), torch.fx.symbolic_trace(model)):
        assert torch.allclose(exported(x), model(x))
    add_module(model[0], name="most", module={"Linear": {"out_features": 3}})
    assert torch.allclose(torch.export.export(model[0], (x,)).module()(x), model[0](x))


def test_a_wire_behind_something_that_gives_no_tensor_says_so(x):
    model = nn.Sequential(nn.LSTM(4, 8))
    add_module(model, path="0", name="more", module={"Linear": {"in_features": 8, "out_features": 2}})
    with pytest.raises(InputError, match="'more' cannot run after LSTM, which gives tuple"):
        model(x)
