"""Features of a module: the engine's are those of the complete network."""

import pytest
import torch
from torch import nn

from zoo.contracts import Preprocessing
from zoo.errors import InputError
from zoo.exporting.features import extractor_of
from zoo.model.assembly import Assembly
from zoo.model.info import assembly_of, info_of


def hooked(model, path, inputs):
    seen = []
    handle = model.get_submodule(path).register_forward_hook(lambda _, given, output: seen.append((given, output)))
    with torch.no_grad():
        model(inputs)
    handle.remove()
    return seen[-1]


def test_the_heads_input_and_a_modules_output(network):
    images = torch.randn(4, 3, 48, 40)
    assembly = assembly_of(network, info_of(network))
    for module, path in ((None, "fc"), ("layer2", "layer2"), ("layer1.0.conv1", "layer1.0.conv1")):
        found = extractor_of(assembly, module, images)
        (given,), output = hooked(network, path, images)
        expected = given if module is None else output
        assert torch.allclose(found.features(images), expected, rtol=1e-3, atol=1e-4)
        assert "batch norms fused" in found.way
    assert extractor_of(assembly, None, images).module == "the input of fc"


class Looks(nn.Module):
    """What fx cannot trace."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.spare = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(1, 1)
        self.mean = nn.Linear(6, 2)

    def forward(self, rows):
        hidden = self.body(rows)
        self.mean(hidden.mean(0))
        return self.head(hidden if float(hidden.sum()) > 0 else -hidden)


@pytest.fixture
def looks():
    return Assembly(Looks().eval(), "tests/looks", preprocessing=Preprocessing())


def test_a_hook_where_fx_cannot_follow(looks):
    rows = torch.randn(3, 4)
    found = extractor_of(looks, "body", rows)
    assert found.way == "forward hook"
    assert torch.equal(found.features(rows), looks.model.body(rows))


@pytest.mark.parametrize(
    ("module", "said"),
    [("bdy", "did you mean body"), ("spare", "never calls 'spare'"), ("mean", "not one row an image")],
)
def test_modules_that_give_no_features(looks, module, said):
    with pytest.raises(InputError, match=said):
        extractor_of(looks, module, torch.randn(3, 4))
