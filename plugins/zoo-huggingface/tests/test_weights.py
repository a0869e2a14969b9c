"""transformers' own loading is the truth: the same folder through both gives the same scores."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from zoo_huggingface import source

import zoo
from zoo.errors import InputError, WorkError

FAST = ("vit", "resnet")
SLOW = ("deit", "dinov2", "beit", "convnext", "swin", "segformer", "dinov3_vit")


@pytest.mark.parametrize("kind", [*FAST, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)])
def test_a_published_folder_loads_complete(kind, publish, images):
    folder, theirs = publish(kind)
    ours = zoo.build(f"huggingface/{kind}", weights=str(folder)).eval()
    expected = theirs(images)
    assert torch.equal(ours(images), expected.logits if "logits" in expected else expected.pooler_output)
    assert ours.zoo.preprocessing.mean == (0.5, 0.4, 0.3)
    assert ours.zoo.preprocessing.interpolation == "bicubic"
    if kind != "dinov3_vit":
        assert ours.zoo.classes == ("cat", "dog", "owl")


@pytest.mark.parametrize("kind", ["vit", pytest.param("dinov2", marks=pytest.mark.slow)])
def test_weights_without_a_head_fill_the_features(kind, publish, images):
    name = {"vit": "ViTModel", "dinov2": "Dinov2Model"}[kind]
    folder, theirs = publish(kind, name)
    ours = zoo.build(f"huggingface/{kind}", weights=str(folder), num_labels=0).eval()
    features = theirs(images).last_hidden_state[:, 0]
    torch.testing.assert_close(ours(images)[:, : features.shape[1]], features)
    with pytest.raises(WorkError, match="classifier"):
        zoo.build(f"huggingface/{kind}", weights=str(folder))


def test_what_has_no_place_is_named(publish):
    folder, _ = publish("vit", "ViTForMaskedImageModeling")
    with pytest.raises(WorkError, match="decoder"):
        zoo.build("huggingface/vit", weights=str(folder), num_labels=0)


def test_of_another_network(publish):
    folder, _ = publish("resnet")
    with pytest.raises(InputError, match="architecture: huggingface/resnet"):
        zoo.build("huggingface/vit", weights=str(folder))


def test_a_recipe_s_arguments_go_before_those_of_the_file(publish):
    folder, _ = publish("vit")
    with pytest.raises(WorkError, match=r"classifier\.weight is \[3, 16\] in the file and \[5, 16\] in the model"):
        zoo.build("huggingface/vit", weights=str(folder), num_labels=5)


def test_random_numbers_go_on_as_if_nothing_was_loaded(publish):
    folder, _ = publish("vit")
    model = zoo.build("huggingface/vit", config=str(folder))
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    source.weights_at("vit", str(folder)).convert(load_file(folder / "model.safetensors"), model)
    assert torch.equal(torch.rand(2), expected)


def test_pickled_weights_are_read_where_they_are_named(publish, images):
    folder, theirs = publish("vit")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"there is no file .*model\.safetensors"):
        zoo.build("huggingface/vit", weights=str(folder))
    ours = zoo.build("huggingface/vit", weights=str(folder / "pytorch_model.bin")).eval()
    assert torch.equal(ours(images), theirs(images).logits)


def test_of_the_hub(publish, cached, images):
    folder, theirs = publish("vit")
    address = cached(folder, "vit")
    ours = zoo.build("huggingface/vit", weights=address).eval()
    assert torch.equal(ours(images), theirs(images).logits)
    assert ours.zoo.base_weights["location"] == f"{address}/model.safetensors"
    with pytest.raises(WorkError, match=r"contains no config\.json of me/none"):
        zoo.build("huggingface/vit", weights="hf://me/none")


def test_layouts_of_today_go_through_as_they_are(publish):
    folder, _ = publish("vit")
    ours = zoo.build("huggingface/vit", weights=str(folder))
    state = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    again = source.weights_at("vit", str(folder)).convert(dict(state), ours)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)


RECIPE = """\
model: {architecture: huggingface/vit, weights: FOLDER}
data: {source: sklearn/digits, batch_size: 32, limit: 64, cache: memory}
steps:
  - swap_head: auto
  - freeze: all_but_head
  - train: {epochs: 2, lr: 1.0e-2, feature_cache: kept}
  - save: {only: trainable, name: thin}
"""


@pytest.mark.slow
def test_a_transformers_vit_is_fine_tuned_and_measured_through_zoo_alone(publish, tmp_path):
    folder, _ = publish("vit")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("FOLDER", str(folder)))
    verdict = zoo.check(recipe)
    assert verdict.ok, verdict.errors
    assert verdict.assembly.arguments["hidden_size"] == 16
    run = zoo.finetune(recipe, output=tmp_path / "out", device="cpu")
    assert run.report["weights"]["coverage"] == 1.0
    assert "feature" in json.dumps(run.report["stages"])
    measured = zoo.evaluate(tmp_path / "out" / "model.safetensors")
    assert measured["metrics"]["accuracy"] == run.metrics["accuracy"]
    thin = zoo.load(tmp_path / "out" / "thin.safetensors")
    assert all(torch.equal(t, run.model.cpu().state_dict()[name]) for name, t in thin.state_dict().items())
    pinned = (tmp_path / "out" / "recipe.yaml").read_text()
    assert "hidden_size: 16" in pinned


def test_check_says_what_is_wrong_with_a_configuration(publish, tmp_path):
    folder, _ = publish("vit")
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("FOLDER", str(folder)))
    (folder / "config.json").write_text("{")
    (problem, *_) = zoo.check(tmp_path / "recipe.yaml").errors
    assert "config.json cannot be read" in problem.message
    assert str(problem.location).endswith("recipe.yaml:1:49")


def test_transformers_itself_is_left_as_it_was(publish):
    folder, _ = publish("vit")
    zoo.build("huggingface/vit", weights=str(folder))
    assert transformers.ViTForImageClassification.forward.__qualname__.startswith("ViTForImageClassification")
