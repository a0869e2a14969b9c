"""Checkpoints: what they hold, thin ones over their base, and the look whether they come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import zoo
from zoo.api import Context
from zoo.checkpoint.save import save_checkpoint, verify_reload
from zoo.errors import InputError, WorkError
from zoo.formats.safetensors_file import read_header
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.freezing import freeze
from zoo.model.operations import operate
from zoo.model.pretrained import load_weights


def metadata(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(read_header(path).metadata["zoo"])
    return table


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Published weights: a .pth with a wrapper, every tensor random."""
    torch.manual_seed(3)
    state = timm.create_model("test_resnet").state_dict()
    state = {f"module.{name}": torch.rand_like(t) if t.is_floating_point() else t + 5 for name, t in state.items()}
    torch.save({"state_dict": state}, tmp_path / "base.pth")
    return tmp_path / "base.pth"


@pytest.fixture
def tuned(base: Path) -> Assembly:
    """A network with these weights, a new head, and changes in the head and in one layer."""
    assembly = build("timm/test_resnet")
    load_weights(assembly, str(base))
    context = Context(4, ("a", "b", "c", "d"), assembly.preprocessing)
    operate(assembly, "zoo/swap_head", {"num_classes": "auto"}, context)
    with torch.no_grad():
        for name, parameter in assembly.model.named_parameters():
            if name.startswith(("fc", "layer4")):
                parameter.add_(torch.rand_like(parameter))
    return assembly


def same(first: nn.Module, second: nn.Module) -> bool:
    state = second.state_dict()
    return first.state_dict().keys() == state.keys() and all(
        torch.equal(tensor, state[name]) for name, tensor in first.state_dict().items()
    )


def test_a_checkpoint_tells_all_about_itself(tuned: Assembly, base: Path, tmp_path: Path) -> None:
    tuned.classes = ("a", "b", "c", "d")
    tuned.frozen = freeze(tuned.model, ["conv1", "bn1"])
    saved = save_checkpoint(tuned, tmp_path / "m.safetensors", metrics={"accuracy": 0.75})
    told = metadata(tmp_path / "m.safetensors")
    assert told["architecture"] == "timm/test_resnet"
    assert [step["surgery"] for step in told["operations"]] == ["zoo/swap_head"]
    assert told["classes"] == ["a", "b", "c", "d"]
    assert told["metrics"] == {"accuracy": 0.75}
    assert told["base_weights"]["name"] == str(base)
    assert len(told["base_weights"]["sha256"]) == 64
    assert told["base_weights"]["remap"] == [{"strip_prefix": "module."}]
    assert "conv1.0.weight" in told["frozen"] or "conv1.weight" in told["frozen"]
    assert {"zoo-kit", "zoo-timm", "timm", "torch"} <= told["versions"].keys()
    assert saved["tensors"] == len(tuned.model.state_dict())
    assert same(zoo.load(tmp_path / "m.safetensors"), tuned.model)


def test_what_a_surgery_takes_back_is_not_recorded(beside: None, tmp_path: Path) -> None:
    assembly = build("tutorial/net_a")
    for surgery in ("adapt", "swap_head", "merge"):
        operate(assembly, surgery, {"num_classes": 4} if surgery == "swap_head" else {}, Context())
    save_checkpoint(assembly, tmp_path / "merged.safetensors")
    (only,) = metadata(tmp_path / "merged.safetensors")["operations"]
    assert only["surgery"] == "zoo/swap_head"
    assert same(zoo.load(tmp_path / "merged.safetensors"), assembly.model)


def test_what_is_taken_back_in_part_stays_recorded(beside: None, tmp_path: Path) -> None:
    assembly = build("tutorial/net_a")
    for surgery, path in (("adapt", "fc1"), ("adapt", "fc2"), ("merge", "fc1")):
        operate(assembly, surgery, {"path": path}, Context())
    save_checkpoint(assembly, tmp_path / "half.safetensors")
    assert len(metadata(tmp_path / "half.safetensors")["operations"]) == 3
    assert same(zoo.load(tmp_path / "half.safetensors"), assembly.model)


def test_a_thin_checkpoint_holds_what_changed_and_comes_back(tuned: Assembly, tmp_path: Path) -> None:
    save_checkpoint(tuned, tmp_path / "thin.safetensors", only="trainable")
    held = read_header(tmp_path / "thin.safetensors").entries
    parameters = {name for name, _ in tuned.model.named_parameters() if name.startswith(("fc", "layer4"))}
    assert set(held) == parameters
    assert same(zoo.load(tmp_path / "thin.safetensors"), tuned.model)
    verify_reload(tuned, tmp_path / "thin.safetensors")


def test_a_thin_checkpoint_keeps_statistics_that_moved(tuned: Assembly, tmp_path: Path) -> None:
    tuned.model.train()(torch.randn(2, 3, 64, 64))
    save_checkpoint(tuned, tmp_path / "thin.safetensors", only="trainable")
    held = read_header(tmp_path / "thin.safetensors").entries
    assert any(name.endswith("running_mean") for name in held)
    assert same(zoo.load(tmp_path / "thin.safetensors"), tuned.model)


def test_a_thin_checkpoint_follows_names_through_surgery(base: Path, tmp_path: Path) -> None:
    assembly = build("timm/test_resnet")
    load_weights(assembly, str(base))
    context = Context(1000, preprocessing=assembly.preprocessing)
    operate(assembly, "zoo/append", {"path": "conv1", "module": "Identity"}, context)
    operate(assembly, "zoo/add_module", {"name": "more", "module": {"Linear": {"out_features": 3}}}, context)
    save_checkpoint(assembly, tmp_path / "thin.safetensors", only="trainable")
    assert set(read_header(tmp_path / "thin.safetensors").entries) == {
        name for name in assembly.model.state_dict() if "more" in name
    }
    assert same(zoo.load(tmp_path / "thin.safetensors"), assembly.model)


def test_a_thin_checkpoint_without_its_base_says_what_it_needs(tuned: Assembly, base: Path, tmp_path: Path) -> None:
    save_checkpoint(tuned, tmp_path / "thin.safetensors", only="trainable")
    digest = metadata(tmp_path / "thin.safetensors")["base_weights"]["sha256"]
    away = base.rename(tmp_path / "away.pth")
    with pytest.raises(
        WorkError, match=rf"base.pth' \(sha256 {digest}\), and they were not found .*put base.pth beside"
    ):
        zoo.load(tmp_path / "thin.safetensors")
    torch.save({"state_dict": timm.create_model("test_resnet").state_dict()}, base)
    with pytest.raises(WorkError, match=f"had the sha256 {digest}: .*another file .*beside the checkpoint"):
        zoo.load(tmp_path / "thin.safetensors")
    away.rename(base)
    assert same(zoo.load(tmp_path / "thin.safetensors"), tuned.model)
    for file in (base, tmp_path / "thin.safetensors"):  # both moved: found beside one another
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        file.rename(tmp_path / "elsewhere" / file.name)
    assert same(zoo.load(tmp_path / "elsewhere" / "thin.safetensors"), tuned.model)


def test_thin_needs_a_base(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no base weights.*save: \{only: all\}"):
        save_checkpoint(build("timm/test_vit"), tmp_path / "thin.safetensors", only="trainable")
    assert not list(tmp_path.iterdir())


def test_what_json_does_not_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    assembly = build("timm/test_vit")
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint(assembly, tmp_path / "m.safetensors", metrics={"loss": float("nan")})
    assembly.arguments = {"norm_layer": nn.LayerNorm}
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint(assembly, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_model_that_comes_back_passes(tuned: Assembly, tmp_path: Path) -> None:
    for dtype in (None, "float16"):
        save_checkpoint(tuned, tmp_path / "m.safetensors", dtype=dtype)
        tuned.model.train()
        tuned.model.layer1.eval()
        verify_reload(tuned, tmp_path / "m.safetensors", dtype=dtype)
        assert tuned.model.training
        assert not tuned.model.layer1.training


def test_state_outside_the_state_dict_is_named(plugins: Any, tmp_path: Path) -> None:
    """FixedHiddenMLP of the tutorials: a random tensor as a plain attribute."""
    plugins.write(
        "zoo-trap",
        "[zoo.architectures]\nfixed = trap_plugin:Fixed\n",
        trap_plugin="""
        import torch
        from torch import nn

        class Fixed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(20, 20)
                self.rand_weight = torch.rand(20, 20)

            def forward(self, x):
                return self.linear(torch.relu(self.linear(x) @ self.rand_weight))
        """,
    )
    assembly = build("trap/fixed")
    save_checkpoint(assembly, tmp_path / "m.safetensors")
    with pytest.raises(WorkError, match=r"gives other outputs .*rand_weight .*register_buffer"):
        verify_reload(assembly, tmp_path / "m.safetensors", torch.randn(2, 20))


def test_a_file_of_another_model_does_not_pass(tuned: Assembly, tmp_path: Path) -> None:
    save_checkpoint(tuned, tmp_path / "m.safetensors")
    with torch.no_grad():
        tuned.model.conv1[0].weight.mul_(1.0001)
    with pytest.raises(WorkError, match=r"does not load as it was saved: conv1\.0\.weight differ"):
        verify_reload(tuned, tmp_path / "m.safetensors")
