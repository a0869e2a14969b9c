"""A plugin-based model zoo and transfer-learning toolkit. `import zoo` imports nothing heavy; a verb does when called.

zoo.build("timm/resnet50", num_classes=10)                    a model with fresh parameters
zoo.finetune("recipes/quickstart.yaml", output="runs/one")    a recipe from model to checkpoint: a Run
zoo.load("runs/one/model.safetensors")                        the model again, from the file alone
zoo.load_into(model, "weights.pth", remap="auto")             weights into any nn.Module, with a report
zoo.check, zoo.freeze, zoo.save, zoo.evaluate, zoo.predict    a recipe's mistakes; models in memory
zoo.compare("runs/one", "runs/two")                           two models on the same images, with a paired test
zoo.verify("runs/one")                                        what a run says of itself, checked again from the files
zoo.export("runs/one/model.safetensors", "m.onnx")            one file that runs without zoo, compared with torch
zoo.embed("runs/one/model.safetensors", "photos", "p.npz")    a module's features for every image of a data set
zoo.convert, zoo.merge, zoo.inspect, zoo.diff                 weight files
zoo.push("runs/one", "me/digits")                             a checkpoint to the Hugging Face hub
zoo.names("surgeries")                                        what is installed
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.checkpoint.diff import diff
    from zoo.checkpoint.inspect import inspect
    from zoo.checkpoint.load import load_model as load
    from zoo.checkpoint.push import push
    from zoo.contracts import Context, Data, Preprocessing, Weights
    from zoo.conversion.convert import convert
    from zoo.errors import InputError, WorkError, ZooError
    from zoo.finetuning.result import Run
    from zoo.model.info import ModelInfo
    from zoo.model.load_into import load_into
    from zoo.model.pretrained import build
    from zoo.registry import names
    from zoo.verbs.files import embed, export, merge
    from zoo.verbs.measuring import compare, evaluate, predict
    from zoo.verbs.models import freeze, save
    from zoo.verbs.training import check, finetune, finetune_seeds, reproduce
    from zoo.verification.verify import verify

_PLACES = {
    "build": "zoo.model.pretrained:build",
    "check": "zoo.verbs.training:check",
    "compare": "zoo.verbs.measuring:compare",
    "convert": "zoo.conversion.convert:convert",
    "diff": "zoo.checkpoint.diff:diff",
    "embed": "zoo.verbs.files:embed",
    "evaluate": "zoo.verbs.measuring:evaluate",
    "export": "zoo.verbs.files:export",
    "finetune": "zoo.verbs.training:finetune",
    "finetune_seeds": "zoo.verbs.training:finetune_seeds",
    "freeze": "zoo.verbs.models:freeze",
    "inspect": "zoo.checkpoint.inspect:inspect",
    "load": "zoo.checkpoint.load:load_model",
    "load_into": "zoo.model.load_into:load_into",
    "merge": "zoo.verbs.files:merge",
    "names": "zoo.registry:names",
    "predict": "zoo.verbs.measuring:predict",
    "push": "zoo.checkpoint.push:push",
    "reproduce": "zoo.verbs.training:reproduce",
    "save": "zoo.verbs.models:save",
    "verify": "zoo.verification.verify:verify",
    "Context": "zoo.contracts:Context",
    "Data": "zoo.contracts:Data",
    "InputError": "zoo.errors:InputError",
    "ModelInfo": "zoo.model.info:ModelInfo",
    "Preprocessing": "zoo.contracts:Preprocessing",
    "Run": "zoo.finetuning.result:Run",
    "Weights": "zoo.contracts:Weights",
    "WorkError": "zoo.errors:WorkError",
    "ZooError": "zoo.errors:ZooError",
}
__all__ = [
    "Context",
    "Data",
    "InputError",
    "ModelInfo",
    "Preprocessing",
    "Run",
    "Weights",
    "WorkError",
    "ZooError",
    "build",
    "check",
    "compare",
    "convert",
    "diff",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "finetune_seeds",
    "freeze",
    "inspect",
    "load",
    "load_into",
    "merge",
    "names",
    "predict",
    "push",
    "reproduce",
    "save",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("zoo-kit")
    if name not in _PLACES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
