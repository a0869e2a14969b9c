"""The batch whose loss was not finite: kept with the weights in front of it, so that it can be computed again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn import functional as F

import zoo
from listeners import Notes
from zoo.errors import WorkError
from zoo.steps import train_record
from zoo.training import not_finite, trainer
from zoo.training.callbacks import Listener
from zoo.training.trainer import Trainer

CASES = {
    "plain": ({}, "none"),
    "accumulated": ({"accumulate": 2, "epochs": 3}, "none"),
    "cached": ({"feature_cache": "kept", "feature_precision": "exact"}, {"policy": "below", "module": "fc2"}),
    "bfloat16": ({"precision": "bfloat16"}, "none"),
}


def diverged(folder: Path, options: dict, freeze) -> Listener:
    train = {"epochs": 2, "lr": 1e15, "optimizer": "SGD", "scheduler": None, **options}
    recipe = {
        "precision": "float32",
        "model": "tutorial/net_a",
        "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 8, "limit": 48, "workers": 0},
        "steps": [{"freeze": freeze}, {"train": train}],
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(WorkError, match="not finite"):
        zoo.finetune(folder / "recipe.yaml", output=folder / "run", progress=(notes := Notes()))
    return notes


@pytest.mark.parametrize(("options", "freeze"), CASES.values(), ids=CASES)
def test_the_batch_is_kept_with_the_weights_in_front_of_it(tmp_path, monkeypatch, options, freeze):
    seen, samples, backward = [], [], Trainer.backward
    name_them = train_record.sample_names

    def naming(part):
        samples.append(list(part.indices))
        return name_them(part)

    monkeypatch.setattr(train_record, "sample_names", naming)

    def watching(self, index, batch, last):
        weights = {name: tensor.clone() for name, tensor in self.job.model.state_dict().items()}
        seen.append((self.progress.steps, index, batch, weights))
        backward(self, index, batch, last)

    monkeypatch.setattr(Trainer, "backward", watching)
    notes = diverged(tmp_path, options, freeze)
    home = tmp_path / "run" / "not_finite"
    record, kept = json.loads((home / "batch.json").read_text()), load_file(home / "batch.safetensors")
    *_, batch, weights = next(
        row for row in seen if (row[0] + 1, row[1] + 1) == (record["optimizer_step"], record["batch"])
    )
    assert record["batch"] > 1
    inputs = batch.inputs[0] if isinstance(batch.inputs, tuple) else batch.inputs
    assert torch.equal(kept["inputs"], inputs)
    assert torch.equal(kept["targets"], batch.targets)
    assert [samples[0].index(int(name)) for name in record["samples"]] == batch.positions.tolist()
    model = zoo.load(home / "model.safetensors").train()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert any("is kept: " in note and "batch.json" in note for note in notes.notes)
    assert not math.isfinite(float(record["loss"]))
    if not isinstance(batch.inputs, tuple):
        torch.set_rng_state(kept["generator"])
        with torch.autocast("cpu", torch.bfloat16, enabled="precision" in options):
            loss = F.cross_entropy(model(kept["inputs"]).float(), kept["targets"])
        assert str(loss.item()) == record["loss"]


def test_what_is_large_is_named_and_what_takes_long_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(not_finite, "MOST_BYTES", 1000)
    monkeypatch.setattr(not_finite, "MOST_SECONDS", -1.0)
    diverged(tmp_path, {}, "none")
    home = tmp_path / "run" / "not_finite"
    record = json.loads((home / "batch.json").read_text())
    assert (record["tensors"], record["weights"]) == (None, None)
    assert len(record["samples"]) == 8
    assert sorted(path.name for path in home.iterdir()) == ["batch.json"]


def test_a_run_that_goes_on_forgets_it(tmp_path):
    diverged(tmp_path, {}, "none")
    home = tmp_path / "run" / "not_finite"
    assert home.is_dir()
    given = {"overrides": ["steps[1].train.lr=0.01"], "resume": True, "progress": Listener()}
    zoo.finetune(tmp_path / "recipe.yaml", output=tmp_path / "run", **given)
    assert not home.exists()


def test_losses_are_read_as_seldom_as_before(tmp_path, monkeypatch):
    """What is kept costs nothing while all is well: no loss is read for it."""
    monkeypatch.setattr(trainer, "LOOK_SECONDS", 1000.0)
    diverged(tmp_path, {"epochs": 1}, "none")
    record = json.loads((tmp_path / "run" / "not_finite" / "batch.json").read_text())
    assert 1 < record["batch"] < 6  # found at the end of the epoch, and still the first
    assert record["weights"] == "model.safetensors"


@pytest.mark.parametrize("indices", [(0, 3), (3, 0)])
def test_of_several_processes_the_first_broken_batch_is_kept(tmp_path, monkeypatch, indices):
    """Whichever process writes first: gradients spread what one has computed, and the others break a step later."""

    def keep(folder, trainer, index, step, assembly, names):
        not_finite.write_json(folder / not_finite.RECORD, {"optimizer_step": step})
        return {"optimizer_step": step}

    class InTheLoop:
        job = SimpleNamespace(options=SimpleNamespace(accumulate=1))

        def steps_before(self):
            return 4

    monkeypatch.setattr(not_finite, "_keep", keep)
    monkeypatch.setattr(not_finite, "PartialState", lambda: SimpleNamespace(num_processes=2))
    said = [not_finite.keep_batch(tmp_path / "kept", InTheLoop(), index, None, []) for index in indices]
    assert said[-1] == json.loads((tmp_path / "kept" / not_finite.RECORD).read_text()) == {"optimizer_step": 5}
    not_finite.forget(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
