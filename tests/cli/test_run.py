"""`zoo finetune`, `zoo evaluate`, `zoo predict`: one small run on real digits, then the checkpoint alone."""

import json

import pytest
from sklearn.datasets import load_digits

from zoo.cli import run

RECIPE = """\
name: small
model:
  architecture: torchvision/squeezenet1_1
data:
  source: sklearn/digits
  image_size: 32
  batch_size: 16
  limit: 64
steps:
  - swap_head: {num_classes: auto}
  - train: {max_steps: 2, lr: 1.0e-3}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with recipe.yaml, the run's folder `out`, and digit.png."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("trained")
    (folder / "recipe.yaml").write_text(RECIPE)
    Image.fromarray((load_digits().images[0] * 15).astype("uint8")).save(folder / "digit.png")
    assert run(["finetune", str(folder / "recipe.yaml"), "--output", str(folder / "out"), "--json"]) == 0
    return folder


def checkpoint(trained):
    return trained / "out" / "model.safetensors"


class TestFinetune:
    def test_prints_one_document_and_nothing_else(self, zoo, trained, tmp_path):
        outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path, "--json", "--set", "train.max_steps=1")
        assert outcome.code == 0, outcome.err
        document = outcome.json
        assert document["checkpoint"] == str(tmp_path / "model.safetensors")
        assert set(document["metrics"]) >= {"accuracy"}
        assert document["seconds"] > 0
        assert len(document["stages"]) == 1
        assert "epoch 1/1" in outcome.err

    def test_for_people_it_says_what_to_type_next(self, zoo, trained, tmp_path):
        outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path, "--set", "train.max_steps=1")
        assert f"\nnext: zoo predict {tmp_path / 'model.safetensors'} IMAGE" in outcome.out

    def test_all_mistakes_of_a_recipe_at_once_and_nothing_written(self, zoo, tmp_path):
        (tmp_path / "bad.yaml").write_text(RECIPE.replace("squeezenet1_1", "squeezenet1_l").replace("lr:", "learn:"))
        outcome = zoo("finetune", tmp_path / "bad.yaml", "--output", tmp_path / "out")
        assert (outcome.code, outcome.out) == (2, "")
        assert f"{tmp_path}/bad.yaml:3:17: " in outcome.err
        assert f"{tmp_path}/bad.yaml:11:27: " in outcome.err
        assert "torchvision/squeezenet1_1" in outcome.err
        assert not (tmp_path / "out").exists()

    def test_a_recipe_that_is_not_there(self, zoo, tmp_path):
        outcome = zoo("finetune", tmp_path / "none.yaml")
        assert outcome.code == 2
        assert "none.yaml" in outcome.err

    def test_a_device_that_is_not_there(self, zoo, trained, tmp_path):
        outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path / "out", "--device", "cuda:63")
        assert outcome.code == 2
        assert "cuda:63" in outcome.err

    def test_resuming_what_is_finished_changes_nothing(self, zoo, trained):
        before = checkpoint(trained).read_bytes()
        outcome = zoo("finetune", trained / "recipe.yaml", "--output", trained / "out", "--resume", "--json")
        assert outcome.json["checkpoint"] == str(checkpoint(trained))
        assert checkpoint(trained).read_bytes() == before


class TestEvaluate:
    def test_from_the_file_alone(self, zoo, trained):
        report = json.loads((trained / "out" / "report.json").read_text())
        document = zoo("evaluate", checkpoint(trained), "--json").json
        assert document["metrics"]["accuracy"] == pytest.approx(report["metrics"]["accuracy"])
        assert document["samples"] > 0

    def test_on_a_recipes_data(self, zoo, trained):
        alone = zoo("evaluate", checkpoint(trained), "--json").json
        named = zoo("evaluate", checkpoint(trained), "--data", trained / "recipe.yaml", "--json").json
        assert named["samples"] == alone["samples"]
        assert named["metrics"] == alone["metrics"]

    def test_on_a_data_set_all_of_it_counts(self, zoo, trained):
        out = zoo("evaluate", checkpoint(trained), "--data", "sklearn/digits", "--batch-size", "256").out
        assert "samples         1,797\n" in out
        assert "accuracy        0." in out

    def test_another_metric(self, zoo, trained):
        document = zoo("evaluate", checkpoint(trained), "--metric", "F1Score", "--json").json
        assert any("f1" in name.lower() for name in document["metrics"])

    def test_a_recipe_without_data(self, zoo, trained, tmp_path):
        (tmp_path / "bare.yaml").write_text("name: x\nmodel: {architecture: torchvision/alexnet}\nsteps: [save]\n")
        outcome = zoo("evaluate", checkpoint(trained), "--data", tmp_path / "bare.yaml")
        assert outcome.code == 2

    def test_what_is_no_checkpoint(self, zoo, tmp_path):
        (tmp_path / "no.safetensors").write_bytes(b"no")
        outcome = zoo("evaluate", tmp_path / "no.safetensors")
        assert (outcome.code, outcome.out) == (2, "")
        assert "no.safetensors" in outcome.err
        assert "bug" not in outcome.err


class TestPredict:
    def test_names_and_probabilities(self, zoo, trained):
        (row,) = zoo("predict", checkpoint(trained), trained / "digit.png", "--json").json["images"]
        assert row["image"] == str(trained / "digit.png")
        probabilities = [prediction["probability"] for prediction in row["predictions"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert {prediction["label"] for prediction in row["predictions"]} <= set("0123456789")

    def test_for_people(self, zoo, trained):
        out = zoo("predict", checkpoint(trained), trained / "digit.png", "--top", "2").out
        assert out.startswith(f"{trained / 'digit.png'}  ")
        assert out.count("%") == 2

    def test_a_folder(self, zoo, trained):
        rows = zoo("predict", checkpoint(trained), trained, "--top", "10", "--json").json["images"]
        assert [row["image"] for row in rows] == [str(trained / "digit.png")]
        assert sum(prediction["probability"] for prediction in rows[0]["predictions"]) == pytest.approx(1, abs=1e-4)

    def test_an_unreadable_image_is_1_and_the_others_are_done(self, zoo, trained, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"not an image")
        outcome = zoo("predict", checkpoint(trained), tmp_path / "broken.png", trained / "digit.png", "--json")
        assert outcome.code == 1
        broken, sound = outcome.json["images"]
        assert "error" in broken
        assert sound["predictions"]

    def test_an_image_that_is_not_there(self, zoo, trained, tmp_path):
        outcome = zoo("predict", checkpoint(trained), tmp_path / "none.png")
        assert (outcome.code, outcome.out) == (2, "")
        assert "none.png" in outcome.err


class TestInPython:
    def test_the_same_verbs(self, trained):
        import torch

        import zoo

        model = zoo.load(checkpoint(trained))
        assert model.zoo.classes == tuple("0123456789")
        assert not model.training
        fresh = zoo.build("torchvision/squeezenet1_1", num_classes=10, weights=str(checkpoint(trained)))
        inputs = torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            assert torch.equal(model(inputs), fresh.eval()(inputs))
        assert zoo.inspect(checkpoint(trained))["tensors"]
        assert "zoo/swap_head" in zoo.names("surgeries")
        assert zoo.load_into(fresh, checkpoint(trained)).coverage == 1.0

    def test_what_there_is_not(self):
        import zoo

        with pytest.raises(AttributeError, match="has no attribute 'fly'"):
            zoo.fly()
        assert {"load", "build", "names", "finetune", "convert", "inspect", "__version__"} <= set(dir(zoo))
