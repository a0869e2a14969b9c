"""The Python verbs on what Python code has at hand: models in memory, data sets, transforms, dictionaries."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

import zoo
from zoo.training.callbacks import Listener

DATA = {"source": "sklearn/digits", "image_size": 16, "batch_size": 16, "limit": 64}
TRAIN = {"train": {"epochs": 1, "lr": 0.01}}


class SmallNet(nn.Module):
    """A class that no plugin supplies."""

    def __init__(self, width: int = 8, outputs: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(images).mean((-1, -2)))


class Digits(torch.utils.data.Dataset):
    """64 real digits as (PIL image, class index)."""

    classes = tuple("0123456789")

    def __init__(self, size: int = 64) -> None:
        digits = load_digits()
        self.images, self.targets = (digits.images[:size] * 15).astype("uint8"), digits.target[:size].tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        return Image.fromarray(self.images[index]), self.targets[index]


def brighter(image: torch.Tensor) -> torch.Tensor:
    return (image.int() + torch.randint(0, 50, ())).clamp(0, 255).to(torch.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run that trained a copy of a SmallNet on Digits, and the object it was given."""
    net = SmallNet()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    recipe = {
        "data": {"image_size": 16, "batch_size": 16},
        "steps": [{"freeze": {"policy": "pattern", "patterns": ["^stem"]}}, TRAIN],
    }
    output = tmp_path_factory.mktemp("own") / "run"
    run = zoo.finetune(recipe, model=net, data=Digits(), transform=brighter, output=output, progress=Listener())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    return run


def answers(model):
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(images)


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

    def test_objects_are_checked_too(self):
        recipe = {"data": {"image_size": 16}, "steps": [TRAIN]}
        assert zoo.check(recipe, model=SmallNet(), data=Digits()).ok
        verdict = zoo.check(recipe, model=SmallNet(outputs=7), data=Digits())
        assert "the model gives 7 outputs, the data has 10 classes" in verdict.errors[0].message
        grey = zoo.Preprocessing(size=(16, 16), mean=(0.5,), std=(0.5,), channels=1)
        net = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
        assert zoo.check(recipe, model=net, data=Digits(), preprocessing=grey).ok


class TestOwnObjects:
    def test_the_run_is_like_any_other(self, own):
        assert own.model.zoo.architecture == own.report["architecture"] == f"python:{SmallNet.__module__}.SmallNet"
        assert own.model.zoo.classes == Digits.classes
        assert own.model.zoo.frozen[0] == "stem.0.weight"
        assert own.history[0]["validation_accuracy"] == own.metrics["accuracy"]

    def test_the_checkpoint_says_which_class_it_needs_and_what_to_type(self, own):
        name = f"{SmallNet.__module__}.SmallNet"
        with pytest.raises(zoo.InputError, match="safetensors: the class") as caught:
            zoo.load(own.checkpoint)
        assert name in str(caught.value)
        assert "zoo.load(PATH, model=SmallNet())" in str(caught.value)
        described = zoo.inspect(own.checkpoint)
        assert described["zoo"]["architecture"] == f"python:{name}"
        assert any("zoo.load(PATH, model=SmallNet())" in note for note in described["notes"])

    def test_the_cure_works(self, own):
        net = SmallNet()
        loaded = zoo.load(own.checkpoint, model=net)
        assert loaded is net
        assert not loaded.training
        assert torch.equal(answers(loaded), answers(own.model))
        assert loaded.zoo.preprocessing.size == (16, 16)

    def test_an_instance_of_another_structure_is_refused(self, own):
        with pytest.raises(zoo.InputError, match="build the instance with the arguments that the saved one had"):
            zoo.load(own.checkpoint, model=SmallNet(width=4))

    def test_a_registered_architecture_needs_no_instance(self, tmp_path):
        zoo.save(zoo.build("timm/test_resnet"), tmp_path / "m.safetensors")
        with pytest.raises(zoo.InputError, match="which zoo builds by itself"):
            zoo.load(tmp_path / "m.safetensors", model=SmallNet())

    def test_surgeries_on_it_are_replayed(self, folder):
        recipe = {"data": {"image_size": 16}, "steps": [{"swap_head": "auto"}, TRAIN]}
        run = zoo.finetune(recipe, model=SmallNet(outputs=1000), data=Digits(), output="run", progress=Listener())
        loaded = zoo.load(run.checkpoint, model=SmallNet(outputs=1000))
        assert loaded.head.out_features == 10
        assert torch.equal(answers(loaded), answers(run.model))

    def test_the_recipe_it_leaves_says_what_it_needs(self, own):
        verdict = zoo.check(own.folder / "recipe.yaml")
        said = "\n".join(map(str, verdict.errors))
        for needed in ("model=SmallNet()", "data=…", "transform=brighter"):
            assert needed in said
        assert zoo.check(own.folder / "recipe.yaml", model=SmallNet(), data=Digits(), transform=brighter).ok

    def test_nothing_is_imported_by_a_name_in_a_file(self, own, tmp_path):
        """A fresh process that could import the class does not."""
        (tmp_path / f"{SmallNet.__module__}.py").write_text("raise SystemExit('imported')")
        code = f"import zoo\ntry: zoo.load({str(own.checkpoint)!r})\nexcept zoo.InputError as error: print(error)"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "SmallNet" in done.stdout

    def test_it_resumes(self, own):
        again = zoo.finetune(
            own.folder / "recipe.yaml", model=SmallNet(), data=Digits(), transform=brighter,
            output=own.folder, resume=True, progress=Listener(),
        )  # fmt: skip
        assert again.report == own.report
        assert torch.equal(answers(again.model), answers(own.model))

    def test_a_model_that_zoo_built_keeps_its_name(self, folder):
        model = zoo.build("timm/test_resnet", num_classes=10)
        recipe = {"data": DATA, "steps": [{"freeze": "all_but_head"}, TRAIN]}
        run = zoo.finetune(recipe, model=model, output="run", progress=Listener())
        assert torch.equal(answers(zoo.load(run.checkpoint)), answers(run.model))
        assert run.model.zoo.arguments == {"num_classes": 10}

    def test_what_is_no_model_or_data_set(self):
        for wrong, said in (({"model": SmallNet}, "not an nn.Module"), ({"data": 3}, "not a map-style data set")):
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


class TestSave:
    def test_a_model_of_zoos_comes_back_from_the_file_alone(self, tmp_path):
        model = zoo.build("timm/test_resnet", num_classes=3)
        saved = zoo.save(model, tmp_path / "m.safetensors", classes="abc", metrics={"accuracy": 0.5})
        again = zoo.load(saved["path"])
        assert torch.equal(answers(again), answers(model))
        assert again.zoo.classes == ("a", "b", "c")
        assert zoo.inspect(saved["path"])["zoo"]["metrics"] == {"accuracy": 0.5}

    def test_one_changed_by_hand_is_refused_and_nothing_written(self, tmp_path):
        model = zoo.build("timm/test_resnet")
        model.fc = nn.Linear(model.fc.in_features, 3)
        with pytest.raises(zoo.InputError, match=r"fc.weight was \[1000, 96\] and is \[3, 96\]"):
            zoo.save(model, tmp_path / "m.safetensors")
        assert not list(tmp_path.iterdir())

    def test_a_class_of_ones_own(self, tmp_path):
        net = SmallNet()
        zoo.save(net, tmp_path / "m.safetensors", classes=Digits.classes)
        assert torch.equal(answers(zoo.load(tmp_path / "m.safetensors", model=SmallNet())), answers(net))
        with pytest.raises(zoo.InputError, match="save all of it"):
            zoo.save(net, tmp_path / "n.safetensors", only="trainable")

    def test_what_was_frozen_stands_in_the_file(self, tmp_path):
        model = zoo.build("timm/test_resnet")
        frozen = zoo.freeze(model)
        zoo.save(model, tmp_path / "m.safetensors")
        assert zoo.load(tmp_path / "m.safetensors").zoo.frozen == frozen.parameters


class TestFreeze:
    def test_a_policy_freezes_and_none_unfreezes(self):
        model = zoo.build("timm/test_resnet")
        total = sum(parameter.numel() for parameter in model.parameters())
        frozen = zoo.freeze(model)
        head = sum(parameter.numel() for parameter in model.fc.parameters())
        assert (frozen.trainable, frozen.frozen) == (head, total - head)
        assert str(frozen) == f"{total - head:,} of {total:,} parameters are frozen"
        assert model.zoo.frozen == frozen.parameters
        model.train()
        assert not model.layer1.training
        assert zoo.freeze(model, "none").frozen == 0
        assert model.layer1.training
        assert model.zoo.frozen == ()

    def test_it_stands_still(self):
        net = SmallNet()
        part = zoo.freeze(net, ["stem"])
        before = {name: value.clone() for name, value in net.state_dict().items() if name.startswith("stem")}
        optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
        net.train()(torch.rand(4, 3, 8, 8)).sum().backward()
        optimizer.step()
        assert len(part.parameters) + len(part.buffers) == len(before)
        assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())

    def test_names_and_patterns(self):
        net = SmallNet()
        assert set(zoo.freeze(net, ["stem.0", r"1\.bias$"]).parameters) == {
            "stem.0.weight",
            "stem.0.bias",
            "stem.1.bias",
        }
        assert zoo.freeze(net, []).frozen == 0

    def test_a_policys_arguments(self):
        model = zoo.build("timm/test_resnet")
        assert zoo.freeze(model, "below", module="layer4").trainable < zoo.freeze(model, "none").trainable

    @pytest.mark.parametrize(
        ("policy", "arguments", "says"),
        [
            ("al_but_head", {}, "did you mean zoo/all_but_head"),
            ("below", {"modul": "head"}, "see: zoo show zoo/below"),
            (["stemm"], {}, "finds no parameter or buffer"),
            (["stem"], {"module": "head"}, "belong to a named policy"),
        ],
    )
    def test_what_it_does_not_understand(self, policy, arguments, says):
        with pytest.raises(zoo.InputError, match=says):
            zoo.freeze(SmallNet(), policy, **arguments)


class TestEvaluateAndPredict:
    def test_a_model_in_memory_and_its_file_give_the_same(self, own, folder):
        model = zoo.load(own.checkpoint, model=SmallNet()).train()
        measured = zoo.evaluate(model, Digits(), metrics=["accuracy"])
        assert measured["samples"] == 64
        assert model.training
        assert zoo.evaluate(own.model, zoo.Data(Digits(), classes=Digits.classes))["metrics"] == measured["metrics"]

    def test_without_data_it_needs_the_object_it_was_trained_on(self, own):
        with pytest.raises(zoo.InputError, match="data=…, the object itself"):
            zoo.evaluate(own.model)

    def test_images_in_memory_and_as_files(self, own, folder):
        image = Digits()[0][0]
        image.save("digit.png")
        pixels = torch.from_numpy(np.array(image)).unsqueeze(0)
        rows = zoo.predict(own.model, ["digit.png", image, pixels], top=3)
        assert [row["image"] for row in rows] == ["digit.png", 1, 2]
        one = rows[0]["predictions"]
        assert len(one) == 3
        alone = [zoo.predict(own.model, given, top=3)[0] for given in ("digit.png", image, pixels)]
        for row in (*rows, *alone):
            assert [answer["label"] for answer in row["predictions"]] == [answer["label"] for answer in one]
            likely = [answer["probability"] for answer in row["predictions"]]
            assert likely == pytest.approx([answer["probability"] for answer in one], abs=1e-6)

    def test_a_model_that_zoo_does_not_know(self, folder):
        net = SmallNet()
        with pytest.raises(zoo.InputError, match=r"zoo.save\(model, PATH, classes=…\)"):
            zoo.predict(net, Digits()[0][0])
        zoo.save(net, "m.safetensors", classes=Digits.classes)  # the cure
        assert zoo.predict(zoo.load("m.safetensors", model=net), Digits()[0][0])[0]["predictions"]

    def test_a_device_is_for_files(self, own):
        with pytest.raises(zoo.InputError, match="a model is run where it is"):
            zoo.predict(own.model, Digits()[0][0], device="cpu")


def test_the_verbs_that_open_files(own, tmp_path):
    saved = zoo.save(zoo.build("timm/test_resnet", num_classes=10), tmp_path / "m.safetensors")["path"]
    fresh = zoo.build("timm/test_resnet", num_classes=10, weights=saved)
    assert torch.equal(answers(zoo.load(saved)), answers(fresh))
    assert zoo.inspect(saved)["tensors"]
    assert zoo.load_into(fresh, saved).coverage == 1.0
    assert "zoo/swap_head" in zoo.names("surgeries")


def test_what_there_is_not():
    with pytest.raises(AttributeError, match="has no attribute 'fly'"):
        zoo.fly()
    assert {"load", "build", "names", "finetune", "convert", "inspect", "__version__"} <= set(dir(zoo))


def test_import_is_instant_and_every_name_is_there():
    code = "import sys, zoo; assert not [m for m in sys.modules if m.startswith('zoo.')]; zoo.InputError, zoo.Data; "
    code += "assert 'torch' not in sys.modules; [getattr(zoo, name) for name in zoo.__all__]"
    subprocess.run([sys.executable, "-c", code], check=True)
