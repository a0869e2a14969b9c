"""--seeds: as many runs that differ in their seed alone, their spread, resumed where they stopped."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

import zoo
from listeners import Killed
from zoo.cli import run as command
from zoo.errors import InputError
from zoo.finetuning.seeds import described, spread
from zoo.training.callbacks import Listener


def test_mean_spread_and_student_s_interval():
    found = spread([1.0, 2.0, 3.0, 4.0])
    assert (found["mean"], found["values"]) == (2.5, [1.0, 2.0, 3.0, 4.0])
    assert found["sd"] == pytest.approx(1.2909944)
    assert found["interval"] == pytest.approx([2.5 - 2.0542602, 2.5 + 2.0542602])  # t(0.975, 3) = 3.1824463
    assert described(found) == "mean 2.5000, sd 1.2910 over 4 seeds (95 %: 0.4457 to 4.5543)"
    assert spread([0.5]) == {"mean": 0.5, "sd": None, "interval": None, "values": [0.5]}
    assert spread([None, 0.5])["mean"] == 0.5
    assert described(spread([None])) == "undefined"


class Killing(Listener):
    """Kills the run of the second seed."""

    steps = 0

    def step_started(self, trainer) -> None:
        self.steps += 1
        if self.steps == 2:
            raise Killed


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    zoo.save(zoo.build("timm/test_resnet"), "base.safetensors")
    data = {"source": "sklearn/digits", "image_size": 32, "batch_size": 16, "limit": 64, "workers": 0}
    model = {"architecture": "timm/test_resnet", "weights": "base.safetensors"}
    steps = [{"swap_head": "auto"}, {"freeze": "all_but_head"}, {"train": {"epochs": 2, "lr": 0.01}}]
    text = yaml.safe_dump({"name": "many", "seed": 4, "model": model, "data": data, "steps": steps})
    (tmp_path / "recipe.yaml").write_text(text)
    return tmp_path / "recipe.yaml"


def test_runs_by_seed_are_finished_summed_up_and_resumed(recipe, tmp_path, capsys):
    with pytest.raises(Killed):
        zoo.finetune_seeds(recipe, 2, progress=Killing())
    folder = tmp_path / "checkpoints" / "many"
    assert [run["seed"] for run in json.loads((folder / "seeds.json").read_text())["runs"]] == [4]
    with pytest.raises(InputError, match=r"seed-4 contains a finished run of this recipe"):
        zoo.finetune_seeds(recipe, 2, progress=Listener())
    first = (folder / "seed-4" / "model.safetensors").stat().st_mtime_ns
    assert command(["finetune", str(recipe), "--seeds", "3", "--resume", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((folder / "seeds.json").read_text())
    assert (folder / "seed-4" / "model.safetensors").stat().st_mtime_ns == first
    assert [run["seed"] for run in report["runs"]] == [4, 5, 6]
    values = [
        json.loads((folder / f"seed-{seed}" / "report.json").read_text())["metrics"]["loss"] for seed in (4, 5, 6)
    ]
    assert report["metrics"]["loss"] == spread(values)
    assert len(set(values)) == 3
    heads = [load_file(folder / f"seed-{seed}" / "model.safetensors")["fc.weight"] for seed in (4, 5)]
    assert not torch.equal(*heads)
    samples = {(folder / f"seed-{seed}" / "state" / "samples.jsonl").read_text() for seed in (4, 5, 6)}
    assert len(samples) == 1, "the same samples are held out"
    kept = [path for path in (tmp_path / "cache" / "features").iterdir() if path.is_dir()]
    assert len(kept) == 2, "the features of training and validation are computed once"


def test_a_summary_of_somebody_else_s_stays(recipe, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "seeds.json").write_text('{"kind": "mine"}')
    with pytest.raises(InputError, match=r"seeds.json was not written by zoo"):
        zoo.finetune_seeds(recipe, 2, output=tmp_path / "mine", progress=Listener())
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["seeds.json"]
    with pytest.raises(InputError, match="at least 1"):
        zoo.finetune_seeds(recipe, 0)
