"""The step `evaluate`: on the recipe's own validation data, or on all of another source."""

from __future__ import annotations

import pytest

from zoo.recipe.chain import step_class

MODEL = "model: tutorial/fashion_mlp\n"
DATA = "data: {source: sklearn/digits, limit: 20, image_size: 28, workers: 0}\n"


def test_it_measures_the_validation_data(started):
    run = started(MODEL + DATA + "steps: [evaluate]")
    run.recipe.steps[0].run(run)
    (record,) = run.stages
    assert record["samples"] == len(run.data.parts["validation"])
    assert run.metrics == record["metrics"]
    assert run.listener.notes == [
        f"evaluate: loss {record['metrics']['loss']:.4f}, accuracy {run.metrics['accuracy']:.4f}"
    ]
    assert step_class("evaluate").row(record)["metrics"] == f"accuracy {run.metrics['accuracy']:.4f}"


def test_it_measures_all_of_another_source_and_needs_no_data_of_its_own(started, read):
    run = started(MODEL + DATA + "steps:\n  - evaluate: {data: sklearn/digits, metrics: [accuracy, f1]}")
    run.assembly.classes, run.assembly.preprocessing = run.data.classes, run.data.preprocessing
    run.recipe.steps[0].run(run)
    assert run.stages[0]["samples"] == 1797
    assert list(run.metrics) == ["loss", "accuracy", "f1"]
    assert read(MODEL + "steps:\n  - evaluate: sklearn/digits").data is None


def test_views_are_averaged_and_said(started):
    run = started(
        MODEL + DATA + "steps:\n  - evaluate\n  - evaluate: {tta: [five_crop, flip]}\n  - evaluate: {tta: flip}"
    )
    for step in run.recipe.steps:
        step.run(run)
    plain, ten, two = run.stages
    assert "tta" not in plain
    assert (ten["tta"], two["tta"]) == (["five_crop", "flip"], ["flip"])
    assert len({stage["metrics"]["loss"] for stage in run.stages}) == 3
    assert ten["samples"] == plain["samples"]
    assert run.listener.notes[1].startswith("evaluate (five_crop x flip): loss ")
    assert step_class("evaluate").row(two)["metrics"].endswith(" (flip)")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("evaluate", "3:5: evaluate needs data, and the recipe has no data section (add data: {source: …}; see:"),
        ("evaluate: ./none", "3:15: evaluate.data: there is no folder or file ./none (paths count from"),
        ("evaluate: digitz", "no dataset is called 'digitz'"),
        (
            "evaluate: {data: sklearn/digits, tta: flop}",
            "evaluate.tta: expected flip, vertical_flip, rotations or five",
        ),
    ],
)
def test_what_is_wrong_with_it(mistakes, written, said):
    assert said in mistakes(f"{MODEL}steps:\n  - {written}\n")[0]
