"""zoo-timm: what is read from timm's files is what timm says, and its checkpoints become its models' layout."""

import re

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg
from zoo_timm import source
from zoo_timm.tags import UnreadableError, read_tags
from zoo_timm.weights import adapt, checkpoint_filter, without_background

from zoo.errors import InputError
from zoo.testing import ArchitectureSourceContract


class TestContract(ArchitectureSourceContract):
    namespace = "timm"
    sample = ("resnet10t", "tf_efficientnet_lite0", "test_vit", "vit_tiny_patch16_224")


def test_the_names_read_are_timms_own():
    assert source.names() == sorted(timm.list_models())


@pytest.mark.slow
def test_the_tags_read_are_timms_own_and_the_first_is_its_default():
    told = {}
    for name in source.names():
        tags = source.tags(name)
        told.update({f"{name}.{tag}": None for tag in tags})
        if tags:
            assert get_pretrained_cfg(name).tag == tags[0], name
    assert set(told) == set(timm.list_pretrained())


def test_a_table_that_is_computed_is_asked_of_timm():
    with pytest.raises(UnreadableError):
        read_tags("vit_base_patch16_clip_quickgelu_224")
    theirs = {name.partition(".")[2] for name in timm.list_pretrained("vit_base_patch16_clip_quickgelu_224.*")}
    assert set(source.tags("vit_base_patch16_clip_quickgelu_224")) == theirs != set()


def test_an_architecture_without_weights_has_no_tags():
    bare = next(name for name in timm.list_models("resnet*") if not timm.list_pretrained(f"{name}.*"))
    assert source.tags(bare) == []


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match=r"did you mean .*resnet50"):
        source.tags("resnet5O")


def test_an_unknown_tag_suggests_the_nearest():
    with pytest.raises(InputError, match=r"did you mean .*a1_in1k"):
        source.weights("resnet50", "a1_in1")


def test_building_takes_timms_arguments():
    with torch.device("meta"):
        model = source.build("resnet10t", num_classes=7, in_chans=1)
    assert model.num_classes == 7
    assert next(model.parameters()).shape[1] == 1


class TestWeights:
    def test_lie_on_the_hub(self):
        weights = source.weights("resnet50", "a1_in1k")
        assert weights.location == "hf://timm/resnet50.a1_in1k"
        assert weights.sha256 is None
        assert weights.license == "apache-2.0"
        assert weights.classes[0] == "tench, Tinca tinca"
        assert len(weights.classes) == 1000

    def test_or_at_timms_address_with_the_digest_in_its_name(self):
        weights = source.weights("gcvit_tiny", "in1k")
        assert weights.location.startswith("https://")
        assert weights.location.endswith(f"-{weights.sha256}.pth")

    def test_expect_what_timm_evaluates_with(self):
        preprocessing = source.weights("tf_efficientnet_lite0", "in1k").preprocessing
        theirs = timm.data.resolve_data_config(
            pretrained_cfg=get_pretrained_cfg("tf_efficientnet_lite0.in1k").to_dict()
        )
        assert (preprocessing.channels, *preprocessing.size) == theirs["input_size"]
        assert (preprocessing.mean, preprocessing.std) == (theirs["mean"], theirs["std"])
        assert preprocessing.interpolation == theirs["interpolation"]
        assert preprocessing.crop_fraction == theirs["crop_pct"]

    def test_without_a_tag_expect_what_the_default_tag_expects(self):
        assert source.preprocessing("resnet50") == source.weights("resnet50", source.tags("resnet50")[0]).preprocessing

    def test_have_no_class_names_where_timm_knows_none(self):
        assert source.weights("vit_base_patch16_clip_224", "openai").classes is None


class TestAdapting:
    """timm's own loading is the truth: the same state dict through both gives the same parameters."""

    @staticmethod
    def loaded_by_timm(name, tag, state_dict, **arguments):
        overlay = {"state_dict": state_dict, "hf_hub_id": None, "url": None}
        return timm.create_model(f"{name}.{tag}", pretrained=True, pretrained_cfg_overlay=overlay, **arguments)

    @staticmethod
    def noise(shapes):
        generator = torch.Generator().manual_seed(0)
        return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}

    def test_every_filter_is_the_one_timm_uses(self):
        assert checkpoint_filter("resnet18", "a1_in1k") is None
        assert checkpoint_filter("vgg16", "tv_in1k").__name__ == "_filter_fn"
        assert checkpoint_filter("deit3_small_patch16_224", "fb_in1k").keywords == {"adapt_layer_scale": True}

    def test_a_foreign_layout_arrives_as_timm_would_load_it(self):
        names = timm.create_model("densenet121").state_dict().items()
        published = {
            re.sub(r"\.(norm|conv)([12])\.", r".\1.\2.", key): tensor.shape
            for key, tensor in names
            if not key.endswith("num_batches_tracked")
        }
        assert "features.denseblock1.denselayer1.norm.1.weight" in published  # torchvision's files of 2017
        published = self.noise(published)
        ours = adapt("densenet121", "tv_in1k", dict(published), timm.create_model("densenet121"))
        theirs = self.loaded_by_timm("densenet121", "tv_in1k", dict(published)).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)

    def test_position_embeddings_come_in_the_models_size(self):
        model = timm.create_model("test_vit", img_size=96)
        published = self.noise({k: t.shape for k, t in timm.create_model("test_vit").state_dict().items()})
        ours = adapt("test_vit", "r160_in1k", dict(published), model)
        theirs = self.loaded_by_timm("test_vit", "r160_in1k", dict(published), img_size=96).state_dict()
        assert ours["pos_embed"].shape == model.pos_embed.shape != published["pos_embed"].shape
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)

    def test_the_background_class_goes(self):
        configuration = timm.models.PretrainedCfg(num_classes=10, label_offset=1, classifier="fc")
        state = {
            "fc.weight": torch.arange(33.0).reshape(11, 3),
            "fc.bias": torch.arange(11.0),
            "other": torch.zeros(11),
        }
        kept = without_background(state, configuration)
        assert torch.equal(kept["fc.weight"], state["fc.weight"][1:])
        assert kept["fc.bias"].tolist() == [float(number) for number in range(1, 11)]
        assert kept["other"].shape == (11,)
        assert without_background(kept, configuration)["fc.bias"].shape == (10,)
