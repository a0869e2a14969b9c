"""peft's own folders of an adapter, `adapter_config.json` and `adapter_model.safetensors`, read and written.

Nothing of a folder is run: what its configuration says has to be a value of the surgery's, and the layers come from the
names of its tensors, not from its regular expressions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from zoo.api import Assembly, InputError, WorkError, find_heads
from zoo.errors import Problem, first_problems, listed
from zoo_peft.adapters import ADAPTER, adapters

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # what peft calls the network inside its own
LARGEST = 1_000_000
"""The most bytes of a configuration that are read."""

# what a configuration says, and the surgery's argument for it
_ARGUMENTS = {
    "LORA": {"r": "r", "lora_alpha": "alpha", "lora_dropout": "dropout", "use_rslora": "rslora"},
    "IA3": {},
    "LOHA": {"r": "r", "alpha": "alpha"},
    "LOKR": {"r": "r", "alpha": "alpha"},
    "OFT": {"oft_block_size": "block_size"},
}
# what says where the adapter comes from and goes, or how it began, and changes nothing of what it computes
_NEEDLESS = frozenset(
    "peft_type task_type auto_mapping peft_version base_model_name_or_path revision inference_mode target_modules "
    "feedforward_modules exclude_modules layers_to_transform layers_pattern modules_to_save megatron_core r use_dora "
    "qalora_group_size init_weights init_ia3_weights runtime_config".split()
)
_BEGINNINGS = (True, False, None, "gaussian", "orthogonal")  # others change the weights of the base as well


@dataclass(frozen=True)
class Adapter:
    """What a folder contains: the surgery that rebuilds its adapter, that one's arguments, and the tensors by their
    names in the network, without `default`. `others` are those of modules that were trained beside it (a head)."""

    surgery: str
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    others: dict[str, Tensor]


def read_folder(folder: str | os.PathLike[str]) -> Adapter:
    """The adapter in a folder. Raises InputError, with every option that is in the way, where zoo has no surgery that
    computes the same."""
    config, tensors = _read_config(Path(folder)), _read_tensors(Path(folder))
    kind = str(config.get("peft_type"))
    if kind not in _ARGUMENTS:
        raise InputError(f"{folder} has an adapter of the kind {kind}; zoo has {', '.join(_ARGUMENTS)}")
    _check_options(folder, kind, config)
    mark = f".{PEFT_TYPE_TO_PREFIX_MAPPING[_kind(kind)]}"
    own = {name: tensor for name, tensor in tensors.items() if mark in name}
    paths = list(dict.fromkeys(name.partition(mark)[0] for name in own))
    arguments = {ours: config[theirs] for theirs, ours in _ARGUMENTS[kind].items() if theirs in config}
    arguments["paths"] = paths
    if kind == "IA3":  # [1, in] scales the inputs, [out, 1] the outputs
        scales = {name.partition(mark)[0]: tensor for name, tensor in own.items()}
        arguments["feedforward"] = [path for path, scale in scales.items() if scale.shape[0] == 1]
    surgery = "peft/dora" if config.get("use_dora") else f"peft/{kind.lower()}"
    others = {name: tensor for name, tensor in tensors.items() if name not in own}
    return Adapter(surgery, arguments, own, others)


def fill(model: nn.Module, adapter: Adapter, folder: str | os.PathLike[str]) -> None:
    """Copy the folder's tensors into the network, which the surgery has been done to; on `meta` only their shapes are
    compared. Raises InputError where names or shapes differ, before anything is copied."""
    network = _with_config(model)
    wanted = get_peft_model_state_dict(network, adapter_name=ADAPTER, save_embedding_layers=False)
    state = model.state_dict()
    problems = [f"{name} is in the model and not in the file" for name in wanted if name not in adapter.tensors]
    expected = {**wanted, **{name: state[name] for name in adapter.others if name in state}}
    for name, tensor in {**adapter.tensors, **adapter.others}.items():
        if name not in expected:
            problems.append(f"{name} is in the file and not in the model")
        elif expected[name].shape != tensor.shape:
            problems.append(f"{name} is {list(tensor.shape)} in the file and {list(expected[name].shape)} in the model")
    if problems:
        hint = "put swap_head in front, with the adapter's number of classes" if adapter.others else None
        first = Problem(f"{os.fspath(folder)} does not fit: {problems[0]}", None, hint)
        raise InputError([first, *first_problems(list(map(Problem, problems[1:])), 4)])
    if not any(parameter.is_meta for parameter in model.parameters()):
        set_peft_model_state_dict(network, adapter.tensors, adapter_name=ADAPTER)
        with torch.no_grad():
            for name, tensor in adapter.others.items():
                state[name].copy_(tensor)


def write_folder(assembly: Assembly, folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Write the network's adapter, and its classifier, as a folder that `peft.PeftModel.from_pretrained` reads.

    The folder must not be there yet. Returns `{"path", "bytes", "tensors"}`. Raises InputError without an adapter.
    """
    model, place = assembly.model, Path(folder)
    if not adapters(model):
        raise InputError("the model has no adapters to save", suggestion="put lora: {} in front")
    network = _with_config(model)
    tensors = get_peft_model_state_dict(network, adapter_name=ADAPTER, save_embedding_layers=False)
    heads, state = _trained_heads(model), model.state_dict()
    inside = [name for name in state if any(name.startswith(f"{head}.") for head in heads)]
    stored = {name: t.detach().cpu().contiguous() for name, t in {**tensors, **{n: state[n] for n in inside}}.items()}
    config: dict[str, Any] = network.peft_config[ADAPTER].to_dict()  # type: ignore[index,union-attr]
    config |= {"modules_to_save": heads or None, "inference_mode": True, "base_model_name_or_path": None}
    text = json.dumps(config, indent=2, sort_keys=True, default=sorted)
    partial = place.with_name(f".{place.name}.partial")
    partial.mkdir(parents=True)
    try:
        (partial / TENSORS).write_bytes(save({f"{PREFIX}{name}": tensor for name, tensor in stored.items()}))
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
        os.replace(partial, place)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise WorkError(f"{place} cannot be written: {error.strerror}") from error
    return {"path": str(place), "bytes": (place / TENSORS).stat().st_size, "tensors": len(stored)}


def _trained_heads(model: nn.Module) -> list[str]:
    try:
        heads = find_heads(model)
    except InputError:
        return []
    return [
        head for head in heads if any(parameter.requires_grad for parameter in model.get_submodule(head).parameters())
    ]


def _with_config(model: nn.Module) -> nn.Module:
    """The network that peft was handed: the model, or what a surgery wrapped since."""
    inside = [module for module in model.modules() if "peft_config" in vars(module)]
    if not inside:
        raise InputError("the model has no adapters", suggestion="put lora: {} in front")
    return inside[0]


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    try:
        if file.stat().st_size > LARGEST:
            raise InputError(f"{file} is too large for a configuration")
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "name a folder that peft wrote: adapter_config.json and adapter_model.safetensors"
        raise InputError(f"{file} cannot be read: {error.strerror}", suggestion=hint) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{file} is no adapter's configuration")
    return config


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    file = folder / TENSORS
    if not file.is_file():
        hint = "save it with peft's safe_serialization: pickles are not read" if any(folder.glob("*.bin")) else None
        raise InputError(f"{file} is not there", suggestion=hint)
    try:
        with safe_open(file, framework="pt") as opened:
            return {name.removeprefix(PREFIX): opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{file} is damaged: {error}") from error


def _check_options(folder: str | os.PathLike[str], kind: str, config: Mapping[str, Any]) -> None:
    """Raises InputError for whatever the surgery cannot do."""
    default = _defaults(kind)
    known = {*_NEEDLESS, *_ARGUMENTS[kind], "init_lora_weights"}
    odd = [key for key, value in config.items() if key not in known and value and value != default.get(key)]
    if not any(config.get("init_lora_weights") is one or config.get("init_lora_weights") == one for one in _BEGINNINGS):
        odd.append("init_lora_weights")
    if odd:
        said = listed([f"{key}: {json.dumps(config[key])[:60]}" for key in odd])
        raise InputError(
            f"{os.fspath(folder)} has options that zoo's {kind.lower()} does not have: {said}",
            suggestion="merge it with peft (merge_and_unload) and load the merged weights",
        )


def _defaults(kind: str) -> dict[str, Any]:
    empty = PEFT_TYPE_TO_CONFIG_MAPPING[_kind(kind)]()
    return dict(empty.to_dict())


def _kind(kind: str) -> Any:
    from peft import PeftType

    return PeftType[kind]
