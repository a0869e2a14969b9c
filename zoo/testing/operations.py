"""The contracts of what works on a model: surgeries, freezing policies, modules, initializers."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from zoo.testing.contract import SMALL_CNN, Contract
from zoo.testing.fresh_process import check_round_trip, images_for, randomised


class _OnAModel(Contract):
    """Works on `architecture`, which is handed over in front of `arguments`."""

    architecture: ClassVar[str] = SMALL_CNN

    def _positional(self) -> int:
        return 1

    def built(self, device: str = "cpu") -> Any:
        from zoo.model.build import build

        return build(self.architecture, device=device)


class SurgeryContract(_OnAModel):
    """The surgery runs on `architecture` with `arguments`, on `meta` too, and a checkpoint can replay it.

    `stops_gradients` is for a surgery whose documentation says that parameters do not train after it.
    """

    kind = "surgeries"
    stops_gradients: ClassVar[bool] = False

    def recipe(self) -> dict[str, Any]:
        return {"model": self.architecture, "steps": [{self.component: dict(self.arguments)}, "save"]}

    def operated(self, device: str = "cpu") -> Any:
        from zoo.contracts import Context
        from zoo.model.operations import operate

        assembly = self.built(device)
        return operate(assembly, self.component, self.arguments, Context(preprocessing=assembly.preprocessing))

    def test_the_model_still_answers(self) -> None:
        import torch

        from zoo.model.prediction import prediction

        assembly = self.operated()
        with torch.no_grad():
            output = prediction(assembly.model.eval()(images_for(assembly)))
        assert output.shape[0] == 2
        assert output.isfinite().all()

    def test_it_runs_on_meta(self) -> None:
        real, meta = (_shapes(self.operated(device)) for device in ("cpu", "meta"))
        assert real == meta, "on meta, as zoo check runs it, it makes another structure"

    def test_gradients_are_left_as_found(self) -> None:
        from zoo import registry

        flags: dict[str, dict[int, bool]] = {}
        original = self.load()

        @functools.wraps(original)
        def watched(model: Any, **arguments: Any) -> Any:
            flags["before"] = {id(parameter): parameter.requires_grad for parameter in model.parameters()}
            kept.extend(model.parameters())
            result = original(model, **arguments)
            flags["after"] = {id(parameter): parameter.requires_grad for parameter in result.parameters()}
            return result

        kept: list[Any] = []  # so that no new parameter gets the identity of one that is gone
        with mock.patch.object(registry, "load", self._loading(watched)):
            self.operated()
        stopped = [key for key, trains in flags["after"].items() if not trains and flags["before"].get(key, True)]
        assert self.stops_gradients or not stopped, (
            f"{len(stopped)} parameters do not train after it: freezing is a step of the recipe's; where it is meant, "
            "say stops_gradients = True"
        )

    def _loading(self, watched: Any) -> Any:
        from zoo import registry

        load, own = registry.load, registry.resolve(self.component, self.kind)
        return lambda name, kind=None: watched if registry.resolve(name, kind) == own else load(name, kind)

    def test_its_record_is_plain_and_replays_to_the_same_structure(self) -> None:
        from zoo.model.build import rebuild

        first = self.operated()
        record = json.loads(json.dumps(first.operations))
        again = rebuild({"architecture": first.architecture, "arguments": first.arguments, "operations": record})
        assert _shapes(first) == _shapes(again)

    def test_a_checkpoint_gives_the_same_bits_in_a_fresh_process(self, tmp_path: Path) -> None:
        check_round_trip(self.operated(), tmp_path)


class FreezingContract(_OnAModel):
    """The policy names things that exist in `architecture`, freezes nothing itself, and what it names stays frozen."""

    kind = "freezing"

    def recipe(self) -> dict[str, Any]:
        step = {"freeze": {"policy": self.component, **self.arguments}}
        return {"model": self.architecture, "steps": [step, "save"]}

    def test_it_names_what_exists_and_leaves_freezing_to_zoo(self) -> None:
        model = self.built("meta").model
        names = list(self.call(model))
        existing = {name for name, _ in [*model.named_parameters(), *model.named_buffers(), *model.named_modules()]}
        assert set(names) <= existing, f"the model has no {', '.join(sorted(set(names) - existing))}"
        frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        assert not frozen, f"it froze {len(frozen)} parameters itself: return their names and change nothing"

    def test_it_names_the_same_on_meta(self) -> None:
        real, meta = (sorted(set(self.call(self.built(device).model))) for device in ("cpu", "meta"))
        assert real == meta, "on meta, as zoo check runs it, it names others"

    def test_what_it_names_does_not_move_and_the_rest_does(self) -> None:
        import torch

        from zoo.model.freezing import freeze, hashes, prove
        from zoo.model.prediction import prediction

        assembly = self.built()
        model = assembly.model
        part = freeze(model, self.call(model))
        before = hashes(model, part)
        training = [parameter for parameter in model.parameters() if parameter.requires_grad]
        earlier = [parameter.detach().clone() for parameter in training]
        loss = prediction(model.train()(images_for(assembly))).square().sum()
        if training and loss.requires_grad:
            torch.autograd.backward(loss)
            torch.optim.SGD(training, 0.1).step()
        assert prove(before, hashes(model, part)).holds
        moved = any(not torch.equal(old, new) for old, new in zip(earlier, training, strict=True))
        assert moved or not training, "nothing that it leaves to train gets a gradient"


class ModuleContract(Contract):
    """`arguments` build an nn.Module; with `input_shape` it is also run. With `step`, a step of a recipe on
    `architecture` that uses it, the recipe is checked as a whole."""

    kind = "modules"
    input_shape: ClassVar[tuple[int, ...] | None] = None
    architecture: ClassVar[str] = SMALL_CNN
    step: ClassVar[Mapping[str, Any] | None] = None

    def recipe(self) -> dict[str, Any] | None:
        return None if self.step is None else {"model": self.architecture, "steps": [dict(self.step), "save"]}

    def _filled(self) -> bool:
        return True

    def test_it_builds_and_runs(self) -> None:
        import torch

        module = self.call()
        assert isinstance(module, torch.nn.Module)
        if self.input_shape is not None:
            assert module(torch.rand(*self.input_shape)).isfinite().all()

    def test_it_runs_on_meta(self) -> None:
        import torch

        with torch.device("meta"):
            module = self.call()
        values = [*module.parameters(), *module.buffers()]
        assert all(value.is_meta for value in values), "a tensor is made on a device of its own"
        if self.input_shape is not None:
            shape = module(torch.empty(self.input_shape, device="meta")).shape
            assert shape == self.call()(torch.rand(*self.input_shape)).shape

    def test_its_state_is_all_in_the_state_dict(self) -> None:
        import torch

        first, second = randomised(self.call()).eval(), self.call().eval()
        second.load_state_dict(first.state_dict())
        if self.input_shape is not None:
            values = torch.rand(*self.input_shape)
            with torch.no_grad():
                assert torch.equal(first(values), second(values)), "with the same state dict it gives other outputs"


class InitializerContract(Contract):
    """It fills a tensor of `shape` in place, and the same one for the same seed."""

    kind = "initializers"
    shape: ClassVar[tuple[int, ...]] = (8, 4)

    def _positional(self) -> int:
        return 1

    def _known(self) -> dict[str, Any]:
        from zoo.recipe.signature import parameters

        return parameters(self.load(), first=1, skip=("generator",))

    def recipe(self) -> dict[str, Any]:
        fill = {"init": {"type": "Linear", "weight": {self.component: dict(self.arguments)}}}
        return {"model": SMALL_CNN, "steps": [fill, "save"]}

    def test_it_fills_in_place(self) -> None:
        import torch

        tensor = torch.full(self.shape, 0.5)
        with torch.no_grad():
            result = self.call(tensor)
        assert result is None or result is tensor, "it gives another tensor; zoo takes the one it handed over"
        assert tensor.shape == self.shape
        assert tensor.isfinite().all()

    def test_the_same_seed_gives_the_same(self) -> None:
        import torch

        found = []
        for _ in range(2):
            torch.manual_seed(0)
            tensor = torch.full(self.shape, 0.5)
            with torch.no_grad():
                self.call(tensor)
            found.append(tensor)
        assert torch.equal(*found), "draw from torch's generator, or from the argument `generator`"


def _shapes(assembly: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in assembly.model.state_dict().items()}
