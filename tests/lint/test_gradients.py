"""Trainable parameters without a gradient."""

import pytest

from zoo.api import Context
from zoo.lint import find_traps
from zoo.lint.gradients import without_gradient
from zoo.lint.rehearsal import Rehearsal
from zoo.model.build import build
from zoo.model.freezing import freeze
from zoo.model.operations import operate


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


def test_a_detached_layer_in_the_middle_is_reported_alone():
    assembly = build("tutorial/small_mlp")
    context = Context()
    operate(assembly, "replace_module", {"path": "0", "module": {"tutorial/MyLinearDetached": {}}}, context)
    (trap,) = find_traps(assembly, (2, 4), "mse")
    assert trap.where == ("0.weight", "0.bias")
    assert not trap.fatal
    assert trap.problem().suggestion == "use the parameter itself in forward, or freeze it"
    freeze(assembly.model, ["0"])
    assert find_traps(assembly, (2, 4), "mse") == []


def test_parameters_that_feed_other_outputs_alone_are_auxiliary():
    seen = Rehearsal(
        reached={"fc.weight": True, "aux1.fc.weight": False, "aux1.fc.bias": False, "aux2.fc.weight": False},
        beside={"fc.weight": False, "aux1.fc.weight": True, "aux1.fc.bias": True, "aux2.fc.weight": True},
        called={"fc", "aux1.fc", "aux2.fc"},
    )
    (trap,) = without_gradient(seen)
    assert trap.where == ("aux1.fc.weight", "aux1.fc.bias", "aux2.fc.weight")
    assert trap.message.startswith("aux1, aux2: 3 trainable parameters lead to auxiliary outputs alone")
    assert trap.suggestion.endswith(r"freeze: {policy: pattern, patterns: ['^aux1\.', '^aux2\.']}")
    assert not trap.fatal


def test_auxiliary_classifiers_train_where_the_loss_takes_them():
    seen = Rehearsal(
        reached={"fc.weight": True, "aux1.fc.weight": False},
        aided={"fc.weight": False, "aux1.fc.weight": True},
        beside={"fc.weight": False, "aux1.fc.weight": True},
        called={"fc", "aux1.fc"},
    )
    assert without_gradient(seen) == []
    (trap,) = without_gradient(seen, auxiliary_loss=False)
    assert trap.where == ("aux1.fc.weight",)
    assert trap.suggestion == "write auxiliary_loss: 0.3, the weight of each beside the main loss"


def test_modules_that_do_not_run_are_left_to_the_dry_run_unless_nothing_else_trains():
    seen = Rehearsal(
        reached={"used.weight": True, "dead.weight": False}, beside={"dead.weight": False}, called={"used"}
    )
    assert without_gradient(seen) == []
    seen.reached["used.weight"] = False
    (trap,) = without_gradient(seen)
    assert trap.where == ("used.weight", "dead.weight")
    assert trap.fatal
