"""The image networks of transformers, read from the tables of its installed package without executing them.

Importing transformers takes seconds; reading one of its files takes a hundredth of one. A slow test compares what is
read here with transformers' own tables.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from pathlib import Path

_TABLE = r"^{name} = OrderedDict\(\s*(?:#.*\s*)*(\[.*?^    \])"
_CLASSIFIERS, _IMAGE, _BACKBONES, _ALL = (
    f"MODEL{part}_MAPPING_NAMES" for part in ("_FOR_IMAGE_CLASSIFICATION", "_FOR_IMAGE", "_FOR_BACKBONE", "")
)

OTHERWISE = {
    "cohere2_vision": "takes text beside the image",
    "edgetam_vision_model": "is a part of a video segmenter",
    "imagegpt": "takes colour clusters, not pixels",
    "lw_detr_vit": "is built for a detector's windows",
    "perceiver": "has three classifiers, none of which takes an image alone",
    "sam2_vision_model": "is a part of a segmenter, around another network",
    "sam3_vision_model": "is a part of a segmenter, around another network",
    "shieldgemma2": "takes text beside the image",
    "siglip2": "takes patches of several sizes, not an image",
    "siglip2_vision_model": "takes patches of several sizes, not an image",
    "timm_backbone": "is timm's: use timm/…",
    "timm_wrapper": "is timm's: use timm/…",
    "tipsv2": "takes text beside the image",
    "videoprism_vision_model": "takes video",
}
"""What transformers lists beside image networks, and what it takes in place of an image [3, height, width]."""


@functools.cache
def classifiers() -> dict[str, str]:
    """The class of each image classifier by its model type, its first where there are several."""
    return _usable(_table(_CLASSIFIERS))


@functools.cache
def backbones() -> dict[str, str]:
    """The class of each network that gives features of an image and is in no classifier, by its model type."""
    image, every, spatial = _table(_IMAGE), _table(_ALL), _table(_BACKBONES)
    towers = {name: every[name] for name in every if name.endswith("_vision_model")}
    found = towers | {name: image.get(name, every.get(name, spatial[name])) for name in spatial}
    return _usable({name: found[name] for name in found if name not in classifiers()})


def _usable(table: dict[str, str]) -> dict[str, str]:
    return {name: table[name] for name in table if name not in OTHERWISE}


def _table(name: str) -> dict[str, str]:
    """One of the tables of transformers' `modeling_auto.py`; empty where this version has none of that name."""
    found = re.search(_TABLE.format(name=name), _auto(), re.M | re.S)
    rows = ast.literal_eval(found[1]) if found else []
    return {kind: classes if isinstance(classes, str) else classes[0] for kind, classes in rows}


@functools.cache
def _auto() -> str:
    """Raises ModuleNotFoundError without transformers."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("transformers is not installed", name="transformers")
    return Path(spec.submodule_search_locations[0], "models", "auto", "modeling_auto.py").read_text("utf-8")
