"""What an import changes around itself: builtins, `sys.path`, the environment, streams, torch. Found, and put back.

What was there before is put back as it was: zoo itself needs it. What was added stays, behind the rest, since a plugin
may count on it. Both are named. What was replaced in torch can only be named.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_BUILTINS = vars(builtins)
_STREAMS = ("stdin", "stdout", "stderr", "displayhook", "excepthook")
_TORCH = ("torch", "torch.nn", "torch.nn.functional", "torch.nn.init", "torch.optim")
_SETTINGS = ("get_default_dtype", "get_num_threads", "is_grad_enabled", "are_deterministic_algorithms_enabled")
Named = dict[str, Any]


@dataclass(frozen=True)
class Surroundings:
    """How things stand around an import."""

    builtins: Named
    lists: dict[str, list[Any]]
    environment: dict[str, str]
    streams: Named
    folder: str | None
    torch: Named | None

    @classmethod
    def now(cls) -> Surroundings:
        return cls(
            _BUILTINS.copy(),
            {name: list(getattr(sys, name)) for name in ("path", "meta_path", "path_hooks")},
            dict(os.environ),
            {name: getattr(sys, name) for name in _STREAMS},
            _folder(),
            torch_names(),
        )

    def put_back(self, package: str = "") -> list[str]:
        """Put back what was there; what was changed, a phrase each (`builtins: print replaced`).

        `package` is the plugin's: where it was the first to import torch, what of torch is now the package's own.
        """
        found = _BUILTINS.copy()
        _BUILTINS.clear()  # at once and by methods alone: nothing is looked up meanwhile
        _BUILTINS.update(self.builtins)
        changes = _differences("builtins", self.builtins, found)
        _BUILTINS.update({name: value for name, value in found.items() if name not in self.builtins})
        for name, before in self.lists.items():
            changes += _list_put_back(f"sys.{name}", getattr(sys, name), before)
        changes += self._environment_put_back()
        streams = {name: getattr(sys, name, None) for name in _STREAMS}
        changes += _differences("sys", self.streams, streams)
        for name, value in self.streams.items():
            setattr(sys, name, value)
        if self.folder is not None and self.folder != _folder():
            os.chdir(self.folder)
            changes.append("the current directory changed")
        return changes + self._torch_changes(package)

    def _environment_put_back(self) -> list[str]:
        found = dict(os.environ)
        for name, value in self.environment.items():
            if found.get(name) != value:
                os.environ[name] = value
        return _differences("environment", self.environment, found)

    def _torch_changes(self, package: str) -> list[str]:
        after = torch_names() or {}
        if self.torch is not None:
            changed = [name for name, value in self.torch.items() if _replaced(value, after.get(name))]
        else:
            changed = [name for name, value in after.items() if package and _package_of(value) == package]
        whole = [name for name in changed if name.rpartition(".")[0] not in changed]
        return [f"torch: {_listed(whole)} replaced"] if whole else []


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return None


def _differences(where: str, before: Named | dict[str, str], after: Named | dict[str, str]) -> list[str]:
    """`environment: HOME removed`, one phrase for each way to differ."""
    ways = {
        "removed": [name for name in before if name not in after],
        "replaced": [name for name, value in before.items() if name in after and after[name] is not value],
        "added": [name for name in after if name not in before],
    }
    if where == "environment":
        ways["replaced"] = [name for name in ways["replaced"] if before[name] != after[name]]
    if where == "builtins":
        ways["added"] = [name for name in ways["added"] if name != "_"]  # the prompt's, and gettext's
    return [f"{where}: {_listed(names)} {way}" for way, names in ways.items() if names]


def _list_put_back(name: str, found: list[Any], before: list[Any]) -> list[str]:
    """Put a list of `sys` in order: what was there as it was, what is new behind it."""
    if found == before:
        return []
    new = [item for item in found if item not in before]
    moved = [item for item in found if item in before] != before
    front = bool(new) and not moved and found[: len(before)] != before
    found[:] = [*before, *new]
    what = [*(["entries removed or moved"] if moved else []), *([f"{_listed(map(str, new))} added"] if new else [])]
    return [f"{name}: {' and '.join(what)}{' in front' if front else ''}"]


def _listed(names: Iterable[str], shown: int = 4) -> str:
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def torch_names() -> Named | None:
    """What the names of torch that networks are made of stand for, and its settings; None where it is not imported."""
    modules = [(name, sys.modules.get(name)) for name in _TORCH]
    if any(module is None for _, module in modules):
        return None
    found: Named = {}
    for prefix, module in modules:
        for name, value in list(vars(module).items()):
            if callable(value) and not name.startswith("__"):
                found[f"{prefix}.{name}"] = value
            if isinstance(value, type) and (prefix != "torch" or name == "Tensor"):
                kinds = value.__mro__[-2::-1] if name == "Tensor" else (value,)  # most of Tensor's are its base's
                inner = [pair for kind in kinds for pair in vars(kind).items()]
                found |= {f"{prefix}.{name}.{key}": each for key, each in inner if callable(each)}
    torch = sys.modules["torch"]
    return found | {f"torch.{name}()": getattr(torch, name)() for name in _SETTINGS}


def _replaced(before: Any, after: Any) -> bool:
    """Whether a name stands for something else; torch replaces functions of its own when more of it is imported."""
    if after is before or (not callable(before) and after == before):
        return False
    return isinstance(before, type) or not callable(before) or _package_of(after) != "torch"


def _package_of(value: Any) -> str:
    return str(getattr(value, "__module__", None) or "").partition(".")[0]
