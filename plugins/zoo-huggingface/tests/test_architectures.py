"""zoo-huggingface's architectures: names read from files, networks that give one tensor, arguments that are checked."""

import json

import pytest
import torch
import transformers
from zoo_huggingface import catalogue, source

import zoo
from zoo.errors import InputError
from zoo.model.build import build
from zoo.model.heads import find_heads
from zoo.model.swap_head import swap_head
from zoo.testing import ArchitectureSourceContract


class TestContract(ArchitectureSourceContract):
    namespace = "huggingface"
    sample = ("vit", "resnet", "dinov3_vit")


@pytest.mark.slow
def test_the_names_read_are_transformers_own():
    from transformers.models.auto import modeling_auto

    theirs = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    assert set(catalogue.classifiers()) == set(theirs) - set(catalogue.OTHERWISE)
    assert all(name in (theirs[kind], theirs[kind][0]) for kind, name in catalogue.classifiers().items())
    assert set(catalogue.classifiers()) | set(catalogue.backbones()) | set(catalogue.OTHERWISE) >= set(
        modeling_auto.MODEL_FOR_BACKBONE_MAPPING_NAMES
    )
    assert all(hasattr(transformers, name) for name in catalogue.backbones().values())


NOT_HERE = {"dinat"}  # needs the library natten


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(source.names()) - NOT_HERE))
def test_every_network_gives_a_row_of_numbers_an_image(name):
    assembly = build(f"huggingface/{name}", device="meta")
    size = assembly.preprocessing.size
    with torch.device("meta"):
        output = assembly.model.eval()(torch.zeros(2, 3, *size))
    assert isinstance(output, torch.Tensor)
    assert output.shape[0] == 2
    assert output.ndim == 2
    assert find_heads(assembly.model)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_scores_are_transformers_own(kind, images, small):
    ours = zoo.build(f"huggingface/{kind}", **small(kind), num_labels=3).eval()
    theirs = getattr(transformers, catalogue.classifiers()[kind])(ours.config).eval()
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(images), theirs(images).logits)


def test_without_labels_it_gives_features_and_takes_a_head(images, small):
    features = zoo.build("huggingface/vit", **small("vit"), num_labels=0)
    assert features(images).shape == (2, 16)
    assert swap_head(features, num_classes=4)(images).shape == (2, 4)


def test_a_backbone_gives_pooled_features_and_takes_a_head(images, small):
    backbone = zoo.build("huggingface/dinov3_vit", **small("dinov3_vit")).eval()
    theirs = transformers.DINOv3ViTModel(backbone.config).eval()
    theirs.load_state_dict(backbone.state_dict())
    assert torch.equal(backbone(images), theirs(images).pooler_output)
    assert swap_head(backbone, num_classes=4)(images).shape == (2, 4)


def test_images_are_of_the_size_that_the_configuration_says(small):
    assert build("huggingface/vit", small("vit"), device="meta").preprocessing.size == (32, 32)
    assert source.preprocessing("efficientnet", None, {}).size == (600, 600)
    assert build("huggingface/vit", small("vit", num_channels=1), device="meta").preprocessing.channels == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hiden_size": 16}, "takes no argument 'hiden_size' .*hidden_size"),
        ({"num_classes": 3}, "takes no argument 'num_classes' .*num_labels"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "takes no argument 'auto_map'"),
        ({"pretrained": True}, "would load weights behind"),
    ],
)
def test_arguments_that_are_none(arguments, said):
    with pytest.raises(InputError, match=said):
        build("huggingface/vit", arguments, device="meta")


def test_arguments_inside_others_are_checked_as_well():
    with pytest.raises(InputError, match="huggingface/clip, vision_config takes no argument '_attn_implementation'"):
        build("huggingface/clip", {"vision_config": {"_attn_implementation": "org/kernel"}}, device="meta")


class TestConfiguration:
    """`config: FOLDER` is read once, and written out in what the model records."""

    def test_stands_for_its_arguments(self, publish):
        folder, _ = publish("vit")
        assembly = build("huggingface/vit", {"config": str(folder), "num_hidden_layers": 1}, device="meta")
        assert "config" not in assembly.arguments
        assert assembly.arguments["hidden_size"] == 16
        assert assembly.arguments["num_hidden_layers"] == 1
        assert assembly.arguments["num_labels"] == 3

    def test_a_checkpoint_needs_it_no_more(self, publish, tmp_path):
        folder, _ = publish("vit")
        model = zoo.build("huggingface/vit", config=str(folder))
        zoo.save(model, tmp_path / "own.safetensors")
        (folder / "config.json").unlink()
        assert zoo.load(tmp_path / "own.safetensors").zoo.arguments == model.zoo.arguments

    def test_a_checkpoint_that_names_one_does_not_open_it(self, publish):
        from zoo.model.build import rebuild

        folder, _ = publish("vit")
        with pytest.raises(InputError, match="takes no argument 'config'"):
            rebuild({"architecture": "huggingface/vit", "arguments": {"config": str(folder)}}, device="meta")

    def test_of_another_network_or_none(self, publish, tmp_path):
        folder, _ = publish("resnet")
        with pytest.raises(InputError, match="architecture: huggingface/resnet"):
            build("huggingface/vit", {"config": str(folder)}, device="meta")
        with pytest.raises(InputError, match=r"no config\.json"):
            build("huggingface/vit", {"config": str(tmp_path)}, device="meta")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "cannot be read"),
            ("[]", "contains no mapping"),
            ("{}", "names no model type"),
            ('{"model_type": "bert"}', "is of bert"),
            ('{"model_type": "imagegpt"}', "colour clusters"),
            (" " * (2**22 + 1), "is larger than"),
        ],
    )
    def test_that_is_none(self, tmp_path, text, said):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match=said):
            build("huggingface/vit", {"config": str(tmp_path)}, device="meta")

    def test_code_that_it_names_is_not_run(self, publish):
        folder, _ = publish("vit")
        said = json.loads((folder / "config.json").read_text())
        (folder / "evil.py").write_text("raise SystemExit")
        (folder / "config.json").write_text(json.dumps({**said, "auto_map": {"AutoConfig": "evil.Evil"}}))
        assert "auto_map" not in build("huggingface/vit", {"config": str(folder)}, device="meta").arguments
