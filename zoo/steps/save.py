"""The step `save`: a checkpoint of the model as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from accelerate import PartialState

from zoo.checkpoint.save import save_checkpoint
from zoo.file_name import PATTERN, as_name, name_mistake, same_name
from zoo.recipe import Step
from zoo.recipe.document import Document
from zoo.recipe.validate import shown

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun

SUFFIX = ".safetensors"
FINISHED = "model"  # the name of the checkpoint that every run ends with


class Save(Step):
    """`save:` writes a checkpoint in the run's folder. `only: trainable` keeps what the base weights lack."""

    name: str = "saved"
    """The file in the run's folder, one plain name without its suffix; `model` is the finished model's own."""
    only: Literal["all", "trainable"] = "all"
    """`trainable` keeps what the base weights lack."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Floating tensors are cast to it; as they are without it."""

    fails_safely = True

    @classmethod
    def form(cls) -> dict[str, Any]:
        form = super().form()
        form["anyOf"][0]["properties"]["name"]["pattern"] = PATTERN  # of the lone value, too, which is the same schema
        return form

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.name.removesuffix(SUFFIX)

    @property
    def file(self) -> str:
        """The checkpoint's name in the run's folder."""
        return f"{self.stem}{SUFFIX}"

    @property
    def files(self) -> frozenset[str]:
        return frozenset({self.file})

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        """A checkpoint stays in the run's folder whatever a shared recipe says, and is written over by no later one."""
        path = self.place.path
        if self.only == "trainable" and document.get(("model", "weights")) is None:
            message = "save: only trainable lays over base weights, and model has none"
            document.add((*path, "only"), message, "write only: all, or give model weights")
        if mistake := name_mistake(self.stem, SUFFIX):
            message = f"save.name: {shown(self.name)} cannot name a file in the run's folder: {mistake}"
            document.add((*path, "name"), message, f"write {as_name(self.stem, 'saved', SUFFIX)}")
        elif same_name(self.stem, FINISHED):
            message = f"save.name: {FINISHED}{SUFFIX} is the finished model, which would replace this one"
            hint = "write saved, or remove the step: the finished model is saved anyway"
            document.add((*path, "name"), message, hint)
        own = self.file.casefold()  # macOS and Windows
        same = [step for step in earlier if own in {file.casefold() for file in step.files}]
        if same:
            by = f"the {same[0].place.name} step in {same[0].place.location.within}"
            message = f"save: {self.stem!r} is written by {by} already"
            document.add(path, message, "give it another name", at_key=True)

    def run(self, run: ActiveRun) -> None:
        if PartialState().is_main_process:
            path = run.folder / self.file
            # without metrics: those of the steps so far need not be what this file gives
            saved = save_checkpoint(run.assembly, path, only=self.only, dtype=self.dtype)
            run.record(self, **saved, dtype=self.dtype)
