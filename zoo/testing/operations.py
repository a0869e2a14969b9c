"""The contracts of what works on a model: surgeries, freezing policies, modules, initializers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from zoo.testing.contract import Contract

_SMALL_CNN = "torchvision/squeezenet1_1"


class SurgeryContract(Contract):
    """The surgery runs on `architecture` with `arguments`, without memory too, a checkpoint gives the same model back,
    and it leaves freezing to zoo."""

    kind = "surgeries"
    architecture: ClassVar[str] = _SMALL_CNN

    def _positional(self) -> int:
        return 1

    def operated(self, device: str = "cpu") -> Any:
        from zoo.contracts import Context
        from zoo.model.build import build
        from zoo.model.operations import operate

        assembly = build(self.architecture, device=device)
        return operate(assembly, self.component, self.arguments, Context(preprocessing=assembly.preprocessing))

    def test_the_model_still_answers(self) -> None:
        import torch

        assembly = self.operated()
        preprocessing = assembly.preprocessing
        with torch.no_grad():
            output = assembly.model.eval()(torch.rand(2, preprocessing.channels, *preprocessing.size))
        assert output.shape[0] == 2
        assert output.isfinite().all()

    def test_its_record_is_plain_and_replays_to_the_same_structure(self) -> None:
        from zoo.model.build import rebuild

        first = self.operated()
        record = json.loads(json.dumps(first.operations))
        again = rebuild({"architecture": first.architecture, "arguments": first.arguments, "operations": record})
        shapes = [{k: v.shape for k, v in assembly.model.state_dict().items()} for assembly in (first, again)]
        assert shapes[0] == shapes[1]

    def test_it_runs_without_memory_as_in_a_check(self) -> None:
        shapes = [
            {key: value.shape for key, value in self.operated(device).model.state_dict().items()}
            for device in ("meta", "cpu")
        ]
        assert shapes[0] == shapes[1]

    def test_a_checkpoint_gives_the_same_model_back(self, tmp_path: Path) -> None:
        from zoo.checkpoint.save import save_checkpoint, verify_reload

        assembly = self.operated()
        save_checkpoint(assembly, tmp_path / "operated.safetensors")
        verify_reload(assembly, tmp_path / "operated.safetensors")

    def test_it_leaves_freezing_to_zoo(self) -> None:
        said = [note for note in self.operated().notes if "requires_grad" in note]
        assert not said, f"let parameters that were there keep their requires_grad: {said[0]}"


class FreezingContract(Contract):
    """The policy names things that exist in `architecture`, and freezes nothing itself."""

    kind = "freezing"
    architecture: ClassVar[str] = _SMALL_CNN

    def _positional(self) -> int:
        return 1

    def test_it_names_what_exists_and_leaves_freezing_to_zoo(self) -> None:
        from zoo.model.build import build

        model = build(self.architecture, device="meta").model
        names = list(self.load()(model, **self.arguments))
        existing = {name for name, _ in [*model.named_parameters(), *model.named_buffers(), *model.named_modules()]}
        assert set(names) <= existing
        assert all(parameter.requires_grad for parameter in model.parameters())


class ModuleContract(Contract):
    """`arguments` build an nn.Module; with `input_shape` it is also run."""

    kind = "modules"
    input_shape: ClassVar[tuple[int, ...] | None] = None

    def test_it_builds_and_runs(self) -> None:
        import torch

        module = self.load()(**self.arguments)
        assert isinstance(module, torch.nn.Module)
        if self.input_shape is not None:
            assert module(torch.rand(*self.input_shape)).isfinite().all()


class InitializerContract(Contract):
    """It fills a tensor of `shape` in place."""

    kind = "initializers"
    shape: ClassVar[tuple[int, ...]] = (8, 4)

    def _positional(self) -> int:
        return 1

    def test_it_fills_in_place(self) -> None:
        import torch

        tensor = torch.full(self.shape, float("nan"))
        with torch.no_grad():
            assert self.load()(tensor, **self.arguments) is None
        assert tensor.shape == self.shape
