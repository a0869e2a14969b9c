"""Answers on features of two precisions: heads held out in closed form, and as many images as it takes."""

import pytest
import torch

from zoo.data.batches import Batch
from zoo.training.trunk import agreement
from zoo.training.trunk.agreement import (
    SIZES,
    Comparison,
    FoundComparisons,
    as_values,
    compare,
    held_out_answers,
    judge,
)
from zoo.training.trunk.engine import EngineSettings


@pytest.fixture
def classes():
    """Features [400, 16] of four classes that overlap a little, and their labels."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(400) % 4
    centres = torch.randn(4, 16, generator=generator) * 0.6
    return centres[targets] + torch.randn(400, 16, generator=generator), targets


class Recorded:
    """An engine that gives what was computed before, by position, and counts."""

    def __init__(self, features, precision="float32"):
        self.features, self.settings, self.samples = features, EngineSettings(precision), 0

    def __call__(self, positions):
        self.samples += len(positions)
        return (self.features[positions],)


def compared(exact, moved, targets, task="classification", outputs=4):
    def batches(places):
        positions = torch.arange(len(targets))[places.start : places.stop]
        return iter([Batch(positions, targets[positions], positions)] if len(positions) else [])

    return compare(Recorded(exact), Recorded(moved, "bfloat16"), lambda one: one[0], batches, task, outputs)


def test_held_out_answers_are_those_of_heads_solved_without_the_row(monkeypatch):
    monkeypatch.setattr(agreement, "PENALTIES", (0.01,))
    torch.manual_seed(0)
    features, values = torch.randn(20, 7).double() + 3, torch.randn(20, 3).double()
    moved = features + 0.1 * torch.randn_like(features)
    plain, other = held_out_answers(features, moved, values)
    size = (features - features.mean(0)).square().mean().sqrt() * 7**0.5
    for row in range(20):
        kept = torch.arange(20) != row
        x, y = features[kept] / size, values[kept]
        centred = x - x.mean(0)
        weight = torch.linalg.solve(centred.T @ centred + 0.2 * torch.eye(7).double(), centred.T @ (y - y.mean(0)))
        for inputs, answers in ((features, plain), (moved, other)):
            expected = (inputs[row] / size - x.mean(0)) @ weight + y.mean(0)
            assert torch.allclose(answers[row], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_features_that_stay_change_nothing_and_others_much(classes, task):
    features, targets = classes
    wanted = {"classification": targets, "multilabel": (targets[:, None] == torch.arange(4)).float()}.get(
        task, targets[:, None].float()
    )
    values = as_values(wanted, task, 4)
    changed, accuracy, loss = judge(features.double(), features.double(), values, task)
    assert (accuracy, loss) == (0, 0)
    assert changed == 0
    strange = features[torch.randperm(400, generator=torch.Generator().manual_seed(1))].double()
    changed, accuracy, loss = judge(features.double(), strange, values, task)
    assert loss > 0.5
    assert task == "regression" or (changed > 0.3 and accuracy < -0.2)


def test_what_is_far_from_every_boundary_is_expected_to_change_less_than_what_is_near(classes):
    features, targets = (part.double() if part.is_floating_point() else part for part in classes)
    values = as_values(targets, "classification", 4)
    noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(2)).double()
    changes = [judge(features, features + size * noise, values, "classification")[0] for size in (1e-4, 1e-3, 0.3)]
    assert 0 <= changes[0] <= changes[1] < 0.01 < changes[2]


def test_a_comparison_takes_as_many_images_as_it_needs(classes):
    features, targets = classes
    noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    near, middle, far = (compared(features, features + size * noise, targets) for size in (1e-5, 0.08, 3.0))
    assert near.samples == SIZES[0]
    assert near.agrees
    assert middle.samples == 400  # all that there are
    assert not far.agrees
    assert far.samples < 400
    assert near.precision == "bfloat16"
    assert near.distance == pytest.approx(float(1e-5 * noise[:32].norm() / features[:32].norm()), rel=0.05)
    assert "32 images" in str(near)


def test_what_is_not_a_number_agrees_with_nothing(classes):
    features, targets = classes
    moved = features.clone()
    moved[:, 0] = float("nan")
    assert not compared(features, moved, targets).agrees


def test_comparisons_are_found_again_unless_damaged(tmp_path):
    found = Comparison("bfloat16", 32, 0.01, 0.0, 0.0, 0.001)
    FoundComparisons("a", tmp_path).keep(found)
    assert FoundComparisons("a", tmp_path).find() == found
    assert FoundComparisons("b", tmp_path).find() is None
    FoundComparisons("a", tmp_path).path.write_text("{")
    assert FoundComparisons("a", tmp_path).find() is None
