"""The dry run of a whole recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zoo.preflight import Verdict

Check = Callable[..., Verdict]


def errors(verdict: Verdict) -> list[str]:
    return [str(problem) for problem in verdict.errors]


def test_an_argument_the_architecture_does_not_take(checked: Check) -> None:
    verdict = checked("model: {architecture: torchvision/resnet18, arguments: {num_clases: 3}}\nsteps: [save]")
    assert errors(verdict)[0].startswith("recipe.yaml:1:57: torchvision/resnet18 takes no argument 'num_clases'")
    assert verdict.assembly is None
    assert verdict.trainable is None


def test_without_data_a_recipe_can_still_operate(checked: Check) -> None:
    verdict = checked(
        "model: torchvision/vgg16\nsteps:\n  - add_module: {name: add_linear, module: {Linear: {out_features: 10}}}\n"
    )
    assert verdict.ok, errors(verdict)
    assert verdict.output_shape == (2, 10)


def test_data_to_evaluate_on_has_to_know_the_same_classes(checked: Check, tmp_path: Path) -> None:
    for name in ("zero", "one"):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        (tmp_path / "flowers" / name / "a.png").write_bytes(b"not looked into")
    text = "model: tutorial/net_a\ndata: sklearn/digits\nsteps: [train: 1, evaluate: {}]"
    assert errors(checked(text.format("flowers"))) == [
        "recipe.yaml:3:29: the checkpoint does not know the class 'one'",
        "recipe.yaml:3:29: the checkpoint does not know the class 'zero'",
    ]
    assert checked(text.format("sklearn/digits")).ok
