"""The step `save`: a checkpoint in the run's folder and nowhere else."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from zoo.errors import InputError
from zoo.recipe import load_recipe
from zoo.steps.save import Save

MODEL = "model: tutorial/fashion_mlp\nsteps:\n"


def test_it_writes_a_checkpoint_of_the_model_as_it_is(started, tmp_path):
    run = started(MODEL + "  - save: {name: first, dtype: float16}")
    (step,) = run.recipe.steps
    step.run(run)
    assert step.files == {"first.safetensors"}
    assert [(record["step"], record["action"]) for record in run.stages] == [(1, "save")]
    assert {str(value.dtype) for value in load_file(tmp_path / "first.safetensors").values()} == {"torch.float16"}


def test_the_suffix_may_be_written():
    assert Save(name="a.safetensors").file == Save(name="a").file == "a.safetensors"


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("save: ../a", "3:11: save.name: '../a' cannot name a file in the run's folder: "),
        ("save: model", "save.name: model.safetensors is the finished model, which would replace this one"),
        ("save: {only: trainable}", "save: only trainable lays over base weights, and model has none"),
        ("save: a\n  - save: A.safetensors", "4:5: save: 'A' is written by the save step in line 3 already"),
    ],
)
def test_what_is_wrong_with_it(mistakes, steps, said):
    assert said in mistakes(f"{MODEL}  - {steps}\n")[0]


def test_the_last_epoch_beside_the_best_has_a_name_of_its_own(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    best, save = "  - train: {epochs: 1, keep: best}\n", "  - save: Last\n"
    head = "model: timm/test_resnet\ndata: sklearn/digits\nsteps:\n  - swap_head: auto\n"
    for steps, said in ((best + save, "by the train step in line 5 already"), (save + best, "in line 5 writes")):
        recipe.write_text(head + steps)
        with pytest.raises(InputError, match=said):
            load_recipe(str(recipe))
