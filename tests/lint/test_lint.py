"""Each trap on the tutorials' own constructions, and no alarm on sound networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, ReduceLROnPlateau, SequentialLR, StepLR

from zoo.api import Context
from zoo.lint import check_optimizer, find_traps
from zoo.lint.hidden_state import hidden_state, unregistered
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.freeze_policies import all_but_head
from zoo.model.freezing import freeze, trainable_parameters
from zoo.model.operations import operate
from zoo.model.shapes import UndecidedError, dry_run


def kinds(traps) -> list[str]:
    return [trap.kind for trap in traps]


def assembled(model: nn.Module, task: str = "classification") -> Assembly:
    return Assembly(model, "own", task=task)


# parameters without a gradient -----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_parameters_used_through_data_never_learn(device):
    assembly = build("tutorial/my_linear_detached", device=device)
    (trap,) = find_traps(assembly, (2, 64), "mse")
    assert trap.kind == "no_gradient"
    assert trap.where == ("0.weight", "0.bias", "1.weight", "1.bias")
    said = "0.weight, 0.bias, 1.weight, 1.bias are trainable but never get a gradient, and nothing else trains"
    assert said in trap.message
    assert trap.fatal
    assert trap.problem().suggestion == "use the parameter itself in forward, or let others train"
    assert find_traps(build("tutorial/my_linear", device=device), (2, 64), "mse") == []


def test_a_detached_layer_in_the_middle_is_told_apart_from_the_rest():
    assembly = build("tutorial/small_mlp")
    context = Context()
    operate(assembly, "replace_module", {"path": "0", "module": {"tutorial/MyLinearDetached": {}}}, context)
    (trap,) = find_traps(assembly, (2, 4), "mse")
    assert trap.where == ("0.weight", "0.bias")
    assert not trap.fatal
    assert trap.problem().suggestion == "use the parameter itself in forward, or freeze it"
    freeze(assembly.model, ["0"])
    assert find_traps(assembly, (2, 4), "mse") == []


def test_nothing_of_the_model_is_altered():
    assembly = build("timm/resnet18")
    model = assembly.model
    freeze(model, all_but_head(model))
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    find_traps(assembly, (2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m.training for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks for m in model.modules())


# random numbers outside the state dict ---------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("name", "where"), [("fixed_hidden_mlp", "rand_weight"), ("chimera", "2.rand_weight")])
def test_a_random_plain_attribute_is_hidden_state(name, where, device):
    traps = find_traps(build(f"tutorial/{name}", device=device), (2, 20), "mse")
    assert kinds(traps) == ["hidden_state"]
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
    assert hidden_state(assembled(used), (4,)) == []


@pytest.mark.parametrize("make", [lambda: nn.utils.weight_norm(nn.Linear(4, 4)), lambda: nn.LSTM(4, 4)])
@pytest.mark.filterwarnings(r"ignore:`torch\.nn\.utils\.weight_norm` is deprecated:FutureWarning")
def test_what_is_worked_out_from_parameters_is_no_hidden_state(make, monkeypatch):
    monkeypatch.setattr("zoo.lint.hidden_state.build", lambda *_, **__: assembled(make()))
    layer = make()
    assert find_traps(assembled(layer), (3, 4), "mse") == []
    assert not any(value.is_meta for value in vars(layer).values() if isinstance(value, torch.Tensor))


def test_attribute_names_are_told_with_their_containers(monkeypatch):
    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = {"noise": [torch.arange(4.0), torch.randn(4)]}

        def forward(self, x):
            return x + self.tables["noise"][1]

    monkeypatch.setattr("zoo.lint.hidden_state.build", lambda *_, **__: assembled(nn.Sequential(Tables())))
    (trap,) = hidden_state(assembled(nn.Sequential(Tables())), (2, 4))
    assert trap.where == ("0.tables['noise'][1]",)


def test_modules_in_a_plain_list_are_told():
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


# what stands between the last layer and the loss -----------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_relu_in_front_of_cross_entropy_is_told(device):
    (trap,) = find_traps(build("tutorial/fashion_mlp_relu", device=device), (2, 1, 28, 28), "auto")
    assert trap.kind == "end"
    assert trap.where == ("linear_relu_stack.5",)
    assert "linear_relu_stack.5 is the last step of the network: a ReLU in front of CrossEntropyLoss" in trap.message
    assert trap.suggestion == "remove it: remove_module: {path: linear_relu_stack.5}"
    assert find_traps(build("tutorial/fashion_mlp", device=device), (2, 1, 28, 28)) == []


def test_the_remedy_it_names_removes_the_trap():
    assembly = build("tutorial/fashion_mlp_relu")
    operate(assembly, "remove_module", {"path": "linear_relu_stack.5"}, Context())
    assert find_traps(assembly, (2, 1, 28, 28)) == []


ENDS = [
    (nn.ReLU(), "CrossEntropyLoss", "scores below zero are lost"),
    (nn.ReLU6(), "cross_entropy", "scores below zero are lost"),
    (nn.Sigmoid(), "cross_entropy", "squeezed"),
    (nn.Tanh(), {"CrossEntropyLoss": {"label_smoothing": 0.1}}, "squeezed"),
    (nn.Softmax(1), "auto", "gradients all but vanish"),
    (nn.LogSoftmax(1), "auto", "does no harm"),
    (nn.Sigmoid(), "bce", "sigmoid is its own part"),
    (nn.Sequential(nn.Softmax(1), nn.Flatten()), "auto", "softmax"),
    (nn.Identity(), "NLLLoss", "wants the output of log_softmax"),
    (nn.Softmax(1), "NLLLoss", "wants the output of log_softmax"),
    (nn.Identity(), "BCELoss", "wants the output of sigmoid"),
    (nn.Identity(), "auto", None),
    (nn.LeakyReLU(), "auto", None),
    (nn.LogSoftmax(1), "NLLLoss", None),
    (nn.Sigmoid(), "BCELoss", None),
    (nn.ReLU(), "mse", None),
    (nn.Sigmoid(), "L1Loss", None),
]


@pytest.mark.parametrize(("end", "loss", "says"), ENDS)
def test_each_end_and_loss(end, loss, says):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), end)
    freeze(model, ["0"])
    found = [trap.message for trap in find_traps(assembled(model), (2, 4), loss)]
    assert len(found) == (says is not None)
    assert all(says in message for message in found)


def test_an_activation_in_forward_itself_is_told_without_a_path():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(x).sigmoid().squeeze()

    (trap,) = find_traps(assembled(Net(), "multilabel"), (2, 4))
    assert trap.where == ("",)
    assert "forward ends in a sigmoid in front of BCEWithLogitsLoss" in trap.message


def test_an_input_that_does_not_fit_is_not_a_trap():
    assert find_traps(build("tutorial/fashion_mlp_relu"), (2, 3, 5, 5)) == []


@pytest.mark.parametrize(
    "name", ["timm/resnet18", "timm/vit_tiny_patch16_224", "timm/levit_128s", "torchvision/googlenet"]
)
def test_sound_networks_raise_no_alarm(name):
    assert find_traps(build(name, device="meta"), (2, 3, 224, 224)) == []


# optimizer and scheduler -----------------------------------------------------------------------------------------


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
    assert "holds frozen parameters: conv1.weight" in trap.message
    assert check_optimizer(resnet, SGD(trainable_parameters(resnet).values(), lr=1e-2)) == []


def test_an_optimizer_made_before_the_head_was_swapped(resnet):
    optimizer = SGD(resnet.parameters(), lr=0.1)
    resnet.fc = nn.Linear(512, 10)
    absent, foreign = check_optimizer(resnet, optimizer)
    assert absent.where == ("fc.weight", "fc.bias")
    assert "will never move" in absent.message
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
    assert set(kinds(found)) == {"optimizer", "scheduler"}
    assert found[-1].where == ("1",)
    assert "was built for 2 parameter groups and the optimizer has 1" in found[-1].message
    optimizer.param_groups += [gone, {**gone, "params": []}]
    assert (
        "was built for 2 parameter groups and the optimizer has 3"
        in check_optimizer(model, optimizer, scheduler)[0].message
    )


def test_a_scheduler_of_another_optimizer_and_of_groups_that_stand_still():
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


def test_a_network_on_meta_that_looks_at_values_is_undecided_not_wrong():
    for name in ("fixed_hidden_mlp", "chimera"):
        with pytest.raises(UndecidedError, match="looks at values"):
            dry_run(build(f"tutorial/{name}", device="meta").model, (2, 20))
    assert dry_run(build("tutorial/chimera").model, (2, 20)).way == "real"
