"""Merging: averages across layouts and class orders, what is refused, and networks trained from one base."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import zoo
from zoo.cli import run
from zoo.errors import InputError, WorkError
from zoo.formats.safetensors_file import read_header

VIT = "timm/test_vit"


def record(path: Path) -> dict[str, Any]:
    return json.loads(read_header(path).metadata["zoo"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small transformer, every parameter random."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    model = zoo.build(VIT, num_classes=4)
    torch.save({name: torch.randn_like(value) * 0.1 for name, value in model.state_dict().items()}, folder / "base.pth")
    return folder / "base.pth"


@pytest.fixture
def tuned(base: Path, tmp_path: Path) -> Callable[..., Path]:
    """`tuned("a", seed=1)`: a checkpoint that was moved a little from the base."""

    def tune(name: str, seed: int, classes: tuple[str, ...] = ("ant", "bee", "cow", "dog"), **kept: Any) -> Path:
        model = zoo.build(VIT, weights=str(base), num_classes=4)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value in model.state_dict().values():
                value += torch.randn(value.shape, generator=generator) * 0.01
        zoo.save(model, tmp_path / f"{name}.safetensors", classes=classes, **kept)
        return tmp_path / f"{name}.safetensors"

    return tune


def mean(*files: Path) -> dict[str, torch.Tensor]:
    states = [load_file(file) for file in files]
    return {name: sum(s[name].double() for s in states).div(len(states)).float() for name in states[0]}


def same(state: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in state.items())


def test_an_average_is_a_checkpoint_that_says_what_it_is_made_of(tuned: Callable[..., Path], tmp_path: Path) -> None:
    files, out = [tuned("a", 1), tuned("b", 2)], tmp_path / "mean.safetensors"
    made = zoo.merge(files, out)
    got, expected = load_file(out), mean(*files)
    assert got.keys() == expected.keys()
    assert all(torch.allclose(got[name], value, rtol=0, atol=1e-9) for name, value in expected.items())
    told = record(out)
    assert told["merged_from"] == {
        "method": "average",
        "members": [
            {"name": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "weight": 0.5}
            for file in files
        ],
    }
    assert told["classes"] == ["ant", "bee", "cow", "dog"]
    assert told["base_weights"] == record(files[0])["base_weights"]
    assert zoo.load(out)(torch.zeros(1, 3, 160, 160)).shape == (1, 4)
    assert made.notes == []


def test_across_layouts_it_is_the_same_bit_for_bit(tuned: Callable[..., Path], tmp_path: Path) -> None:
    """The second member also as transformers stores it: other names, query, key and value apart."""
    one, two = tuned("a", 1), tuned("b", 2)
    zoo.convert(two, tmp_path / "hf.safetensors", "timm/from_transformers_vit", invert=True)
    foreign = tmp_path / "hf.safetensors"
    assert len(load_file(foreign)) > len(load_file(two))
    zoo.merge([one, two], tmp_path / "same.safetensors")
    made = zoo.merge([one, foreign], tmp_path / "across.safetensors")
    assert same(load_file(tmp_path / "across.safetensors"), load_file(tmp_path / "same.safetensors"))
    assert any("hf.safetensors" in note for note in made.notes)
    named = zoo.merge([foreign, foreign], tmp_path / "named.safetensors", to=VIT, to_arguments={"num_classes": 4})
    assert same(load_file(tmp_path / "named.safetensors"), load_file(two))
    assert named.members[0]["weight"] == 0.5
    with pytest.raises(InputError, match=r"which architecture it is of.*--to ARCHITECTURE"):
        zoo.merge([foreign, foreign], tmp_path / "other.safetensors")


def test_heads_are_joined_by_class_name(tuned: Callable[..., Path], tmp_path: Path) -> None:
    one = tuned("a", 1)
    two = tuned("b", 2, classes=("Cow", "emu", "bee", "ant"))
    zoo.merge([one, two], tmp_path / "out.safetensors")
    head, first, second = (load_file(file)["head.weight"] for file in (tmp_path / "out.safetensors", one, two))
    assert record(tmp_path / "out.safetensors")["classes"] == ["ant", "bee", "cow", "dog", "emu"]
    expected = [(first[0] + second[3]) / 2, (first[1] + second[2]) / 2, (first[2] + second[0]) / 2, first[3], second[1]]
    assert torch.allclose(head, torch.stack(expected), rtol=0, atol=1e-8)
    assert zoo.load(tmp_path / "out.safetensors").head.out_features == 5


def test_heads_of_other_widths_without_classes_are_refused(tmp_path: Path) -> None:
    for outputs in (3, 4):
        zoo.save(zoo.build(VIT, num_classes=outputs), tmp_path / f"{outputs}.safetensors")
    with pytest.raises(InputError, match=r"4.safetensors differs from the others in the shape of head.weight"):
        zoo.merge([tmp_path / "3.safetensors", tmp_path / "4.safetensors"], tmp_path / "out.safetensors")


def test_members_of_other_bases_are_refused(tuned: Callable[..., Path], base: Path, tmp_path: Path) -> None:
    state = {name: value + 0.5 for name, value in torch.load(base).items()}
    torch.save(state, tmp_path / "elsewhere.pth")
    stranger = zoo.build(VIT, weights=str(tmp_path / "elsewhere.pth"), num_classes=4)
    zoo.save(stranger, tmp_path / "stranger.safetensors")
    with pytest.raises(InputError, match=r"fine-tuned from other weights: a.safetensors .*; stranger.safetensors"):
        zoo.merge([tuned("a", 1), tmp_path / "stranger.safetensors"], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    zoo.save(zoo.build(VIT, num_classes=4), tmp_path / "unknown.safetensors")
    made = zoo.merge([tuned("a", 1), tmp_path / "unknown.safetensors"], tmp_path / "out.safetensors")
    assert made.notes[-1].startswith("of unknown.safetensors it is not known whether the base is that of the others")


def test_wise_ft_goes_from_the_base_to_what_was_tuned(tuned: Callable[..., Path], base: Path, tmp_path: Path) -> None:
    tuned_file, out = tuned("a", 1), tmp_path / "out.safetensors"
    made = zoo.merge([base, tuned_file], out, method="wise-ft", alpha=0.25)
    start, end, got = torch.load(base), load_file(tuned_file), load_file(out)
    assert all(torch.allclose(got[n], 0.75 * start[n] + 0.25 * end[n], rtol=0, atol=1e-7) for n in end)
    assert (record(out)["merged_from"]["alpha"], made.alpha, made.notes) == (0.25, 0.25, [])
    zoo.merge([base, tuned_file], out, method="wise-ft", alpha=1, overwrite=True)
    assert same(load_file(out), end)


def test_a_base_that_was_converted_first_is_known_again(tuned: Callable[..., Path], base: Path, tmp_path: Path) -> None:
    zoo.convert(base, tmp_path / "base.safetensors", to=VIT, to_arguments={"num_classes": 4})
    files = [tmp_path / "base.safetensors", tuned("a", 1)]
    assert zoo.merge(files, tmp_path / "out.safetensors", method="wise-ft").notes == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "avrage"}, "did you mean average"),
        ({"method": "greedy"}, "greedy chooses by validation data.*--data RECIPE"),
        ({"alpha": 0.5}, "alpha belongs to wise-ft"),
        ({"method": "wise-ft", "alpha": 2}, "from 0, the first checkpoint, to 1"),
    ],
)
def test_requests_that_make_no_sense(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        zoo.merge(["a.safetensors", "b.safetensors"], tmp_path / "out.safetensors", **options)
    with pytest.raises(InputError, match="nothing to merge"):
        zoo.merge(["a.safetensors"], tmp_path / "out.safetensors")
    with pytest.raises(InputError, match=r"wise-ft takes two checkpoints.*--method average"):
        zoo.merge(["a", "b", "c"], tmp_path / "out.safetensors", method="wise-ft")


def test_nothing_is_replaced_unasked(tuned: Callable[..., Path], tmp_path: Path) -> None:
    one, two = tuned("a", 1), tuned("b", 2)
    before = one.read_bytes()
    with pytest.raises(InputError, match="is one of the sources"):
        zoo.merge([one, two], one, overwrite=True)
    with pytest.raises(InputError, match="safetensors only"):
        zoo.merge([one, two], tmp_path / "out.pth")
    (tmp_path / "out.safetensors").write_text("what stood here before")
    with pytest.raises(InputError, match=r"is there already.*--overwrite"):
        zoo.merge([one, two], tmp_path / "out.safetensors")
    assert (one.read_bytes(), (tmp_path / "out.safetensors").read_text()) == (before, "what stood here before")


def test_other_networks_and_other_normalisation_are_refused(tuned: Callable[..., Path], tmp_path: Path) -> None:
    zoo.save(zoo.build("timm/test_resnet", num_classes=4), tmp_path / "resnet.safetensors")
    with pytest.raises(InputError, match=r"resnet.safetensors is of timm/test_resnet, the others are of timm/test_vit"):
        zoo.merge([tuned("a", 1), tmp_path / "resnet.safetensors"], tmp_path / "out.safetensors")
    with pytest.raises(WorkError, match=r"does not fill the model|--remap auto"):
        zoo.merge([tuned("a", 1), tmp_path / "resnet.safetensors"], tmp_path / "out.safetensors", remap="auto")
    grey = zoo.Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="takes images with mean"):
        zoo.merge([tuned("a", 1), tuned("b", 2, preprocessing=grey)], tmp_path / "out.safetensors")


# Networks that were trained, measured on digits.

RECIPE = {
    "model": {"architecture": "timm/test_resnet"},
    "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 64, "limit": 600},
    "steps": [{"swap_head": "auto"}, {"train": {"max_steps": 40, "lr": 3e-3}}],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, two networks fine-tuned from it, and one that was trained alone."""
    folder = tmp_path_factory.mktemp("trained")
    made = {"base": zoo.finetune(RECIPE, output=folder / "base").checkpoint}
    made["stranger"] = zoo.finetune({**RECIPE, "seed": 7}, output=folder / "stranger").checkpoint
    torch.save(zoo.load(made["base"]).state_dict(), folder / "base.pth")
    model = {"architecture": "timm/test_resnet", "arguments": {"num_classes": 10}, "weights": str(folder / "base.pth")}
    for seed in (1, 2):
        steps = [{"train": {"max_steps": 15, "lr": 1e-3}}]
        recipe = {**RECIPE, "model": model, "steps": steps}
        overrides = [f"train.lr={seed}e-3"]
        made[f"tuned{seed}"] = zoo.finetune(recipe, output=folder / f"{seed}", overrides=overrides).checkpoint
    made["recipe"] = folder / "recipe.yaml"
    made["recipe"].write_text(json.dumps(RECIPE))
    return {name: Path(path) for name, path in made.items()}


@pytest.mark.slow
def test_on_data_members_and_result_are_measured_as_by_evaluate(trained: dict[str, Path], tmp_path: Path) -> None:
    files, out = [trained["tuned1"], trained["tuned2"]], tmp_path / "out.safetensors"
    made = zoo.merge(files, out, data=trained["recipe"], device="cpu")
    for row, file in zip(made.members, files, strict=True):
        assert row["metrics"] == zoo.evaluate(file, trained["recipe"], device="cpu")["metrics"]
    assert made.metrics == record(out)["metrics"] == zoo.evaluate(out, trained["recipe"], device="cpu")["metrics"]
    assert record(out)["evaluation"]["part"] == "validation"
    assert record(out)["evaluation"]["samples"] == made.evaluation["samples"] > 100
    assert made.metrics["accuracy"] >= min(row["metrics"]["accuracy"] for row in made.members) - 0.01
    plain = zoo.merge(files, tmp_path / "plain.safetensors")
    assert any("batch norms were averaged" in note for note in plain.notes)
    statistics = [name for name in load_file(out) if name.endswith("running_mean")]
    both = load_file(out), load_file(tmp_path / "plain.safetensors")
    assert not any(torch.equal(both[0][name], both[1][name]) for name in statistics)
    weights = [name for name in both[0] if name.endswith("weight")]
    assert all(torch.equal(both[0][name], both[1][name]) for name in weights)


@pytest.mark.slow
def test_a_barrier_is_seen_and_nothing_written(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(trained["base"]), str(trained["stranger"])]
    out = tmp_path / "out.safetensors"
    assert run(["merge", *files, str(out), "--data", str(trained["recipe"]), "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert "there is a barrier between the members: their average has loss" in said
    assert not out.exists()
    assert "--method greedy" in said
    greedy = ["--method", "greedy", "--data", str(trained["recipe"]), "--device", "cpu", "--json"]
    assert run(["merge", *files, str(out), *greedy]) == 0
    made = json.loads(capsys.readouterr().out)
    assert sorted(row["weight"] for row in made["members"]) == [0.0, 1.0]
    assert made["metrics"] == max((row["metrics"] for row in made["members"]), key=lambda values: values["accuracy"])


@pytest.mark.slow
def test_the_best_alpha_is_searched_for(trained: dict[str, Path], tmp_path: Path) -> None:
    files = [trained["base"], trained["tuned1"]]
    made = zoo.merge(files, tmp_path / "out.safetensors", method="wise-ft", data=trained["recipe"], device="cpu")
    assert made.alpha in np.arange(11) / 10
    assert made.metrics["accuracy"] >= max(row["metrics"]["accuracy"] for row in made.members)
