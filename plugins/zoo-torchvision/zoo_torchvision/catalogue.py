"""What torchvision offers, read from the source files of the installed package without executing them.

Only the files directly in `torchvision/models` are read: those are the classification networks. Detection,
segmentation, video, optical flow and quantized networks lie in sub-packages and answer with other things than one
row of class scores, which zoo's heads, losses and metrics are made for. A slow test compares with torchvision's own
list.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

_BUILDER = re.compile(
    r"^@register_model\(.*\)\n(?:@.*\n|    .*\n|\)\n)*def (\w+)\(\s*\*?,?\s*weights: Optional\[(\w+)\]", re.M
)
_ENUM = re.compile(r"^class (\w+)\(WeightsEnum\):\n((?:    .*\n|\n)+)", re.M)
_MEMBER = re.compile(r"^    (\w+) = (?:Weights\(|(\w+)$)", re.M)


@functools.cache
def tags_by_name() -> dict[str, tuple[str, ...]]:
    """Every classification architecture and its weight tags, torchvision's default tag first.

    Raises ModuleNotFoundError without torchvision.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("torchvision is not installed", name="torchvision")
    models = Path(spec.submodule_search_locations[0]) / "models"
    texts = [path.read_text(encoding="utf-8") for path in sorted(models.glob("*.py"))]
    enums = {name: _tags(body) for text in texts for name, body in _ENUM.findall(text)}
    return {name: enums[enum] for text in texts for name, enum in _BUILDER.findall(text)}


def _tags(body: str) -> tuple[str, ...]:
    """The members of a weights enum; `DEFAULT = NAME` says which goes first."""
    members = _MEMBER.findall(body)
    default = next((alias for name, alias in members if name == "DEFAULT"), None)
    tags = [name for name, alias in members if not alias]
    return tuple(sorted(tags, key=lambda tag: tag != default))
