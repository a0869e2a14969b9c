"""finetune, evaluate and predict on a small real network: whole chains, interrupts, resuming, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from zoo.errors import InputError, WorkError
from zoo.model.restore import load
from zoo.recipe import load_recipe
from zoo.training import actions, loop
from zoo.training.evaluate import evaluate
from zoo.training.listener import Listener
from zoo.training.predict import predict
from zoo.training.run import finetune

RECIPE = {
    "name": "small",
    "seed": 3,
    "model": {"architecture": "timm/test_resnet"},
    "data": {
        "source": "sklearn/digits",
        "image_size": 32,
        "batch_size": 32,
        "limit": 96,
        "augmentation": "crop_flip",
        "workers": 0,
    },
    "steps": [
        {"swap_head": {"num_classes": "auto"}},
        {"freeze": "all_but_head"},
        {"train": {"epochs": 2, "lr": 0.01, "trunk": "off"}},
        {"freeze": {"policy": "below", "module": "layer3"}},
        {"train": {"epochs": 2, "lr": 0.01, "optimizer": {"SGD": {"momentum": 0.9}}, "ema": 0.9, "trunk": "off"}},
    ],
}


def written(folder: Path, **changes) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return str(path)


class Quiet(Listener):
    """Keeps notes; raises `error` in the optimizer step that follows so many of the train step `stage` (from 1)."""

    def __init__(self, error: BaseException | None = None, stage: int = 1, step: int = 0) -> None:
        self.error, self.stage, self.step = error, stage, step
        self.notes: list[str] = []
        self.stages = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stage_started(self, trainer) -> None:
        self.stages += 1
        if self.error is None or self.stages != self.stage:
            return
        step = trainer.schedule.step

        def failing():
            step()
            if trainer.progress.steps == self.step:
                raise self.error

        trainer.schedule.step = failing


def tensors(folder: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def same(first: Path, second: Path) -> bool:
    mine, theirs = tensors(first), tensors(second)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict]:
    """The folder and the document of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    return folder / "run", finetune(written(folder), output=folder / "run", progress=Quiet())


def test_the_document_and_the_files_of_a_run(whole):
    folder, document = whole
    assert document["checkpoint"] == str(folder / "model.safetensors")
    assert set(document["metrics"]) == {"loss", "accuracy"}
    assert [stage["action"] for stage in document["stages"]] == ["train", "train"]
    assert json.loads((folder / "report.json").read_text()) == document
    assert load_recipe(str(folder / "recipe.yaml")).resolved == load_recipe(written(folder.parent)).resolved
    assert sorted(path.name for path in folder.iterdir()) == [
        ".zoo.lock",
        "model.safetensors",
        "recipe.yaml",
        "report.json",
        "state",
    ]
    assert [path.name for path in (folder / "state").iterdir()] == ["state.json"]
    first, second = document["stages"]
    assert (first["trainable"], second["trainable"] > first["trainable"]) == (970, True)
    assert [len(stage["epochs"]) for stage in document["stages"]] == [2, 2]
    assert all(
        stage["freeze_proof"]["tensors"] > 10 and not stage["freeze_proof"]["moved"] for stage in (first, second)
    )


def test_the_checkpoint_rebuilds_what_was_trained(whole):
    folder, document = whole
    assembly = load(folder / "model.safetensors")
    assert assembly.classes == tuple("0123456789")
    assert assembly.preprocessing.size == (32, 32)
    assert assembly.data["seed"] == 3
    measured = evaluate(folder / "model.safetensors", device="cpu")
    assert measured["samples"] == 96
    assert measured["metrics"] == pytest.approx(document["metrics"])


def test_the_same_recipe_gives_the_same_bits(whole, tmp_path):
    finetune(written(tmp_path), output=tmp_path / "run", progress=Quiet())
    assert same(tmp_path / "run", whole[0])
    finetune(written(tmp_path, seed=4), output=tmp_path / "run", progress=Quiet())  # replaces the files of the first
    assert not same(tmp_path / "run", whole[0])


class Killed(BaseException):
    """What nothing in zoo catches."""


@pytest.mark.parametrize(
    ("stage", "step", "saves"), [(1, 0, 600.0), (1, 2, 0.0), (1, 5, 600.0), (2, 0, 600.0), (2, 1, 0.0), (2, 4, 0.0)]
)
def test_a_killed_run_resumes_bit_for_bit(whole, tmp_path, monkeypatch, stage, step, saves):
    monkeypatch.setattr(loop, "SAVE_SECONDS", saves)  # 0: after every step, else after every epoch
    recipe, run = written(tmp_path), tmp_path / "run"
    with pytest.raises(Killed):
        finetune(recipe, output=run, progress=Quiet(Killed(), stage, step))
    assert not (run / "model.safetensors").exists()
    torch.manual_seed(123)
    document = finetune(recipe, output=run, resume=True, progress=Quiet())
    assert same(run, whole[0])
    assert document["metrics"] == whole[1]["metrics"]
    assert [len(entry["epochs"]) for entry in document["stages"]] == [2, 2]
    assert [entry["freeze_proof"] for entry in document["stages"]] == [
        entry["freeze_proof"] for entry in whole[1]["stages"]
    ]


KILLING = """
import os, signal, sys
from zoo.training import loop
from zoo.training.run import finetune

loop.SAVE_SECONDS = 0.0
step = loop.Trainer._step
count = 0

def dying(trainer):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    step(trainer)

loop.Trainer._step = dying
finetune({recipe!r}, output={run!r}, resume=True)
"""


@pytest.mark.slow
def test_kill_9_again_and_again(whole, tmp_path):
    recipe, run = written(tmp_path), tmp_path / "run"
    for at, code in ((2, -signal.SIGKILL), (4, -signal.SIGKILL), (5, -signal.SIGKILL), (1000, 0)):
        program = KILLING.format(at=at, recipe=recipe, run=str(run))
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **threads}, check=False)
        assert done.returncode == code
    assert same(run, whole[0])


def test_an_interrupt_keeps_the_last_whole_epoch(tmp_path):
    recipe, run = written(tmp_path), tmp_path / "run"
    quiet = Quiet(KeyboardInterrupt(), stage=2, step=4)  # one step into the second epoch of three steps
    with pytest.raises(KeyboardInterrupt):
        finetune(recipe, output=run, progress=quiet)
    report = json.loads((run / "report.json").read_text())
    assert report["interrupted"] is True
    assert [len(stage["epochs"]) for stage in report["stages"]] == [2, 1]
    assert any("--resume goes on from it" in note for note in quiet.notes)
    assert evaluate(run / "model.safetensors", device="cpu")["metrics"] == pytest.approx(report["metrics"])
    finetune(recipe, output=run, resume=True, progress=Quiet())
    assert json.loads((run / "report.json").read_text())["interrupted"] is False


def test_an_interrupt_before_anything_was_learnt_leaves_no_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        finetune(written(tmp_path), output=tmp_path / "run", progress=Quiet(KeyboardInterrupt(), step=1))
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_resuming_what_is_finished_or_never_began(whole, tmp_path):
    folder, document = whole
    before = (folder / "model.safetensors").stat().st_mtime_ns
    quiet = Quiet()
    again = finetune(written(tmp_path), output=folder, resume=True, progress=quiet)
    assert again == document
    assert "is finished" in quiet.notes[-1]
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    short = written(tmp_path, steps=[{"swap_head": {"num_classes": 10}}])
    quiet = Quiet()
    finetune(short, output=tmp_path / "new", resume=True, progress=quiet)
    assert "there is no state" in " ".join(quiet.notes)


def test_a_new_run_forgets_the_state_of_an_earlier_one(tmp_path, monkeypatch):
    recipe, run = written(tmp_path), tmp_path / "run"
    with pytest.raises(Killed):
        finetune(recipe, output=run, progress=Quiet(Killed(), step=5))
    monkeypatch.setattr(loop.Trainer, "begin", lambda *arguments: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        finetune(recipe, output=run, progress=Quiet())
    monkeypatch.undo()
    quiet = Quiet()
    finetune(recipe, output=run, resume=True, progress=quiet)
    assert "starting at the beginning" in " ".join(quiet.notes)


def test_resuming_with_a_changed_recipe_names_what_changed(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Killed):
        finetune(written(tmp_path), output=run, progress=Quiet(Killed(), step=2))
    changed = written(tmp_path, seed=5, data={**RECIPE["data"], "workers": 1, "batch_size": 16})
    with pytest.raises(InputError) as caught:
        finetune(changed, output=run, resume=True, progress=Quiet())
    text = str(caught.value)
    assert "seed was 3 when this run began and is 5" in text
    assert "data.batch_size was 32 when this run began and is 16" in text
    assert "workers" not in text


def test_a_damaged_state_is_said(tmp_path):
    recipe, run = written(tmp_path), tmp_path / "run"
    with pytest.raises(Killed):
        finetune(recipe, output=run, progress=Quiet(Killed(), step=2))
    base = next((run / "state").glob("base-*.safetensors"))
    base.write_bytes(base.read_bytes()[:-10])
    with pytest.raises(WorkError, match=r"training state .*base-2.safetensors cannot be read"):
        finetune(recipe, output=run, resume=True, progress=Quiet())
    (run / "state" / "state.json").write_text("{")
    with pytest.raises(WorkError, match=r"state.json cannot be read"):
        finetune(recipe, output=run, resume=True, progress=Quiet())


def test_there_is_no_pickle_on_disk(tmp_path):
    with pytest.raises(Killed):
        finetune(written(tmp_path), output=tmp_path / "run", progress=Quiet(Killed(), stage=2, step=2))
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".json", ".safetensors"}


def test_a_frozen_tensor_that_moved_fails_the_run(tmp_path, monkeypatch):
    step = loop.Trainer._step

    def meddling(trainer):
        step(trainer)
        trainer.job.model.conv1[0].weight.data[0] += 1

    monkeypatch.setattr(loop.Trainer, "_step", meddling)
    with pytest.raises(WorkError, match=r"1 frozen tensors moved in training: conv1.0.weight"):
        finetune(written(tmp_path), output=tmp_path / "run", progress=Quiet())


def test_every_kind_of_step(tmp_path, whole):
    steps = [
        {"swap_head": {"num_classes": "auto"}},
        {"load": {"weights": str(whole[0] / "model.safetensors"), "min_coverage": 1.0}},
        {"init": {"match": "^fc$", "weight": {"constant": {"val": 0.0}}, "bias": "zeros"}},
        "evaluate",
        {"train": {"max_steps": 2, "lr": 0.001, "metrics": ["accuracy", "f1"], "precision": "bfloat16"}},
        {"save": {"name": "half", "dtype": "bfloat16"}},
        {"evaluate": {"data": "sklearn/digits", "metrics": ["accuracy"]}},
    ]
    data = {key: value for key, value in RECIPE["data"].items() if key != "augmentation"}
    document = finetune(written(tmp_path, steps=steps, data=data), output=tmp_path / "run", progress=Quiet())
    load_, init, first, train, save, last = document["stages"]
    assert load_["coverage"] == 1.0
    assert init["parameters"] == ["fc.weight", "fc.bias"]
    assert first["metrics"]["loss"] == pytest.approx(2.302585, rel=1e-5)  # a head of zeros: log 10
    assert (train["precision"], len(train["epochs"]), set(train["metrics"])) == (
        "bfloat16",
        1,
        {"loss", "accuracy", "f1"},
    )
    assert {tensor.dtype for name, tensor in tensors(tmp_path / "run", "half").items() if name.endswith("weight")} == {
        torch.bfloat16
    }
    assert last["samples"] == 1797
    assert save["sha256"]


def test_a_recipe_without_data_operates_and_saves(tmp_path):
    steps = [{"swap_head": {"num_classes": 7}}]
    document = finetune(written(tmp_path, data=None, steps=steps), output=tmp_path / "run", progress=Quiet())
    assert document["metrics"] == {}
    assert load(document["checkpoint"]).model(torch.randn(1, 3, 32, 32)).shape == (1, 7)


def test_mistakes_come_before_anything_is_written(tmp_path):
    steps = [{"swap_hed": {"num_classes": 7}}, {"train": {"epochs": 1, "optimizer": "Adamm"}}]
    with pytest.raises(InputError) as caught:
        finetune(written(tmp_path, steps=steps), output=tmp_path / "run")
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="device 'cuda' cannot be used here"):
        finetune(written(tmp_path), output=tmp_path / "run", device="cuda")
    with pytest.raises(InputError, match="precision float16 needs a GPU"):
        finetune(written(tmp_path), output=tmp_path / "run", device="cpu", precision="float16")
    assert not (tmp_path / "run").exists()


def test_one_run_a_folder(tmp_path):
    class Second(Listener):
        def stage_started(self, trainer):
            for _ in range(2):  # a refused run must not open the door for the next
                with pytest.raises(InputError, match="another run is at work"):
                    finetune(written(tmp_path), output=tmp_path / "run", progress=Quiet())
            raise Killed

    with pytest.raises(Killed):
        finetune(written(tmp_path), output=tmp_path / "run", progress=Second())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"cannot write into .*closed"):
        finetune(written(tmp_path), output=tmp_path / "closed" / "run", progress=Quiet())


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(InputError, match=r"cannot write into .*run"):
        finetune(written(tmp_path), output=tmp_path / "run", progress=Quiet())


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Digits as files, sorted into folders, the first of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    images, labels = load_digits(return_X_y=True)
    for number in range(40):
        (folder / str(labels[number])).mkdir(exist_ok=True)
        image = Image.fromarray((images[number].reshape(8, 8) * 255 / 16).round().astype("uint8"))
        image.save(folder / str(labels[number]) / f"{number:02}.png")
    return folder


def test_evaluate_on_other_data_matches_classes_by_name(whole, photos, tmp_path):
    checkpoint = whole[0] / "model.safetensors"
    found = evaluate(checkpoint, str(photos), device="cpu")
    assert found["samples"] == 40
    part = tmp_path / "part"
    for name in ("3", "7"):  # folder order would make these classes 0 and 1
        (part / name).mkdir(parents=True)
        for image in (photos / name).iterdir():
            (part / name / image.name).write_bytes(image.read_bytes())
    rows = predict(checkpoint, [part], 1, device="cpu")
    right = [row["predictions"][0]["label"] == Path(row["image"]).parent.name for row in rows]
    assert evaluate(checkpoint, str(part), device="cpu")["metrics"]["accuracy"] == pytest.approx(
        sum(right) / len(right)
    )
    (part / "3").rename(part / "three")
    with pytest.raises(InputError, match="the checkpoint does not know the class 'three'"):
        evaluate(checkpoint, str(part), device="cpu")


def test_evaluate_without_data_and_with_other_metrics(whole, tmp_path):
    document = finetune(
        written(tmp_path, data=None, steps=[{"swap_head": {"num_classes": 7}}]),
        output=tmp_path / "run",
        progress=Quiet(),
    )
    with pytest.raises(InputError, match="does not say which data it was trained on"):
        evaluate(document["checkpoint"], device="cpu")
    found = evaluate(whole[0] / "model.safetensors", metrics=["f1", "top5"], device="cpu")
    assert set(found["metrics"]) == {"loss", "f1", "top5"}


def test_predict_goes_on_past_what_it_cannot_read(whole, photos, tmp_path):
    checkpoint = whole[0] / "model.safetensors"
    (tmp_path / "broken.png").write_bytes(b"nothing")
    rows = predict(checkpoint, [tmp_path / "broken.png", photos], 3, device="cpu")
    assert len(rows) == 41
    assert "cannot decode image" in rows[0]["error"]
    assert "predictions" not in rows[0]
    for row in rows[1:]:
        probabilities = [answer["probability"] for answer in row["predictions"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert len(probabilities) == 3
        assert sum(probabilities) <= 1 + 1e-6
    assert sum(
        answer["probability"] for answer in predict(checkpoint, [photos], 99)[0]["predictions"]
    ) == pytest.approx(1)


def test_predict_without_images(whole, tmp_path):
    checkpoint = whole[0] / "model.safetensors"
    with pytest.raises(InputError, match="holds no images"):
        predict(checkpoint, [tmp_path])
    with pytest.raises(InputError, match="there is no image"):
        predict(checkpoint, [tmp_path / "none.png"])


def test_actions_cover_every_kind_of_step():
    from typing import get_args

    from zoo.recipe.recipe import Kind

    assert set(actions.ACTIONS) == set(get_args(Kind))
