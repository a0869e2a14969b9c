"""`first_batch.jpg`: training images as the network sees them, augmented, resized and cropped, and mixed."""

from __future__ import annotations

import io
import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from zoo.contracts import Preprocessing
from zoo.data.batches import Batches
from zoo.data.mixing import MixedBatches, Mixing
from zoo.data.open_data import OpenData
from zoo.data.sampler import Sampler
from zoo.file_name import FIRST_BATCH
from zoo.formats.files import atomic_file, write_all
from zoo.model.undisturbed import generators_kept

MOST = 25  # images in the picture
QUALITY = 88
UNMIXED = Mixing()


def write_first_batch(
    folder: Path,
    data: OpenData,
    *,
    batch_size: int | None,
    seed: int | None,
    sampler: Sampler | None = None,
    mixing: Mixing = UNMIXED,
) -> bool:
    """Draw the first images that a run trains on, with the augmentation of its first epoch, and mixed as they are.

    `batch_size`, `seed`, `sampler` and `mixing` are the first train step's, as in `OpenData.batches`. False where there
    is nothing to draw: features instead of images, or more channels than a picture has. Random generators stay as they
    are. Raises what reading images raises, and WorkError or InputError where the file cannot be written.
    """
    if data.parts["train"].preprocessing is None or data.preprocessing.channels not in (1, 3):
        return False
    size = batch_size or data.options.batch_size
    if not mixing:  # what is mixed goes by the size of the batch, the order of samples by the seed alone
        size = min(MOST, size)
    with generators_kept():
        batches = data.batches("train", batch_size=size, seed=seed, sampler=sampler, once=True)
        batches.workers = 0  # a few images are not worth the start of a process
        given: Batches = batches
        if mixing:
            given = MixedBatches(batches, mixing, task=data.task, outputs=data.outputs, seed=batches.order.seed)
        batch = next(iter(given.epoch(0)))
    picture = photographs(batch.inputs[:MOST], data.preprocessing)
    encoded = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(encoded, "JPEG", quality=QUALITY)
    with atomic_file(folder / FIRST_BATCH) as file:
        write_all(file, encoded.getvalue(), 0)
    return True


def photographs(inputs: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalised images [n, c, h, w] as they were before normalisation, in a nearly square grid: uint8 [3, …].

    c is 1 or 3.
    """
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    tiles = ((inputs.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    picture: Tensor = make_grid(tiles, nrow=math.ceil(math.sqrt(len(tiles))), padding=1, pad_value=255)
    return picture
