"""The trunk as an inference engine: folded, in another layout and precision, within the stated tolerance."""

import copy

import pytest
import torch
from torch import nn

from zoo.training.autotune import relative_distance
from zoo.training.devices import bfloat16_is_native
from zoo.training.trunk.engine import FOLDING_TOLERANCE, Engine, exact_engine, fast_engine, fuse
from zoo.training.trunk.split import split


@pytest.mark.parametrize(("name", "folds"), [("resnet18", 20), ("tf_efficientnet_lite0", 49), ("levit_128s", 4)])
def test_folding_keeps_the_features(build, images, name, folds):
    model = build(name, "head")
    inputs = images(model, 4)
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
        assert (engine(inputs)[0] - expected).norm() <= FOLDING_TOLERANCE * expected.norm()
    assert torch.equal(model[1].running_mean, torch.zeros(4))


def test_precisions_are_ordered_by_their_distance(build):
    model = build("tf_efficientnet_lite0", "head")
    inputs = torch.randn(4, 3, 32, 32)
    trunk = split(model, inputs).trunk
    expected = exact_engine(trunk)(inputs)
    engines = {name: fast_engine(trunk, inputs, name) for name in ("float32", "mixed", "bfloat16")}
    assert all(engine.settings.channels_last and engine.settings.fused == 49 for engine in engines.values())
    assert [engine.settings.precision for engine in engines.values()] == list(engines)
    distances = [relative_distance(expected, engine(inputs)) for engine in engines.values()]
    assert distances[0] < 1e-5 < distances[1] < distances[2] < 0.2


def test_folding_that_goes_wrong_is_left_out(monkeypatch, build):
    from zoo.training.trunk import engine as module

    model = build("resnet18", "head")
    inputs = torch.randn(2, 3, 32, 32)
    trunk = split(model, inputs).trunk
    monkeypatch.setattr(module, "fuse", lambda trunk: (_doubled(trunk), 1))
    engine = fast_engine(trunk, inputs)
    assert (engine.settings.fused, engine.settings.channels_last) == (0, False)
    assert torch.equal(engine(inputs)[0], exact_engine(trunk)(inputs)[0])


def _doubled(trunk):
    other = copy.deepcopy(trunk).eval()
    with torch.no_grad():
        next(other.parameters()).mul_(2)
    return other


@pytest.mark.skipif(not bfloat16_is_native(torch.device("cpu")), reason="this processor has no bfloat16 of its own")
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "nf_resnet26"])
def test_weights_cast_once_give_the_bits_of_autocast(build, images, name):
    model = build(name, "head")
    inputs = images(model, 2)
    trunk = split(model, inputs).trunk
    fast = fast_engine(trunk, inputs, "bfloat16")
    folded, _ = fuse(trunk)
    cast_at_every_call = Engine(folded.to(memory_format=torch.channels_last), fast.settings)
    assert all(torch.equal(one, other) for one, other in zip(fast(inputs), cast_at_every_call(inputs), strict=True))
