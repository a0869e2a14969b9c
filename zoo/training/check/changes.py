"""What surgeries did to a model's structure: modules that came, went, or stand in another's place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Change:
    """One place where the structure differs; `before` and `after` are what stood and stands there, in torch's words."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.path}  {self.after}"
        return (
            f"- {self.path}  {self.before}" if self.after is None else f"~ {self.path}  {self.before} -> {self.after}"
        )

    def as_dict(self) -> dict[str, str | None]:
        return {"path": self.path, "before": self.before, "after": self.after}


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by path, shared ones at each of their places."""
    return dict(model.named_modules(remove_duplicate=False))


def changes(before: Mapping[str, nn.Module], after: Mapping[str, nn.Module]) -> tuple[Change, ...]:
    """The outermost differences between two results of `modules_of`, in the order of the model."""
    found: list[Change] = []
    for path in dict.fromkeys([*after, *before]):
        old, new = before.get(path), after.get(path)
        if old is new or any(_inside(path, change.path) for change in found):
            continue
        found.append(Change(path, _words(old), _words(new)))
    return tuple(found)


def _inside(path: str, parent: str) -> bool:
    return not parent or path.startswith(f"{parent}.")


def _words(module: nn.Module | None) -> str | None:
    """A layer as torch prints it; of a container the class and what is directly inside."""
    if module is None:
        return None
    children = [type(child).__name__ for child in module.children()]
    inside = ", ".join(children[:6]) + (", …" if len(children) > 6 else "")
    return f"{type(module).__name__}({inside if children else module.extra_repr()})"
