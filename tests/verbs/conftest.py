"""A network and a data set that no plugin supplies, and a run that trained the one on the other."""

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

import zoo
from zoo.training.callbacks import Listener


class SmallNet(nn.Module):
    """A class that no plugin supplies."""

    def __init__(self, width: int = 8, outputs: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(images).mean((-1, -2)))


class Digits(torch.utils.data.Dataset):
    """64 real digits as (PIL image, class index)."""

    classes = tuple("0123456789")

    def __init__(self, size: int = 64) -> None:
        digits = load_digits()
        self.images, self.targets = (digits.images[:size] * 15).astype("uint8"), digits.target[:size].tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        return Image.fromarray(self.images[index]), self.targets[index]


def brighter(image: torch.Tensor) -> torch.Tensor:
    return (image.int() + torch.randint(0, 50, ())).clamp(0, 255).to(torch.uint8)


def answers(model):
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(images)


@pytest.fixture(scope="session")
def small_net():
    """The class."""
    return SmallNet


@pytest.fixture(scope="session")
def digits():
    """The class."""
    return Digits


@pytest.fixture(scope="session", name="brighter")
def transform():
    return brighter


@pytest.fixture(scope="session", name="answers")
def answers_of():
    """What a model answers to two images."""
    return answers


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    """A run that trained a copy of a SmallNet on Digits, and the object it was given."""
    net = SmallNet()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    recipe = {
        "data": {"image_size": 16, "batch_size": 16},
        "steps": [{"freeze": {"policy": "pattern", "patterns": ["^stem"]}}, {"train": {"epochs": 1, "lr": 0.01}}],
    }
    output = tmp_path_factory.mktemp("own") / "run"
    run = zoo.finetune(recipe, model=net, data=Digits(), transform=brighter, output=output, progress=Listener())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    return run
