"""Answers on features of two precisions: heads held out in closed form, and as many images as it takes."""

import pytest
import torch

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


@pytest.fixture
def classes():
    """Features [400, 16] of four classes that overlap a little, and their labels."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(400) % 4
    centres = torch.randn(4, 16, generator=generator) * 0.6
    return centres[targets] + torch.randn(400, 16, generator=generator), targets


def compared(exact, moved, targets, task="classification", outputs=4):
    blocks = lambda places: tuple(part[places.start : places.stop] for part in (exact, moved, targets))  # noqa: E731
    return compare(blocks, len(targets), precision="bfloat16", task=task, outputs=outputs)


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
    near, far = (compared(features, features + size * noise, targets) for size in (1e-5, 1.0))
    assert (near.samples, near.agrees) == (SIZES[0], True)
    assert (far.samples, far.agrees) == (400, False)  # all that there are
    assert near.distance == pytest.approx(float(1e-5 * noise[:32].norm() / features[:32].norm()), rel=0.05)
    assert far.distance == pytest.approx(float(noise.norm() / features.norm()), rel=1e-5)
    assert "bfloat16 features within" in str(near)
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
