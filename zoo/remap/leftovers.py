"""What a plan leaves of a file although modules that it loads cannot do without it.

An adapter's deltas beside its base layer, the scales of quantised weights, a bias that the target has no place for: the
file's own network computes with them, so that without them what is loaded is another function. They stop every load;
a head, a decoder or further layers are modules of their own and count by their share of the file alone.

A leftover belongs to a module that is loaded if, in the names of the file, the innermost module around it that gives
anything is one that holds tensors itself (`attn.qkv` of `attn.qkv.lora_A.weight`) or a block of named parts (`blocks.0`
of `blocks.0.ls1.gamma`). Around numbered parts alone (`blocks` of `blocks.12.norm.weight`) it is a further layer, and
right below the root a branch of its own, unless it is a bare tensor of the root's (`reg_token`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from zoo.errors import Problem
from zoo.formats.names import grouped

Path = tuple[str, ...]

_NUMBER = re.compile(r"(?<![A-Za-z0-9_])\d+(?![A-Za-z0-9_])")
# tables that networks compute themselves, and what serves pretraining alone
_NEEDLESS = re.compile(r"coords|mask|index|freq|anchor|ids$|num_batches_tracked$")
_PRETRAINING = ("logit_scale", "logit_bias")  # of the root's own, they act in pretraining only
_ADAPTER = re.compile(r"\b(lora_|dora_|loha_|lokr_|hada_|ia3_|adapter_|vera_|oft_|boft_|original_module)")
_MERGE = (
    "they are an adapter's: merge it first (zoo convert FILE MERGED --surgery merge_adapters for a checkpoint of "
    "zoo's, else merge_and_unload() of peft)"
)
_QUANTISED = re.compile(
    r"(SCB|scale|scales|_scale|zero_point|zeros|qzeros|absmax|quant_map|quant_state\S*|g_idx|qweight)$"
)
_DEQUANTISE = "the weights are quantised: dequantise them with the library that made the file"
_KINDS = ((_ADAPTER, _MERGE), (_QUANTISED, _DEQUANTISE))


def merge_first(names: Iterable[str]) -> str | None:
    """What to do about names among which there are an adapter's; None without any."""
    return _MERGE if any(map(_ADAPTER.search, names)) else None


def needed(names: Mapping[str, tuple[str, ...]], used: Iterable[str]) -> list[str]:
    """Those of the leftovers that belong to modules which are loaded.

    `names` maps each leftover to the tensors of the file that it is made of; `used` are the file's tensors that find a
    place.
    """
    tree = _Loaded(used)
    return [name for name, sources in names.items() if any(map(tree.owns, sources))]


def problem(names: Sequence[str], *, by_auto: bool = False, filled: bool = True) -> Problem:
    """That these leftovers stop a load, with what to do about them.

    `by_auto` says that `auto` would drop them, `filled` that all of the target has a source: else they may be what is
    missing, and are not to be dropped.
    """
    it = "it" if len(names) == 1 else "them"
    what = "is a tensor of the file that belongs" if len(names) == 1 else "are tensors of the file that belong"
    cures = [cure for kind, cure in _KINDS if any(map(kind.search, names))]
    where = " in front of auto" if by_auto else ""
    drop = [f"to go on without {it} add the rule `{exactly(names)}`{where}"]
    return Problem(
        f"{', '.join(grouped(names))} {what} to modules which are loaded: without {it} the network computes something "
        "else",
        suggestion="; ".join([*cures, *drop * filled]) or None,
    )


def exactly(names: Iterable[str]) -> str:
    """The rule that drops these names, with any number in the place of theirs."""
    found = list(dict.fromkeys(_NUMBER.sub(r"\\d+", re.escape(name)) for name in names))
    return f"drop: ^{found[0]}$" if len(found) == 1 else f"drop: ^({'|'.join(found)})$"


class _Loaded:
    """The modules of a file that a plan takes tensors from."""

    def __init__(self, used: Iterable[str]) -> None:
        self.tensors = {_parts(name) for name in used}
        self.holders = {path[:-1] for path in self.tensors}
        self.inside: dict[Path, set[str]] = defaultdict(set)
        for path in self.tensors:
            for end in range(len(path) - 1):
                self.inside[path[:end]].add(path[end])
        self.root = _common(self.holders) if len(self.holders) > 1 else ()

    def owns(self, name: str) -> bool:
        """Whether the tensor of that name belongs to a module that is loaded."""
        path = _parts(name)
        if _NEEDLESS.search(path[-1]):
            return False
        for end in range(len(path) - 1, len(self.root), -1):
            if path[:end] in self.tensors or path[:end] in self.holders:
                return True
            if inner := self.inside.get(path[:end]):
                return not (path[end].isdecimal() and all(part.isdecimal() for part in inner))
        return len(self.tensors) > 0 and path[:-1] == self.root and path[-1] not in _PRETRAINING


def _parts(name: str) -> Path:
    return tuple(re.split(r"[./]", name))


def _common(paths: Iterable[Path]) -> Path:
    """The path that all of them begin with."""
    first, last = min(paths, default=()), max(paths, default=())
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return first[:same]
