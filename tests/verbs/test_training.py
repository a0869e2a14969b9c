"""`zoo.finetune` and `zoo.check` on dictionaries."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import zoo
from zoo.training.callbacks import Listener

DATA = {"source": "sklearn/digits", "image_size": 16, "batch_size": 16, "limit": 64}
TRAIN = {"train": {"epochs": 1, "lr": 0.01}}


class TestRecipes:
    def test_a_dictionary_is_a_recipe(self, folder):
        recipe = {"name": "small", "model": "timm/test_resnet", "data": DATA, "steps": [{"swap_head": "auto"}, TRAIN]}
        run = zoo.finetune(recipe, overrides={"train.lr": 1e-3, "data.limit": 32}, progress=Listener())
        assert run.checkpoint == Path("checkpoints", "small", "model.safetensors")
        assert (run.report["data"]["train"], run.report["data"]["validation"]) == (32, 32)
        assert zoo.check(run.folder / "recipe.yaml").ok

    def test_mistakes_of_a_dictionary_stand_at_their_keys(self):
        steps = [{"swap_hed": "auto"}, {"train": {"lr": -1}}]
        verdict = zoo.check({"model": "timm/test_resnet", "data": DATA | {"image_siz": 3}, "steps": steps})
        places = [str(problem.location) for problem in verdict.errors]
        assert not verdict.ok
        assert places == ["data.image_siz", "steps[0].swap_hed", "steps[1].train.lr"]
        (problem,) = zoo.check({"model": "timm/test_resnet", "steps": [{"load": {"weights": torch.zeros(1)}}]}).errors
        assert str(problem).startswith("steps[0].load.weights: a recipe has plain values, not Tensor")

    def test_paths_and_tuples_are_plain_enough(self, folder):
        data = {"source": "image_folder", "path": folder / "photos", "image_size": (16, 16)}
        verdict = zoo.check({"model": "timm/test_resnet", "data": data, "steps": [TRAIN]})
        assert "photos" in verdict.errors[0].message


class TestCheck:
    def test_it_is_the_document_of_the_command(self, folder, capsys):
        from zoo.cli import run

        recipe = {"model": "timm/test_resnet", "data": DATA, "steps": [{"swap_head": "auto"}, TRAIN]}
        (folder / "r.yaml").write_text(json.dumps(recipe))
        verdict = zoo.check("r.yaml")
        assert verdict.ok
        assert verdict.trainable > 0
        assert run(["check", "r.yaml", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(verdict.as_dict()))

    def test_mistakes_are_in_the_verdict_and_only_a_missing_file_raises(self, folder):
        (folder / "r.yaml").write_text("model: [")
        verdict = zoo.check("r.yaml")
        assert (verdict.ok, verdict.errors[0].location.line) == (False, 1)
        assert verdict.as_dict()["errors"][0]["line"] == 1
        with pytest.raises(zoo.InputError, match="there is no recipe none"):
            zoo.check("none.yaml")

    def test_objects_are_checked_too(self, small_net, digits):
        recipe = {"data": {"image_size": 16}, "steps": [TRAIN]}
        assert zoo.check(recipe, model=small_net(), data=digits()).ok
        verdict = zoo.check(recipe, model=small_net(outputs=7), data=digits())
        assert "the model gives 7 outputs, the data has 10 classes" in verdict.errors[0].message
        grey = zoo.Preprocessing(size=(16, 16), mean=(0.5,), std=(0.5,), channels=1)
        net = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
        assert zoo.check(recipe, model=net, data=digits(), preprocessing=grey).ok
