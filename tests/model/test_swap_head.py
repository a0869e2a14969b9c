"""A new head that keeps the rows of classes which the model knows by name."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from zoo.api import Context
from zoo.errors import InputError
from zoo.model.assembly import Assembly
from zoo.model.operations import operate
from zoo.model.swap_head import swap_head

OLD, NEW = ("Cat", "grey_wolf", "eel"), ("eel", "newt", "cat", "Grey Wolf")
ROWS = {0: 2, 2: 0, 3: 1}  # of the new head, and of the old one


def network(kind: str = "linear", *, bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    head = nn.Linear(8, 3, bias=bias) if kind == "linear" else nn.Conv2d(8, 3, 1, bias=bias)
    if kind == "linear":
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), head)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), head, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def context(new: tuple[str, ...] = NEW, old: tuple[str, ...] = OLD) -> Context:
    return Context(len(new), new, model_classes=old)


@pytest.mark.parametrize(("kind", "shape"), [("linear", (5, 6)), ("convolution", (5, 3, 16, 16))])
@pytest.mark.parametrize("bias", [True, False])
def test_classes_that_are_known_keep_their_scores(kind: str, shape: tuple[int, ...], bias: bool) -> None:
    model, x, known = network(kind, bias=bias), torch.randn(shape), context()
    old, before = copy.deepcopy(model[2]), model(x)
    after = swap_head(model, reuse="by_label", context=known)(x)
    for new, row in ROWS.items():
        assert torch.equal(model[2].weight[new], old.weight[row])
        assert torch.equal(model[2].bias[new], old.bias[row] if bias else torch.zeros(()))
        torch.testing.assert_close(after[:, new], before[:, row], rtol=0, atol=1e-6)
    assert not any(torch.equal(model[2].weight[1], row) for row in old.weight), "a new class starts afresh"
    assert known.notes == ["swap_head: 3 of 4 classes keep their rows; new, and initialised as usual: newt"]


def test_a_dropout_in_front_leaves_the_rows() -> None:
    model = network()
    old = copy.deepcopy(model[2])
    swap_head(model, reuse="by_label", dropout=0.5, context=context())
    assert torch.equal(model[2][1].weight[0], old.weight[2])


def test_the_record_replays_without_knowing_any_classes() -> None:
    assembly = Assembly(network(), "tutorial/net_a", classes=OLD)
    operate(assembly, "swap_head", {"reuse": "by_label"}, Context(4, NEW))
    arguments = assembly.operations[0]["arguments"]
    assert (arguments["reuse"], arguments["num_classes"]) == (None, 4)
    assert assembly.classes == NEW
    again = swap_head(network(), **arguments)
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in assembly.model.state_dict().items()
    }


@pytest.mark.parametrize(
    ("arguments", "known", "why"),
    [
        ({}, context(old=()), r"the model's class names.*checkpoint: FILE"),
        ({}, context(new=()), "the data's class names"),
        ({}, None, "the data's class names"),
        ({"num_classes": 7}, context(), "4, and num_classes is 7.*leave out num_classes"),
        ({}, context(new=("newt", "ele")), "none of the data's 2 classes is among the model's 3"),
        ({}, context(old=("cat", "CAT", "eel")), "'cat' names several"),
        ({"module": {"Linear": {"out_features": 4, "bias": False}}}, context(), "of another kind"),
        ({"module": {"Sequential": ["Flatten"]}}, context(), "kind|columns"),
    ],
)
def test_where_nothing_can_be_kept_it_says_why(arguments: dict, known: Context | None, why: str) -> None:
    with pytest.raises(InputError, match=why):
        swap_head(network(), **arguments, reuse="by_label", context=known)


def test_without_a_number_it_is_the_datas() -> None:
    assert swap_head(network(), context=Context(9))[2].out_features == 9
    with pytest.raises(InputError, match="needs num_classes"):
        swap_head(network())
