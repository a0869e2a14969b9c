"""Models, data sets and transforms that Python code hands over."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import zoo
from zoo.training.callbacks import Listener

DATA = {"source": "sklearn/digits", "image_size": 16, "batch_size": 16, "limit": 64}
TRAIN = {"train": {"epochs": 1, "lr": 0.01}}


class TestOwnObjects:
    def test_the_run_is_like_any_other(self, own, small_net, digits):
        assert own.model.zoo.architecture == own.report["architecture"] == f"python:{small_net.__module__}.SmallNet"
        assert own.model.zoo.classes == digits.classes
        assert own.model.zoo.frozen[0] == "stem.0.weight"
        assert own.history[0]["validation_accuracy"] == own.metrics["accuracy"]

    def test_the_checkpoint_says_which_class_it_needs_and_what_to_type(self, own, small_net):
        name = f"{small_net.__module__}.SmallNet"
        with pytest.raises(zoo.InputError, match="safetensors: the class") as caught:
            zoo.load(own.checkpoint)
        assert name in str(caught.value)
        assert "zoo.load(PATH, model=SmallNet())" in str(caught.value)
        described = zoo.inspect(own.checkpoint)
        assert described["zoo"]["architecture"] == f"python:{name}"
        assert any("zoo.load(PATH, model=SmallNet())" in note for note in described["notes"])

    def test_the_cure_works(self, own, small_net, answers):
        net = small_net()
        loaded = zoo.load(own.checkpoint, model=net)
        assert loaded is net
        assert not loaded.training
        assert torch.equal(answers(loaded), answers(own.model))
        assert loaded.zoo.preprocessing.size == (16, 16)

    def test_an_instance_of_another_structure_is_refused(self, own, small_net):
        with pytest.raises(zoo.InputError, match="build the instance with the arguments that the saved one had"):
            zoo.load(own.checkpoint, model=small_net(width=4))

    def test_a_registered_architecture_needs_no_instance(self, tmp_path, small_net):
        zoo.save(zoo.build("timm/test_resnet"), tmp_path / "m.safetensors")
        with pytest.raises(zoo.InputError, match="which zoo builds by itself"):
            zoo.load(tmp_path / "m.safetensors", model=small_net())

    def test_surgeries_on_it_are_replayed(self, folder, answers, small_net, digits):
        recipe = {"data": {"image_size": 16}, "steps": [{"swap_head": "auto"}, TRAIN]}
        run = zoo.finetune(recipe, model=small_net(outputs=1000), data=digits(), output="run", progress=Listener())
        loaded = zoo.load(run.checkpoint, model=small_net(outputs=1000))
        assert loaded.head.out_features == 10
        assert torch.equal(answers(loaded), answers(run.model))

    def test_the_recipe_it_leaves_says_what_it_needs(self, own, brighter, small_net, digits):
        verdict = zoo.check(own.folder / "recipe.yaml")
        said = "\n".join(map(str, verdict.errors))
        for needed in ("model=SmallNet()", "data=…", "transform=brighter"):
            assert needed in said
        assert zoo.check(own.folder / "recipe.yaml", model=small_net(), data=digits(), transform=brighter).ok

    def test_nothing_is_imported_by_a_name_in_a_file(self, own, tmp_path, small_net):
        """A fresh process that could import the class does not."""
        (tmp_path / f"{small_net.__module__}.py").write_text("raise SystemExit('imported')")
        code = f"import zoo\ntry: zoo.load({str(own.checkpoint)!r})\nexcept zoo.InputError as error: print(error)"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "SmallNet" in done.stdout

    def test_it_resumes(self, own, answers, brighter, small_net, digits):
        again = zoo.finetune(
            own.folder / "recipe.yaml", model=small_net(), data=digits(), transform=brighter,
            output=own.folder, resume=True, progress=Listener(),
        )  # fmt: skip
        assert again.report == own.report
        assert torch.equal(answers(again.model), answers(own.model))

    def test_a_model_that_zoo_built_keeps_its_name(self, folder, answers):
        model = zoo.build("timm/test_resnet", num_classes=10)
        recipe = {"data": DATA, "steps": [{"freeze": "all_but_head"}, TRAIN]}
        run = zoo.finetune(recipe, model=model, output="run", progress=Listener())
        assert torch.equal(answers(zoo.load(run.checkpoint)), answers(run.model))
        assert run.model.zoo.arguments == {"num_classes": 10}

    def test_what_is_no_model_or_data_set(self, small_net):
        for wrong, said in (({"model": small_net}, "not an nn.Module"), ({"data": 3}, "not a map-style data set")):
            with pytest.raises(zoo.InputError, match=said):
                zoo.check({"model": "timm/test_resnet", "steps": [TRAIN]}, **wrong)
        with pytest.raises(zoo.InputError, match=r"zoo.Data\(data, task="):
            zoo.check({"model": "timm/test_resnet", "steps": [TRAIN]}, data=[(np.zeros(3), 0.5)])

    def test_a_transform_that_gives_floats_is_told_what_to_leave_out(self, folder):
        recipe = {"model": "timm/test_resnet", "data": DATA, "steps": [{"swap_head": "auto"}, TRAIN]}
        with pytest.raises(zoo.InputError, match="leave out ToTensor"):
            zoo.finetune(recipe, transform=scaled, overrides=["data.workers=0"], output="run", progress=Listener())


def scaled(image):
    return image / 255
