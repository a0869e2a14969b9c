"""What every contestant shares: the job's definition, the images on disk, the model and its first weights.

A contestant is a script that is called with a job's arguments and prints one JSON object: `accuracy` on the validation
images, `loop_seconds` from the first batch to the last (data set-up and imports outside), `images` trained on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TRAINED = {  # what trains in a partially frozen network: the last stage and the head
    "resnet18": ("layer4.", "fc."),
    "resnet50": ("layer4.", "fc."),
    "tf_efficientnet_lite0": ("blocks.6.", "conv_head.", "bn2.", "classifier."),
    "vit_tiny_patch16_224": ("blocks.11.", "norm.", "head."),
}
LEARNING_RATE = {"probe": 1e-2, "partial": 1e-3, "full": 1e-4}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISATION = {"tf_efficientnet_lite0": ((0.5,) * 3, (0.5,) * 3)}  # mean and std of weights that have their own


@dataclass(frozen=True)
class Job:
    """One cell of the table. `task` is probe, partial or full; `best` asks for a peer's best documented settings."""

    model: str
    task: str
    size: int
    epochs: int
    data: str
    batch_size: int = 64
    best: bool = False

    @property
    def weights(self) -> Path:
        return Path(self.data) / f"{self.model}-{self.size}.safetensors"


def job_from_arguments() -> Job:
    parser = argparse.ArgumentParser()
    for name, kind in [("model", str), ("task", str), ("size", int), ("epochs", int), ("data", str)]:
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--best", action="store_true")
    return Job(**vars(parser.parse_args()))


def arguments(job: Job) -> list[str]:
    """The job as a contestant's command line."""
    listed = [f"--{key.replace('_', '-')}={value}" for key, value in asdict(job).items() if key != "best"]
    return listed + (["--best"] if job.best else [])


def write_images(folder: Path, size: int, images: int = 1437, copies: int = 1, held_out: int | None = None) -> Path:
    """scikit-learn's digits as PNGs in folders: up to 1437 `images` to train on, times `copies`, 360 to validate with.

    With fewer images than 1437 there are fewer to validate with in proportion, unless `held_out` says how many.
    """
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    held_out = held_out or images // 4 + 1
    target = folder / f"digits-{size}px-{images}-{held_out}-{copies}x"
    if (target / "done").exists():
        return target
    digits = load_digits()
    train, validation = train_test_split(range(1797), test_size=360, random_state=0, stratify=digits.target)
    for part, chosen, times in [("train", train[:images], copies), ("val", validation[:held_out], 1)]:
        for index in chosen:
            pixels = (digits.images[index] * (255 / 16)).astype("uint8")
            image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).convert("RGB")
            place = target / part / str(digits.target[index])
            place.mkdir(parents=True, exist_ok=True)
            for copy in range(times):
                image.save(place / f"{index:04d}-{copy}.png")
    (target / "done").touch()
    return target


def model_arguments(job: Job) -> dict[str, Any]:
    return {"img_size": job.size} if job.model.startswith("vit") else {}


def build(job: Job) -> Any:
    """The model with the shared first weights, and requires_grad as the task says."""
    import timm
    from safetensors.torch import load_file

    model = timm.create_model(job.model, num_classes=10, **model_arguments(job))
    model.load_state_dict(load_file(job.weights))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(trained(model, job))
    return model


def trained(model: Any, job: Job) -> tuple[str, ...]:
    if job.task == "full":
        return ("",)
    return TRAINED[job.model] if job.task == "partial" else (f"{model.default_cfg['classifier']}.",)


def normalisation(job: Job) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of every contestant's images. Left to the libraries, they would not be the same: timm's for
    vit_tiny_patch16_224 are 0.5, which belongs to weights that this job does not have."""
    return NORMALISATION.get(job.model, IMAGENET)


def image_folders(job: Job) -> tuple[Any, Any]:
    """Train and validation data as the tutorials write them: torchvision's ImageFolder with v1 transforms."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*normalisation(job))])
    return tuple(ImageFolder(Path(job.data) / part, transform) for part in ("train", "val"))  # type: ignore[return-value]


def accuracy(model: Any, loader: Any) -> float:
    import torch

    model.eval()
    right = count = 0
    with torch.no_grad():
        for inputs, targets in loader:
            right += int((model(inputs).argmax(1) == targets).sum())
            count += len(targets)
    return right / count


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self.started


def report(job: Job, accuracy_value: float, loop_seconds: float, images: int) -> None:
    """Print the contestant's JSON as the last line of its output."""
    result = {"accuracy": accuracy_value, "loop_seconds": loop_seconds, "images": images * job.epochs}
    print(json.dumps(result), flush=True)
