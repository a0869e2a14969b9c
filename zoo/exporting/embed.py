"""`zoo embed`: the features of every image of a data set, in one file, with paths and labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo import registry
from zoo.checkpoint.load import load
from zoo.data.batches import Batch
from zoo.data.image_folder import images_in
from zoo.data.open_data import OpenData, Part, open_data
from zoo.data.samples import Samples as DataSamples
from zoo.errors import InputError, ZooError
from zoo.exporting.feature_files import Samples, check_format, feature_writer
from zoo.exporting.features import Extractor, extractor_of
from zoo.formats.files import check_free
from zoo.formats.remote import is_address
from zoo.model import build as building
from zoo.model.assembly import Assembly
from zoo.model.pretrained import load_weights
from zoo.model.undisturbed import undisturbed
from zoo.recipe.options import DataOptions
from zoo.training.devices import choose_device, process_kept
from zoo.training.predictions import sample_names

BATCH = 64
TABLES = (".csv", ".tsv")
UNLABELLED = "images of a folder"


@dataclass(frozen=True)
class Embedded:
    """What was written: `shape` is that of one image's features, `way` says how they were computed."""

    file: str
    bytes: int
    images: int
    module: str
    shape: tuple[int, ...]
    way: str
    parts: dict[str, int]
    classes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The document of `zoo embed --json`."""
        return {**asdict(self), "shape": list(self.shape), "classes": list(self.classes)}

    def render(self) -> str:
        """For people."""
        shape, parts = list(self.shape), ", ".join(f"{count} {part}" for part, count in self.parts.items())
        return (
            f"wrote {self.file}, {self.bytes / 1e6:,.1f} MB\n"
            f"  {self.images:,} images ({parts}), features {shape} of {self.module}; {self.way}"
        )


@process_kept()
def embed(
    network: str | os.PathLike[str] | Assembly,
    data: str | DataOptions,
    file: str | os.PathLike[str],
    *,
    module: str | None = None,
    weights: str | None = None,
    part: str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> Embedded:
    """Write the features of `data`; see `zoo.embed`. An assembly has to be on `device`."""
    path = Path(file)
    check_format(path)
    check_free(path, overwrite=overwrite, sources=() if isinstance(network, Assembly) else [network])
    where = choose_device(device)
    assembly = network if isinstance(network, Assembly) else _opened(os.fspath(network), weights, where)
    opened = _data(data, assembly)
    parts = _parts(opened, part)
    with undisturbed(assembly.model, training=False):
        return _written(assembly, opened, parts, path, module, batch_size or BATCH, where)


def _opened(network: str, weights: str | None, device: torch.device) -> Assembly:
    """A checkpoint by its path, or an architecture by its name, with `weights`."""
    if Path(network).exists() or Path(network).suffix == ".safetensors" or is_address(network):
        if weights is not None:
            raise InputError("a checkpoint has weights of its own", suggestion="leave out --weights")
        return load(network, device=device)
    name = registry.resolve(network, "architectures").name
    if weights is None:
        message = f"the features of {name} with random weights say nothing"
        raise InputError(message, suggestion=f"name weights: --weights TAG (see: zoo show {name})")
    assembly = building.build(name, {})
    load_weights(assembly, weights)
    assembly.model.to(device).eval()
    return assembly


def _data(data: str | DataOptions, assembly: Assembly) -> OpenData:
    """A recipe's data, a folder of classes, a folder of images, a table or a data set; labels are the data's own."""
    if isinstance(data, DataOptions):
        return open_data(data, assembly.preprocessing)
    place = Path(data).expanduser()
    source, arguments = data, {}
    if place.is_dir():
        source, arguments = "zoo/image_folder", {"path": str(place)}
    elif place.is_file() and place.suffix.lower() in TABLES:
        source, arguments = "zoo/csv", {"path": str(place), "task": assembly.task}
    options = DataOptions(source=source, arguments=arguments, image_size=assembly.preprocessing.size)
    try:
        return open_data(options, assembly.preprocessing, whole=True)
    except ZooError:
        found = images_in(place) if place.is_dir() else []
        if not found:
            raise
        listed = _Unlabelled(found)
        samples = DataSamples(listed, np.arange(len(found)), assembly.preprocessing, "classification", 1)
        return OpenData(options, assembly.preprocessing, (), "classification", 1, {"train": samples}, 0)


class _Unlabelled:
    """Images of a folder without class folders: the target is -1, which is no class."""

    def __init__(self, paths: list[Path]) -> None:
        self.inputs = [str(path) for path in paths]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, place: int) -> tuple[str, int]:
        return self.inputs[place], 0


def _parts(opened: OpenData, part: str | None) -> tuple[Part, ...]:
    if part is None:
        return tuple(opened.parts)
    found = tuple(name for name in opened.parts if name == part)
    if not found:
        raise InputError(f"the data has no {part} part", suggestion=f"there is {', '.join(opened.parts)}")
    return found


def _written(
    assembly: Assembly,
    opened: OpenData,
    parts: tuple[Part, ...],
    path: Path,
    module: str | None,
    size: int,
    device: torch.device,
) -> Embedded:
    batches = _batches(opened, parts, device, size)
    first = next(batches)
    extractor = extractor_of(assembly, module, first.inputs)
    example = extractor.features(first.inputs).float().cpu().numpy()
    unlabelled = not opened.classes and isinstance(opened.parts[parts[0]].dataset, _Unlabelled)
    samples = Samples(
        [name for part in parts for name in sample_names(opened.parts[part])],
        [part for part in parts for _ in range(len(opened.parts[part]))],
        _about(assembly, opened, extractor, labelled=not unlabelled),
    )
    with feature_writer(path, samples, example[0], first.targets[0].cpu().numpy()) as put:
        put(example, _targets(first, unlabelled))
        for batch in batches:
            put(extractor.features(batch.inputs).float().cpu().numpy(), _targets(batch, unlabelled))
    counts = {str(part): len(opened.parts[part]) for part in parts}
    shape = tuple(example.shape[1:])
    return Embedded(
        os.fspath(path), path.stat().st_size, len(samples.names), extractor.module, shape, extractor.way, counts,
        opened.classes,
    )  # fmt: skip


def _batches(opened: OpenData, parts: tuple[Part, ...], device: torch.device, size: int) -> Iterator[Batch]:
    for part in parts:
        images = opened.batches(part, device=device, shuffle=False, augment=False, once=True, batch_size=size)
        yield from images.epoch(0)


def _targets(batch: Batch, unlabelled: bool) -> Any:
    targets = batch.targets.cpu().numpy()
    return np.full_like(targets, -1) if unlabelled else targets


def _about(assembly: Assembly, opened: OpenData, extractor: Extractor, *, labelled: bool) -> dict[str, Any]:
    return {
        "architecture": assembly.architecture,
        "module": extractor.module,
        "way": extractor.way,
        "task": opened.task if labelled else None,
        "classes": list(opened.classes),
        "source": opened.options.source if labelled else UNLABELLED,
        "preprocessing": assembly.preprocessing.as_dict(),
    }
