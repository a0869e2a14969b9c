"""Honest runs and checkpoints of many kinds: none is accused, and what cannot be checked says why."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from listeners import Killing
from zoo import registry
from zoo.errors import InputError
from zoo.training.callbacks import Listener
from zoo.verification.verify import verify

HEAD = [{"swap_head": "auto"}, {"freeze": "all_but_head"}]
SHORT = {"train": {"max_steps": 2, "lr": 1e-3}}
AUGMENTED = {"augmentation": "flip"}


def results(document):
    return {row["check"]: row["result"] for row in document["checks"]}


def check_honest(place, *, least=0, **options):
    document = verify(place, device="cpu", **options)
    assert document["ok"], [row for row in document["checks"] if row["result"] == "failed"]
    assert document["confirmed"] >= least
    return document


def test_a_run_with_everything(original):
    document = check_honest(original, least=20)
    assert document["not_checked"] == 0
    found = results(document)
    for row in ("frozen tensors", "frozen tensors and base weights", "coverage", "base weights", "model run again"):
        assert found[row] == "confirmed"
    assert results(verify(original, quick=True))["model run again"] == "not checked"


def test_a_run_that_moved(original, tmp_path):
    moved = shutil.copytree(original, tmp_path / "elsewhere")
    assert check_honest(moved)["not_checked"] == 0


def test_where_a_plugin_is_missing(original, monkeypatch):
    monkeypatch.setenv("ZOO_PLUGINS", "-tutorial")
    registry.refresh()
    try:
        (row,) = (row for row in check_honest(original)["checks"] if row["check"] == "model")
    finally:
        monkeypatch.undo()
        registry.refresh()
    assert (row["result"], "zoo-tutorial" in row["detail"]) == ("not checked", True)


def test_a_checkpoint_by_itself(original, tmp_path):
    alone = shutil.copy(original / "model.safetensors", tmp_path / "downloaded.safetensors")
    document = check_honest(alone, least=12)
    assert document["report"] is False
    why = {row["check"]: row["detail"] for row in document["checks"] if row["result"] == "not checked"}
    assert set(why) == {"report.json", "frozen tensors and base weights"}
    assert results(document)["model run again"] == "confirmed"


def test_what_is_no_checkpoint(tmp_path, base):
    with pytest.raises(InputError, match="is no zoo checkpoint"):
        verify(base)
    with pytest.raises(InputError, match=r"contains no model.safetensors"):
        verify(tmp_path)


STEPS = {
    "a probe": [{"swap_head": "auto"}, "probe"],
    "a probe, then training": [{"swap_head": "auto"}, {"freeze": "all_but_head"}, "probe", SHORT],
    "fine-tuning from a probe": [{"swap_head": "auto"}, {"finetune_from_probe": 1}],
    "frozen, then unfrozen": [*HEAD, SHORT, {"freeze": "none"}, SHORT],
    "unfrozen, then frozen": [{"swap_head": "auto"}, SHORT, {"freeze": "all_but_head"}, SHORT],
    "frozen below a layer": [{"freeze": {"policy": "below", "module": "fc2"}}, SHORT],
    "frozen by pattern": [{"freeze": {"policy": "pattern", "patterns": ["conv"]}}, SHORT],
    "only biases": [{"freeze": "bias_only"}, SHORT],
    "nothing frozen": [SHORT],
    "an init step afterwards": [*HEAD, SHORT, {"freeze": "none"}, {"init": {"match": "conv1", "weight": "zeros"}}],
    "an init step before": [{"init": {"match": "conv1", "weight": "zeros"}}, *HEAD, SHORT],
    "a replaced module": [
        {"replace_module": {"path": "fc2", "module": {"Linear": {"out_features": 84}}}},
        *HEAD,
        SHORT,
    ],
    "an added module": [{"add_module": {"name": "more", "module": {"Linear": {"out_features": 10}}}}, SHORT],
    "a surgery after training": [
        *HEAD,
        SHORT,
        {"add_module": {"name": "more", "module": {"Linear": {"out_features": 10}}}},
    ],
    "a moving average": [*HEAD, {"train": {"epochs": 2, "ema": 0.9}}],
    "the best epoch": [*HEAD, {"train": {"epochs": 2, "keep": "best"}}],
    "evaluation": [*HEAD, SHORT, {"evaluate": {"metrics": ["f1", "top5"]}}],
    "several metrics and smoothing": [*HEAD, {"train": {"max_steps": 2, "metrics": ["auroc"], "label_smoothing": 0.1}}],
    "end to end": [*HEAD, {"train": {"max_steps": 2, "feature_cache": "off"}}],
    "surgery alone": [{"swap_head": "auto"}],
}


@pytest.mark.parametrize(
    "name",
    [name if name == "frozen, then unfrozen" else pytest.param(name, marks=pytest.mark.slow) for name in STEPS],
)
def test_steps(finetuned, base, name):
    folder = finetuned(STEPS[name], model={"architecture": "tutorial/net_a", "weights": str(base)})
    check_honest(folder, least=14)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "steps"),
    [
        ("timm/test_resnet", [{"swap_head": "auto"}, {"freeze": "batchnorm"}, SHORT]),
        ("timm/test_resnet", [{"swap_head": "auto"}, {"freeze": {"policy": "first_stages", "count": 1}}, SHORT]),
        ("timm/test_vit", [*HEAD, SHORT]),
        ("timm/test_efficientnet", [*HEAD, SHORT]),
        ("timm/test_convnext", [{"swap_head": "auto"}, {"freeze": "norm_only"}, SHORT]),
        ("torchvision/squeezenet1_1", [*HEAD, SHORT]),
    ],
)
def test_families(finetuned, architecture, steps):
    found = results(check_honest(finetuned(steps, model=architecture), least=14))
    assert found["frozen tensors"] == "confirmed"


@pytest.mark.slow
def test_saved_on_the_way(finetuned, base):
    model = {"architecture": "tutorial/net_a", "weights": str(base)}
    saves = [{"save": {"name": "thin", "only": "trainable"}}, {"save": {"name": "small", "dtype": "bfloat16"}}]
    folder = finetuned([*HEAD, SHORT, *saves, {"freeze": "none"}, SHORT], model=model)
    check_honest(folder)
    assert results(check_honest(folder / "thin.safetensors"))["thin.safetensors"] == "confirmed"
    small = results(check_honest(folder / "small.safetensors"))
    assert small["frozen tensors"] == "not checked"
    assert small["tensors"] == "confirmed"


@pytest.mark.slow
def test_a_test_part_and_augmentation(finetuned):
    folder = finetuned([*HEAD, SHORT], data={"test_fraction": 0.2, **AUGMENTED}, model="tutorial/net_a")
    check_honest(folder)
    zoo.evaluate(folder / "model.safetensors", part="test", device="cpu")  # a second look is noted in the report
    assert len(json.loads((folder / "report.json").read_text())["evaluation"]["test_looks"]) >= 2
    check_honest(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of small pictures, with a table of two labels and one of values."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    labels, values = ["path,label"], ["path,label"]
    for index in range(24):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        labels.append(f"{index}.png,{('red', 'blue', 'red|blue')[index % 3]}")
        values.append(f"{index}.png,{index / 7:.3f}")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    (folder / "values.csv").write_text("\n".join(values) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("table", "more"), [("labels.csv", {"separator": "|"}), ("values.csv", {})])
def test_other_tasks(finetuned, pictures, table, more):
    data = {"source": "csv", "path": str(pictures / table), "limit": None, **more}
    folder = finetuned([{"swap_head": "auto"}, SHORT], data=data)
    found = results(check_honest(folder))
    assert found["model run again"] == "confirmed"
    shutil.move(pictures / "3.png", pictures / "3.away")
    try:
        assert results(check_honest(folder))["model run again"] == "not checked"
    finally:
        shutil.move(pictures / "3.away", pictures / "3.png")


def test_data_by_a_relative_path(finetuned, pictures, tmp_path, monkeypatch):
    """Images are the ones that were measured wherever one stands, and after data and run moved together."""
    home = tmp_path / "home"
    shutil.copytree(pictures, home / "pictures")
    monkeypatch.chdir(home)
    recipe = {
        "model": "tutorial/net_a",
        "data": {"source": "csv", "path": "pictures/values.csv", "image_size": 32, "workers": 0},
        "steps": [{"swap_head": "auto"}, SHORT],
    }
    zoo.finetune(recipe, output="run", progress=Listener(), device="cpu")
    assert results(check_honest("run"))["model run again"] == "confirmed"
    monkeypatch.chdir(tmp_path)
    home.rename("moved")
    assert results(check_honest("moved/run"))["model run again"] == "confirmed"


@pytest.mark.slow
def test_interrupted_and_resumed(tmp_path):
    data = {"source": "sklearn/digits", "image_size": 32, "batch_size": 32, "limit": 60}
    train = {"train": {"epochs": 3, "lr": 1e-3}}
    (tmp_path / "r.yaml").write_text(
        json.dumps({"name": "r", "model": {"architecture": "tutorial/net_a"}, "data": data, "steps": [*HEAD, train]})
    )
    with pytest.raises(KeyboardInterrupt):
        zoo.finetune(
            tmp_path / "r.yaml",
            output=tmp_path / "out",
            progress=Killing(epoch=1, error=KeyboardInterrupt()),
            device="cpu",
        )
    found = results(check_honest(tmp_path / "out"))
    assert found["frozen tensors"] == "not checked"
    zoo.finetune(tmp_path / "r.yaml", output=tmp_path / "out", progress=Listener(), device="cpu", resume=True)
    assert results(check_honest(tmp_path / "out"))["frozen tensors"] == "confirmed"


@pytest.mark.slow
def test_a_model_saved_from_python(tmp_path):
    torch.manual_seed(0)
    model = zoo.build("timm/test_resnet", num_classes=3)
    zoo.freeze(model)
    zoo.save(model, tmp_path / "own.safetensors", classes=("a", "b", "c"), metrics={"mine": 0.5}, dtype="float16")
    found = results(check_honest(tmp_path / "own.safetensors"))
    assert found["model"] == "confirmed"
    assert found["model run again"] == "not checked"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bf16", None])
def test_a_converted_checkpoint(original, tmp_path, dtype):
    zoo.convert(original / "model.safetensors", tmp_path / "new.safetensors", **({"dtype": dtype} if dtype else {}))
    found = results(check_honest(tmp_path / "new.safetensors"))
    assert found["tensors"] == ("not checked" if dtype else "confirmed")
