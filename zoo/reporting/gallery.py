"""`zoo predict --html`: images with their likeliest classes and where the network looked, as one file, row by row."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.data import transforms
from zoo.data.decode import image_for
from zoo.errors import InputError
from zoo.formats.files import atomic_file, check_free, write_all
from zoo.reporting.activation_maps import activation_maps
from zoo.reporting.page import fragment, render
from zoo.reporting.pictures import encoded, overlaid, pixels_of
from zoo.training.predict import Predictor
from zoo.training.prediction_files import Row, Writer

MOST = 2000  # images on a page: browsers take their time for more
BATCH = 16
TRIES = 3  # batches without a map, of the first ones, until no more are looked for: images of one colour have none
NO_MAPS = "There are no activation maps: no layer of this network keeps places of the image with a gradient."


@contextmanager
def gallery_writer(path: Path, predictor: Predictor, name: str, *, overwrite: bool = False) -> Iterator[Writer]:
    """What appends rows to a page, which is at `path` once the block has ended, complete or not at all.

    `name` stands in its title. A batch of images is in memory; those behind the first `MOST` are counted. Raises
    InputError where the file is there already.
    """
    check_free(path, overwrite=overwrite)
    cut = secrets.token_hex(16)  # where the rows go: nothing in a page can be this by chance
    assembly = predictor.assembly
    page = render(
        "gallery.html.jinja", title=f"{name} – zoo", architecture=assembly.architecture, task=predictor.task, cut=cut
    )
    head, _, tail = page.partition(cut)
    with atomic_file(path) as descriptor:
        at = 0

        def put(text: str) -> None:
            nonlocal at
            data = text.encode("utf-8", "backslashreplace")
            write_all(descriptor, data, at)
            at += len(data)

        put(head)
        gallery = _Gallery(predictor)
        yield lambda row: put(gallery.add(row))
        put(gallery.drawn())
        put(tail.replace("</section>", f"{fragment('remarks', gallery.remarks())}</section>", 1))


class _Gallery:
    """Rows that wait for a batch to be complete, and what is said below."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.waiting: list[dict[str, Any]] = []
        self.images = 0
        self.maps, self.tries = False, TRIES

    def add(self, row: Row) -> str:
        """What to append now."""
        self.images += 1
        if self.images <= MOST:
            self.waiting.append(dict(row))
        return self.drawn() if len(self.waiting) == BATCH else ""

    def drawn(self) -> str:
        """The rows that wait, as they stand on the page."""
        rows, self.waiting = self.waiting, []
        read = [(row, image) for row in rows if "error" not in row and (image := self._image(row)) is not None]
        for row, image in read:
            row["image_address"] = encoded(pixels_of(image))
        if read and (self.maps or self.tries):
            self._add_maps([row for row, _ in read], torch.stack([image for _, image in read]))
        return fragment("cards", rows)

    def remarks(self) -> list[str]:
        """What the reader should know of the page."""
        missing = [] if self.maps or self.tries == TRIES else [NO_MAPS]
        return missing + ([f"The first {MOST:,} of {self.images:,} images."] if self.images > MOST else [])

    def _image(self, row: Row) -> Tensor | None:
        """The image as the network sees it, read anew; None where it has gone since."""
        preprocessing = self.predictor.assembly.preprocessing
        try:
            return transforms.fit(image_for(os.fspath(row["image"]), preprocessing), preprocessing)
        except InputError:
            return None

    def _add_maps(self, rows: list[dict[str, Any]], images: Tensor) -> None:
        """Where the network looked for its first answer; networks that cannot say leave the page without."""
        assembly, names = self.predictor.assembly, self.predictor.names
        inputs = transforms.normalise(images.to(self.predictor.device), assembly.preprocessing)
        try:
            chosen = torch.tensor([names.index(row["predictions"][0]["label"]) for row in rows], device=inputs.device)
            maps = activation_maps(assembly.model, inputs, chosen)
        except Exception:  # a network does in a backward pass what it likes
            maps = None
        self.maps, self.tries = self.maps or maps is not None, self.tries - (maps is None and not self.maps)
        for row, image, heat in zip(rows, images, maps if maps is not None else (), strict=False):
            row["map"] = encoded(overlaid(image, heat))
