"""What `zoo check --estimate` says of ten short recipes, beside what they then take: the table of docs/time.md.

    python benchmarks/estimates.py                     all of them; what is measured already is kept
    python benchmarks/estimates.py quickstart probe    some
    python benchmarks/estimates.py --clock wall        by the clock on the wall, on a machine that does nothing else

Each recipe is estimated in one fresh process and carried out in another, with an empty cache. By default both count
the seconds of the processor (`time.process_time`): on a machine that others use, too, those of the wall are theirs.
Results are kept in a folder, a file a recipe, so that the table can be made in pieces.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DIGITS = {"source": "sklearn/digits", "image_size": 64, "batch_size": 32, "workers": 0}
RESNET = "timm/resnet10t"
PLAIN: dict[str, Any] = {"precision": "float32"}


def steps(*steps: Any) -> dict[str, Any]:
    return {"steps": [{"swap_head": "auto"}, *steps]}


def images(folder: Path) -> None:
    """Digits as files: a folder a class, and tables of several labels and of a number."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    several, value = ["path,label"], ["path,label"]
    for index, (picture, digit) in enumerate(zip(digits.images, digits.target.tolist(), strict=True)):
        path = folder / str(digit) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grown = np.kron(picture / 16 * 255, np.ones((24, 24))).astype(np.uint8)
        Image.fromarray(grown).convert("RGB").save(path)
        labels = ["even"] * (digit % 2 == 0) + ["large"] * (digit > 4) + ["digit"]
        several.append(f"{digit}/{index}.png,{'|'.join(labels)}")
        value.append(f"{digit}/{index}.png,{digit * 2.5}")
    (folder / "several.csv").write_text("\n".join(several))
    (folder / "value.csv").write_text("\n".join(value))


def recipes(folder: Path) -> dict[str, dict[str, Any]]:
    table = {"batch_size": 32, "image_size": 64, "workers": 1}
    several = {"source": "csv", "path": str(folder / "several.csv"), "separator": "|", "task": "multilabel", **table}
    value = {"source": "csv", "path": str(folder / "value.csv"), "task": "regression", **table}
    freeze = {"freeze": "all_but_head"}
    return {
        "quickstart": _quickstart(),
        "end to end": PLAIN | {"model": RESNET, "data": DIGITS} | steps({"train": {"epochs": 3, "lr": 0.001}}),
        "probe": PLAIN | {"model": "timm/resnet18", "data": DIGITS} | steps(freeze, "probe", "evaluate"),
        "cached features": PLAIN | {"model": "timm/resnet18", "data": DIGITS} | steps(freeze, {"train": 20}),
        "every step": PLAIN
        | {"model": RESNET, "data": DIGITS | {"augmentation": "flip"}}
        | steps(freeze, {"train": {"epochs": 3, "feature_cache": "every_step"}}),
        "vit": PLAIN
        | {"model": {"architecture": "timm/vit_tiny_patch16_224", "arguments": {"img_size": 64}}, "data": DIGITS}
        | steps({"train": {"max_steps": 50, "lr": 0.0003}}),
        "several steps": PLAIN
        | {"model": RESNET, "data": DIGITS}
        | steps(
            freeze,
            "probe",
            {"freeze": {"policy": "below", "module": "layer4"}},
            {"train": {"epochs": 2, "lr": 0.001, "ema": 0.9}},
            {"freeze": "none"},
            {"train": {"epochs": 2, "lr": 0.0001, "accumulate": 2, "optimizer": "SGD"}},
            "evaluate",
        ),
        "several labels": PLAIN | {"model": RESNET, "data": several} | steps({"train": {"epochs": 1, "lr": 0.001}}),
        "regression": PLAIN | {"model": RESNET, "data": value} | steps({"train": {"epochs": 1, "lr": 0.001}}),
        "folder": {"model": RESNET, "data": {"source": "image_folder", "path": str(folder), **table}}
        | steps({"train": {"epochs": 2, "lr": 0.001}}),
    }


def _quickstart() -> dict[str, Any]:
    import yaml

    text = (Path(__file__).parents[1] / "recipes" / "quickstart.yaml").read_text(encoding="utf-8")
    recipe: dict[str, Any] = yaml.safe_load(text)
    recipe["data"]["limit"] = 800
    recipe["steps"][2]["train"]["epochs"], recipe["steps"][4]["train"]["epochs"] = 5, 1
    return recipe


ESTIMATED = """
import json, time, sys
if sys.argv[2] == "cpu":
    time.monotonic = time.perf_counter = time.process_time
from zoo.isolation import owned_process
from zoo.recipe import load_recipe
from zoo.finetuning.estimate import estimate
with owned_process():
    print(json.dumps(estimate(load_recipe(sys.argv[1])).as_dict()))
"""
CARRIED_OUT = """
import contextlib, json, os, sys, threading, time
from pathlib import Path
if sys.argv[2] == "cpu":
    time.monotonic = time.perf_counter = time.process_time
from zoo.finetuning.finetune import finetune
from zoo.finetuning.trial import folder_bytes
from zoo.isolation import owned_process
from zoo.recipe import load_recipe
from zoo.training.callbacks import Listener
from zoo.training.devices import peak_memory
state = [0]
def watch():
    while True:
        with contextlib.suppress(OSError):  # a file that is gone by now
            state.append(folder_bytes(Path("run/state")))
        threading.Event().wait(0.05)
threading.Thread(target=watch, daemon=True).start()
recipe = load_recipe(sys.argv[1])
with owned_process():
    began = time.monotonic()
    run = finetune(recipe, output="run", progress=Listener())
    seconds = time.monotonic() - began
gpu = max([row["epochs"][-1]["peak_memory"] or 0 for row in run.report["stages"] if row.get("epochs")], default=0)
memory = gpu if run.device.type == "cuda" else peak_memory(run.device)
features = Path(os.environ["ZOO_CACHE"]) / "features"
print(json.dumps({"seconds": seconds, "memory": memory, "folder": folder_bytes(Path("run")), "state": max(state),
    "features": folder_bytes(features) if features.is_dir() else 0,
    "steps": {row["step"]: row.get("seconds") for row in run.report["stages"]}}))
"""


def compared(name: str, recipe: dict[str, Any], clock: str) -> dict[str, Any]:
    """The estimate of a recipe, and what it then took."""
    import yaml

    found: dict[str, Any] = {"name": name, "clock": clock}
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        for key, code in (("estimate", ESTIMATED), ("taken", CARRIED_OUT)):
            surroundings = os.environ | {"ZOO_CACHE": str(Path(scratch) / f"cache-{key}")}
            command = [sys.executable, "-c", code, "recipe.yaml", clock]
            done = subprocess.run(command, cwd=scratch, env=surroundings, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name}: {key} failed:\n{done.stderr[-3000:]}")
            found[key] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(found: dict[str, Any]) -> str:
    """A row of the table: estimated and taken seconds, memory and disk."""
    estimate, taken = found["estimate"], found["taken"]
    cells = [found["name"], f"{estimate['seconds']:.1f}", f"{taken['seconds']:.1f}", _off(estimate, taken, "seconds")]
    cells += [f"{estimate['memory'] / 1e6:,.0f}", f"{taken['memory'] / 1e6:,.0f}", _off(estimate, taken, "memory")]
    for key in ("folder", "state", "features"):
        cells.append(f"{estimate[key] / 1e6:.1f} / {taken[key] / 1e6:.1f}")
    return f"| {' | '.join(cells)} | {estimate['trial']:.1f} |"


def _off(estimate: dict[str, Any], taken: dict[str, Any], key: str) -> str:
    return f"{estimate[key] / taken[key] - 1:+.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    parser.add_argument("--results", type=Path, default=Path("estimates"))
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images(folder)
        for name, recipe in recipes(folder).items():
            file = given.results / f"{given.clock}-{name.replace(' ', '-')}.json"
            if file.exists() or (given.names and name not in given.names):
                continue
            found = compared(name, recipe, given.clock)
            file.write_text(json.dumps(found))
            print(row(found), flush=True)
    heads = ("recipe", "estimated s", "taken s", "off", "estimated MB", "taken MB", "off")
    print(f"\n| {' | '.join((*heads, 'folder MB', 'state MB', 'features MB', 'trial s'))} |")
    print(f"| --- |{' ---: |' * 10}")
    for file in sorted(given.results.glob(f"{given.clock}-*.json")):
        print(row(json.loads(file.read_text())))


if __name__ == "__main__":
    main()
