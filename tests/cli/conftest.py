"""The command line run in this process."""

import json
from dataclasses import dataclass

import pytest

from zoo.cli import run


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one document on standard output."""
        return json.loads(self.out)


@pytest.fixture
def zoo(capsys):
    """`zoo("list", "resnet")` as the shell would run it."""

    def call(*arguments):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


SMALL = """\
name: small
model:
  architecture: torchvision/squeezenet1_1
data:
  source: sklearn/digits
  image_size: 32
  batch_size: 16
  limit: 64
steps:
  - swap_head: {num_classes: auto}
  - train: {max_steps: 2, lr: 1.0e-3}
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with recipe.yaml, the run's folder `out`, and digit.png: one small run on real digits."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("trained")
    (folder / "recipe.yaml").write_text(SMALL)
    Image.fromarray((load_digits().images[0] * 15).astype("uint8")).save(folder / "digit.png")
    assert run(["finetune", str(folder / "recipe.yaml"), "--output", str(folder / "out"), "--json"]) == 0
    return folder


@pytest.fixture(scope="session")
def checkpoint(trained):
    return trained / "out" / "model.safetensors"
