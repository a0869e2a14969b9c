"""Runs a pickle, where the user trusts whoever made it (`trust_pickle`), and opens the tensors that come out of it."""

from __future__ import annotations

import logging
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.formats.source import Source
from zoo.formats.torch_file import PLAIN, open_torch, read_pickled

log = logging.getLogger("zoo")


class _TemporarySource(Source):
    """The tensors of a pickle that was run, kept in a temporary file of torch.save until `close`."""

    def __init__(self, inner: Source, original: Path) -> None:
        self.__dict__.update(inner.__dict__)
        self.inner = inner
        self.temporary, self.files = inner.files, (original,)

    def array(self, name: str) -> Any:
        return self.inner.array(name)

    def close(self) -> None:
        self.inner.close()  # Windows removes no open file
        for path in self.temporary:
            path.unlink(missing_ok=True)


def open_trusted(path: Path, location: str, key: str | None) -> Source:
    """Unpickle `path` with torch, RUNNING THE CODE IT NAMES, and open the tensors found in what comes out."""
    import torch

    log.warning("running the code that %s contains, with your rights, because you trust it (--trust-pickle)", path)
    try:
        if read_pickled(path).kind == PLAIN:
            content = pickle.loads(path.read_bytes())  # noqa: S301 - the user trusts it
        else:
            content = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise InputError(
            f"cannot unpickle {path}: {type(error).__name__}: {error}",
            suggestion="the classes it was saved with must be importable here, in the versions it was saved with",
        ) from error
    handle, name = tempfile.mkstemp(suffix=".pth")
    os.close(handle)
    temporary = Path(name)
    try:
        torch.save(_tensors_only(content), temporary)
        source = _TemporarySource(open_torch(temporary, location, key), path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    source.kind += ", from a pickle that was run"
    source.notes.append(f"ran the code that {path} contains, as trust_pickle asked for")
    return source


def _tensors_only(value: Any) -> Any:
    """The tensors in `value`, in plain containers: a module becomes its state dict, what is neither is left out."""
    import numpy as np
    import torch

    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))
    if isinstance(value, torch.nn.Module):
        return value.state_dict()
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {name: _tensors_only(item) for name, item in value.items() if isinstance(name, str)}
    if isinstance(value, list | tuple):
        return [_tensors_only(item) for item in value]
    return None
