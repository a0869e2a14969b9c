"""What the last word of a name says: the role in its module as torch calls it, and the order of the axes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from zoo.formats.entry import Entry

Axes = tuple[int, ...]

ROLES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_NORMS = {
    "gamma": "weight", "scale": "weight", "s": "weight", "weight": "weight",
    "beta": "bias", "b": "bias", "bias": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var", "moving_var": "running_var",
    "_mean": "running_mean", "_variance": "running_var", "mean": "running_mean", "var": "running_var",
    "variance": "running_var", "running_mean": "running_mean", "running_var": "running_var",
    "running_variance": "running_var",
}  # fmt: skip
"""A norm's tensors as TensorFlow, Keras, Flax, MXNet, Paddle and Caffe2 call them."""
_KERNELS = {"kernel": (3, 2, 0, 1), "pointwise_kernel": (3, 2, 0, 1), "weights": (3, 2, 0, 1)}
_DEPTHWISE = ("depthwise_kernel", "depthwise_weights")
_ENDINGS = tuple(
    sorted({*_NORMS, *_KERNELS, *_DEPTHWISE, *ROLES, "biases", "w"} - {"mean", "var", "variance", "scale"}, key=len)
)[::-1]
_FLAT = re.compile(rf"(.+?)_({'|'.join(map(re.escape, _ENDINGS))})")
_PROJECTIONS = re.compile(r"(?:^|\.)(?:proj|(?:text|image|visual|vision)_projection)$")
"""OpenAI's bare projections, by which features are multiplied from the right: [in, out], where a linear layer has
[out, in]."""


@dataclass(frozen=True)
class Aliases:
    """What the leaves of one state dict mean. `leaves` are the last words of the names by what stands before them."""

    leaves: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, entries: Mapping[str, Entry]) -> Aliases:
        found: dict[str, set[str]] = {}
        for name in entries:
            head, leaf = _parted(name)
            found.setdefault(head, set()).add(leaf)
        return cls({head: frozenset(leaves) for head, leaves in found.items()})

    def read(self, name: str, entry: Entry) -> tuple[str, str, Axes | None]:
        """The unit, the role in it, and the axes in torch's order where they are stored in another."""
        head, leaf = _parted(name)
        shape, beside = tuple(entry.shape), self.leaves[head]
        if not head:
            return _bare(name, shape)
        if leaf in ROLES:
            return head, leaf, None
        if leaf in _NORMS and len(shape) != 2 and self._of_norm(beside):
            return head, _NORMS[leaf], None
        if leaf in _DEPTHWISE and len(shape) == 4 and shape[3] == 1:
            return head, "weight", (2, 3, 0, 1)
        if leaf in _KERNELS and len(shape) in (2, 4):
            return head, "weight", _KERNELS[leaf] if len(shape) == 4 else (1, 0)
        if leaf in ("biases", "b") and len(shape) == 1:
            return head, "bias", None
        if leaf == "w" and "." not in name:
            return head, "weight", None
        return _bare(name, shape)

    def _of_norm(self, beside: frozenset[str]) -> bool:
        """Whether the leaves are those of a norm; a lone gamma is a layer scale."""
        roles = [_NORMS[leaf] for leaf in beside if leaf in _NORMS]
        return len(set(roles)) == len(roles) > 1 and not beside & {*_KERNELS, *_DEPTHWISE, "w"}


def _parted(name: str) -> tuple[str, str]:
    """What stands before the last word, and that word, without TensorFlow's `:0`; slashes as dots."""
    dotted = name.replace("/", ".").removesuffix(":0")
    head, _, leaf = dotted.rpartition(".")
    if leaf in (*ROLES, *_NORMS, *_KERNELS, *_DEPTHWISE, "biases") and head:
        return head, leaf
    flat = _FLAT.fullmatch(leaf)
    if flat and (not head or flat[2] in ("weight", "bias")):
        return (f"{head}.{flat[1]}" if head else flat[1]), flat[2]
    return head, leaf


def ending(name: str) -> str:
    """The last word of a name, which says the tensor's role in its module."""
    return _parted(name)[1]


def _bare(name: str, shape: tuple[int, ...]) -> tuple[str, str, Axes | None]:
    """A parameter by itself."""
    dotted = name.replace("/", ".").removesuffix(":0")
    if len(shape) == 2 and _PROJECTIONS.search(dotted):
        return dotted, "weight", (1, 0)
    return dotted, "value", None
