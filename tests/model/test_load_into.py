"""load_into: values, dtypes, devices, reports; failures leave the model as it was."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import zoo
from zoo.errors import InputError, WorkError
from zoo.formats import Source, open_source
from zoo.model.load_into import load_into, target_of
from zoo.model.pretrained import load_weights
from zoo.recipe.options import ModelOptions
from zoo.remap.plan import MIN_COVERAGE
from zoo.remap.remaps import plan_source
from zoo.remap.rules import parse_rules
from zoo.steps.load import Load


class Qkv(nn.Module):
    """One fused projection, as in timm."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.register_buffer("table", torch.arange(4))


def test_values_arrive_by_rules(write: Callable[..., Path]) -> None:
    parts = {f"{part}.weight": torch.randn(4, 4) for part in "qkv"} | {f"{part}.bias": torch.randn(4) for part in "qkv"}
    model = Qkv()
    rule = {"concat": {"into": "qkv.{leaf=weight|bias}", "from": ["q.{leaf}", "k.{leaf}", "v.{leaf}"]}}
    report = load_into(model, write(parts), [rule])
    assert torch.equal(model.qkv.weight, torch.cat([parts[f"{part}.weight"] for part in "qkv"]))
    assert torch.equal(model.qkv.bias, torch.cat([parts[f"{part}.bias"] for part in "qkv"]))
    assert report.missing == ("table",)
    assert report.loaded == ("qkv.bias", "qkv.weight")


def test_the_model_keeps_its_dtype_and_its_objects(write: Callable[..., Path]) -> None:
    state = {"weight": torch.randn(3, 2, dtype=torch.float64), "bias": torch.randn(3, dtype=torch.bfloat16)}
    model = nn.Linear(2, 3)
    weight = model.weight
    load_into(model, write(state))
    assert model.weight is weight
    assert model.weight.dtype == model.bias.dtype == torch.float32
    assert torch.equal(model.weight, state["weight"].float())
    assert torch.equal(model.bias, state["bias"].float())
    assert model.weight.requires_grad


def test_a_model_on_meta_comes_to_life_with_its_ties(write: Callable[..., Path]) -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
        model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    state = {"0.weight": torch.randn(3, 3), "0.bias": torch.randn(3), "1.bias": torch.randn(3)}
    state |= nn.BatchNorm1d(3).state_dict(prefix="2.")
    load_into(model, write(state))
    assert model[1].weight is model[0].weight
    assert not model[0].bias.requires_grad
    assert model[1].bias.requires_grad
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items() if name in state)


def test_nothing_stays_on_meta(write: Callable[..., Path]) -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    state = nn.Linear(2, 2).state_dict(prefix="0.") | nn.BatchNorm1d(2).state_dict(prefix="1.")
    del state["1.num_batches_tracked"]
    with pytest.raises(WorkError, match=r"have no values: 1.num_batches_tracked"):
        load_into(model, write(state))


def test_a_failure_halfway_leaves_the_model_as_it_was(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write({name: torch.randn_like(tensor) for name, tensor in nn.Linear(2, 3).state_dict().items()})
    model = nn.Linear(2, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    read = Source.array

    def failing(self: Source, name: str) -> object:
        if name == "bias":
            raise InputError("the disk failed")
        return read(self, name)

    monkeypatch.setattr(Source, "array", failing)
    with pytest.raises(InputError, match="the disk failed"):
        load_into(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_below_the_floor_says_how_much_was_asked_for(write: Callable[..., Path]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    path = write(nn.Linear(2, 2).state_dict(prefix="0."))
    with pytest.raises(WorkError, match="only 50% of the target's parameters would be filled; 60% is asked for"):
        load_into(model, path, min_coverage=0.6)
    report = load_into(model, path, min_coverage=0.5)
    assert report.coverage == 0.5
    assert report.missing == ("1.weight", "1.bias")


def test_m4_a_prefix_and_another_number_of_classes_is_seen_through(tmp_path: Path) -> None:
    """timm 1.0.31 loads 0 of 21 layers from this file with a log line alone."""
    state = {f"wrapped.{name}": tensor for name, tensor in timm.create_model("test_resnet").state_dict().items()}
    torch.save(state, tmp_path / "m4.pth")
    model = timm.create_model("test_resnet", num_classes=10)
    with pytest.raises(WorkError, match="fc"):
        load_into(model, tmp_path / "m4.pth", min_coverage=0.9)
    report = load_into(model, tmp_path / "m4.pth", min_coverage=0.9, ignore=["fc"])
    assert (report.coverage, report.missing) == (1, ("fc.weight", "fc.bias"))
    assert any("wrapped" in note for note in report.notes)
    assert torch.equal(model.state_dict()["layer1.0.conv1.weight"], state["wrapped.layer1.0.conv1.weight"])


def test_a_converter_sees_the_remapped_state_dict(write: Callable[..., Path]) -> None:
    seen: list[str] = []

    def convert(state: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
        seen.extend(state)
        return {name.replace("w_", ""): tensor * 2 for name, tensor in state.items()}

    state = {f"x.w_{name}": torch.ones_like(tensor) for name, tensor in nn.Linear(2, 2).state_dict().items()}
    model = nn.Linear(2, 2)
    load_into(model, write(state), {"strip_prefix": "x."}, convert=convert)
    assert set(seen) == {"w_weight", "w_bias"}
    assert torch.equal(model.weight, torch.full((2, 2), 2.0))


def test_a_converter_that_fails_is_an_error_of_the_file(write: Callable[..., Path]) -> None:
    def convert(state: dict, model: nn.Module) -> dict:
        raise KeyError("blocks")

    with pytest.raises(InputError, match="not what its converter expects: KeyError: 'blocks'"):
        load_into(nn.Linear(2, 2), write(nn.Linear(2, 2).state_dict()), convert=convert)


def test_the_digest_is_checked(write: Callable[..., Path]) -> None:
    with pytest.raises(WorkError, match="sha256"):
        load_into(nn.Linear(2, 2), write(nn.Linear(2, 2).state_dict()), sha256="00112233")


def test_lazy_modules_are_named(write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="has no shape yet"):
        load_into(nn.LazyLinear(3), write(nn.Linear(2, 3).state_dict()))


def test_rules_may_come_from_a_file_a_plugin_and_inline(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("- rename: {^b: c}\n")
    state = {"a.weight": torch.randn(2, 2), "a.bias": torch.randn(2)}
    model = nn.ModuleDict({"d": nn.Linear(2, 2)})
    report = load_into(model, write(state), ["^a=b", str(tmp_path / "rules.yaml"), {"rename": {"^c": "d"}}])
    assert len(report.rules) == 3
    with pytest.raises(InputError, match="no remap: neither a file, nor an installed remap"):
        load_into(model, write(state), "efficientnet-lite/lukemelas_lit0")
    with pytest.raises(InputError, match="did you mean"):
        load_into(model, write(state), "efficientnet-lite/lukemelas_lit0")


def test_rows_of_classes_that_both_know_keep_their_logits(write: Callable[..., Path]) -> None:
    """M10: a permuted, reduced and extended list of labels."""
    state = nn.Linear(6, 4).state_dict(prefix="head.")
    told = {"zoo": json.dumps({"format": 1, "architecture": "x/y", "classes": ["cat", "dog", "eel", "fox"]})}
    path = write(state, metadata=told)
    model = nn.ModuleDict({"head": nn.Linear(6, 3)})
    report = load_into(model, path, r"adapt_classes: ^head\.", classes=["fox", "newt", "cat"])
    inputs = torch.randn(5, 6)
    before = inputs @ state["head.weight"].T + state["head.bias"]
    assert torch.allclose(model["head"](inputs)[:, [0, 2]], before[:, [3, 0]], atol=1e-6)
    assert report.plan.initialised["head.weight"] == "1 of 3 rows, to mean: newt"
    assert "initialised head.weight: 1 of 3 rows, to mean: newt" in report.render()


def test_the_report_is_plain_data_and_text(write: Callable[..., Path]) -> None:
    report = zoo.load_into(nn.Linear(2, 2), write(nn.Linear(2, 2).state_dict()))
    table = json.loads(json.dumps(report.as_dict()))
    assert table["coverage"] == 1
    assert table["kind"] == "safetensors file"
    assert "coverage    100%" in report.render()


def test_one_rule_is_a_remap_wherever_a_remap_is_taken(tmp_path: Path) -> None:
    """A mapping, a text, a rule, a file by its path, or a list of them: in Python, in conversions and in recipes."""
    state = {f"inner.{name}": tensor for name, tensor in zoo.build("tutorial/net_a").state_dict().items()}
    torch.save(state, tmp_path / "inner.pth")
    (tmp_path / "rules.yaml").write_text("- strip_prefix: inner.\n")
    mapping = {"strip_prefix": "inner."}
    for remap in (mapping, [mapping], "strip_prefix: inner.", tmp_path / "rules.yaml", *parse_rules([mapping])):
        model = zoo.build("tutorial/net_a", weights=str(tmp_path / "inner.pth"), remap=remap)
        assert load_into(model, tmp_path / "inner.pth", remap).coverage == 1
        zoo.convert(tmp_path / "inner.pth", tmp_path / "out.safetensors", remap, to="tutorial/net_a")


def test_one_least_coverage_for_all_who_do_not_ask_for_less() -> None:
    signatures = [inspect.signature(function) for function in (load_into, load_weights, zoo.build)]
    given = [signature.parameters["min_coverage"].default for signature in signatures]
    given += [options.model_fields["min_coverage"].default for options in (ModelOptions, Load)]
    assert given == [MIN_COVERAGE] * 5
    assert MIN_COVERAGE == 1


def test_a_plan_is_used_for_the_file_it_was_made_of_only(write: Callable[..., Path], monkeypatch) -> None:
    state = {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}
    model = nn.Linear(2, 3)
    with open_source(write(state)) as source:
        planned = plan_source(source, {"strip_prefix": "a."}, target_of(model))
    made = []
    monkeypatch.setattr("zoo.model.load_into.plan_source", lambda *given: made.append(1) or plan_source(*given))
    changed = {name: tensor + 1 for name, tensor in state.items()}
    report = load_into(model, write(changed), {"strip_prefix": "a."}, planned=planned)
    assert torch.equal(model.weight, changed["a.weight"]), "values are the file's of now"
    assert report.plan is planned.plan
    assert not made
    other = {"weight": torch.randn(3, 2), "a.bias": torch.randn(3)}
    load_into(model, write(other), {"strip_prefix": "a."}, planned=planned)
    assert torch.equal(model.weight, other["weight"])
    assert torch.equal(model.bias, other["a.bias"])
    assert made == [1]
    with pytest.raises(WorkError, match="does not fill the model"):
        load_into(nn.Linear(2, 4), write(state), {"strip_prefix": "a."}, planned=planned)
    assert made == [1, 1], "nor for another model"
