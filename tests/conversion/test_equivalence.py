"""The proof by random weights: it passes for the right rules alone, and says what it cannot see."""

from __future__ import annotations

import pytest
from torch import nn

from zoo.api import Preprocessing
from zoo.conversion.compare_models import common_input
from zoo.conversion.equivalence import Prover, execution_order, settle
from zoo.errors import WorkError
from zoo.formats.entry import Entry
from zoo.model.assembly import Assembly
from zoo.model.load_into import target_of
from zoo.remap.auto import Matching, Proof, match


class Twins(nn.Module):
    """Two branches of one shape, of which only one is activated."""

    def __init__(self, names, unused=False):
        super().__init__()
        self.names = names
        self.first = nn.Conv2d(3, 6, 3, 2, 1)
        for name in names:
            self.add_module(name, nn.Conv2d(6, 6, 1))
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)
        if unused:
            self.spare = nn.Linear(5, 5)

    def forward(self, images):
        x = self.first(images)
        one, other = (getattr(self, name) for name in self.names)
        return self.head(self.norm(one(x).relu() + other(x).sigmoid()).mean((2, 3)))


def assembly(model):
    return Assembly(model, "test/twins", preprocessing=Preprocessing(size=(32, 32)))


def prover(source, target):
    return Prover(assembly(source), assembly(target), {name: name for name in source.state_dict()})


RENAME = {"left.{leaf}": "port.{leaf}", "right.{leaf}": "starboard.{leaf}"}
CROSSED = {"left.{leaf}": "starboard.{leaf}", "right.{leaf}": "port.{leaf}"}


def test_only_the_right_rules_are_proved():
    prove = prover(Twins(["left", "right"]), Twins(["port", "starboard"]))
    right, wrong = prove([{"rename": RENAME}]), prove([{"rename": CROSSED}])
    assert right.equal
    assert not wrong.equal
    assert wrong.error > 1e-2
    assert right.agreeing > wrong.agreeing


def test_rules_that_leave_something_out_are_not_proved():
    prove = prover(Twins(["left", "right"]), Twins(["port", "starboard"]))
    assert not prove([{"rename": {"left.{leaf}": "port.{leaf}"}}]).equal


def test_the_matcher_settles_twins_by_running():
    source, target = Twins(["left", "right"]), Twins(["starboard", "port"])
    names, wanted = target_of(source).entries, target_of(target).entries
    assert match(names, wanted).status == "ambiguous"
    result = settle(Matching.of(names, wanted), prover(source, target))
    assert result.status == "proved"
    assert result.mapping["starboard.weight"] == ("left.weight",)


class Padded(nn.Module):
    """Pads an even image as TensorFlow does; laid down once, or anew for the size that comes."""

    def __init__(self, fixed):
        super().__init__()
        self.fixed = fixed
        self.first = nn.Conv2d(3, 6, 3, 2)
        self.head = nn.Linear(6, 4)

    def forward(self, images):
        left = 0 if self.fixed else images.shape[-1] % 2
        return self.head(self.first(nn.functional.pad(images, (left, 1, left, 1))).relu().mean((2, 3)))


def test_padding_laid_down_for_the_own_size_is_no_obstacle():
    prove = prover(Padded(fixed=True), Padded(fixed=False))
    assert prove([]).equal
    assert "32x32" in prove([]).text
    assert not prove([{"drop": "first.bias"}]).equal


class Siblings(Twins):
    """Two branches that can change places."""

    def forward(self, images):
        x = self.first(images)
        one, other = (getattr(self, name) for name in self.names)
        return self.head(self.norm(one(x).relu() + other(x).relu()).mean((2, 3)))


def test_what_can_change_places_is_not_settled_by_running():
    source, target = Siblings(["left", "right"]), Siblings(["port", "starboard"])
    prove = prover(source, target)
    assert prove([{"rename": RENAME}]).equal
    assert prove([{"rename": CROSSED}]).equal
    result = settle(Matching.of(target_of(source).entries, target_of(target).entries), prove)
    assert result.status == "ambiguous"
    assert result.rules == []
    assert [str(group) for group in result.groups] == [
        "{left, right} -> {port, starboard}: the outputs are the same either way"
    ]


def test_order_of_execution_decides_what_names_do_not():
    """With what runs between the twins matched, the one that runs first is known on both sides."""

    class Chain(nn.Module):
        def __init__(self, order):
            super().__init__()
            for name in order:
                self.add_module(name, nn.Linear(4, 4) if name != "middle" else nn.Linear(4, 4, bias=False))
            self.order = [name for name in ("a", "x") if name in order] + ["middle"]
            self.order += [name for name in ("b", "y") if name in order]

        def forward(self, x):
            for name in self.order:
                x = getattr(self, name)(x)
            return x

    source, target = Chain(["a", "middle", "b"]), Chain(["y", "middle", "x"])
    result = match(
        target_of(source).entries,
        target_of(target).entries,
        source_execution=execution_order(source),
        target_execution=execution_order(target),
    )
    assert result.mapping["x.weight"] == ("a.weight",)
    assert result.status == "unique"


def test_parameters_that_do_not_show_are_told():
    source, target = Twins(["left", "right"], unused=True), Twins(["port", "starboard"], unused=True)
    proof = prover(source, target)([{"rename": RENAME}])
    assert proof.equal
    assert set(proof.unseen) == {"spare.weight", "spare.bias"}
    assert "do not show" in proof.text


def test_another_eps_is_no_obstacle_and_is_told():
    source, target = Twins(["left", "right"]), Twins(["port", "starboard"])
    target.norm.eps = 0.1
    proof = prover(source, target)([{"rename": RENAME}])
    assert proof.equal
    assert "eps 1e-05 against 0.1" in proof.text
    assert target.norm.eps == 0.1


def test_execution_order_is_that_of_forward():
    order = execution_order(Twins(["left", "right"], unused=True))
    assert order["first.weight"] < order["left.weight"] < order["right.weight"] < order["head.weight"]
    assert "spare.weight" not in order


def test_no_common_input_is_an_error():
    source, target = Twins(["left", "right"]), Twins(["port", "starboard"])
    target.first = nn.Conv2d(7, 6, 3)
    with pytest.raises(WorkError, match="goes through both"):
        common_input(assembly(source), assembly(target), odd=True)


def entries(shapes):
    return {name: Entry(name, "F32", shape) for name, shape in shapes.items()}


def linear(path, rows, columns):
    return {f"{path}.weight": (rows, columns), f"{path}.bias": (rows,)}


TWINS = (
    entries({**linear("body.left", 4, 4), **linear("body.right", 4, 4), **linear("head", 2, 4)}),
    entries({**linear("net.port", 4, 4), **linear("net.starboard", 4, 4), **linear("fc", 2, 4)}),
)


def proof(equal, agreeing, unseen=()):
    return Proof(equal, 0.0 if equal else 1.0, agreeing, "ran", unseen)


def crossed(rules):
    return any(new.startswith("net.starboard") for old, new in rules[0]["rename"].items() if "left" in old)


def test_running_settles_what_evidence_leaves_open():
    result = settle(Matching.of(*TWINS), lambda rules: proof(crossed(rules), 2 if crossed(rules) else 1))
    assert result.status == "proved"
    assert result.mapping["net.starboard.weight"] == ("body.left.weight",)
    assert result.groups == ()
    assert crossed(result.rules)


def test_what_does_not_show_in_the_outputs_is_not_settled():
    unseen = tuple(f"net.{side}.{leaf}" for side in ("port", "starboard") for leaf in ("weight", "bias"))
    result = settle(Matching.of(*TWINS), lambda rules: proof(True, 2, unseen))
    assert result.status == "ambiguous"
    assert result.rules == []


def test_networks_that_never_agree_leave_it_open():
    result = settle(Matching.of(*TWINS), lambda rules: proof(False, 1))
    assert result.status == "ambiguous"
    assert result.rules == []


def test_a_sure_answer_that_does_not_run_is_refuted():
    source, target = (
        entries({**linear("a", 4, 3), **linear("b", 2, 4)}),
        entries({**linear("x", 4, 3), **linear("y", 2, 4)}),
    )
    result = settle(Matching.of(source, target), lambda rules: proof(False, 0))
    assert result.status == "refuted"
    assert result.rules == []
    assert result.candidate
    with pytest.raises(WorkError, match="does not make the networks agree"):
        result.answer()


def test_a_transposed_table_needs_a_proof():
    source = entries({"a.table": (49, 3), **linear("a.fc", 4, 3)})
    target = entries({"b.bias_table": (3, 7, 7), **linear("b.head", 4, 3)})
    assert match(source, target).status == "ambiguous"
    result = settle(Matching.of(source, target), lambda rules: proof(True, 2))
    assert result.status == "proved"
    assert {"permute": {"match": r"^b\.bias_table$", "axes": [1, 0]}} in result.rules


def test_the_target_shares_the_memory_of_weights_that_are_moved_as_they_are():
    source, target = Twins(["left", "right"]), Twins(["port", "starboard"])
    assert prover(source, target)([{"rename": RENAME}]).equal
    assert target.port.weight.data_ptr() == source.left.weight.data_ptr()
    assert not any(parameter.is_meta or parameter.grad is not None for parameter in target.parameters())


def test_two_networks_take_less_memory_than_one_has():
    """Two ViT-L would take 2.4 GB."""
    layers = [nn.Sequential(nn.Flatten(), nn.Linear(192, 256), *(nn.Linear(256, 256) for _ in range(30))) for _ in "ab"]
    source, target = (Assembly(layer, "test/chain", preprocessing=Preprocessing(size=(8, 8))) for layer in layers)
    assert Prover(source, target, {name: name for name in source.model.state_dict()})([]).equal
    parameters, moved = (list(layer.parameters()) for layer in layers)
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in parameters}
    assert sum(storages.values()) < 0.2 * sum(value.nbytes for value in parameters)
    assert [value.data_ptr() for value in parameters] == [value.data_ptr() for value in moved]


def test_the_sources_run_is_let_go_before_gradients_are_taken():
    prove = prover(Twins(["left", "right"]), Twins(["port", "starboard"]))
    assert not prove([{"rename": CROSSED}]).equal
    assert prove._runs  # for the next attempt
    assert prove([{"rename": RENAME}]).equal
    assert prove([{"rename": RENAME}]).equal  # and recorded anew
    assert 0 not in prove._runs
