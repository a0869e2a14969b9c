"""Proves that rules make two networks compute the same: random weights in one, moved to the other, both run.

`match_networks` is `--remap auto` with both architectures named: the matcher of `zoo.remap.auto` is given the order in
which both networks use their tensors, and a `Prover` runs the rules that it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations, islice, permutations
from typing import Any

import torch
from torch import Tensor, nn

from zoo.conversion.compare_models import all_settings, common_input, compare_recorded, module_pairs, names_in
from zoo.conversion.random_weights import emptied, fill_empty, randomise
from zoo.errors import InputError, listed
from zoo.formats.entry import Entry
from zoo.formats.tensors import entry, to_array
from zoo.model.assembly import Assembly
from zoo.model.load_into import fill, state_of, target_of
from zoo.model.paths import get_module
from zoo.model.prediction import prediction
from zoo.model.shapes import ModuleShapes
from zoo.model.trace import Recording, record
from zoo.remap.auto import Ambiguity, Matching, MatchResult, Proof
from zoo.remap.auto.solver import Choice, Solver
from zoo.remap.auto.tree import Group, Question
from zoo.remap.plan import make_plan
from zoo.remap.rules import parse_rules


def match_networks(source: Mapping[str, Entry], start: Assembly, end: Assembly) -> MatchResult:
    """Which tensor of a file corresponds to which of another architecture, proved by running both networks.

    `source` are the entries of a file of `start`; both networks lose their weights.

    Raises InputError where the file is not of `start`, WorkError where no image goes through both networks.
    """
    names = names_in(start, make_plan(source, (), target_of(start.model)))
    order = execution_order(start.model)
    matching = Matching.of(
        {name: source[name] for name in [*names, *(source.keys() - names.keys())]},
        target_of(end.model).entries,
        source_execution={name: order[place] for name, place in names.items() if place in order},
        target_execution=execution_order(end.model),
    )
    return settle(matching, Prover(start, end, names))


MAX_PROOFS = 24
MAX_ITEMS = 3  # of a group whose permutations are tried by running the networks
EITHER_WAY = "the outputs are the same either way"

Prove = Callable[[Sequence[Mapping[str, Any]]], Proof]


def settle(matching: Matching, prove: Prove) -> MatchResult:
    """The matcher's answer, checked by running both networks; undecided groups are tried one after the other.

    A choice is kept where the networks agree for more modules than before. `prove` runs rules (`Prover`).
    """
    solved = matching.solve({})
    if (result := matching.result(solved)).status == "none":
        return result
    choices: dict[Question, Choice] = {}
    best = prove(matching.rules(solved, proved=False))
    proofs, asked = 1, set[Question]()
    while not best.equal and proofs < MAX_PROOFS and (group := _next_open(solved, asked)):
        asked.add(group.question)
        for choice in list(permutations(range(len(group.targets))))[1:]:
            tried = matching.solve({**choices, group.question: choice})
            proof = prove(matching.rules(tried, proved=False))
            proofs += 1
            if proof.equal or proof.agreeing > best.agreeing:
                choices, best, solved = {**choices, group.question: choice}, proof, tried
    result = replace(matching.result(solved), proof=best)
    alike = [g for g in solved.undecided if best.equal and _interchangeable(matching, choices, g, prove)]
    if best.equal and not alike:
        return replace(result, status="proved", groups=(), rules=matching.rules(solved, proved=True))
    if alike or solved.undecided:
        groups = tuple(replace(Ambiguity.of(group), what=EITHER_WAY) for group in alike) or result.groups
        return replace(result, status="ambiguous", rules=[], groups=groups)
    return replace(result, status="refuted", rules=[], candidate=matching.rules(solved, proved=False))


def _interchangeable(matching: Matching, choices: Mapping[Question, Choice], group: Group, prove: Prove) -> bool:
    """Whether the networks agree as well with two of the group's items swapped, so that outputs cannot settle it."""
    if not group.even:  # left out, and not missed
        return True
    present = choices.get(group.question, tuple(range(len(group.targets))))
    for one, other in islice(combinations(range(len(present)), 2), MAX_PROOFS):
        places = {one: present[other], other: present[one]}
        choice = tuple(places.get(index, place) for index, place in enumerate(present))
        if prove(matching.rules(matching.solve({**choices, group.question: choice}), proved=False)).equal:
            return True
    return False


def _next_open(solved: Solver, asked: set[Question]) -> Group | None:
    """The first group, in the target's order, that has not been tried and can be."""
    waiting = [g for g in solved.undecided if g.even and len(g.targets) <= MAX_ITEMS and g.question not in asked]
    return min(waiting, key=lambda group: min(item.place for item in group.targets), default=None)


def execution_order(model: nn.Module) -> dict[str, int]:
    """The order in which a network uses its parameters and buffers: name -> position of the first use.

    Names are those of the state dict; unused tensors are not among them.
    Works on `meta`. Empty where no input that is likely to fit goes through the network.
    """
    try:
        done = ModuleShapes(model).furthest
    except InputError:
        return {}
    if done.error is not None:
        return {}
    positions = done.trace.first_uses()
    return {name: positions[id(value)] for name, value in state_of(model).items() if id(value) in positions}


SEEN = 10  # times the error that a change of a tensor must make in the outputs to count as seen


class Prover:
    """Checks rules numerically: `prover(rules)` runs both networks on random weights moved by the rules (a `Proof`).

    Both networks lose their weights: two ViT-L would take 2.4 GB. The source's are drawn anew in little memory
    (`fill_empty`), and the target's that are moved as they are share it.
    `names` maps the names that the rules start from to those of the source network.
    Raises WorkError where no input goes through both networks.
    """

    def __init__(self, source: Assembly, target: Assembly, names: Mapping[str, str]) -> None:
        self.source, self.target, self.names = emptied(source.model), emptied(target.model), names
        randomise(self.source)
        fill_empty(self.source, seed=0)
        state = state_of(self.source)
        self._state = {name: state[place] for name, place in names.items()}
        self._entries = {name: entry(name, value) for name, value in self._state.items()}
        images = [common_input(source, target, odd=odd) for odd in (True, False)]
        self._images = images if images[0].shape != images[1].shape else images[:1]
        self._paths = {place.rpartition(".")[0] for place in names.values()}
        self._runs: dict[int, Recording] = {}  # of the source, an image each

    def __call__(self, rules: Sequence[Mapping[str, Any]]) -> Proof:
        """Move the source's weights by `rules` and compare, on the second image where the first shows a difference:
        it may be one of padding, which some networks lay down for the size they were made for.
        """
        proofs: list[Proof] = []
        for place in range(len(self._images)):
            proofs.append(self._prove(rules, place))
            if proofs[-1].equal:
                return proofs[-1]
        return max(proofs, key=lambda proof: proof.agreeing)

    def _run(self, place: int) -> Recording:
        """The source's run on an image; it is as large as the network, and kept until the target agrees."""
        if place not in self._runs:
            self._runs[place] = record(self.source, self._images[place], self._paths)
        return self._runs[place]

    def _prove(self, rules: Sequence[Mapping[str, Any]], place: int) -> Proof:
        images = self._images[place]
        plan = make_plan(self._entries, parse_rules(list(rules)), target_of(emptied(self.target)))
        randomise(self.target, seed=1)  # what no rule fills must not agree by chance
        fill(self.target, plan, lambda name: to_array(self._state[name]), staged=False)
        fill_empty(self.target, seed=2)
        pairs = module_pairs(plan.moves, self.names)
        with equal_eps(self.source, self.target, pairs):
            found = compare_recorded(self.source, self._run(place), self.target, pairs, images)
            if found.equal:
                del self._runs[place]
            unseen = _unseen(self.target, images, found.relative) if found.equal else ()
        text = f"run with every parameter random and eps made equal: {found.message}"
        if differing := all_settings(self.source, self.target, pairs):
            text += f"; the networks differ in settings, which --verify weighs: {'; '.join(differing)}"
        if unseen:
            text += f"; {len(unseen)} parameters do not show in the outputs: {listed(unseen)}"
        return Proof(found.equal, found.relative, found.agreeing, text, unseen)


@contextmanager
def equal_eps(source: nn.Module, target: nn.Module, pairs: Mapping[str, str]) -> Iterator[None]:
    """Within the block, the target's normalisation layers use the eps of the source's."""
    modules = [(get_module(target, path), get_module(source, other)) for path, other in pairs.items()]
    norms = [
        (module, other.eps, module.eps) for module, other in modules if hasattr(module, "eps") and hasattr(other, "eps")
    ]
    try:
        for module, eps, _ in norms:
            module.eps = eps
        yield
    finally:
        for module, _, eps in norms:
            module.eps = eps


def _unseen(model: nn.Module, inputs: Tensor, error: float) -> tuple[str, ...]:
    """Parameters that hardly matter: a change as large as themselves would not show in the outputs above `error`."""
    parameters = dict(model.named_parameters())
    effects: dict[int, Tensor] = {}

    def weigh(parameter: Tensor) -> None:  # and let go of the gradient: all of them are as large as the network
        assert parameter.grad is not None
        effects[id(parameter)] = parameter.grad.norm() * parameter.detach().std(correction=0)
        parameter.grad = None

    hooks = [value.register_post_accumulate_grad_hook(weigh) for value in parameters.values()]  # type: ignore[no-untyped-call]
    try:
        with torch.enable_grad():
            output = prediction(model.eval()(inputs))
            direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)) / output.numel() ** 0.5
            (output * direction).sum().backward()
    finally:
        for hook in hooks:
            hook.remove()
    least = SEEN * max(error, 1e-9) * output.detach().abs().max()
    return tuple(name for name, value in parameters.items() if not effects.get(id(value), 0.0) > least)
