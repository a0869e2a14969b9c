"""From a published checkpoint to the layout of the installed transformers, the way transformers does it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.api import WorkError, file_beside

StateDict = dict[str, Any]
_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def safetensors_at(location: str) -> str:
    """The location of the safetensors file of a repository or folder; a location that names a file is that file.

    A file that pickle wrote is read only where it is named.
    """
    if location.startswith("hf://"):
        address, _, revision = location.removeprefix("hf://").partition("@")
        if address.count("/") != 1:
            return location
        return f"hf://{address}/{_file_of(location)}{f'@{revision}' if revision else ''}"
    folder = Path(location).expanduser()
    if not folder.is_dir():
        return location
    return str(folder / (_INDEX if (folder / _INDEX).is_file() else _FILE))


def _file_of(location: str) -> str:
    try:
        return _INDEX if file_beside(location, _INDEX) else _FILE
    except WorkError:  # without a network a cache may have the one file, and never have been asked for the other
        return _FILE


def adapt(state_dict: StateDict, model: Any, *, bare: bool = False) -> StateDict:
    """`state_dict` under the names of `model`, as transformers' own loading puts it there: old names renamed, tensors
    split and joined, the name of the network before a head put in front.

    What the network has no place for keeps its name. The pooler of a file without a classifier (`bare`) goes where the
    classifier does not use it, as in transformers.
    """
    import torch

    from zoo_huggingface.networks import published

    with torch.random.fork_rng(devices=[]), _quiet():
        loaded, report = published(model).from_pretrained(
            None,
            config=copy.deepcopy(model.config),
            state_dict=dict(state_dict),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    odd = {row[0]: row[1] for row in report["mismatched_keys"]}
    left_out = set(report["missing_keys"]) | set(odd)
    made = {name: tensor for name, tensor in loaded.state_dict().items() if name not in left_out}
    for name, shape in odd.items():  # of another size: zoo says so, or takes another head
        made[name] = state_dict.get(name, torch.empty(tuple(shape)))
    spare = (name for name in report["unexpected_keys"] if not (bare and "pooler" in name.split(".")))
    return made | {name: state_dict[name] for name in spare if name in state_dict}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report and progress bars: zoo says what was loaded."""
    import transformers

    logging: Any = transformers.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
