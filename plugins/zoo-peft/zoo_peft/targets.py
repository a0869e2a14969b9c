"""Which layers get an adapter: those that a recipe names, or those that the network's structure suggests.

A layer can be adapted if an adapter beside it computes and merges rightly: forward calls it (attention that reads the
weights of its projections would never run what stands in their place), it is a plain linear layer or convolution (one
that standardises or pads in a forward of its own does not merge), nothing shares its weight, and it is not in the
classifier, which trains as it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from zoo.api import Context, InputError, called_modules, find_heads
from zoo.errors import Problem, did_you_mean

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
LAYERS: tuple[type[Layer], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ATTENTION = re.compile("attn|attention", re.IGNORECASE)


class Targets:
    """The layers of a network that can be adapted, by path, in the order in which forward calls them.

    `kinds` are the classes of layers that the method at hand has an adapter for; `notes` are remarks on the choice.
    """

    def __init__(
        self, model: nn.Module, kinds: tuple[type[Layer], ...] = LAYERS, context: Context | None = None
    ) -> None:
        self.model, self.kinds = model, kinds
        self.called = called_modules(model, context)
        self.heads = _heads(model, context)
        self.uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
        self.modules = dict(model.named_modules())
        self.notes: list[str] = []
        self.layers: dict[str, Layer] = {
            path: module
            for path in self.called
            if isinstance(module := self.modules.get(path), kinds) and self._obstacle(path) is None
        }

    def choose(self, targets: Sequence[str] | None, paths: Sequence[str] | None) -> list[str]:
        """The paths of the layers to adapt: `paths` as they are, what `targets` name, or the network's default.

        A target is the end of a path: `qkv` names every layer called so. Raises InputError for names that lead to
        nothing, and for layers that cannot be adapted.
        """
        if paths is not None:
            named = {path: [path] if path in self.modules else [] for path in paths}
        elif targets is not None:
            ends = {target: f".{target}" for target in targets}
            named = {t: [p for p in self.modules if p and f".{p}".endswith(end)] for t, end in ends.items()}
        else:
            return self.default()
        problems = [problem for target, found in named.items() for problem in self._problems(target, found)]
        if problems or not named:
            raise InputError(problems or "the list of targets is empty: leave it out, or name layers")
        wanted = {path for found in named.values() for path in found}
        return [path for path in self.layers if path in wanted]

    def default(self) -> list[str]:
        """The linear layers of attention; without any, the convolutions or the linear layers, whichever have more
        parameters. Depthwise and other grouped convolutions are left as they are."""
        if attention := [path for path in self.linear() if self._in_attention(path)]:
            return attention
        if any(self._in_attention(path) for path, module in self.modules.items() if isinstance(module, nn.Linear)):
            self.notes.append("its attention reads the weights of its layers itself: no adapter there would run")
        linear, convolutions = list(self.linear()), list(self._convolutions())
        chosen = linear if self._size(linear) >= self._size(convolutions) else convolutions
        if not chosen:
            raise InputError(
                f"{type(self.model).__name__} has no layer that could be adapted",
                suggestion="zoo inspect ARCHITECTURE shows its layers; name those to adapt under targets",
            )
        return chosen

    def linear(self) -> Iterator[str]:
        """The linear layers."""
        yield from (path for path, layer in self.layers.items() if isinstance(layer, nn.Linear))

    def down_projections(self) -> list[str]:
        """The linear layers outside attention that narrow: the second ones of a transformer's MLPs."""
        return [path for path in self.linear() if not self._in_attention(path) and _narrows(self.layers[path])]

    def _convolutions(self) -> Iterator[str]:
        for path, layer in self.layers.items():
            if not isinstance(layer, nn.Linear) and layer.groups == 1:
                yield path

    def _in_attention(self, path: str) -> bool:
        names = path.split(".")[:-1]
        around = [self.modules[".".join(names[:end])] for end in range(1, len(names) + 1)]
        return any(map(_ATTENTION.search, [*names, *(type(module).__name__ for module in around)]))

    def _size(self, paths: Sequence[str]) -> int:
        return sum(self.layers[path].weight.numel() for path in paths)

    def _problems(self, target: str, found: Sequence[str]) -> list[Problem]:
        if not found:
            names = {end for path in self.layers for end in (path, path.rpartition(".")[2])}
            hint = did_you_mean(target, sorted(names)) or f"for instance {next(iter(self.layers), 'none there is')}"
            return [Problem(f"no module is called {target!r}", suggestion=hint)]
        if any(path in self.layers for path in found):
            found = [path for path in found if path not in self.layers and self._wrong_if_left_out(path)]
        return [Problem(f"{target!r}: {path} {self._obstacle(path) or self._unfit(path)}") for path in found[:1]]

    def _wrong_if_left_out(self, path: str) -> bool:
        """Whether it is a layer like the others that the same name found, so that leaving it out is to be said."""
        return isinstance(self.modules[path], self.kinds)

    def _unfit(self, path: str) -> str:
        kinds = ", ".join(kind.__name__ for kind in self.kinds)
        return f"is a {type(self.modules[path]).__name__}; this adapter is for {kinds}"

    def _obstacle(self, path: str) -> str | None:
        """Why an adapter at the layer would not do, None where it would."""
        layer = self.modules[path]
        if not isinstance(layer, self.kinds):
            return self._unfit(path)
        if any(f"{path}.".startswith(f"{head}.") for head in self.heads):
            return "is the classifier, which trains as it is: leave it out"
        if path not in self.called:
            return "is never called: forward reads its weight itself, or not at all, and an adapter would do nothing"
        plain = next(kind for kind in LAYERS if isinstance(layer, kind))
        if type(layer).forward is not plain.forward or is_parametrized(layer):
            return f"is a {type(layer).__name__}, which computes in a way of its own that no adapter merges with"
        if self.uses[id(layer.weight)] > 1:
            return "shares its weight with another place"
        return None


def exactly(paths: Sequence[str]) -> str:
    """The expression by which peft finds these modules and no others."""
    return "|".join(map(re.escape, paths))


def sizes(layer: nn.Module) -> tuple[int, int]:
    """The numbers of a layer's input and output features."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return layer.in_channels, layer.out_channels


def counted(paths: Sequence[str], modules: Mapping[str, nn.Module]) -> str:
    """How many layers of which kind, in words."""
    kinds = Counter(type(modules[path]).__name__ for path in paths)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())


def _narrows(layer: Layer) -> bool:
    into, out = sizes(layer)
    return into > out


def _heads(model: nn.Module, context: Context | None) -> list[str]:
    try:
        return find_heads(model, context=context)
    except InputError:
        return []
