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
    rb"^@register_model\(.*\)\n(?:@.*\n|    .*\n|\)\n)*def (\w+)\(\s*\*?,?\s*weights: Optional\[(\w+)\]", re.M
)
_MEMBER = re.compile(rb"^    (\w+) = (?:Weights\(|(\w+)$)", re.M)


@functools.cache
def builders() -> dict[str, tuple[Path, bytes]]:
    """Every classification architecture: its source file, and the name of its weights enum there.

    Raises ModuleNotFoundError without torchvision.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("torchvision is not installed", name="torchvision")
    models = Path(spec.submodule_search_locations[0]) / "models"
    return {
        name.decode(): (path, enum)
        for path in sorted(models.glob("*.py"))
        if not path.name.startswith("_")
        for name, enum in _BUILDER.findall(path.read_bytes())
    }


def read_tags(name: str) -> list[str]:
    """The members of an architecture's weights enum, torchvision's default first.

    Raises KeyError for a name torchvision does not have.
    """
    path, enum = builders()[name]
    body = path.read_bytes().partition(b"\nclass " + enum + b"(WeightsEnum):\n")[2]
    members = _MEMBER.findall(re.split(rb"\n(?=\S)", body, maxsplit=1)[0])
    default = next((alias for member, alias in members if member == b"DEFAULT"), None)
    tags = [member for member, alias in members if not alias]
    return [tag.decode() for tag in sorted(tags, key=lambda tag: tag != default)]
