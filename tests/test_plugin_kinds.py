"""docs/plugin-kinds.md: its plugin has one component of every kind of training, and works from recipe to report."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from launching import torchrun
from safetensors.torch import load_file

import zoo
from listeners import Killed, Killing, Notes
from zoo import registry
from zoo.errors import WorkError
from zoo.formats.checkpoint_metadata import read_metadata
from zoo.formats.safetensors_file import read_header
from zoo.recipe import load_recipe
from zoo.recipe.schema import recipe_schema
from zoo.training.callbacks import Listener

PAGE = (Path(__file__).parent.parent / "docs/plugin-kinds.md").read_text(encoding="utf-8")
KINDS = ("transforms", "losses", "metrics", "optimizers", "schedulers", "callbacks", "trackers")


def blocks(language):
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE)


@pytest.fixture
def acme(plugins):
    """The page's plugin, installed."""
    (toml,) = blocks("toml")
    text = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", toml).replace('"', "")
    plugins.write("zoo-acme", text, version="0.3", acme="\n".join(blocks("python")))
    return plugins


@pytest.fixture
def recipe(tmp_path, acme):
    """The page's recipe on a small network, `train`'s options as given."""
    (text,) = blocks("yaml")
    made = yaml.safe_load(text)
    made["model"] = "tutorial/net_b_renamed"
    made["data"] |= {"limit": 40, "batch_size": 10, "workers": 0}
    made["steps"][0]["train"] |= {"precision": "float32"}

    def write(**options):
        made["steps"][0]["train"] |= options
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(made))
        return tmp_path / "recipe.yaml"

    return write


def test_every_kind_is_on_the_page_and_in_the_plugin(acme):
    assert {row.kind for row in registry.components() if row.plugin == "acme"} == set(KINDS)
    assert {line.lower() for line in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)} == set(KINDS)


def test_from_the_recipe_to_the_report(recipe, tmp_path):
    run = zoo.finetune(recipe(), output=tmp_path / "run", progress=Listener())
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert {(row["name"], row["kind"], row["version"]) for row in report["components"]} == {
        (f"acme/{name}", kind, "0.3")
        for kind, name in zip(
            KINDS, ("cutout", "squared_margin", "within", "SignSGD", "warm_root", "Patience", "Lines"), strict=True
        )
    }
    assert list(run.metrics) == ["loss", "accuracy", "acme/within"]
    interval = report["evaluation"]["parts"]["validation"]["intervals"]["acme/within"]
    assert interval[0] <= run.metrics["acme/within"] <= interval[1]
    metadata = read_metadata(read_header(run.checkpoint).metadata, run.checkpoint)
    assert metadata.versions["zoo-acme"] == "0.3"
    assert metadata.evaluation["loss"] == {"acme/squared_margin": {"margin": 2.0}}
    lines = [json.loads(line) for line in (tmp_path / "run/lines.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if "validation/acme/within" in line]
    assert [line["step"] for line in epochs] == [4, 8, 12]
    assert [line["train/loss"] for line in epochs] == [epoch["loss"] for epoch in report["stages"][0]["epochs"]]
    again = zoo.evaluate(run.checkpoint, device="cpu")["metrics"]
    assert again == run.metrics


def test_bare_names_mean_the_same_and_are_pinned_in_full(recipe, tmp_path):
    path = recipe(
        loss="squared_margin",
        metrics=["acme/within"],
        callbacks=["Patience"],
        trackers=["Lines"],
        keep={"best": "acme/within"},
        early_stopping={"patience": 2, "metric": "acme/within"},
        epochs=1,
    )
    (tmp_path / "bare.yaml").write_text(path.read_text().replace("acme/", ""))
    found, written = load_recipe(tmp_path / "bare.yaml"), load_recipe(path)
    assert found.resolved["steps"] == written.resolved["steps"]
    assert found.resolved["data"]["transforms"] == [{"RandomRotation": {"degrees": 10}}, "acme/cutout"]
    assert found.resolved["steps"][0]["train"]["trackers"] == ["acme/Lines"]
    assert found.resolved["steps"][0]["train"]["keep"] == {"best": "acme/within"}
    assert found.steps[0].chosen_by == ("acme/within", "acme/within")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(recipe, tmp_path):
    path = recipe(scheduler={"acme/warm_root": {"hold": 0.1}}, epochs=4)
    whole = zoo.finetune(path, output=tmp_path / "whole", progress=Listener())
    with pytest.raises(Killed):
        zoo.finetune(path, output=tmp_path / "run", progress=Killing(epoch=2))
    resumed = zoo.finetune(path, output=tmp_path / "run", resume=True, progress=Listener())
    one, other = load_file(whole.checkpoint), load_file(resumed.checkpoint)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [row["loss"] for row in whole.history] == [row["loss"] for row in resumed.history]
    assert resumed.metrics == whole.metrics


def test_every_mistake_has_its_place(recipe, tmp_path):
    path = recipe(loss={"acme/squared_margin": {"margn": 2}}, callbacks=[{"Patience": {"epochs": "many"}}])
    lines = path.read_text().splitlines()
    verdict = zoo.check(path)
    said = {error.message: error for error in verdict.errors}
    assert len(said) == 2
    for message, error in said.items():
        word = "margn" if "margn" in message else "many"
        assert word in lines[error.location.line - 1], message
        assert error.location.column == lines[error.location.line - 1].index(word) + 1


@pytest.mark.slow
def test_the_schema_has_them(recipe):
    schema = recipe_schema()["$defs"]
    (_, mapping) = schema["losses"]["anyOf"]
    options = mapping["properties"]["acme/squared_margin"]["then"]["properties"]  # else a lone value, the first of them
    assert options["margin"]["default"] == 1.0
    assert "outputs" not in options
    assert "Patience" in schema["callbacks"]["anyOf"][0]["enum"]
    assert "cutout" in schema["transforms"]["anyOf"][0]["enum"]


def test_a_callback_stops_behind_the_epoch_and_the_report_says_why(recipe, tmp_path):
    notes = Notes()
    path = recipe(callbacks=[{"Patience": {"epochs": 1}}], lr=1e-12, epochs=5, trackers=[], metrics=["accuracy"])
    run = zoo.finetune(path, output=tmp_path / "run", progress=notes)
    assert len(run.history) < 5
    (stage,) = run.report["stages"]
    assert stage["stopped"] == "no better loss for 1 epochs"
    assert any("stopped behind epoch" in note for note in notes.notes)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "hook", ["epoch_ended", pytest.param("step_ended", marks=SLOW), pytest.param("train_ended", marks=SLOW)]
)
def test_a_callback_that_raises_is_named_and_loses_nothing(recipe, tmp_path, acme, hook):
    where = {"step_ended": "training.step > 6"}.get(hook, "True")
    module = (
        f"from zoo.api import Callback\nclass Bad(Callback):\n  def {hook}(self, training):\n    if {where}: 1 / 0\n"
    )
    acme.write("zoo-bad", "[zoo.callbacks]\nBad = bad_hooks:Bad", bad_hooks=module)
    path = recipe(callbacks=["bad/Bad"], trackers=[], epochs=2, metrics=["accuracy"])
    with pytest.raises(WorkError, match=rf"bad/Bad \(zoo-bad 1.0\) failed in {hook}: ZeroDivisionError"):
        zoo.finetune(path, output=tmp_path / "run", progress=Listener())
    kept = json.loads((tmp_path / "run/report.json").read_text())
    epochs = {"epoch_ended": 1, "step_ended": 1, "train_ended": 2}[hook]
    assert len(kept["stages"][0]["epochs"]) == epochs
    zoo.load(tmp_path / "run/model.safetensors")


def test_a_tracker_that_raises_is_said_once_and_stops_nothing(recipe, tmp_path, acme):
    module = (
        "from zoo.api import Tracker\nclass Bad(Tracker):\n  def log(self, values, step): raise OSError('no net')\n"
    )
    acme.write("zoo-bad", "[zoo.trackers]\nBad = bad_log:Bad", bad_log=module)
    notes = Notes()
    zoo.finetune(recipe(trackers=["bad/Bad"], epochs=2, callbacks=[]), output=tmp_path / "run", progress=notes)
    said = [note for note in notes.notes if "bad/Bad" in note]
    assert len(said) == 1
    assert said[0].startswith("warning: bad/Bad (zoo-bad 1.0) failed in log: OSError: no net (")
    assert said[0].endswith("bad_log.py:3); training goes on without it")


def frozen_recipe(recipe, **options):
    """The page's recipe behind a frozen backbone."""
    path = recipe(**options)
    made = yaml.safe_load(path.read_text())
    made["steps"].insert(0, {"freeze": {"policy": "below", "module": "classifier"}})
    path.write_text(yaml.safe_dump(made))
    return path


@pytest.mark.slow
def test_with_a_feature_cache(recipe, tmp_path):
    """Transforms run the backbone at every step, which is said; `views` keeps what they make of it."""
    notes = Notes()
    streamed = zoo.finetune(frozen_recipe(recipe, epochs=1), output=tmp_path / "streamed", progress=notes)
    assert streamed.report["stages"][-1]["feature_cache"]["use"] == "every_step"
    assert any(line.startswith("data.transforms: images change in every epoch") for line in notes.notes)
    kept = zoo.finetune(frozen_recipe(recipe, views=2), output=tmp_path / "kept", progress=Listener())
    (stage,) = (stage for stage in kept.report["stages"] if stage["action"] == "train")
    assert stage["feature_cache"]["use"] == "kept"
    assert "2 views" in stage["feature_cache"]["features"]
    assert kept.report["components"]
    assert (tmp_path / "kept/lines.jsonl").exists()
    (error,) = zoo.check(frozen_recipe(recipe, views=0, feature_cache="kept")).errors
    assert error.message == "train.feature_cache: data.transforms change every epoch"


@pytest.mark.slow
def test_two_processes(recipe, tmp_path, acme):
    """Metrics are those of all samples, a callback of one process stops both, and the tracker writes once."""
    path = recipe(lr=1e-12, callbacks=[{"Patience": {"epochs": 1}}], epochs=5, metrics=["acme/within"])
    launcher = [sys.executable, *torchrun()]
    output = tmp_path / "both"
    command = [*launcher, "-m", "zoo", "finetune", str(path), "--output", str(output), "--device", "cpu", "--json"]
    paths = os.pathsep.join([str(acme.folder), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    (stage,) = json.loads(done.stdout)["stages"]
    assert stage["stopped"] == "no better loss for 1 epochs"
    assert len(stage["epochs"]) < 5
    lines = [json.loads(line) for line in (output / "lines.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "validation/loss" in line]) == len(stage["epochs"])
    alone = zoo.evaluate(output / "model.safetensors", part="validation", device="cpu")
    assert stage["epochs"][-1]["validation"]["acme/within"] == alone["metrics"]["acme/within"]
