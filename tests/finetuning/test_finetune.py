"""finetune, evaluate and predict on a small real network: whole chains, interrupts, resuming, what is left behind."""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from listeners import Killed, Killing, Notes
from zoo.checkpoint.load import load
from zoo.data import open_data as open_data_module
from zoo.errors import InputError, WorkError
from zoo.file_name import RUN_LOCK
from zoo.finetuning import ending
from zoo.finetuning import finetune as finetune_module
from zoo.finetuning.finetune import finetune
from zoo.formats.files import FullDiskError
from zoo.model import build as build_module
from zoo.recipe import load_recipe, references
from zoo.remap import remaps
from zoo.training import trainer as trainer_module
from zoo.training.callbacks import Listener
from zoo.training.evaluate import evaluate
from zoo.training.predict import predict
from zoo.training.state import StateFolder

RECIPE = {
    "name": "small",
    "seed": 3,
    "precision": "float32",  # runs are compared bit for bit: nothing is left to timing
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
        {"train": {"epochs": 2, "lr": 0.01, "feature_cache": "off"}},
        {"freeze": {"policy": "below", "module": "layer3"}},
        {
            "train": {
                "epochs": 2,
                "lr": 0.01,
                "optimizer": {"SGD": {"momentum": 0.9}},
                "ema": 0.9,
                "feature_cache": "off",
            }
        },
    ],
}


def written(folder: Path, **changes) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return str(path)


def tensors(folder: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def same(first: Path, second: Path) -> bool:
    mine, theirs = tensors(first), tensors(second)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict]:
    """The folder and the document of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    return folder / "run", finetune(written(folder), output=folder / "run", progress=Notes()).report


def test_the_document_and_the_files_of_a_run(whole):
    folder, document = whole
    assert document["checkpoint"] == str(folder / "model.safetensors")
    assert set(document["metrics"]) == {"loss", "accuracy"}
    assert [stage["action"] for stage in document["stages"]] == ["train", "train"]
    assert json.loads((folder / "report.json").read_text()) == document
    expected = load_recipe(written(folder.parent)).resolved
    for step in (step["train"] for step in expected["steps"] if "train" in step):
        step |= {"precision": "float32", "memory_layout": "contiguous"}  # what the run did is written in
    assert load_recipe(str(folder / "recipe.yaml")).resolved == expected
    assert sorted(path.name for path in folder.iterdir()) == [
        ".zoo-run.json",
        ".zoo.lock",
        "README.md",
        "confusion.csv",
        "first_batch.jpg",
        "metrics.csv",
        "model.safetensors",
        "predictions.csv",
        "recipe.yaml",
        "report.html",
        "report.json",
        "state",
        "status.json",
    ]
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
    assert not os.path.lexists(folder.parent / "latest")  # that is for `checkpoints/` alone
    assert sorted(path.name for path in (folder / "state").iterdir()) == ["samples.jsonl", "state.json"]
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
    assert measured["metrics"] == document["metrics"]


def test_the_same_recipe_gives_the_same_bits(whole, tmp_path):
    finetune(written(tmp_path), output=tmp_path / "run", progress=Notes())
    assert same(tmp_path / "run", whole[0])
    finetune(written(tmp_path, seed=4), output=tmp_path / "run", overwrite=True, progress=Notes())
    assert not same(tmp_path / "run", whole[0])


def untimed(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, without what is measured in seconds and bytes."""
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    varying = ("seconds", "images_per_second", "peak_memory")
    return [{name: text for name, text in row.items() if name not in varying} for row in rows]


@pytest.mark.parametrize(
    ("stage", "step", "saves"), [(1, 0, 600.0), (1, 2, 0.0), (1, 5, 600.0), (2, 0, 600.0), (2, 1, 0.0), (2, 4, 0.0)]
)
def test_a_killed_run_resumes_bit_for_bit(whole, tmp_path, monkeypatch, stage, step, saves):
    monkeypatch.setattr(trainer_module, "SAVE_SECONDS", saves)  # 0: after every step, else after every epoch
    recipe, run = written(tmp_path), tmp_path / "run"
    with pytest.raises(Killed):
        finetune(recipe, output=run, progress=Killing(step, stage=stage))
    assert not (run / "model.safetensors").exists()
    torch.manual_seed(123)
    document = finetune(recipe, output=run, resume=True, progress=Notes()).report
    assert same(run, whole[0])
    assert document["metrics"] == whole[1]["metrics"]
    assert untimed(run) == untimed(whole[0])
    assert [len(entry["epochs"]) for entry in document["stages"]] == [2, 2]
    assert [entry["freeze_proof"] for entry in document["stages"]] == [
        entry["freeze_proof"] for entry in whole[1]["stages"]
    ]


KILLING = """
import os, signal, sys
from zoo.training import trainer as module
from zoo.finetuning.finetune import finetune

module.SAVE_SECONDS = 0.0
step = module.Trainer._step
count = 0

def dying(trainer):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    step(trainer)

module.Trainer._step = dying
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


def test_an_interrupt_keeps_the_last_complete_epoch(tmp_path):
    recipe, run = written(tmp_path), tmp_path / "run"
    quiet = Killing(4, stage=2, error=KeyboardInterrupt())  # one step into the second epoch of three steps
    with pytest.raises(KeyboardInterrupt):
        finetune(recipe, output=run, progress=quiet)
    report = json.loads((run / "report.json").read_text())
    assert report["interrupted"] is True
    assert [len(stage["epochs"]) for stage in report["stages"]] == [2, 1]
    assert any("--resume goes on from it" in note for note in quiet.notes)
    assert evaluate(run / "model.safetensors", device="cpu")["metrics"] == pytest.approx(report["metrics"])
    finetune(recipe, output=run, resume=True, progress=Notes())
    assert json.loads((run / "report.json").read_text())["interrupted"] is False


def test_an_interrupt_before_anything_was_learnt_leaves_no_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        finetune(written(tmp_path), output=tmp_path / "run", progress=Killing(1, error=KeyboardInterrupt()))
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_resuming_what_is_finished_or_never_began(whole, tmp_path):
    folder, document = whole
    before = (folder / "model.safetensors").stat().st_mtime_ns
    quiet = Notes()
    again = finetune(written(tmp_path), output=folder, resume=True, progress=quiet).report
    assert again == document
    assert "is finished" in quiet.notes[-1]
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    short = written(tmp_path, steps=[{"swap_head": {"num_classes": 10}}])
    quiet = Notes()
    finetune(short, output=tmp_path / "new", resume=True, progress=quiet)
    assert "there is no state" in " ".join(quiet.notes)


def test_a_new_run_forgets_the_state_of_an_earlier_one(tmp_path, monkeypatch):
    recipe, run = written(tmp_path), tmp_path / "run"
    with pytest.raises(Killed):
        finetune(recipe, output=run, progress=Killing(5))
    monkeypatch.setattr(trainer_module.Trainer, "begin", lambda *arguments: (_ for _ in ()).throw(Killed()))
    with pytest.raises(
        InputError, match=r"contains an unfinished run of this recipe \(continue it with --resume, replace it"
    ):
        finetune(recipe, output=run, progress=Notes())
    with pytest.raises(Killed):
        finetune(recipe, output=run, overwrite=True, progress=Notes())
    monkeypatch.undo()
    quiet = Notes()
    finetune(recipe, output=run, resume=True, progress=quiet)
    assert "starting at the beginning" in " ".join(quiet.notes)


def test_resuming_with_a_changed_recipe_names_what_changed(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Killed):
        finetune(written(tmp_path), output=run, progress=Killing(2))
    changed = written(tmp_path, seed=5, data={**RECIPE["data"], "workers": 1, "batch_size": 16})
    with pytest.raises(InputError) as caught:
        finetune(changed, output=run, resume=True, progress=Notes())
    text = str(caught.value)
    assert "seed was 3 when this run began and is 5 (change it back: --set seed=3)" in text
    assert "data.batch_size was 32 when this run began and is 16 (change it back: --set data.batch_size=32)" in text
    assert "workers" not in text
    finetune(
        changed, overrides=["seed=3", "data.batch_size=32"], output=run, resume=True, progress=Notes()
    )  # as it says


def with_train(number: int, **options) -> list:
    """The steps of RECIPE with other options of the train step `number` (from 1)."""
    steps = copy.deepcopy(RECIPE["steps"])
    [step["train"] for step in steps if "train" in step][number - 1].update(options)
    return steps


def test_a_later_step_s_values_may_change(whole, tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    changed = {"steps": [*with_train(2, lr=0.02, epochs=1), "evaluate"]}
    finetune(written(tmp_path, **changed), output=first, progress=Notes())
    with pytest.raises(Killed):
        finetune(written(tmp_path), output=second, progress=Killing(4))
    quiet = Notes()
    finetune(written(tmp_path, **changed), output=second, resume=True, progress=quiet)
    assert same(first, second)
    assert [note for note in quiet.notes if "change" in note] == [
        "resumed with a change: train 2: epochs 2 -> 1",
        "resumed with a change: train 2: lr 0.01 -> 0.02",
        "resumed with a change: step 6 not set -> {evaluate: {}}",
    ]


@pytest.mark.slow
def test_a_step_without_an_epoch_begins_anew_with_what_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(
        trainer_module, "SAVE_SECONDS", 0.0
    )  # the state in the middle of the epoch is not what it goes on from
    first, second = tmp_path / "one", tmp_path / "two"
    changed = {"steps": with_train(2, lr=0.02, optimizer="AdamW", ema=None, accumulate=2)}
    finetune(written(tmp_path, **changed), output=first, progress=Notes())
    with pytest.raises(Killed):
        finetune(written(tmp_path), output=second, progress=Killing(2, stage=2))
    monkeypatch.setattr(trainer_module.Trainer, "run", lambda trainer: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        finetune(written(tmp_path, **changed), output=second, resume=True, progress=Notes())
    monkeypatch.undo()
    finetune(written(tmp_path, **changed), output=second, resume=True, progress=Notes())
    assert same(first, second)


@pytest.mark.slow
def test_more_epochs_and_another_learning_rate_in_the_middle(tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    plain = {"scheduler": None, "optimizer": "AdamW", "ema": None}
    with pytest.raises(Killed):
        finetune(written(tmp_path, steps=with_train(2, **plain)), output=first, progress=Killing(4, stage=2))
    shutil.copytree(first, second)
    longer = written(tmp_path, steps=with_train(2, **plain, epochs=3))
    finetune(longer, output=tmp_path / "whole", progress=Notes())
    finetune(longer, output=first, resume=True, progress=Notes())
    assert same(first, tmp_path / "whole")
    calmer = written(
        tmp_path, steps=with_train(2, **{**plain, "scheduler": "cosine"}, epochs=3, lr=0.001, weight_decay=0.0)
    )
    report = finetune(calmer, output=second, resume=True, progress=Notes()).report
    rates = [epoch["lr"] for epoch in report["stages"][1]["epochs"]]
    assert rates[0] == 0.01
    assert rates[1:] == pytest.approx([0.001 * (1 + math.cos(math.pi * steps / 9)) / 2 for steps in (5, 8)])


def test_what_an_epoch_is_made_of_may_not_change_after_it(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Killed):
        finetune(written(tmp_path), output=run, progress=Killing(4, stage=2))
    changed = written(tmp_path, steps=with_train(2, optimizer="AdamW", lr=0.1, epochs=1))
    with pytest.raises(InputError) as caught:
        finetune(changed, output=run, resume=True, progress=Notes())
    assert [str(problem) for problem in caught.value.problems] == [
        "train 2: epochs was 2 when this run began and is 1 (change it back: --set steps[4].train.epochs=2)",
        "train 2: optimizer was {SGD: {momentum: 0.9}} when this run began and is 'AdamW' "
        "(change it back: --set steps[4].train.optimizer={SGD: {momentum: 0.9}})",
        "this could change: train 2: lr 0.01 -> 0.1",
        "what is already done stays as it is: change these back, or start a new run with another --output",
    ]
    cures = ["steps[4].train.epochs=2", "steps[4].train.optimizer={SGD: {momentum: 0.9}}"]
    finetune(changed, overrides=cures, output=run, resume=True, progress=Notes())


DIVERGING = {"optimizer": "SGD", "scheduler": None, "lr": 1e30, "ema": None, "epochs": 3}


def test_a_loss_that_is_not_finite_leaves_the_last_good_epoch(tmp_path):
    run, quiet = tmp_path / "run", Notes()
    diverging = written(tmp_path, steps=with_train(2, **DIVERGING))
    with pytest.raises(WorkError, match=r"train 2/2: the loss is not finite at step 2 \(lower lr") as caught:
        finetune(diverging, output=run, progress=quiet)
    assert quiet.notes[-1] == (
        f"failed: {run / 'model.safetensors'} is the model as train 2/2 began; "
        "with other values --resume goes on from it"
    )
    report = json.loads((run / "report.json").read_text())
    assert (report["interrupted"], report["failed"]) == (False, str(caught.value))
    measured = evaluate(run / "model.safetensors", device="cpu")["metrics"]
    assert measured == pytest.approx(report["stages"][0]["metrics"])
    assert report["metrics"] == measured
    with pytest.raises(InputError, match="resumed unchanged it would end the same way") as refused:
        finetune(diverging, output=run, resume=True, progress=Notes())
    (cure,) = re.findall(r"--set (\S+)=", refused.value.problems[0].suggestion)
    report = finetune(diverging, overrides=[f"{cure}=0.01"], output=run, resume=True, progress=Notes()).report
    finetune(diverging, overrides=[f"{cure}=0.01"], output=tmp_path / "calm", progress=Notes())
    assert (report["interrupted"], report["failed"]) == (False, None)
    assert same(run, tmp_path / "calm")


def test_weights_broken_by_the_last_step_of_an_epoch_are_no_good_epoch(tmp_path):
    diverging = {**DIVERGING, "weight_decay": 1e12, "batch_size": 96}  # one step an epoch, whose loss is still finite
    steps = with_train(1, **diverging)
    with pytest.raises(WorkError, match=r"train 1/2: the weights are not finite after step 1"):
        finetune(written(tmp_path, steps=steps), output=tmp_path / "run", progress=Notes())
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_failure_in_an_epoch_leaves_the_one_before(tmp_path, whole):
    run, quiet = tmp_path / "run", Killing(4, stage=2, error=OSError(28, "No space left on device"))
    with pytest.raises(Exception, match="No space left on device"):
        finetune(written(tmp_path), output=run, progress=quiet)
    assert f"{run / 'model.safetensors'} is train 2/2 after epoch 1; --resume goes on from it" in quiet.notes[-1]
    report = json.loads((run / "report.json").read_text())
    assert "No space left" in report["failed"]
    assert evaluate(run / "model.safetensors", device="cpu")["metrics"] == pytest.approx(report["metrics"])
    finetune(written(tmp_path), output=run, resume=True, progress=Notes())  # nothing changed, and the disk has room
    assert same(run, whole[0])


def test_a_failure_that_leaves_no_room_for_a_checkpoint_promises_none(tmp_path, monkeypatch):
    def full(*arguments, **keywords):
        raise WorkError("the disk is full")

    monkeypatch.setattr(ending, "save_checkpoint", full)
    quiet = Killing(4, stage=2, error=OSError(28, "No space left on device"))
    with pytest.raises(Exception, match="No space left on device"):
        finetune(written(tmp_path), output=tmp_path / "run", progress=quiet)
    assert quiet.notes[-1] == "warning: the last complete epoch could not be written as a checkpoint: the disk is full"
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_resuming_on_other_data_is_refused(tmp_path, photos):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    data = {"source": "image_folder", "path": str(folder), "image_size": 32, "batch_size": 8, "workers": 0}
    recipe = written(tmp_path, data=data)
    with pytest.raises(Killed):
        finetune(recipe, output=tmp_path / "run", progress=Killing(5))
    (folder / "3").rename(folder / "three")
    with pytest.raises(InputError, match=r"data: classes was 0, 1, 2, 3, 4, .*9 when this run began and is .*three"):
        finetune(recipe, output=tmp_path / "run", resume=True, progress=Notes())
    (folder / "three").rename(folder / "3")
    image = next((folder / "3").iterdir())
    image.rename(tmp_path / image.name)
    with pytest.raises(InputError, match=rf"data: 1 sample removed: 3/{image.name}"):
        finetune(recipe, output=tmp_path / "run", resume=True, progress=Notes())
    (tmp_path / image.name).rename(image)
    shutil.copy(next((folder / "4").iterdir()), image)  # a picture that was mended: its place is the same
    quiet = Notes()
    report = finetune(recipe, output=tmp_path / "run", resume=True, progress=quiet).report
    said = f"1 sample of other bytes: 3/{image.name}"
    assert report["data"]["changes"] == [said]
    assert any(note.startswith(f"warning: the data has changed since this run began: {said}") for note in quiet.notes)


def counted(monkeypatch, function) -> list[dict]:
    """The keyword arguments of every call of one of zoo's functions, wherever it was imported."""
    calls = []

    @functools.wraps(function)
    def counting(*arguments, **keywords):
        calls.append(keywords)
        return function(*arguments, **keywords)

    for module in [module for name, module in sys.modules.items() if name.startswith("zoo.")]:
        for name in [name for name, value in vars(module).items() if value is function]:
            monkeypatch.setattr(module, name, counting)
    return calls


def test_everything_is_found_planned_and_opened_once(tmp_path, monkeypatch):
    base = timm.create_model("test_resnet").state_dict()
    save_file({f"net.{name}": tensor for name, tensor in base.items()}, tmp_path / "base.safetensors")
    model = {"architecture": "timm/test_resnet", "weights": "base.safetensors", "remap": {"strip_prefix": "net."}}
    warm = {"weights": "base.safetensors", "remap": model["remap"], "min_coverage": 0.5, "strict_shapes": False}
    train = {"max_steps": 1, "feature_cache": "off"}
    recipe = written(tmp_path, model=model, steps=[*RECIPE["steps"][:2], {"load": warm}, {"train": train}])
    looked_up = []
    look_up = references.WeightsReference.look_up
    monkeypatch.setattr(references.WeightsReference, "look_up", lambda *given: looked_up.append(1) or look_up(*given))
    referred = counted(monkeypatch, references.refer_to_weights)
    planned = counted(monkeypatch, remaps.plan_source)
    opened = counted(monkeypatch, open_data_module.open_data)
    built = counted(monkeypatch, build_module.build)
    monkeypatch.setattr(finetune_module, "pages_written", lambda *_: contextlib.nullcontext())  # it reads base weights
    run = finetune(recipe, output=tmp_path / "run", progress=Notes())
    assert run.report["weights"]["coverage"] == 1.0
    assert run.report["stages"][0]["coverage"] > 0.5
    assert (len(referred), len(looked_up), len(planned)) == (2, 2, 2), "of the model and of the load step"
    assert len(opened) == 1
    assert [keywords.get("device") for keywords in built] == ["meta", None], "to check, to train"


OPERATING = {"data": None, "steps": [{"swap_head": {"num_classes": 7}}, {"save": "early"}]}


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["state/notes.txt", "model.safetensors", "report.json", "early.safetensors"])
def test_files_that_are_not_zoo_s_stop_a_run(tmp_path, name, overwrite):
    run = tmp_path / "run"
    (run / name).parent.mkdir(parents=True)
    (run / name).write_text("mine")
    with pytest.raises(InputError, match=r"which no run of zoo wrote") as caught:
        finetune(written(tmp_path, **OPERATING), output=run, overwrite=overwrite, progress=Notes())
    assert held(run) == {name: b"mine"}
    (cure,) = re.findall(r"--output (\S+),", caught.value.problems[0].suggestion)
    finetune(written(tmp_path, **OPERATING), output=cure, progress=Notes())


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_recipe_that_runs_is_never_overwritten(tmp_path, monkeypatch, overwrite):
    recipe = Path(written(tmp_path, **OPERATING))
    monkeypatch.chdir(tmp_path)
    text = recipe.read_bytes()
    with pytest.raises(InputError, match=r"contains recipe.yaml, which no run of zoo wrote"):
        finetune("recipe.yaml", output=".", overwrite=overwrite, progress=Notes())
    assert held(tmp_path) == {"recipe.yaml": text}
    report = finetune("recipe.yaml", output="run", progress=Notes()).report
    with pytest.raises(InputError, match=r"the recipe reads run/recipe.yaml, which --overwrite would replace"):
        finetune("run/recipe.yaml", output="run", overwrite=True, progress=Notes())
    before = held(tmp_path)
    weights = f"model.weights={report['checkpoint']}"
    with pytest.raises(InputError, match=r"the recipe reads run/model.safetensors, which --overwrite would replace"):
        finetune("recipe.yaml", overrides=[weights], output="run", overwrite=True, progress=Notes())
    assert held(tmp_path) == before


def test_a_refused_run_leaves_no_lock_behind(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.safetensors").write_text("mine")
    with pytest.raises(InputError, match=r"which no run of zoo wrote"):
        finetune(written(tmp_path, **OPERATING), output=run, progress=Notes())
    with pytest.raises(InputError, match=r"give one of them"):
        finetune(written(tmp_path, **OPERATING), output=tmp_path / "new", resume=True, overwrite=True, progress=Notes())
    assert sorted(path.name for path in run.iterdir()) == ["model.safetensors"]
    assert not (tmp_path / "new").exists()


def test_what_lies_beside_a_run_s_files_stays(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.txt").write_text("mine")  # as `zoo finetune … >run/log.txt` makes it
    finetune(written(tmp_path, **OPERATING), output=run, progress=Notes())
    (run / "state" / "notes.txt").write_text("mine")
    before = held(run)
    with pytest.raises(
        InputError, match=r"contains a finished run of this recipe \(replace it with --overwrite"
    ) as caught:
        finetune(written(tmp_path, **OPERATING), output=run, progress=Notes())
    assert held(run) == before
    (free,) = re.findall(r"--output (\S+)", caught.value.problems[0].suggestion)
    assert free == str(tmp_path / "run-2")
    steps = [{"swap_head": {"num_classes": 7}}]
    finetune(written(tmp_path, data=None, steps=steps), output=run, overwrite=True, progress=Notes())
    left = held(run)
    assert (left["log.txt"], left["state/notes.txt"]) == (b"mine", b"mine")
    assert "early.safetensors" not in left


def test_two_recipes_of_one_name_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, data=None, steps=[{"swap_head": {"num_classes": 7 if name == "a" else 8}}])
    finetune("a/recipe.yaml", progress=Notes())
    before = held(tmp_path / "checkpoints")
    with pytest.raises(InputError, match=rf"checkpoints/small contains a finished run of {tmp_path}/a/recipe.yaml"):
        finetune("b/recipe.yaml", output="checkpoints/small", progress=Notes())
    with pytest.raises(
        InputError, match=r"contains a run of another recipe, .*/a/recipe.yaml, which differs from b/recip"
    ):
        finetune("b/recipe.yaml", resume=True, progress=Notes())
    assert held(tmp_path / "checkpoints") == before
    with pytest.raises(InputError, match="give one of them"):
        finetune("b/recipe.yaml", resume=True, overwrite=True, progress=Notes())
    finetune("b/recipe.yaml", output="checkpoints/small-2", progress=Notes())
    again = finetune("b/recipe.yaml", progress=Notes())  # a folder that nobody named is one without a finished run
    assert again.folder == Path("checkpoints/small-3")
    assert finetune("a/recipe.yaml", overwrite=True, progress=Notes()).folder == Path("checkpoints/small")


def test_a_damaged_state_falls_back_with_a_warning_or_is_said(whole, tmp_path):
    recipe, run = written(tmp_path), tmp_path / "run"
    with pytest.raises(Killed):
        finetune(recipe, output=run, progress=Killing(4, stage=2))
    shutil.copytree(run, tmp_path / "copy")
    newest = run / "state" / "step-4-3.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    quiet = Notes()
    finetune(recipe, output=run, resume=True, progress=quiet)
    (warning,) = [note for note in quiet.notes if "damaged" in note]
    assert "step-4-3.safetensors is damaged: its bytes are not those that were written: going on from the" in warning
    assert same(run, whole[0])
    copy, base = tmp_path / "copy", tmp_path / "copy" / "state" / "base-4.safetensors"
    base.write_bytes(base.read_bytes()[:-10])  # what is frozen is in it
    with pytest.raises(WorkError, match=r"resume state .* cannot be read: .*base-4.safetensors is damaged") as caught:
        finetune(recipe, output=copy, resume=True, progress=Notes())
    assert "--overwrite" in caught.value.problems[0].suggestion
    finetune(recipe, output=copy, overwrite=True, progress=Notes())  # as it says
    assert same(copy, whole[0])


def test_there_is_no_pickle_on_disk(tmp_path):
    with pytest.raises(Killed):
        finetune(written(tmp_path), output=tmp_path / "run", progress=Killing(2, stage=2))
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    suffixes = {".csv", ".html", ".jpg", ".json", ".jsonl", ".safetensors"}
    assert {path.suffix for path in kept if path.name != RUN_LOCK} == suffixes
    assert (tmp_path / "run" / RUN_LOCK).read_bytes() == b""


def test_a_frozen_tensor_that_moved_fails_the_run(tmp_path, monkeypatch):
    step = trainer_module.Trainer._step

    def meddling(trainer):
        step(trainer)
        trainer.job.model.conv1[0].weight.data[0] += 1

    monkeypatch.setattr(trainer_module.Trainer, "_step", meddling)
    with pytest.raises(WorkError, match=r"1 frozen tensors changed in training: conv1.0.weight"):
        finetune(written(tmp_path), output=tmp_path / "run", progress=Notes())


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
    document = finetune(written(tmp_path, steps=steps, data=data), output=tmp_path / "run", progress=Notes()).report
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
    document = finetune(written(tmp_path, data=None, steps=steps), output=tmp_path / "run", progress=Notes()).report
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
        def step_started(self, trainer):
            for _ in range(2):  # a refused run must not open the door for the next
                with pytest.raises(InputError, match="another run is at work"):
                    finetune(written(tmp_path), output=tmp_path / "run", progress=Notes())
            raise Killed

    with pytest.raises(Killed):
        finetune(written(tmp_path), output=tmp_path / "run", progress=Second())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"cannot write into .*closed"):
        finetune(written(tmp_path), output=tmp_path / "closed" / "run", progress=Notes())


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(InputError, match=r"cannot write into .*run"):
        finetune(written(tmp_path), output=tmp_path / "run", progress=Notes())


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
        progress=Notes(),
    ).report
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
    with pytest.raises(InputError, match="contains no images"):
        predict(checkpoint, [tmp_path])
    with pytest.raises(InputError, match="there is no image"):
        predict(checkpoint, [tmp_path / "none.png"])


def test_a_full_disk_names_the_way_back_to_the_state_that_is_kept(tmp_path):
    state = StateFolder(tmp_path / "state", {})
    run = SimpleNamespace(state=state, recipe=SimpleNamespace(path="r.yaml"), folder=tmp_path)
    for kept, hint in ((False, "nothing was left behind"), (True, f"zoo finetune r.yaml --output {tmp_path} --resume")):
        if kept:
            state.begin(0, {}, {}, {"weight": torch.ones(2)})
        full = FullDiskError("x was not written", suggestion="nothing was left behind")
        expected = pytest.raises(WorkError, match=rf"x was not written \(.*{re.escape(hint)}")
        with expected, finetune_module._way_back(run):
            raise full


def test_memory_that_runs_out_on_the_way_to_the_device_is_told_as_that(tmp_path, monkeypatch):
    def full(tensor, device):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 38.00 MiB.")

    monkeypatch.setattr("zoo.data.batches.to_device", full)
    with pytest.raises(WorkError, match="out of memory while train: CUDA out of memory") as refused:
        finetune(written(tmp_path), output=tmp_path / "run", progress=Notes())
    assert "batch_size" in str(refused.value.problems[0].suggestion)
