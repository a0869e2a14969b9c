"""Components that keep their contract in part: what is wrong with them is said of them, and nothing is a bug of zoo."""

import json

import pytest

from zoo.api import Context
from zoo.model.build import build, rebuild
from zoo.model.operations import operate

ENTRIES = """
    [zoo.architectures]
    acme = acme_odd:source
    [zoo.weights]
    sized = acme_odd:sized
    fallen = acme_odd:fallen
    [zoo.datasets]
    odd = acme_odd:odd
    typed = acme_odd:typed
    [zoo.surgeries]
    typed = acme_odd:cut
"""
MODULE = '''
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from zoo.api import Data, Weights


class Mode(Enum):
    FAST = "fast"


@dataclass(frozen=True)
class Window:
    size: int = 3


class Source:
    def names(self):
        return ["net", "plain"]

    def build(self, name):
        from torch import nn
        return nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(192, 2))

    def preprocessing(self, name, tag):
        if name == "net":
            raise RuntimeError("no table here")


source = Source()


def sized(size: int):
    """Weights of a size."""
    return Weights("hf://acme/net", "acme/net")


def fallen():
    """Weights."""
    return 1 / 0


class Listed:
    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        import torch
        return torch.zeros(3, 8, 8, dtype=torch.uint8), self.targets[index]


def odd(kind: str):
    """Data of a kind."""
    import torch

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield image, 0

    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    return {
        "a stream": lambda: Data(Stream()),
        "a generator": lambda: Data(iter([(image, 0)])),
        "nothing": lambda: Data(None),
        "mappings": lambda: Data([{"image": image, "label": 1}] * 10),
        "triples": lambda: Data([(image, 0, 1)] * 10),
        "names": lambda: Data(Listed(["cat", "dog"] * 5), classes=("cat", "dog")),
        "names to regress": lambda: Data(Listed(["1.5", "high"] * 5), task="regression"),
        "names of labels": lambda: Data(Listed(["cat", "dog"] * 5), task="multilabel"),
    }[kind]()


SEEN = []
Pair = tuple[int, int]


def typed(path: Path, mode: Mode, window: Window, sizes: tuple[int, ...]):
    """Data that needs types."""
    SEEN.append([path, mode, window, sizes])
    return odd("names")


def cut(model, *, path: Path = Path("a"), mode: Mode = Mode.FAST, window: Window = Window(), sizes: Pair = (1, 2)):
    """Cut nothing."""
    SEEN.append([path, mode, window, sizes])
    return model
'''


@pytest.fixture(autouse=True)
def acme(plugins):
    plugins.write("zoo-acme", ENTRIES, acme_odd=MODULE)


@pytest.fixture
def check(zoo, tmp_path):
    """What `zoo check` says of a recipe."""

    def run(**sections):
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps({"model": "acme/plain", **sections}))
        return zoo("check", path)

    return run


MARK = "acme/fallen fails to say where its weights are: ZeroDivisionError: division by zero ("


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("acme/fallen", MARK),
        ("acme/net", "acme/net fails to say how images are prepared: RuntimeError: no table here ("),
    ],
)
def test_show_says_what_a_component_cannot_say(zoo, name, said):
    outcome = zoo("show", name)
    assert outcome.code == 1
    assert said in outcome.err
    assert "acme_odd.py:" in outcome.err
    assert "bug" not in outcome.err


def test_show_of_weights_that_need_arguments(zoo):
    assert zoo("show", "acme/sized", "--json").json["needs"] == ["size"]


def test_show_of_a_source_that_says_nothing_of_images(zoo):
    assert zoo("show", "acme/plain").code == zoo("show", "tutorial/mlp").code == 0
    assert zoo("show", "acme/plain", "--json").json["preprocessing"] is None


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("acme/net", "fails to say how images are prepared: RuntimeError: no table here"),
        ({"architecture": "acme/plain", "weights": "acme/sized"}, "size"),
        ({"architecture": "acme/plain", "weights": "acme/fallen"}, MARK),
    ],
)
def test_check_places_it(check, model, said):
    outcome = check(model=model, steps=["save"])
    assert outcome.code == 2
    assert "recipe.yaml:1:" in outcome.err
    assert said in outcome.err


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("a stream", "its train part is Stream, which has no length or no positions (give a map-style data set"),
        ("a generator", "its train part is list_iterator, which has no length"),
        ("nothing", "its train part is NoneType, which has no length"),
        ("mappings", "sample 0 is a dict with the keys image, label; a sample is (image, target)"),
        ("triples", "sample 0 is a tuple of 3; a sample is (image, target)"),
        ("names", "its target 'dog' is no class index (a target is 0, 1, …: the position of the name in the classes"),
        ("names to regress", "sample 0: its target '1.5' is no vector of numbers"),
        ("names of labels", "sample 0: its target 'cat' is no vector of numbers"),
    ],
)
def test_data_that_zoo_cannot_read(check, kind, said):
    outcome = check(data={"source": "acme/odd", "kind": kind}, steps=[{"swap_head": "auto"}, {"train": 1}])
    assert outcome.code == 2
    assert said in outcome.err
    assert "bug" not in outcome.err


def test_what_a_recipe_writes_arrives_as_it_is_annotated(check):
    import acme_odd

    written = {"path": "a/b", "mode": "fast", "window": {"size": 5}, "sizes": [1, 2]}
    expected = [acme_odd.Path("a/b"), acme_odd.Mode.FAST, acme_odd.Window(5), (1, 2)]
    check(data={"source": "acme/typed", **written}, steps=["evaluate"])
    assert acme_odd.SEEN[-1] == expected
    assert check(steps=[{"acme/typed": written}]).code == 0
    assert acme_odd.SEEN[-1] == expected
    assert check(steps=["acme/typed"]).code == 0  # its defaults are kept in the record as JSON


def test_a_checkpoint_keeps_them_as_json_and_gives_them_back():
    import acme_odd

    first = operate(build("acme/plain"), "acme/typed", {"window": {"size": 5}}, Context())
    (record,) = json.loads(json.dumps(first.operations))
    assert record["arguments"] == {"path": "a", "mode": "fast", "window": {"size": 5}, "sizes": [1, 2]}
    rebuild({"architecture": "acme/plain", "arguments": {}, "operations": [record]})
    assert (
        acme_odd.SEEN[-1] == acme_odd.SEEN[-2] == [acme_odd.Path("a"), acme_odd.Mode.FAST, acme_odd.Window(5), (1, 2)]
    )
