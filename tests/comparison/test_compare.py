"""Two models' answers compared: on outputs made up for the purpose, and two checkpoints on real digits."""

import json
from dataclasses import replace

import pytest
import torch

from zoo.checkpoint.save import save_checkpoint
from zoo.comparison.compare import compare, compare_predictions
from zoo.errors import InputError
from zoo.model.build import build
from zoo.recipe.options import DataOptions
from zoo.training.evaluate import evaluate
from zoo.training.predictions import Predictions

OPTIONS = DataOptions(source="sklearn/digits", image_size=32, limit=100)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Of metrics that torchmetrics computes in a millisecond each."""
    monkeypatch.setattr("zoo.comparison.paired.METRIC_RESAMPLES", 49)


def answers(outputs, targets, task="classification", classes=()):
    names = tuple(f"{index}.png" for index in range(len(targets)))
    return Predictions(outputs, targets, ("test",) * len(targets), names, classes, task)


def logits(chosen, classes=3):
    """Outputs that choose these classes with 90 %."""
    probabilities = torch.full((len(chosen), classes), 0.1 / (classes - 1))
    return probabilities.scatter_(1, torch.tensor(chosen)[:, None], 0.9).log()


def test_a_difference_in_accuracy():
    targets = torch.tensor([0, 1, 2] * 40)
    wrong = [(int(target) + 1) % 3 for target in targets[:30]]
    better, worse = logits(targets.tolist()), logits([*wrong, *targets[30:].tolist()])
    found = compare_predictions(*(answers(each, targets, classes=("x", "y", "z")) for each in (worse, better)))
    assert found["better"] == "b"
    row = found["metrics"]["accuracy"]
    assert (row["a"], row["b"]) == (pytest.approx(0.75), 1.0)
    assert row["p_value"] == pytest.approx(2 * 0.5**30)
    assert found["metrics"]["loss"]["shown"]
    assert len(found["images"]) == 30
    assert found["images"][0] == {
        "image": "0.png",
        "true": "x",
        "a": "y",
        "b": "x",
        "a_probability": pytest.approx(0.9),
        "b_probability": pytest.approx(0.9),
    }
    per_class = {row["class"]: (row["samples"], row["only_a_right"], row["only_b_right"]) for row in found["classes"]}
    assert per_class == {"x": (40, 0, 10), "y": (40, 0, 10), "z": (40, 0, 10)}
    assert found["classes"][0]["p_value"] == pytest.approx(3 * 2 * 0.5**10)  # three tests (Holm)


def test_no_difference_is_said_to_be_none():
    targets = torch.tensor([0, 1, 2] * 10)
    chosen = targets.tolist()
    one, other = answers(logits([1, *chosen[1:]]), targets), answers(logits([*chosen[:-1], 0]), targets)
    found = compare_predictions(one, other)
    assert found["better"] is None
    row = found["metrics"]["accuracy"]
    assert row["interval"][0] < 0 < row["interval"][1]
    assert row["p_value"] == 1.0
    assert [row["true"] for row in found["images"]] == ["0", "2"]


def test_metrics_that_are_no_mean_over_samples():
    torch.manual_seed(0)
    targets = torch.arange(60) % 3
    good = logits(targets.tolist())
    noise = torch.randn(60, 3)
    found = compare_predictions(answers(noise, targets), answers(good, targets), ["f1", "top5"])
    assert found["metrics"]["f1"]["test"] == "paired permutation"
    assert found["metrics"]["f1"]["shown"]
    assert found["better"] == "b"


def test_several_labels():
    torch.manual_seed(0)
    targets = (torch.rand(80, 3) > 0.5).float()
    good = (targets - 0.5) * 4
    bad = good.clone()
    bad[:20, 0] *= -1
    found = compare_predictions(
        *(answers(each, targets, "multilabel", ("red", "green", "blue")) for each in (good, bad))
    )
    assert found["main"] == "average_precision"
    assert found["better"] == "a"
    rows = {row["class"]: row for row in found["classes"]}
    assert (rows["red"]["only_a_right"], rows["green"]["only_a_right"]) == (20, 0)
    assert len(found["images"]) == 20
    first = found["images"][0]
    assert first["a"] == first["true"] != first["b"]
    assert ("red" in first["true"]) != ("red" in first["b"])


def test_values():
    torch.manual_seed(0)
    targets = torch.randn(50, 1)
    near, far = targets + 0.1 * torch.randn(50, 1), targets + torch.randn(50, 1)
    found = compare_predictions(*(answers(each, targets, "regression") for each in (near, far)), ["mae", "r2"])
    assert found["better"] == "a"
    assert found["metrics"]["mae"]["test"] == "sign-flip permutation"
    assert found["metrics"]["r2"]["difference"] < 0
    assert found["classes"] == []
    gaps = [abs(row["a"] - row["b"]) for row in found["images"]]
    assert len(gaps) == 50
    assert gaps == sorted(gaps, reverse=True)


def network(seed=0, *, options=OPTIONS, split=0, classes=None, task="classification"):
    """A small network that says of itself that it was trained on digits."""
    torch.manual_seed(seed)
    made = build("tutorial/net_a")
    made.preprocessing = replace(made.preprocessing, size=(32, 32))
    made.classes, made.task = classes or tuple("0123456789"), task
    made.data = {"options": options.model_dump(), "seed": split}
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Checkpoints of two networks; the second one's classes stand in reverse order."""
    folder = tmp_path_factory.mktemp("compare")
    reverse = network(1, classes=tuple("9876543210"))
    save_checkpoint(network(0), folder / "a.safetensors")
    (folder / "run").mkdir()
    save_checkpoint(reverse, folder / "run/model.safetensors")
    return folder


def test_two_files_are_measured_as_evaluate_measures_them(files):
    found = compare(files / "a.safetensors", files / "run", device="cpu")
    for letter, place in (("a", "a.safetensors"), ("b", "run/model.safetensors")):
        alone = evaluate(files / place, device="cpu")
        assert found["samples"] == alone["samples"]
        assert {name: row[letter] for name, row in found["metrics"].items()} == alone["metrics"]
    assert found["b"]["checkpoint"] == str(files / "run/model.safetensors")
    assert "these validation images also chose" in found["notes"][0]


def test_what_the_images_chose_before_is_said(files):
    evaluation = {"chose": ["step 2: keep: best"]}
    (files / "run/report.json").write_text(json.dumps({"stages": [], "evaluation": evaluation}))
    found = compare(files / "run", files / "run", device="cpu")
    assert f"also chose {files / 'run/model.safetensors'} (step 2: keep: best)" in found["notes"][0]
    (files / "run/report.json").unlink()


def test_classes_are_matched_by_name(files):
    one = network(0)
    other = network(0, classes=tuple("9876543210"))
    last = other.model.get_submodule("fc3")
    with torch.no_grad():
        last.weight.copy_(last.weight.flip(0))
        last.bias.copy_(last.bias.flip(0))
    found = compare(one, other, device="cpu")
    assert found["images"] == []
    assert found["metrics"]["loss"]["difference"] == pytest.approx(0, abs=1e-6)


def test_other_data_holds_what_a_model_was_trained_on(files):
    found = compare(files / "a.safetensors", files / "run", "sklearn/digits", device="cpu", batch_size=600)
    assert found["samples"] == 1797
    assert found["notes"] == [
        f"{files / 'a.safetensors'} and {files / 'run/model.safetensors'} trained on some of these images: "
        "held-out ones decide"
    ]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"split": 1}, r"different images: .* split by seed 0; .* split by seed 1 .*--data"),
        ({"options": OPTIONS.model_copy(update={"limit": 60})}, "different images"),
        ({"task": "regression"}, r"A is for classification, .* for regression.*zoo evaluate"),
        ({"classes": (*"012345678", "nine")}, r"only model A knows the class '9'.*zoo evaluate"),
    ],
)
def test_what_cannot_be_compared(other, words):
    with pytest.raises(InputError, match=words):
        compare(network(0), network(1, **other), device="cpu")


def test_a_folder_without_a_model(tmp_path, files):
    with pytest.raises(InputError, match=r"contains no model.safetensors"):
        compare(tmp_path, files / "run", device="cpu")
