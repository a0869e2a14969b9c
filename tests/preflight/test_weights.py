"""Weights as a dry run sees them: looked up by name and planned by header, never downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.errors import InputError
from zoo.model.build import build
from zoo.preflight import Verdict

Check = Callable[..., Verdict]


def errors(verdict: Verdict) -> list[str]:
    return [str(problem) for problem in verdict.errors]


def warnings(verdict: Verdict) -> list[str]:
    return [str(problem) for problem in verdict.warnings]


def test_weights_of_another_architecture(checked: Check) -> None:
    verdict = checked("model: {architecture: timm/efficientnet_lite0, weights: lite0}\nsteps: [save]")
    assert errors(verdict) == [
        "recipe.yaml:1:57: these weights are for timm/tf_efficientnet_lite0; in timm/efficientnet_lite0 they give "
        "wrong answers even where they fit (write architecture: timm/tf_efficientnet_lite0, or a remap with rules; "
        "where it is meant as it is, remap: [{keep: .}])"
    ]


def test_the_weights_preprocessing_is_what_the_input_is(checked: Check) -> None:
    verdict = checked("model: {architecture: timm/tf_efficientnet_lite1, weights: lite1}\nsteps: [save]")
    assert verdict.ok, errors(verdict)
    assert verdict.input_shape == (2, 3, 240, 240)


@pytest.fixture
def other_weights(tmp_path: Path) -> None:
    """`prefixed.safetensors` is net_a's under another prefix, `numbered.safetensors` without names, `half.safetensors`
    holds its convolutions alone."""
    torch.manual_seed(0)
    state = build("tutorial/net_a").model.state_dict()
    save_file({f"inner.net.{name}": value for name, value in state.items()}, tmp_path / "prefixed.safetensors")
    save_file({f"p{place}": value for place, value in enumerate(state.values())}, tmp_path / "numbered.safetensors")
    save_file({name: value for name, value in state.items() if "conv" in name}, tmp_path / "half.safetensors")


@pytest.mark.usefixtures("other_weights")
class TestCoverage:
    def test_loading_nothing_is_a_mistake(self, checked: Check) -> None:
        verdict = checked("model: {architecture: tutorial/net_a, weights: numbered.safetensors}\nsteps: [save]")
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
        with pytest.raises(InputError) as caught:
            checked(
                "model:\n  architecture: tutorial/net_a\n  weights: prefixed.safetensors\n  remap:\n"
                "    - renam: {a: b}\n    - drop: '('\nsteps: [save]"
            )
        said = [str(problem).partition(" ")[0] for problem in caught.value.problems]
        assert said == ["recipe.yaml:5:7:", "recipe.yaml:6:7:"]

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


@pytest.mark.usefixtures("other_weights")
def test_what_was_found_and_planned_is_handed_on(checked: Check) -> None:
    remap = "remap: {strip_prefix: inner.net.}"
    verdict = checked(f"model: {{architecture: tutorial/net_a, weights: prefixed.safetensors, {remap}}}\nsteps: [save]")
    found = verdict.weights
    assert found is not None
    assert found.name == found.weights.location == "prefixed.safetensors"
    assert found.planned is not None
    assert found.planned.plan.coverage == 1.0
    assert found.ignored == ()


def test_weights_that_lie_elsewhere_are_found_and_not_planned(checked: Check) -> None:
    verdict = checked("model: {architecture: timm/test_vit, weights: hf://org/repo}\nsteps: [swap_head: 3, save]")
    assert verdict.ok, errors(verdict)
    assert verdict.weights is not None
    assert verdict.weights.planned is None
    assert verdict.weights.ignored == ("head",)


@pytest.fixture
def vit(tmp_path: Path) -> dict[str, torch.Tensor]:
    """The tensors of test_vit, all random."""
    torch.manual_seed(0)
    return {name: torch.randn(value.shape) for name, value in build("timm/test_vit").model.state_dict().items()}


VIT = "model: {{architecture: timm/test_vit, weights: w.safetensors, min_coverage: {}}}\nsteps: [swap_head: 3]"
NEEDED = {
    "LoRA": ("blocks.0.attn.qkv.lora_A.default.weight", "merge_and_unload"),
    "DoRA": ("blocks.0.attn.qkv.lora_magnitude_vector.default.weight", "merge_and_unload"),
    "IA3": ("blocks.1.mlp.fc1.ia3_l.default", "merge_and_unload"),
    "bitsandbytes": ("blocks.0.mlp.fc1.SCB", "dequantise"),
    "GPTQ": ("blocks.0.mlp.fc1.scales", "dequantise"),
    "layer scale": ("blocks.0.ls1.gamma", r"drop: ^blocks\.\d+\.ls1\.gamma$"),
    "registers": ("reg_token", "drop: ^reg_token$"),
}


@pytest.mark.parametrize("kind", NEEDED)
@pytest.mark.parametrize("floor", [1.0, 0.3])
def test_what_loaded_modules_need_stops_a_run(
    checked: Check, vit: dict, tmp_path: Path, kind: str, floor: float
) -> None:
    name, cure = NEEDED[kind]
    save_file(vit | {name: torch.randn(3, 4)}, tmp_path / "w.safetensors")
    said = "\n".join(errors(checked(VIT.format(floor))))
    assert name in said
    assert cure in said
    assert checked(VIT.format(f"{floor}, remap: 'drop: {name}'")).ok


def test_all_that_a_lower_floor_lets_pass_is_named(checked: Check, vit: dict, tmp_path: Path) -> None:
    missing = [name for name in vit if name.endswith("norm1.bias")]
    kept = {name: value for name, value in vit.items() if name not in missing}
    save_file(kept | {"decoder.weight": torch.randn(2, 2), "head.old": torch.randn(2)}, tmp_path / "w.safetensors")
    verdict = checked(VIT.format(0.9))
    assert verdict.ok, errors(verdict)
    assert [said.partition(": ")[2] for said in warnings(verdict)] == [
        "blocks.*.norm1.bias of the model: nothing in the file fills it, so it stays as it was made",
        "decoder.weight of the file: the model has no place for it",
    ]


def test_integer_codes_are_no_weights(checked: Check, vit: dict, tmp_path: Path) -> None:
    name = "blocks.0.mlp.fc1.weight"
    save_file(vit | {name: torch.ones(vit[name].shape, dtype=torch.int8)}, tmp_path / "w.safetensors")
    (said,) = [said for said in errors(checked(VIT.format(0.1))) if "I8" in said]
    assert f"{name}: the file has I8 numbers where the target's are floating-point" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [("depth: 3", "depth: 3"), ("img_size: 96, depth: 3", "img_size: 96, depth: 3"), ("embed_dim: 32", None)],
)
def test_how_to_build_it_for_the_file_is_told_and_right(
    checked: Check, tmp_path: Path, arguments: str, told: str | None
) -> None:
    values = {key: int(value) for key, value in (pair.split(": ") for pair in arguments.split(", "))}
    save_file(build("timm/test_vit", values).model.state_dict(), tmp_path / "w.safetensors")
    text = "model: {{architecture: timm/test_vit, weights: w.safetensors, arguments: {{{}}}}}\nsteps: [swap_head: 3]"
    verdict = checked(text.format(""))
    assert not verdict.ok
    hints = [said for said in errors(verdict) if "write arguments" in said]
    assert len(hints) == (told is not None)
    if told is not None:
        assert f"(write arguments: {{{told}}})" in hints[0]
        assert checked(text.format(told)).ok


def test_weights_for_other_images_are_resampled_and_that_is_said(checked: Check, tmp_path: Path) -> None:
    save_file(build("timm/test_vit", {"img_size": 96}).model.state_dict(), tmp_path / "w.safetensors")
    verdict = checked("model: {architecture: timm/test_vit, weights: w.safetensors}\nsteps: [swap_head: 3]")
    assert verdict.ok, errors(verdict)
    assert verdict.fitted == ["weights: pos_embed resampled 6 x 6 -> 10 x 10"]


def test_the_size_that_is_an_argument_is_that_of_the_images(checked: Check) -> None:
    verdict = checked("model: {architecture: timm/test_vit, arguments: {img_size: 96}}\nsteps: [swap_head: 3]")
    assert verdict.ok, errors(verdict)
    assert verdict.input_shape == (2, 3, 96, 96)


ACME = """
[zoo.architectures]
acme = acme_nets:source
[zoo.weights]
sized = acme_nets:sized
"""
ACME_NETS = """
from pathlib import Path
from torch import nn
from zoo.api import Preprocessing, Weights, file_beside

class Source:
    def names(self):
        return ["net"]
    def build(self, name, *, width: int = 2):
        pool = [nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten()]
        return nn.Sequential(*pool, nn.Linear(3, width), nn.Linear(width, 3))
    def weights_at(self, name, location):
        found = file_beside(location, "width.txt")
        if found is None:
            return None
        width = int(found.read_text())
        size = Preprocessing(size=(width, width))
        return Weights(location, "acme/net", arguments={"width": width}, preprocessing=size, classes=("a", "b", "c"))

source = Source()

def sized(folder: str, *, width: int = 5) -> Weights:
    return Weights(f"{folder}/{width}.safetensors", "acme/net", arguments={"width": width})
"""


@pytest.fixture
def acme(plugins, tmp_path: Path) -> Path:
    """A source whose weights say what it has to be built with, and a folder of such."""
    plugins.without_torch()
    plugins.write("zoo-acme", ACME, acme_nets=ACME_NETS)
    for width in (5, 7):
        assembly = build("acme/net", {"width": width})
        save_file(assembly.model.state_dict(), tmp_path / f"{width}.safetensors")
    (tmp_path / "width.txt").write_text("7")
    return tmp_path


def test_an_architecture_is_built_as_the_weights_ask(checked: Check, acme: Path) -> None:
    verdict = checked("model: {architecture: acme/net, weights: 7.safetensors}\nsteps: [save]")
    assert verdict.ok, errors(verdict)
    assert verdict.arguments == {"width": 7}
    assert verdict.assembly is not None
    assert verdict.assembly.arguments == {"width": 7}
    assert verdict.known.preprocessing.size == (7, 7)
    assert verdict.known.classes == ("a", "b", "c")


def test_arguments_of_the_recipe_go_before(checked: Check, acme: Path) -> None:
    verdict = checked("model: {architecture: acme/net, weights: 7.safetensors, arguments: {width: 5}}\nsteps: [save]")
    assert any("3.weight is [7, 3] in the file and [5, 3] in the model" in said for said in errors(verdict))


def test_weights_that_the_source_knows_nothing_of_are_plain(checked: Check, acme: Path) -> None:
    (acme / "width.txt").unlink()
    verdict = checked("model: {architecture: acme/net, weights: 5.safetensors, arguments: {width: 5}}\nsteps: [save]")
    assert verdict.ok, errors(verdict)


def test_a_source_that_fails_at_weights(checked: Check, acme: Path) -> None:
    (acme / "width.txt").write_text("wide")
    (said, *_) = errors(checked("model: {architecture: acme/net, weights: 7.safetensors}\nsteps: [save]"))
    assert said.startswith("recipe.yaml:1:42: acme/net fails to say what 7.safetensors is: ValueError")


@pytest.mark.parametrize(
    ("weights", "width"), [("{acme/sized: {folder: ., width: 7}}", 7), ("{sized: {folder: .}}", 5)]
)
def test_a_weights_component_takes_arguments(checked: Check, acme: Path, weights: str, width: int) -> None:
    verdict = checked(f"model: {{architecture: acme/net, weights: {weights}}}\nsteps: [save]")
    assert verdict.ok, errors(verdict)
    assert verdict.arguments == {"width": width}
    assert verdict.weights is not None
    assert verdict.weights.arguments["folder"] == "."


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("sized", "model.weights: sized needs folder (write weights: {sized: {folder: …}})"),
        ("{sized: {folder: ., widht: 3}}", "did you mean width?"),
        ("{sized: {folder: ., width: wide}}", "expected an integer"),
        ("{sizd: {folder: .}}", "no weights component is called 'sizd' (did you mean acme/sized?)"),
        ("{a: {}, b: {}}", "expected one name, got 2"),
    ],
)
def test_mistakes_in_a_component_s_arguments(checked: Check, acme: Path, weights: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(f"model: {{architecture: acme/net, weights: {weights}}}\nsteps: [save]")
    assert said in str(caught.value)
    assert str(caught.value).startswith("recipe.yaml:1:")


def test_a_thin_checkpoint_finds_its_base_by_the_component_s_arguments(acme: Path, monkeypatch) -> None:
    monkeypatch.chdir(acme)
    Path("recipe.yaml").write_text(
        "model: {architecture: acme/net, weights: {sized: {folder: ., width: 7}}}\n"
        "steps: [{freeze: all}, {save: {only: trainable, name: thin}}]\n"
    )
    run = zoo.finetune("recipe.yaml", output=acme / "out", device="cpu")
    assert run.model.zoo.base_weights["arguments"] == {"folder": ".", "width": 7}
    thin = zoo.load(acme / "out" / "thin.safetensors")
    base = load_file(acme / "7.safetensors")
    assert all(torch.equal(tensor, base[name]) for name, tensor in thin.state_dict().items())
