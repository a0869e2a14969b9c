"""What a page shows beside the facts: it needs the model, its base weights and the data at hand, not just the files.

Each part stands for itself; where one cannot be had (the data has moved, the base weights are gone) the page is written
without it, and says why.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from zoo.checkpoint.load import load, with_base
from zoo.data import transforms
from zoo.data.open_data import OpenData
from zoo.errors import InputError, ZooError
from zoo.file_name import FIRST_BATCH
from zoo.formats.checkpoint_metadata import read_metadata
from zoo.formats.safetensors_file import read_header
from zoo.model.assembly import Assembly
from zoo.model.load_into import state_of
from zoo.reporting.activation_maps import activation_maps
from zoo.reporting.charts import data_address
from zoo.reporting.facts import Facts
from zoo.training.evaluate import open_for
from zoo.training.folder import MODEL
from zoo.training.predictions import sample_names, written_name

SIDE, QUALITY = 128, 80  # pixels, and of a JPEG
MOST_NODES = 3000  # of the tree that is drawn


@dataclass
class Pictures:
    """Thumbnails as data addresses, the module tree, changes by layer; `notes` say what is missing."""

    first_batch: str | None = None
    thumbnails: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    tree: dict[str, Any] | None = None
    layers: list[dict[str, Any]] = field(default_factory=list)
    maps: bool = False
    notes: list[str] = field(default_factory=list)


def draw(facts: Facts, assembly: Assembly | None = None, data: OpenData | None = None) -> Pictures:
    """The pictures of a run; model and data are loaded and opened where they are not at hand."""
    pictures, folder = Pictures(), Path(facts["folder"])
    if (folder / FIRST_BATCH).is_file():
        pictures.first_batch = _attempt(pictures, FIRST_BATCH, lambda: _first_batch(folder / FIRST_BATCH))
    if facts["checkpoint"] is None:
        return pictures
    if assembly is None:
        assembly = _attempt(pictures, "the model", lambda: load(folder / MODEL))
    if assembly is not None and (channels := assembly.preprocessing.channels) > 3:
        pictures.notes.append(f"Pictures show the first three of {channels} channels as red, green and blue.")
    if assembly is not None:
        given = _attempt(pictures, "changes against the base weights", lambda: _base(folder)) or {}
        pictures.tree = _tree(assembly, given, bool(facts["checkpoint"].get("base_weights")))
        pictures.layers = _layers(assembly.model, given)
        _attempt(pictures, "thumbnails", lambda: _thumbnails(pictures, facts, assembly, data))
    return pictures


def _attempt(pictures: Pictures, what: str, work: Callable[[], Any]) -> Any:
    """What the work gives; None and a note where it fails: data moves, and networks do what they like."""
    try:
        return work()
    except Exception as error:
        said = str(error) if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
        pictures.notes.append(f"{what} left out: {said.partition(chr(10))[0]}")
    return None


def _first_batch(file: Path) -> str:
    data = file.read_bytes()
    Image.open(io.BytesIO(data)).verify()
    return data_address(data, "image/jpeg")


def _base(folder: Path) -> dict[str, Tensor]:
    """The tensors that the base weights gave, under the names that they have in the model now."""
    metadata = read_metadata(read_header(folder / MODEL).metadata, folder / MODEL)
    if metadata.base_weights is None:
        return {}
    base, names = with_base(metadata.model_dump(), folder)
    state = state_of(base.model)
    return {name: state[name] for name in names}


def _layers(model: nn.Module, given: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Of every module with parameters of its own how far they went from the base weights: the norm of the change over
    the norm before; None where they are new."""
    found = []
    for path, module in model.named_modules():
        own = {f"{path}.{name}" if path else name: p for name, p in module.named_parameters(recurse=False)}
        if not own:
            continue
        both = [(p, given[name]) for name, p in own.items() if name in given]
        pairs = [(now.detach().cpu().double(), was.detach().cpu().double()) for now, was in both]
        row: dict[str, Any] = {"path": path, "kind": type(module).__name__, "change": None}
        if len(pairs) == len(own) and all(now.shape == was.shape for now, was in pairs):
            moved = math.sqrt(sum(float(((now - was) ** 2).sum()) for now, was in pairs))
            size = math.sqrt(sum(float((was**2).sum()) for _, was in pairs))
            row["change"] = moved / size if size else None if moved else 0.0
        found.append(row)
    return found if given else []


def _tree(assembly: Assembly, given: dict[str, Tensor], has_base: bool) -> dict[str, Any]:
    """The modules as nested dictionaries: name, class, parameters, and of these those that are frozen and loaded."""
    frozen = set(assembly.frozen.parameters) if assembly.frozen else set()
    left = [MOST_NODES]

    def node(name: str, path: str, module: nn.Module) -> dict[str, Any]:
        left[0] -= 1
        inner = {f"{path}.{key}" if path else key: p for key, p in module.named_parameters()}
        total = sum(p.numel() for p in inner.values())
        children = module.named_children() if left[0] > 0 else iter(())
        still = sum(p.numel() for key, p in inner.items() if key in frozen)
        loaded = sum(p.numel() for key, p in inner.items() if key in given)
        return {
            "name": name,
            "kind": type(module).__name__,
            "settings": "" if next(module.children(), None) is not None else module.extra_repr(),
            "parameters": total,
            "state": _state(still, total, "frozen", "trains"),
            "origin": _state(loaded, total, "loaded", "new") if given or not has_base else "",
            "children": [node(key, f"{path}.{key}" if path else key, child) for key, child in children],
        }

    return node(assembly.architecture, "", assembly.model)


def _state(some: int, total: int, every: str, none: str) -> str:
    return "" if not total else every if some == total else f"partly {every}" if some else none


def _thumbnails(pictures: Pictures, facts: Facts, assembly: Assembly, data: OpenData | None) -> None:
    """The extremes of a classification as pictures, with what the predicted class was seen in."""
    predicted = facts["predicted"] or {}
    rows = [row for kind in predicted.get("extremes", {}).values() for row in kind]
    if not rows:
        return
    if data is None:
        data, _ = open_for(facts["folder"], assembly, None, predicted["part"])
    samples = data.parts[predicted["part"]]
    if samples.preprocessing is None:
        raise InputError("the data is features, not images")
    names = [written_name(name) for name in sample_names(samples)]
    for row in rows:
        if row["position"] >= len(names) or Path(names[row["position"]]).name != Path(row["image"]).name:
            raise InputError("the data is not what it was when the run was made")
    images = torch.stack([samples.fitted(samples.raw(row["position"])[0]) for row in rows])
    shown_as = ({"image_address": encoded(pixels_of(image))} for image in images)
    shown = dict(zip((row["position"] for row in rows), shown_as, strict=True))
    pictures.thumbnails = {
        kind: [row | shown[row["position"]] for row in found] for kind, found in predicted["extremes"].items()
    }
    _attempt(pictures, "class-activation maps", lambda: _add_maps(pictures, facts, assembly, images, rows))


def _add_maps(pictures: Pictures, facts: Facts, assembly: Assembly, images: Tensor, rows: list[dict[str, Any]]) -> None:
    device = next((p.device for p in assembly.model.parameters()), torch.device("cpu"))
    inputs = transforms.normalise(images.to(device), assembly.preprocessing)
    chosen = [facts["predicted"]["names"].index(row["predicted"]) for row in rows]
    maps = activation_maps(assembly.model, inputs, torch.tensor(chosen, device=device))
    if maps is None:
        raise InputError("no layer of this network keeps places of the image with a gradient")
    seen = zip(rows, images, maps, strict=True)
    drawn = {row["position"]: encoded(overlaid(image, heat)) for row, image, heat in seen}
    pictures.maps = True
    for found in pictures.thumbnails.values():
        for row in found:
            row["map"] = drawn[row["position"]]


def pixels_of(image: Tensor) -> np.ndarray[Any, Any]:
    """uint8, or float32 of 0..1, [c, h, w] as uint8 [h, w, 3]; of more than three channels the first three."""
    chosen = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    if chosen.dtype != torch.uint8:
        chosen = (chosen * 255).round().clamp(0, 255).to(torch.uint8)
    pixels: np.ndarray[Any, Any] = chosen.permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels


# blue over green and yellow to red, at equal distances: a short version of Google's turbo
COLOURS = [(48, 18, 59), (65, 125, 235), (27, 208, 153), (165, 254, 60), (251, 165, 49), (208, 40, 8)]
HEAT = np.array(COLOURS, dtype=float)


def overlaid(image: Tensor, heat: Tensor) -> np.ndarray[Any, Any]:
    """The image in grey under the map in colours, the stronger the more of it."""
    pixels = pixels_of(image).astype(float)
    resized = Image.fromarray((heat.numpy() * 255).astype(np.uint8)).resize(
        (pixels.shape[1], pixels.shape[0]), Image.Resampling.BICUBIC
    )
    strength = np.asarray(resized, dtype=float)[..., None] / 255
    place = strength[..., 0] * (len(HEAT) - 1)
    colours = np.stack([np.interp(place, np.arange(len(HEAT)), HEAT[:, channel]) for channel in range(3)], -1)
    grey = pixels.mean(-1, keepdims=True)
    share = 0.25 + 0.45 * strength
    mixed: np.ndarray[Any, Any] = (grey * (1 - share) + colours * share).clip(0, 255).astype(np.uint8)
    return mixed


def encoded(pixels: np.ndarray[Any, Any]) -> str:
    """A thumbnail as a data address."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY)
    return data_address(content.getvalue(), "image/jpeg")
