"""Recipes with adapters: from the check to the merged file, killed and resumed, and the mistakes on the way."""

import json

import pytest
import timm
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import zoo
from zoo.errors import InputError

TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 10}
ADAPTED = ["blocks.1.attn.qkv", "blocks.1.attn.proj"]
STEPS = [
    {"lora": {"r": 2, "alpha": 4, "targets": ["1.attn.qkv", "1.attn.proj"]}},
    {"freeze": "adapters_only"},
    {"train": {"epochs": 2, "lr": 0.01}},
    {"save": {"name": "thin", "only": "trainable"}},
    {"save_adapter": {}},
    "merge_adapters",
]


class Killed(BaseException):
    """What nothing in zoo catches."""


class Listening:
    """What a run says; ends it like a power cut after `epochs`, where there are as many."""

    def __init__(self, epochs=None):
        self.epochs, self.notes = epochs, []

    def note(self, text):
        self.notes.append(text)

    def epoch_ended(self, trainer, record):
        if record["epoch"] == self.epochs:
            raise Killed

    def __getattr__(self, name):
        return lambda *_: None


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Random base weights, a recipe upon them, and its run in `run`."""
    home = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **TINY)
    save_file(
        {name: tensor + 0.02 * torch.randn_like(tensor) for name, tensor in model.state_dict().items()},
        home / "base.safetensors",
    )
    recipe = {
        "name": "adapters",
        "precision": "float32",
        "model": {
            "architecture": "timm/vit_tiny_patch16_224",
            "arguments": TINY,
            "weights": str(home / "base.safetensors"),
        },
        "data": {"source": "sklearn/digits", "image_size": 16, "batch_size": 32, "limit": 64},
        "steps": STEPS,
    }
    (home / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    listening = Listening()
    run = zoo.finetune(home / "recipe.yaml", output=home / "run", progress=listening)
    (home / "said.json").write_text(json.dumps([run.report["stages"], listening.notes]))
    return home


def keys(file):
    with safe_open(file, framework="pt") as opened:
        return set(opened.keys())


def logits(file, images):
    with torch.no_grad():
        return zoo.load(file)(images)


def test_the_base_is_proved_still_and_the_frozen_blocks_in_front_are_cached(home):
    stages, notes = json.loads((home / "said.json").read_text())
    proof = next(stage["freeze_proof"] for stage in stages if stage["action"] == "train")
    assert proof["moved"] == []
    assert {f"{path}.base_layer.weight" for path in ADAPTED} <= set(proof["hashes"])
    assert any(note.startswith("feature cache: 64 samples") for note in notes), notes


def test_a_thin_checkpoint_is_the_adapter_and_the_head_alone(home):
    wanted = {f"{path}.lora_{side}.default.weight" for path in ADAPTED for side in "AB"} | {"head.weight", "head.bias"}
    assert keys(home / "run" / "thin.safetensors") == wanted


def test_the_merged_file_is_the_plain_architecture_and_computes_the_same(home):
    merged = home / "run" / "model.safetensors"
    base, tensors = load_file(home / "base.safetensors"), load_file(merged)
    changed = {name for name in base if not torch.equal(base[name], tensors[name])}
    assert base.keys() == tensors.keys()
    assert changed == {f"{path}.weight" for path in ADAPTED} | {"head.weight", "head.bias"}
    assert not zoo.inspect(merged)["zoo"].get("operations")
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    thin = logits(home / "run" / "thin.safetensors", images)
    assert (thin - logits(merged, images)).abs().max() <= 1e-5
    assert torch.equal(thin, logits(home / "run" / "thin.safetensors", images))


def test_a_killed_run_ends_as_one_that_was_not(home, tmp_path):
    with pytest.raises(Killed):
        zoo.finetune(home / "recipe.yaml", output=tmp_path / "run", progress=Listening(epochs=1))
    zoo.finetune(home / "recipe.yaml", output=tmp_path / "run", resume=True, progress=Listening())
    for name in ("thin.safetensors", "model.safetensors", "adapter/adapter_model.safetensors"):
        mine, its = load_file(home / "run" / name), load_file(tmp_path / "run" / name)
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[key], its[key]) for key in mine), name


def test_converting_merges_what_a_run_left(home, tmp_path):
    zoo.convert(home / "run" / "thin.safetensors", tmp_path / "merged.safetensors", surgeries=["merge_adapters"])
    made, merged = load_file(tmp_path / "merged.safetensors"), load_file(home / "run" / "model.safetensors")
    assert all(torch.equal(made[name], merged[name]) for name in merged)


def test_a_run_takes_up_the_folder_that_another_left(home, tmp_path):
    recipe = yaml.safe_load((home / "recipe.yaml").read_text())
    del recipe["data"]
    recipe["steps"] = [{"load_adapter": "run/adapter"}]  # beside the recipe
    (home / "load.yaml").write_text(yaml.safe_dump(recipe))
    zoo.finetune(home / "load.yaml", output=tmp_path / "run", progress=Listening())
    left = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert left["steps"] == [{"load_adapter": {"folder": str(home / "run" / "adapter")}}]
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(
        logits(tmp_path / "run" / "model.safetensors", images), logits(home / "run" / "thin.safetensors", images)
    )


@pytest.mark.parametrize(
    ("step", "place", "why"),
    [
        ({"lora": {"targets": ["qkw"]}}, "qkw", "no module is called 'qkw' (did you mean qkv?)"),
        ({"lora": {"r": "many"}}, "many", "lora.r: expected an integer or auto, got 'many'"),
        ({"lora": {"rank": 4}}, "rank", "lora: unknown key 'rank'"),
        ({"freeze": "adapters_only"}, "", "adapters_only: the model has no adapters"),
        ("merge_adapters", "", "the model has no adapters to merge"),
        ({"save_adapter": "../out"}, "../out", "cannot name a folder in the run's folder: it contains '/'"),
        ({"load_adapter": "nowhere"}, "", "adapter_config.json cannot be read: No such file or directory"),
    ],
)
def test_check_says_what_is_wrong(step, place, why, tmp_path):
    recipe = {"model": {"architecture": "timm/vit_tiny_patch16_224", "arguments": TINY}, "steps": [step]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(InputError) as caught:
        zoo.finetune(tmp_path / "recipe.yaml", output=tmp_path / "run", progress=Listening())
    (problem,) = caught.value.problems
    assert why in str(problem), str(problem)
    assert not (tmp_path / "run").exists()
