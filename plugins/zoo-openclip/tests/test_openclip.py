"""zoo-openclip: names are open_clip's, and zero-shot scores are its own."""

import importlib.metadata
import json

import open_clip
import pytest
import torch
import yaml
from safetensors.torch import save_file
from zoo_openclip import catalogue, source
from zoo_openclip.architectures import MEAN, STD

import zoo
from zoo.errors import InputError
from zoo.testing import ArchitectureSourceContract, RemapContract

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


class TestContract(ArchitectureSourceContract):
    namespace = "openclip"
    sample = ("ViT-S-32-alt", "RN50")


class TestRemap(RemapContract):
    component = "openclip/image_tower"


@pytest.fixture(params=[None, -2.5], ids=["CLIP", "with a bias"])
def tiny(request, tmp_path, monkeypatch):
    """A small model of open_clip's by the name `tiny`, every parameter random, and its file."""
    config = {**TINY, **({} if request.param is None else {"init_logit_bias": request.param})}
    (tmp_path / "tiny.json").write_text(json.dumps(config))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [tmp_path])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
    open_clip.factory._rescan_model_configs()
    monkeypatch.setattr(catalogue, "configurations", lambda: {"tiny": config})
    zoo.registry.refresh()
    torch.manual_seed(0)
    model = open_clip.create_model("tiny", load_weights=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    save_file(model.state_dict(), tmp_path / "tiny.safetensors")
    yield model.eval()
    monkeypatch.undo()
    zoo.registry.refresh()


def recipe(folder, step, **more):
    weights = str(folder / "tiny.safetensors")
    model = {"architecture": "openclip/tiny", "weights": weights, "remap": "openclip/image_tower"}
    return {"name": "zero", "model": model, "steps": [step], **more}


@pytest.mark.parametrize("templates", [["a photo of a {}."], ["{}", "a bad photo of the {}."]])
def test_zero_shot_scores_are_open_clips_own(templates, tiny, tmp_path):
    classes = ["cat", "dog", "small bird"]
    written = recipe(tmp_path, {"zero_shot": {"classes": classes, "templates": templates}})
    run = zoo.finetune(written, output=tmp_path / "run")
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        ours = zoo.load(run.checkpoint)(images)
        weights = open_clip.build_zero_shot_classifier(tiny, open_clip.get_tokenizer("tiny"), classes, templates)
        theirs = tiny.logit_scale.exp() * tiny.encode_image(images, normalize=True) @ weights
        if tiny.logit_bias is not None:
            theirs = theirs + tiny.logit_bias
        if len(templates) == 1:
            texts = open_clip.get_tokenizer("tiny")([templates[0].format(name) for name in classes])
            assert (tiny.get_logits(images, texts)[0] - ours).abs().max() <= 1e-5
    assert (theirs - ours).abs().max() <= 1e-5
    assert zoo.load(run.checkpoint).zoo.classes == tuple(classes)


def test_a_zero_shot_head_begins_a_probe(tiny, tmp_path):
    written = recipe(tmp_path, "zero_shot", data={"source": "sklearn/digits", "image_size": 16, "limit": 40})
    written["steps"] += [{"freeze": "all_but_head"}, "probe"]
    run = zoo.finetune(written, output=tmp_path / "run")
    assert run.report["stages"][1]["head"] == "head"
    assert zoo.load(run.checkpoint).head.out_features == 10


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ({"zero_shot": {"classes": ["a"], "templates": ["a photo"]}}, "'a photo' has to have one {}"),
        ({"zero_shot": {"classes": ["a"], "templates": []}}, "there is no template"),
        ("zero_shot", "there are no class names to make a head of"),
    ],
)
def test_check_says_what_is_wrong(step, why, tiny, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe(tmp_path, step)))
    with pytest.raises(InputError) as caught:
        zoo.finetune(tmp_path / "recipe.yaml", output=tmp_path / "run")
    assert why in str(caught.value)


def test_other_architectures_have_no_text_tower(tmp_path):
    written = {"model": "tutorial/net_a", "steps": [{"zero_shot": {"classes": ["a"], "weights": "any"}}]}
    with pytest.raises(InputError, match="tutorial/net_a has no text tower"):
        zoo.finetune(written, output=tmp_path / "run")


def test_names_are_open_clips_without_captioners():
    captioners = {name for name in open_clip.list_models() if name.lower().startswith("coca")}
    assert captioners
    assert set(source.names()) == set(open_clip.list_models()) - captioners - {"tiny"}


def test_weights_are_both_towers_on_the_hub_with_their_preprocessing():
    weights = source.weights("ViT-B-32", "laion2b_s34b_b79k")
    assert weights.location == "hf://laion/CLIP-ViT-B-32-laion2B-s34B-b79K/open_clip_model.safetensors"
    assert (weights.preprocessing.mean, weights.preprocessing.std) == (MEAN, STD)
    assert source.weights("ViT-B-16-SigLIP", "webli").preprocessing.mean == (0.5, 0.5, 0.5)
    with pytest.raises(InputError, match=r"has no weights 'laion2b' "):
        source.weights("ViT-B-32", "laion2b")
    assert importlib.metadata.version("open_clip_torch")
