"""Model, weights and data as a dry run sees them: by name and header, never downloaded."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zoo.model.build import build
from zoo.preflight import Verdict

Check = Callable[..., Verdict]


def errors(verdict: Verdict) -> list[str]:
    return [str(problem) for problem in verdict.errors]


def warnings(verdict: Verdict) -> list[str]:
    return [str(problem) for problem in verdict.warnings]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a dry run asked for the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_an_argument_the_architecture_does_not_take(checked: Check) -> None:
    verdict = checked("model: {architecture: torchvision/resnet18, arguments: {num_clases: 3}}\nsteps: [save]")
    assert errors(verdict)[0].startswith("recipe.yaml:1:57: torchvision/resnet18 takes no argument 'num_clases'")
    assert verdict.assembly is None
    assert verdict.trainable is None


def test_weights_of_another_architecture(checked: Check) -> None:
    verdict = checked("model: {architecture: timm/efficientnet_lite0, weights: lite0}\nsteps: [save]")
    assert errors(verdict) == [
        "recipe.yaml:1:57: these weights are for timm/tf_efficientnet_lite0; in timm/efficientnet_lite0 they give "
        "wrong answers even where they fit (write architecture: timm/tf_efficientnet_lite0)"
    ]


def test_the_weights_preprocessing_is_what_the_input_is(checked: Check) -> None:
    verdict = checked("model: {architecture: timm/tf_efficientnet_lite1, weights: lite1}\nsteps: [save]")
    assert verdict.ok, errors(verdict)
    assert verdict.input_shape == (2, 3, 240, 240)


@pytest.fixture
def other_weights(tmp_path: Path) -> None:
    """`prefixed.safetensors` is net_a's under another prefix, `half.safetensors` holds its convolutions alone."""
    torch.manual_seed(0)
    state = build("tutorial/net_a").model.state_dict()
    save_file({f"inner.net.{name}": value for name, value in state.items()}, tmp_path / "prefixed.safetensors")
    save_file({name: value for name, value in state.items() if "conv" in name}, tmp_path / "half.safetensors")


@pytest.mark.usefixtures("other_weights")
class TestCoverage:
    def test_loading_nothing_is_a_mistake(self, checked: Check) -> None:
        verdict = checked("model: {architecture: tutorial/net_a, weights: prefixed.safetensors}\nsteps: [save]")
        assert not verdict.ok
        assert any("only 0% of the target's parameters would be filled" in said for said in errors(verdict))
        assert all(said.startswith("recipe.yaml:1:48: ") for said in errors(verdict))

    def test_a_rule_that_fits(self, checked: Check) -> None:
        remap = "remap: [{strip_prefix: inner.net.}, {drop: '^nothing'}]"
        verdict = checked(
            f"model: {{architecture: tutorial/net_a, weights: prefixed.safetensors, {remap}}}\nsteps: [save]"
        )
        assert verdict.ok, errors(verdict)
        assert len(warnings(verdict)) == 1
        assert "finds nothing to do" in warnings(verdict)[0]

    def test_rules_are_read_with_their_places(self, checked: Check) -> None:
        verdict = checked(
            "model:\n  architecture: tutorial/net_a\n  weights: prefixed.safetensors\n  remap:\n"
            "    - renam: {a: b}\n    - drop: '('\nsteps: [save]"
        )
        assert [said.partition(" ")[0] for said in errors(verdict)] == ["recipe.yaml:5:7:", "recipe.yaml:6:7:"]

    @pytest.mark.parametrize("remap", ["{strip_prefix: inner.net.}", "'strip_prefix: inner.net.'"])
    def test_one_rule_is_a_remap(self, checked: Check, remap: str) -> None:
        weights = f"weights: prefixed.safetensors, remap: {remap}"
        assert checked(f"model: {{architecture: tutorial/net_a, {weights}}}\nsteps: [save]").ok
        assert checked(f"model: tutorial/net_a\nsteps: [{{load: {{{weights}}}}}]").ok

    def test_the_floor_is_the_recipe_s(self, checked: Check) -> None:
        text = "model: {{architecture: tutorial/net_a, weights: half.safetensors, min_coverage: {}}}\nsteps: [save]"
        assert not checked(text.format(0.5)).ok
        assert checked(text.format(0.01)).ok

    def test_a_warm_start_in_the_middle(self, checked: Check) -> None:
        text = "model: tutorial/net_a\nsteps:\n  - swap_head: 3\n  - load: {{weights: prefixed.safetensors, {}}}\n"
        verdict = checked(text.format("remap: 'strip_prefix: inner.net.'"))
        assert any("fc3" in said for said in errors(verdict)), "the swapped head has another shape"
        assert all(said.startswith("recipe.yaml:4:") for said in errors(verdict))
        loose = "remap: 'strip_prefix: inner.net.', strict_shapes: false"
        assert any("100% is asked for" in said for said in errors(checked(text.format(loose))))
        assert checked(text.format(f"{loose}, min_coverage: 0.98")).ok

    def test_a_file_that_is_no_checkpoint(self, checked: Check, tmp_path: Path) -> None:
        (tmp_path / "bad.safetensors").write_bytes(b"<html>")
        verdict = checked("model: {architecture: tutorial/net_a, weights: bad.safetensors}\nsteps: [save]")
        assert errors(verdict)[0].startswith("recipe.yaml:1:48: bad.safetensors is a web page")


def test_data_that_is_not_there_yet_is_a_warning(checked: Check, tmp_path: Path) -> None:
    verdict = checked(
        "model: tutorial/net_a\ndata: {source: torchvision/CIFAR10, download: true, root: data}\n"
        "steps: [swap_head: auto, train: 1]"
    )
    assert verdict.ok, errors(verdict)
    assert warnings(verdict) == [
        "recipe.yaml:2:16: torchvision/CIFAR10 is not here yet, so the number of classes is not known "
        "(finetune downloads it)"
    ]
    assert not any((tmp_path / "data").rglob("*.gz"))


def test_data_that_is_not_there_at_all(checked: Check) -> None:
    verdict = checked("model: tutorial/net_a\ndata: {source: image_folder, path: roses}\nsteps: [evaluate]")
    assert errors(verdict) == ["recipe.yaml:2:36: image folder roses does not exist"]


def test_rows_of_a_table_keep_their_own_place(checked: Check, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\na.png,\n")
    verdict = checked("model: tutorial/net_a\ndata: {source: csv, path: a.csv}\nsteps: [evaluate]")
    assert errors(verdict)
    assert all(said.startswith("a.csv:2:") for said in errors(verdict))


def test_features_go_in_as_they_are(checked: Check) -> None:
    verdict = checked("model: tutorial/small_mlp\ndata: tutorial/rows\nsteps: [train: 1]")
    assert verdict.ok, errors(verdict)
    assert verdict.input_shape == (2, 4)


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
