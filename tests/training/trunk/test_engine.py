"""The trunk as an inference engine: folded, in another layout and precision, within the stated tolerance."""

import pytest
import torch
from torch import nn

from zoo.training.devices import bfloat16_is_native
from zoo.training.trunk.engine import FEATURE_TOLERANCE, Engine, exact_engine, fast_engine, fuse
from zoo.training.trunk.split import split


@pytest.mark.parametrize(("name", "folds"), [("resnet18", 20), ("tf_efficientnet_lite0", 49), ("levit_128s", 4)])
def test_folding_keeps_the_features(build, name, folds):
    model = build(name, "head")
    inputs = torch.randn(4, *model.default_cfg["input_size"])
    trunk = split(model, inputs).trunk
    expected = exact_engine(trunk)(inputs)
    folded, count = fuse(trunk)
    got = exact_engine(folded)(inputs)
    assert count == folds
    for one, other in zip(expected, got, strict=True):
        assert (one - other).norm() < 1e-4 * one.norm()


def test_folding_leaves_the_model_alone(build):
    model = build("resnet18", "head")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fuse(split(model, torch.randn(4, 3, 64, 64)).trunk)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_exact_engine_is_bit_equal_to_the_trunk(build):
    model = build("resnet18", "head")
    inputs = torch.randn(4, 3, 64, 64)
    trunk = split(model, inputs).trunk
    with torch.no_grad():
        (expected,) = trunk(inputs)
    assert torch.equal(exact_engine(trunk)(inputs)[0], expected)


def test_engines_do_not_follow_the_models_mode():
    """A probe's model need not be frozen: its trunk is cut in evaluation mode, and the model trains later."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)).eval()
    inputs = torch.randn(4, 3, 8, 8)
    live = {id(parameter) for parameter in model[3].parameters()}
    trunk = split(model, inputs, live).trunk
    engines = [exact_engine(trunk), fast_engine(trunk, inputs)]
    expected = model[:3](inputs)
    model.train()
    for engine in engines:
        assert (engine(inputs)[0] - expected).norm() <= FEATURE_TOLERANCE * expected.norm()
    assert torch.equal(model[1].running_mean, torch.zeros(4))


def test_fast_engine_states_its_error_and_keeps_the_tolerance(build):
    model = build("resnet18", "head")
    inputs = torch.randn(8, 3, 64, 64)
    trunk = split(model, inputs[:4]).trunk
    engine = fast_engine(trunk, inputs)
    distance = (engine(inputs)[0].float() - exact_engine(trunk)(inputs)[0]).norm() / exact_engine(trunk)(inputs)[
        0
    ].norm()
    assert engine.settings.channels_last
    assert engine.settings.fused > 10
    assert (engine.settings.dtype == "bfloat16") == bfloat16_is_native(inputs.device)
    assert float(distance) == pytest.approx(engine.settings.error, rel=0.1, abs=1e-6)
    assert engine.settings.error <= FEATURE_TOLERANCE


def test_features_beyond_the_tolerance_fall_back_to_float32():
    class Cancels(nn.Module):
        """The difference of two large, nearly equal numbers: nothing is left of it in bfloat16."""

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            return self.linear(x + 1000) - self.linear(x.new_full(x.shape, 1000.0))

    model = nn.Sequential(Cancels().requires_grad_(False), nn.Linear(8, 2))
    inputs = torch.randn(4, 8)
    engine = fast_engine(split(model, inputs).trunk, inputs)
    assert engine.settings.dtype == "float32"


@pytest.mark.skipif(not bfloat16_is_native(torch.device("cpu")), reason="this processor has no bfloat16 of its own")
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "nf_resnet26"])
def test_weights_cast_once_give_the_bits_of_autocast(build, name):
    model = build(name, "head")
    inputs = torch.randn(2, *model.default_cfg["input_size"])
    trunk = split(model, inputs).trunk
    fast = fast_engine(trunk, inputs)
    assert fast.settings.dtype == "bfloat16"
    folded, _ = fuse(trunk)
    cast_at_every_call = Engine(folded.to(memory_format=torch.channels_last), fast.settings)
    assert all(torch.equal(one, other) for one, other in zip(fast(inputs), cast_at_every_call(inputs), strict=True))
