"""An activation between the last layer and the loss."""

import pytest
from torch import nn

from zoo.api import Context
from zoo.lint import find_traps
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.freezing import freeze
from zoo.model.operations import operate


def assembled(model: nn.Module, task: str = "classification") -> Assembly:
    return Assembly(model, "own", task=task)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_relu_in_front_of_cross_entropy_is_found(device):
    (trap,) = find_traps(build("tutorial/fashion_mlp_relu", device=device), (2, 1, 28, 28), "auto")
    assert trap.kind == "activation"
    assert trap.where == ("linear_relu_stack.5",)
    assert (
        "linear_relu_stack.5 is the last operation of the network: a ReLU in front of CrossEntropyLoss" in trap.message
    )
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
    (nn.Softmax(1), "auto", "gradients nearly vanish"),
    (nn.LogSoftmax(1), "auto", "does no harm"),
    (nn.Sigmoid(), "bce", "it applies sigmoid itself"),
    (nn.Sequential(nn.Softmax(1), nn.Flatten()), "auto", "softmax"),
    (nn.Identity(), "NLLLoss", "expects the output of log_softmax"),
    (nn.Softmax(1), "NLLLoss", "expects the output of log_softmax"),
    (nn.Identity(), "BCELoss", "expects the output of sigmoid"),
    (nn.Identity(), "auto", None),
    (nn.LeakyReLU(), "auto", None),
    (nn.LogSoftmax(1), "NLLLoss", None),
    (nn.Sigmoid(), "BCELoss", None),
    (nn.ReLU(), "mse", None),
    (nn.Sigmoid(), "L1Loss", None),
]


@pytest.mark.parametrize(("end", "loss", "says"), ENDS)
def test_each_last_layer_and_loss(end, loss, says):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), end)
    freeze(model, ["0"])
    found = [trap.message for trap in find_traps(assembled(model), (2, 4), loss)]
    assert len(found) == (says is not None)
    assert all(says in message for message in found)


def test_an_activation_in_forward_itself_has_no_path():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(x).sigmoid().squeeze()

    (trap,) = find_traps(assembled(Net(), "multilabel"), (2, 4))
    assert trap.where == ("",)
    assert "forward ends in a sigmoid in front of BCEWithLogitsLoss" in trap.message
