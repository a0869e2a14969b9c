"""A plugin-based model zoo and transfer-learning toolkit. `import zoo` imports nothing heavy; a verb does when called.

zoo.build("timm/resnet50", num_classes=10)                    a model with fresh parameters
zoo.finetune("recipes/quickstart.yaml", output="runs/one")    a recipe from model to checkpoint
zoo.load("runs/one/model.safetensors")                        the model again, from the file alone
zoo.load_into(model, "weights.pth", remap="auto")             weights into any nn.Module, with a report
zoo.convert, zoo.inspect, zoo.diff                            weight files
zoo.names("surgeries")                                        what is installed
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.checkpoint.diff import diff
    from zoo.checkpoint.inspect import inspect
    from zoo.checkpoint.load import load_model as load
    from zoo.conversion.convert import convert
    from zoo.finetuning.finetune import finetune
    from zoo.model.load_into import load_into
    from zoo.model.pretrained import build
    from zoo.registry import names

_VERBS = {
    "build": "zoo.model.pretrained:build",
    "convert": "zoo.conversion.convert:convert",
    "diff": "zoo.checkpoint.diff:diff",
    "finetune": "zoo.finetuning.finetune:finetune",
    "inspect": "zoo.checkpoint.inspect:inspect",
    "load": "zoo.checkpoint.load:load_model",
    "load_into": "zoo.model.load_into:load_into",
    "names": "zoo.registry:names",
}
__all__ = ["build", "convert", "diff", "finetune", "inspect", "load", "load_into", "names"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("zoo-kit")
    if name not in _VERBS:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    module, _, function = _VERBS[name].partition(":")
    return getattr(importlib.import_module(module), function)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
