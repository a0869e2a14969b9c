"""What has to hold on a GPU: run there with `python -m pytest tests/gpu`, and left out where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import zoo
from listeners import Killed, Killing
from zoo.errors import WorkError
from zoo.training import autotune
from zoo.training import trainer as trainer_module

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

STEPS: list[dict[str, Any]] = [
    {"swap_head": {"num_classes": "auto"}},
    {"freeze": "all_but_head"},
    {"train": {"epochs": 2, "lr": 0.01}},
    {"freeze": {"policy": "below", "module": "layer3"}},
    {"train": {"epochs": 2, "lr": 0.01, "ema": 0.9, "optimizer": {"SGD": {"momentum": 0.9}}}},
]


@pytest.fixture
def deterministic(monkeypatch) -> Iterator[None]:
    """Kernels that add in one order, as docs/reproducibility.md asks for on a GPU."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def recipe(folder: Path, steps: list[dict[str, Any]] = STEPS, **changes: Any) -> str:
    written = {
        "name": "small",
        "model": {"architecture": "timm/test_resnet"},
        "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 32, "limit": 256, "workers": 2},
        "steps": steps,
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(written))
    return str(path)


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    mine, theirs = tensors(first), tensors(second)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16", "float16"])
def test_a_run_on_the_gpu_is_one_file_that_a_cpu_reads(precision, tmp_path):
    run = zoo.finetune(recipe(tmp_path, precision=precision), output=tmp_path / "run", device="cuda")
    assert run.report["device"].startswith("cuda")
    assert all(not stage["freeze_proof"]["moved"] for stage in run.report["stages"])
    there = zoo.evaluate(run.checkpoint, device="cuda")["metrics"]
    assert there == run.metrics  # to the last digit
    here = zoo.evaluate(run.checkpoint, device="cpu")["metrics"]
    assert here["loss"] == pytest.approx(there["loss"], rel=2e-2)


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_the_same_recipe_gives_the_same_bits(cache, deterministic, tmp_path):
    steps = [({"train": {**step["train"], "feature_cache": cache}} if "train" in step else step) for step in STEPS]
    path = recipe(tmp_path, steps, precision="float32")
    for name in ("first", "second"):
        zoo.finetune(path, output=tmp_path / name, device="cuda")
    assert same(tmp_path / "first", tmp_path / "second")


def test_the_feature_cache_changes_no_answer(deterministic, tmp_path):
    losses = []
    for cache in ("auto", "off"):
        steps = [({"train": {**step["train"], "feature_cache": cache}} if "train" in step else step) for step in STEPS]
        path = recipe(tmp_path, steps, precision="float32")
        losses.append(zoo.finetune(path, output=tmp_path / cache, device="cuda").metrics["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fine_tuning_from_a_probe_ends_with_the_number_of_the_line(precision, tmp_path):
    steps: list[dict[str, Any]] = [{"swap_head": "auto"}, {"finetune_from_probe": {"epochs": 1, "lr": 1e-3}}]
    run = zoo.finetune(recipe(tmp_path, steps, precision=precision), output=tmp_path / "run", device="cuda")
    stage = run.report["stages"][-1]
    points = {point["alpha"]: point["metrics"] for point in stage["line"]["points"]}
    assert points[stage["alpha"]]["accuracy"] == max(point["accuracy"] for point in points.values())
    assert run.metrics["accuracy"] == pytest.approx(points[stage["alpha"]]["accuracy"], abs=0.01)
    assert run.metrics["loss"] == pytest.approx(points[stage["alpha"]]["loss"], rel=1e-3)
    assert stage["probe"]["metrics"]["accuracy"] == pytest.approx(points[0]["accuracy"], abs=0.02)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("stage", "step"), [(1, 3), (2, 2), (2, 9)])
def test_a_killed_run_resumes_bit_for_bit(precision, stage, step, deterministic, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, "SAVE_SECONDS", 0.0)
    path = recipe(tmp_path, precision=precision)
    zoo.finetune(path, output=tmp_path / "whole", device="cuda")
    from zoo.finetuning.finetune import finetune

    with pytest.raises(Killed):
        finetune(path, output=tmp_path / "run", device="cuda", progress=Killing(step, stage=stage))
    torch.manual_seed(123)
    torch.cuda.manual_seed(9)
    finetune(path, output=tmp_path / "run", device="cuda", resume=True)
    assert same(tmp_path / "whole", tmp_path / "run")


def test_a_probe_is_the_same_optimum_on_both_devices(tmp_path):
    steps = [{"swap_head": {"num_classes": "auto"}}, {"freeze": "all_but_head"}, {"probe": {}}]
    path = recipe(tmp_path, steps, precision="float32")
    losses = [zoo.finetune(path, output=tmp_path / device, device=device).metrics["loss"] for device in ("cuda", "cpu")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_running_out_of_memory_is_told_as_that(tmp_path):
    path = recipe(tmp_path, [*STEPS[:1], {"train": {"epochs": 1, "lr": 0.01}}])
    large = ["data.image_size=224", "data.batch_size=256"]
    torch.cuda.empty_cache()
    few = (64 << 20) / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(few)
    try:
        with pytest.raises(WorkError, match="memory") as refused:
            zoo.finetune(path, overrides=large, output=tmp_path / "run", device="cuda")
        assert "batch_size" in str(refused.value.problems[0].suggestion)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def of_batches(folder: Path, size: int, **train: Any) -> dict[str, Any]:
    """The report's row of a training without batch norm on 256 images at 128 px, in batches of `size`."""
    steps = [{"swap_head": "auto"}, {"train": {"epochs": 1, "lr": 0.01, "feature_cache": "off", **train}}]
    data = {"source": "sklearn/digits", "image_size": 128, "batch_size": size, "limit": 256, "workers": 2}
    model = {"architecture": "timm/test_vit", "arguments": {"img_size": 128}}
    path = recipe(folder, steps, model=model, data=data, precision="float32")
    return zoo.finetune(path, output=folder / "run", device="cuda").report["stages"][0]


def test_batches_that_do_not_fit_are_trained_in_parts(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = of_batches(tmp_path / "whole", 128)
    torch.cuda.empty_cache()
    few = torch.cuda.memory_reserved() + int(0.6 * whole["epochs"][-1]["peak_memory"])
    torch.cuda.set_per_process_memory_fraction(few / torch.cuda.get_device_properties(0).total_memory)
    try:
        parts = of_batches(tmp_path / "parts", 128)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert whole["parts"] == 1 < parts["parts"]
    assert parts["epochs"][-1]["loss"] == pytest.approx(whole["epochs"][-1]["loss"], rel=1e-3)


def test_gradient_checkpointing_needs_less_memory_for_the_same_bits(deterministic, tmp_path):
    for name in ("plain", "saving"):
        (tmp_path / name).mkdir()
    plain, saving = (
        of_batches(tmp_path / "plain", 128),
        of_batches(tmp_path / "saving", 128, gradient_checkpointing=True),
    )
    assert same(tmp_path / "plain/run", tmp_path / "saving/run")
    assert saving["epochs"][-1]["peak_memory"] < 0.8 * plain["epochs"][-1]["peak_memory"]


def test_the_largest_batch_is_found_by_trial(tmp_path):
    row = of_batches(tmp_path, 8, batch_size="auto")
    assert row["batch_size"] > 8


def test_settings_are_timed_on_features_of_any_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(autotune, "WORTH_TIMING", 0.0)
    monkeypatch.setattr(autotune, "PAYS", 0.0)
    steps = [*STEPS[:1], {"freeze": {"policy": "below", "module": "layer3"}}, {"train": {"epochs": 1, "lr": 0.01}}]
    run = zoo.finetune(recipe(tmp_path, steps), output=tmp_path / "run", device="cuda")
    assert run.report["stages"][0]["precision"] in {"float32", "bfloat16"}


def test_predictions_are_those_of_the_cpu(tmp_path):
    run = zoo.finetune(recipe(tmp_path, precision="float32"), output=tmp_path / "run", device="cuda")
    from PIL import Image
    from sklearn.datasets import load_digits

    images = []
    for index, digit in enumerate(load_digits().images[:20]):
        images.append(tmp_path / f"{index}.png")
        Image.fromarray((digit * 15).astype("uint8")).save(images[-1])
    answers = [
        [row["predictions"][0]["label"] for row in zoo.predict(run.checkpoint, images, device=device)]
        for device in ("cuda", "cpu")
    ]
    assert answers[0] == answers[1]
    assert json.loads((tmp_path / "run" / "report.json").read_text())["metrics"] == run.metrics


def test_what_a_run_leaves_is_whole(tmp_path, capsys):
    steps = [*STEPS[:2], {"train": {"epochs": 6, "lr": 0.01, "early_stopping": 2}}]
    run = zoo.finetune(recipe(tmp_path, steps), output=tmp_path / "run", device="cuda")
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"report.html", "README.md", "first_batch.jpg", "confusion.csv", "metrics.csv", "status.json"} <= left
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "done"
    page = (tmp_path / "run/report.html").read_text()
    assert "Grad-CAM" in page
    assert "could not" not in capsys.readouterr().err
    checked = zoo.verify(run.folder, device="cuda")
    assert checked["ok"], checked


def test_a_regression_is_learned_in_its_unit(tmp_path):
    from PIL import Image
    from sklearn.datasets import load_digits

    (tmp_path / "images").mkdir()
    digits = load_digits()
    rows = ["path,label"]
    for index in range(96):
        Image.fromarray((digits.images[index] * 15).astype("uint8")).save(tmp_path / f"images/{index}.png")
        rows.append(f"images/{index}.png,{250_000.0 + 1_000.5 * digits.target[index]}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    data = {"source": "csv", "path": str(tmp_path / "table.csv"), "image_size": 32, "batch_size": 16, "workers": 2}
    steps = [{"swap_head": "auto"}, {"train": {"epochs": 3, "lr": 0.003}}]
    run = zoo.finetune(recipe(tmp_path, steps, data=data), output=tmp_path / "run", device="cuda")
    assert run.metrics["mae"] < 20_000
    assert zoo.evaluate(run.checkpoint, device="cpu")["metrics"]["mae"] == pytest.approx(run.metrics["mae"], rel=0.05)


def test_features_are_those_of_the_cpu(tmp_path):
    run = zoo.finetune(recipe(tmp_path, precision="float32"), output=tmp_path / "run", device="cuda")
    found = []
    for device in ("cuda", "cpu"):
        file = tmp_path / f"{len(found)}.safetensors"
        zoo.embed(run.checkpoint, "sklearn/digits", file, device=device)
        found.append(load_file(file)["features"])
    assert found[0].shape == found[1].shape
    assert torch.allclose(found[0], found[1], atol=2e-2)


def test_an_export_of_what_a_gpu_trained(tmp_path):
    pytest.importorskip("onnxruntime")
    run = zoo.finetune(recipe(tmp_path), output=tmp_path / "run", device="cuda")
    report = zoo.export(run.checkpoint, tmp_path / "model.onnx")
    assert report.agreement.changed == 0


def test_adapters_train_and_the_base_does_not(tmp_path):
    pytest.importorskip("peft")
    train = {"train": {"epochs": 1, "lr": 0.01}}
    steps = [{"swap_head": "auto"}, {"lora": {"r": 4}}, {"freeze": "adapters_only"}, train]
    model = {"architecture": "timm/test_vit"}
    run = zoo.finetune(recipe(tmp_path, steps, model=model), output=tmp_path / "run", device="cuda")
    proof = run.report["stages"][0]["freeze_proof"]
    assert (proof["tensors"] > 10, proof["moved"]) == (True, [])


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_samples_are_mixed_on_the_gpu_without_waiting_for_it():
    from zoo.data.batches import Batch
    from zoo.data.mixing import MixedBatches, Mixing

    images, targets = torch.rand(8, 3, 16, 16, device="cuda"), torch.arange(8, device="cuda") % 3
    mixed = MixedBatches(None, Mixing(0.2, 1.0), task="classification", outputs=3, seed=0)  # batches are not asked
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = [mixed._mixed(Batch(images, targets, torch.arange(8)), (0, 0, index)) for index in range(8)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for index, batch in enumerate(batches):
        expected = mixed._mixed(Batch(images.cpu(), targets.cpu(), torch.arange(8)), (0, 0, index))
        assert batch.targets.is_cuda
        assert torch.allclose(batch.inputs.cpu(), expected.inputs, atol=1e-6)
        assert torch.allclose(batch.targets.cpu(), expected.targets, atol=1e-6)
