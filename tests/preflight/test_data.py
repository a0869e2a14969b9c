"""Data as a dry run sees it: opened for its classes, never downloaded."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.preflight import Verdict

Check = Callable[..., Verdict]


def errors(verdict: Verdict) -> list[str]:
    return [str(problem) for problem in verdict.errors]


def warnings(verdict: Verdict) -> list[str]:
    return [str(problem) for problem in verdict.warnings]


def test_data_that_is_not_there_yet_is_a_warning(checked: Check, tmp_path: Path) -> None:
    verdict = checked(
        "model: tutorial/net_a\ndata: {source: torchvision/CIFAR10, download: true, root: data}\n"
        "steps: [swap_head: auto, train: 1]"
    )
    assert verdict.ok, errors(verdict)
    assert warnings(verdict) == [
        "recipe.yaml:2:16: torchvision/CIFAR10 is not here yet, so the number of classes is not known "
        "(finetune downloads it)"
    ]
    assert not any((tmp_path / "data").rglob("*.gz"))


def test_data_that_is_not_there_at_all(checked: Check) -> None:
    verdict = checked("model: tutorial/net_a\ndata: {source: image_folder, path: roses}\nsteps: [evaluate]")
    assert errors(verdict) == ["recipe.yaml:2:36: image folder roses does not exist"]


def test_rows_of_a_table_keep_their_own_place(checked: Check, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\na.png,\n")
    verdict = checked("model: tutorial/net_a\ndata: {source: csv, path: a.csv}\nsteps: [evaluate]")
    assert errors(verdict)
    assert all(said.startswith("a.csv:2:") for said in errors(verdict))


def test_features_go_in_as_they_are(checked: Check) -> None:
    verdict = checked("model: tutorial/small_mlp\ndata: tutorial/rows\nsteps: [train: 1]")
    assert verdict.ok, errors(verdict)
    assert verdict.input_shape == (2, 4)


def test_the_data_is_handed_on_as_the_recipe_says_it(checked: Check, tmp_path: Path) -> None:
    verdict = checked("model: tutorial/net_a\ndata: sklearn/digits\nsteps: [evaluate]")
    assert verdict.data is not None
    assert verdict.data.seed == 0
    assert verdict.data.options.source == "sklearn/digits"
    assert checked("model: tutorial/net_a\nsteps: [save]").data is None


RANDOM = """
import random
import numpy as np
import torch
from zoo.contracts import Data

def data(download: bool = True):
    drawn = [random.random(), np.random.rand(), float(torch.rand(()))]
    rows = [(torch.tensor(drawn), index % 2) for index in range(8)]
    return Data(rows, inputs="features")
"""


def test_data_that_is_drawn_when_it_is_opened_goes_by_the_seed(checked: Check, plugins) -> None:
    plugins.write("zoo-acme", "[zoo.datasets]\nrandom = acme_random:data", acme_random=RANDOM)
    text = "model: tutorial/small_mlp\ndata: acme/random\nsteps: [save]\nseed: {}"

    def drawn(seed: int) -> list[float]:
        verdict = checked(text.format(seed))
        assert verdict.data is not None, errors(verdict)
        assert verdict.data.options.arguments == {}, "as the recipe says, though nothing may be fetched in a check"
        return list(verdict.data.parts["train"].raw(0)[0].tolist())

    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    first = drawn(1)
    after = [random.random(), np.random.rand(), float(torch.rand(()))]
    assert drawn(1) == first != drawn(2)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    assert after == [random.random(), np.random.rand(), float(torch.rand(()))], "a check draws nothing from the caller"


ROWS = """
from PIL import Image
from zoo.api import Data

class Rows:
    targets = [0, 1, 0, 1, 0, 1]
    def __init__(self, row):
        self.row = row
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return self.row

def dicts():
    return Data(Rows({"image": Image.new("RGB", (8, 8)), "label": 0}))

def triples():
    return Data(Rows((Image.new("RGB", (8, 8)), 0, "a.png")))
"""


@pytest.mark.parametrize(
    ("name", "said"), [("dicts", "a dict with the keys image, label"), ("triples", "a tuple of 3")]
)
def test_rows_that_are_no_pair_are_said_before_a_run(checked: Check, plugins, name: str, said: str) -> None:
    entry_points = "[zoo.datasets]\ndicts = acme_rows:dicts\ntriples = acme_rows:triples"
    plugins.write("zoo-acme", entry_points, acme_rows=ROWS)
    (problem,) = checked(f"model: tutorial/net_a\ndata: acme/{name}\nsteps: [swap_head: auto, train: 1]").errors
    assert problem.message == f"sample 0 is {said}; a sample is (image, target)"
    assert "row['image'], row['label']" in str(problem)


ROLLS = """
import numpy as np
from torch import Tensor

class Own:
    def __init__(self, *, seed: int = 0): self.random = np.random.default_rng(seed)
    def __call__(self, image: Tensor) -> Tensor: return image.roll(int(self.random.integers(1, 1000)), 2)

def shared(image: Tensor) -> Tensor: return image.roll(int(np.random.randint(1, 1000)), 2)
"""


def test_a_transform_with_a_generator_of_its_own_is_warned_of(checked: Check, plugins) -> None:
    plugins.write("zoo-acme", "[zoo.transforms]\nOwn = acme_rolls:Own\nshared = acme_rolls:shared", acme_rolls=ROLLS)
    text = "model: tutorial/net_a\ndata: {source: sklearn/digits, transforms: [%s]}\nsteps: [train: 1]\n"
    assert warnings(checked(text % "RandomErasing, acme/shared")) == []
    (said,) = warnings(checked(text % "acme/shared, {RandomApply: {transforms: [acme/Own]}}"))
    assert said.startswith("recipe.yaml:2:58: RandomApply draws from a random generator of its own")
    (said,) = warnings(checked(text % "acme/Own"))
    assert said.startswith(
        "recipe.yaml:2:45: acme/Own draws from a random generator of its own, which zoo does not seed"
    )
