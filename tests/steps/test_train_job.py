"""A job for the loop: what the run's recipe says of each train step, and what was chosen written down as pins."""

from __future__ import annotations

import pytest
import yaml

import zoo
from zoo.training.callbacks import Listener


@pytest.fixture
def run(tmp_path):
    def finetuned(*steps, **top):
        recipe = {"model": "tutorial/small_mlp", "data": "tutorial/rows", "steps": list(steps), **top}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        return zoo.finetune(tmp_path / "recipe.yaml", output=tmp_path / "run", progress=Listener())

    return finetuned


def test_train_steps_are_numbered_among_themselves_and_pinned(tmp_path):
    seen = []

    class Labels(Listener):
        def step_started(self, trainer):
            seen.append((trainer.job.label, trainer.job.precision, len(trainer.job.train)))

    recipe = {
        "model": "tutorial/small_mlp",
        "data": {"source": "tutorial/rows", "batch_size": 4},
        "steps": [{"train": 1}, {"evaluate": None}, {"train": {"epochs": 1, "batch_size": 2}}],
        "precision": "float32",
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(recipe))
    zoo.finetune(tmp_path / "two.yaml", output=tmp_path / "two", progress=Labels())
    (one, _, batches), (other, precision, more) = seen
    assert (one, other, precision) == ("train 1/2", "train 2/2", "float32")
    assert more >= 2 * batches - 1
    left = yaml.safe_load((tmp_path / "two/recipe.yaml").read_text())
    assert left["steps"][2]["train"]["precision"] == "float32"
    assert left["steps"][2]["train"]["memory_layout"] == "contiguous"


def test_without_anything_frozen_there_is_no_feature_cache(run):
    (stage,) = run({"train": 1}, precision="float32").report["stages"]
    assert stage["feature_cache"] == {}
