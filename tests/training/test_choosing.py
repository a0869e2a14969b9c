"""Which epoch is best and when training ends, decided on records alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import zoo
from zoo.errors import InputError
from zoo.training import trainer as trainer_module
from zoo.training.choosing import LOSS, Criterion, Patience, metric_of, with_chosen
from zoo.training.metrics import make_metrics

UP, DOWN = Criterion("accuracy", True), Criterion(LOSS, False)


def history(criterion: Criterion, *values: float) -> list[dict]:
    return [{"validation": {criterion.metric: value}} for value in values]


def test_what_is_better_goes_by_the_metric():
    metrics = make_metrics(["accuracy", "f1"], "classification", 3)
    assert Criterion.of(metrics, None) == UP
    assert Criterion.of(metrics, "f1") == Criterion("f1", True)
    assert Criterion.of(metrics, LOSS) == DOWN
    values = make_metrics(["r2", "mae"], "regression", 1)
    assert Criterion.of(values, "mae") == Criterion("mae", False)


def test_a_metric_of_one_class_is_chosen_by_its_name():
    assert metric_of("f1") == "f1"
    assert metric_of("f1(average=micro)") == "f1(average=micro)"
    assert metric_of("f1(class=a (b), c)") == {"f1": {"class": "a (b), c"}}
    known = [{"recall": {"class": "7"}}]
    assert with_chosen(known, "classification", ("recall(class=7)", "f1(class=3)")) == [*known, {"f1": {"class": "3"}}]


@pytest.mark.parametrize(
    ("criterion", "value", "than", "by", "better"),
    [
        (UP, 0.5, None, 0.0, True),
        (UP, math.nan, None, 0.0, False),
        (UP, 0.5, 0.5, 0.0, False),
        (UP, 0.6, 0.5, 0.1, False),
        (UP, 0.7, 0.5, 0.1, True),
        (DOWN, 0.4, 0.5, 0.0, True),
        (DOWN, 0.45, 0.5, 0.1, False),
        (DOWN, 0.3, 0.5, 0.1, True),
        (DOWN, math.nan, 0.5, 0.0, False),
    ],
)
def test_better(criterion, value, than, by, better):
    assert criterion.better(value, than, by=by) is better


@pytest.mark.parametrize(
    ("criterion", "values", "patience", "delta", "waited", "over"),
    [
        (UP, [], 1, 0.0, (0, None), False),
        (UP, [0.1], 1, 0.0, (0, 1), False),
        (UP, [0.1, 0.1], 1, 0.0, (1, 1), True),
        (UP, [0.1, 0.2, 0.15, 0.2], 3, 0.0, (2, 2), False),
        (UP, [0.1, 0.2, 0.15, 0.2], 2, 0.0, (2, 2), True),
        (UP, [0.10, 0.11, 0.12], 2, 0.05, (2, 1), True),  # creeping up by less than min_delta
        (UP, [0.10, 0.13, 0.16], 2, 0.05, (0, 3), False),  # from the last that was better by enough
        (DOWN, [1.0, 2.0, 0.5], 2, 0.0, (0, 3), False),
        (DOWN, [math.nan, math.nan], 2, 0.0, (2, None), True),
        (UP, [math.nan, 0.1, math.nan], 2, 0.0, (1, 2), False),
    ],
)
def test_patience(criterion, values, patience, delta, waited, over):
    rule = Patience(criterion, patience, delta)
    assert rule.waited(history(criterion, *values)) == waited
    assert rule.is_over(history(criterion, *values)) is over


def test_what_is_chosen_by_is_measured():
    assert with_chosen(None, "classification", [None, LOSS]) is None
    assert with_chosen(None, "classification", ["f1", "f1"]) == ["accuracy", "f1"]
    assert with_chosen(["f1"], "classification", ["accuracy"]) == ["f1", "accuracy"]
    twice = [{"f1": {"average": "micro"}}, {"f1": {"average": "macro"}}]
    assert with_chosen(twice, "classification", ["f1(average=micro)"]) == twice


RECIPE = {
    "precision": "float32",
    "model": {"architecture": "timm/test_resnet"},
    "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 32, "limit": 64, "workers": 0},
}
HEAD = [{"swap_head": {"num_classes": "auto"}}, {"freeze": "all_but_head"}]


def written(folder: Path, **train) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, "steps": [*HEAD, {"train": {"lr": 0.3, "scheduler": None, **train}}]}))
    return str(path)


def epochs(run) -> list[dict]:
    return run.report["stages"][0]["epochs"]


def test_training_ends_and_keeps_the_best_epoch_and_the_last(tmp_path, capsys):
    recipe = written(tmp_path, epochs=30, early_stopping={"patience": 2, "metric": "f1"})
    run = zoo.finetune(recipe, output=tmp_path / "run")
    values = [epoch["validation"]["f1"] for epoch in epochs(run)]
    best = values.index(max(values)) + 1
    assert len(values) == best + 2 < 30
    stage = run.report["stages"][0]
    assert (stage["kept_epoch"], stage["best"]["metric"]) == (best, "f1")
    assert run.metrics["f1"] == pytest.approx(max(values), abs=1e-6)
    assert f"stopped behind epoch {best + 2}: validation f1 was not better" in capsys.readouterr().err
    assert run.report["evaluation"]["chose"] == ["step 3: keep: {best: f1}, early_stopping: f1"]
    kept, last = (load_file(tmp_path / "run" / name) for name in ("model.safetensors", "last.safetensors"))
    assert kept.keys() == last.keys()
    assert not torch.equal(kept["fc.weight"], last["fc.weight"])
    assert zoo.evaluate(tmp_path / "run/last.safetensors", device="cpu")["metrics"]["f1"] == pytest.approx(values[-1])


@pytest.mark.slow
def test_a_resumed_run_stops_where_the_uninterrupted_one_does(tmp_path, monkeypatch):
    recipe = written(tmp_path, epochs=30, early_stopping=2)
    whole = zoo.finetune(recipe, output=tmp_path / "whole")
    count = len(epochs(whole))
    save = trainer_module.Trainer.save

    def dying(trainer, *, epoch_end=False):
        save(trainer, epoch_end=epoch_end)
        if epoch_end and trainer.progress.epoch == dying.at:
            raise SystemExit(9)

    for at in (1, count - 1, count):  # the last: killed as soon as the rule had decided
        dying.at, output = at, tmp_path / f"run-{at}"
        monkeypatch.setattr(trainer_module.Trainer, "save", dying)
        with pytest.raises(SystemExit):
            zoo.finetune(recipe, output=output)
        monkeypatch.setattr(trainer_module.Trainer, "save", save)
        resumed = zoo.finetune(recipe, output=output, resume=True)
        assert len(epochs(resumed)) == count
        assert resumed.metrics == whole.metrics
        for name in ("model.safetensors", "last.safetensors"):
            mine, theirs = (load_file(folder / name) for folder in (tmp_path / "whole", output))
            assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(("metric", "better"), [(LOSS, min), ("accuracy", max)])
def test_keep_goes_by_any_metric_or_the_loss(metric, better, tmp_path):
    run = zoo.finetune(written(tmp_path, epochs=4, keep={"best": metric}), output=tmp_path / "run")
    values = [epoch["validation"][metric] for epoch in epochs(run)]
    assert run.report["stages"][0]["kept_epoch"] == values.index(better(values)) + 1


def test_a_metric_that_is_none_is_a_mistake_with_its_place(tmp_path):
    recipe = written(tmp_path, epochs=1, keep={"best": "acuracy"}, early_stopping={"patience": 1, "metric": "mae"})
    with pytest.raises(InputError) as refused:
        zoo.finetune(recipe, output=tmp_path / "run")
    places = [(str(problem.location).rpartition("/")[2], problem.message) for problem in refused.value.problems]
    text = (tmp_path / "recipe.yaml").read_text().splitlines()
    for place, message in places:
        line, column = map(int, place.split(":")[1:])
        assert text[line - 1][column - 1 :].startswith(("best: acuracy", "metric: mae", "acuracy", "mae")), message
    assert len(places) == 2
    assert any("'acuracy'" in said for _, said in places)
    assert any("'mae' does not fit a classification" in said for _, said in places)
    assert not (tmp_path / "run").exists()
