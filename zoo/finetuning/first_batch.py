"""`first_batch.jpg`: training images as the network sees them, augmented, resized and cropped."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from zoo.data.open_data import OpenData
from zoo.formats.files import atomic_file, write_all
from zoo.model.undisturbed import generators_kept
from zoo.training.drawing import photographs
from zoo.training.folder import FIRST_BATCH

MOST = 25  # images in the picture
QUALITY = 88


def write_first_batch(folder: Path, data: OpenData, *, batch_size: int | None, seed: int | None) -> bool:
    """Draw the first images that a run trains on, with the augmentation of its first epoch.

    `batch_size` and `seed` are the first train step's own, as in `OpenData.batches`. False where there is nothing to
    draw: features instead of images, or more channels than a picture has. Random generators stay as they
    are. Raises what reading images raises, and WorkError or InputError where the file cannot be written.
    """
    if data.parts["train"].preprocessing is None or data.preprocessing.channels not in (1, 3):
        return False
    size = min(MOST, batch_size or data.options.batch_size)  # the order of samples goes by the seed, not by this
    with generators_kept():
        batches = data.batches("train", batch_size=size, seed=seed, once=True)
        batches.workers = 0  # a few images are not worth the start of a process
        batch = next(batches.epoch(0))
    picture = photographs(batch.inputs, data.preprocessing)
    encoded = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(encoded, "JPEG", quality=QUALITY)
    with atomic_file(folder / FIRST_BATCH) as file:
        write_all(file, encoded.getvalue(), 0)
    return True
