"""The steps that read and write peft's own folders of an adapter."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from zoo.api import Document, InputError, Step, name_mistake

if TYPE_CHECKING:
    from zoo.api import ActiveRun, Rehearsal
    from zoo_peft.folder import Adapter


class LoadAdapter(Step):
    """`load_adapter:` puts an adapter that peft saved into the model, the classifier that was trained with it too."""

    folder: str
    """The folder with adapter_config.json and adapter_model.safetensors; its path counts from the recipe's folder first
    and then from the current directory."""

    replayed = True

    @classmethod
    def read(cls, document: Document, path: tuple[str | int, ...]) -> Self | None:
        step = super().read(document, path)
        if step is None:
            return None
        beside = Path(document.file).parent / Path(step.folder).expanduser()
        return step.model_copy(update={"folder": str(beside)}) if beside.is_dir() else step

    def read_folder(self) -> Adapter:
        """What the folder contains. Raises InputError for what cannot be read, or zoo has no surgery for."""
        from zoo_peft.folder import read_folder

        return read_folder(Path(self.folder).expanduser())

    def check(self, rehearsal: Rehearsal) -> None:
        from zoo.api import operate
        from zoo_peft.folder import fill

        adapter = self.read_folder()
        with rehearsal.restructured(self):
            operate(rehearsal.assembly, adapter.surgery, adapter.arguments, rehearsal.sample.context)
            fill(rehearsal.assembly.model, adapter, self.folder)

    def run(self, run: ActiveRun) -> None:
        from zoo.api import operate
        from zoo_peft.folder import fill

        adapter = self.read_folder()
        operate(run.assembly, adapter.surgery, adapter.arguments, run.context)
        fill(run.assembly.model, adapter, self.folder)
        run.pins[str(self.place.index)] = {"folder": os.path.abspath(os.path.expanduser(self.folder))}
        run.record(self, folder=self.folder, tensors=len(adapter.tensors) + len(adapter.others))


class SaveAdapter(Step):
    """`save_adapter:` writes the adapter and the classifier as peft does, in the run's folder."""

    name: str = "adapter"
    """The folder in the run's folder, one plain name."""

    fails_safely = True

    @property
    def files(self) -> frozenset[str]:
        return frozenset({self.name})

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        if mistake := name_mistake(self.name):
            message = f"save_adapter.name: {self.name!r} cannot name a folder in the run's folder: {mistake}"
            document.add((*self.place.path, "name"), message, "write adapter")
        elif any(self.name.casefold() in (file.casefold() for file in step.files) for step in earlier):
            message = f"save_adapter: {self.name!r} is written by an earlier step already"
            document.add(self.place.path, message, "give it another name", at_key=True)

    def check(self, rehearsal: Rehearsal) -> None:
        from zoo_peft.adapters import adapters

        if not adapters(rehearsal.assembly.model):
            raise InputError("the model has no adapters to save", suggestion="put lora: {} in front")

    def run(self, run: ActiveRun) -> None:
        from accelerate import PartialState

        from zoo_peft.folder import write_folder

        if PartialState().is_main_process:
            run.record(self, **write_folder(run.assembly, run.folder / self.name))
