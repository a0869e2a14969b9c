"""The step `zero_shot`: a linear head whose weights are the embeddings of class names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from zoo.api import Context, Document, InputError, Step, WorkError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.api import ActiveRun, Assembly, Rehearsal

NAMESPACE = "openclip/"


class ZeroShot(Step):
    """`zero_shot:` gives an image tower of openclip the head that the text tower makes of the class names.

    The head is a plain linear layer, logit scale and bias in it, so that its scores are open_clip's own. The text tower
    is run once and left in its file.
    """

    templates: Literal["simple", "openai"] | list[str] = "simple"
    """Prompts with one `{}` for the class: `simple` is one, `openai` are the 80 for ImageNet, whose embeddings are
    averaged."""
    classes: list[str] | None = None
    """What the classes are called in prompts, in the data's order; the data's own names without it."""
    weights: str | None = None
    """The file with both towers, beside the recipe or in the current directory; the model's own without it."""

    replayed = True
    fails_safely = True

    @classmethod
    def read(cls, document: Document, path: tuple[str | int, ...]) -> Self | None:
        step = super().read(document, path)
        if step is None or step.weights is None:
            return step
        beside = Path(document.file).parent / Path(step.weights).expanduser()
        return step.model_copy(update={"weights": str(beside)}) if beside.is_file() else step

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        wrong = [text for text in self.templates if text.count("{}") != 1] if isinstance(self.templates, list) else []
        for text in wrong:
            message = f"zero_shot.templates: {text!r} has to have one {{}}, the place of the class"
            document.add((*self.place.path, "templates"), message, "a photo of a {}.")
        if self.templates == []:
            document.add((*self.place.path, "templates"), "zero_shot.templates: there is no template", "write simple")
        if self.weights is None and document.get(("model", "weights")) is None:
            message = "zero_shot: the text tower is in the model's weights, and the model has none"
            document.add(self.place.path, message, "give model weights, or zero_shot: {weights: FILE}", at_key=True)

    def check(self, rehearsal: Rehearsal) -> None:
        with rehearsal.restructured(self):
            self._new_head(rehearsal.assembly, rehearsal.sample.context)

    def run(self, run: ActiveRun) -> None:
        import torch

        from zoo.api import get_module

        path, names = self._new_head(run.assembly, run.context)
        weight, bias = self._embedded(run.assembly, names)
        head = get_module(run.assembly.model, path)
        with torch.no_grad():
            head.weight.copy_(weight)  # type: ignore[operator]
            head.bias.copy_(bias)  # type: ignore[operator]
        if self.weights is not None and os.path.isfile(self.weights):
            run.pins[str(self.place.index)] = {"weights": os.path.abspath(self.weights)}
        run.record(self, head=path, classes=len(names))

    def _new_head(self, assembly: Assembly, context: Context) -> tuple[str, list[str]]:
        """Put an empty linear head there; its path, and the classes' names."""
        from zoo.api import find_head, operate

        if not assembly.architecture.startswith(NAMESPACE):
            raise InputError(
                f"{assembly.architecture} has no text tower",
                suggestion="zero_shot is for the architectures of openclip",
            )
        names = list(self.classes if self.classes is not None else context.classes)
        if not names:
            raise InputError("there are no class names to make a head of", suggestion="write them under classes")
        if context.classes and len(names) != len(context.classes):
            raise InputError(f"classes: {len(names)} names, and the data has {len(context.classes)} classes")
        own = context if context.classes else replace(context, num_classes=len(names), classes=tuple(names))
        operate(assembly, "zoo/swap_head", {"num_classes": len(names)}, own)
        return find_head(assembly.model), names

    def _embedded(self, assembly: Assembly, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The head's weight [n, d] and bias [n]. Raises WorkError where the tokenizer is not on this machine."""
        import open_clip
        import torch

        from zoo.api import load_into

        name = assembly.architecture.removeprefix(NAMESPACE)
        base = assembly.base_weights or {}
        file = self.weights or base.get("location") or base.get("name")
        if file is None:
            raise InputError("there is no file with a text tower", suggestion="zero_shot: {weights: FILE}")
        clip: nn.Module = open_clip.create_model(name, load_weights=False, pretrained_text=False)
        load_into(clip, file)
        try:
            tokenizer = open_clip.get_tokenizer(name)
        except OSError as error:
            raise WorkError(f"the tokenizer of {name} is not on this machine: {error}") from error
        embeddings = open_clip.build_zero_shot_classifier(clip.eval(), tokenizer, names, self._prompts())
        scale, shift = clip.logit_scale, getattr(clip, "logit_bias", None)
        assert isinstance(scale, torch.Tensor)
        bias = torch.zeros(len(names)) if shift is None else shift.detach().expand(len(names))
        return scale.detach().exp() * embeddings.T, bias

    def _prompts(self) -> Sequence[object]:
        """What open_clip makes texts by: functions of a name, or texts with a place for it."""
        import open_clip

        if self.templates == "openai":
            templates: Sequence[object] = open_clip.OPENAI_IMAGENET_TEMPLATES
            return templates
        return ["a photo of a {}."] if self.templates == "simple" else list(self.templates)
