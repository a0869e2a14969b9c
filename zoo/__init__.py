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
    from zoo.checkpoint.load import load_into
    from zoo.model.conversion import convert
    from zoo.model.restore import load_model as load
    from zoo.registry import names
    from zoo.training.run import finetune
    from zoo.verbs import build

_VERBS = {
    "build": "zoo.verbs:build",
    "convert": "zoo.model.conversion:convert",
    "diff": "zoo.checkpoint.diff:diff",
    "finetune": "zoo.training.run:finetune",
    "inspect": "zoo.checkpoint.inspect:inspect",
    "load": "zoo.model.restore:load_model",
    "load_into": "zoo.checkpoint.load:load_into",
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
