"""What a new user gets from zoo's defaults, beside the defaults of AutoGluon's AutoMM written by hand, as a table.

    python benchmarks/defaults.py                                   everything; a quarter of an hour of processor time
    python benchmarks/defaults.py --only digits/lite0 from_probe    what has one of these in DATA/MODEL/WAY/SEED
    python benchmarks/defaults.py --table                           what is measured so far

A run is kept in `--results` (defaults.json) as it is done, and not measured again. Each seed draws 400 training, 100
validation and 1,000 test images anew, the same ones for every way, and the test part is measured once, at the end.
All train for 6 epochs in float32 on batches of 32 images at 64 pixels, unaugmented, from ImageNet's weights.
`from_probe` is `finetune_from_probe` with its defaults, its probe's time included.

AutoMM's numbers are those of autogluon.multimodal 1.4, configs/optim/default.yaml: AdamW, lr 1e-4, weight decay 1e-3,
layer-wise decay 0.9, cosine with 0.1 of warm-up, gradients clipped at 1, a greedy soup of the best 3, patience 10 where
it validates twice an epoch. `automm_medium` has the rate of its preset for small networks (`medium_quality`, whose
network is MobileNetV3; utils/presets.py), 4e-4. What zoo has no option for is left out: validation amid an epoch. So is
what would make another budget of it: batches of 128 (3 steps an epoch here), 20 epochs, TrivialAugment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from probe_then_finetune import MODELS, Samples, digits, mnist, weights, written

import zoo
from zoo.training.callbacks import Listener

EPOCHS = 6
SIZE = 64
SEEDS = (0, 1, 2)
PARTS = (400, 100, 1000)  # training, validation, test
DATA = {"digits": digits, "mnist": mnist}
NETWORKS = ("mobilenet_v2", "lite0")

AUTOMM = {
    "epochs": EPOCHS,
    "lr": 1e-4,
    "weight_decay": 1e-3,
    "layer_decay": 0.9,
    "warmup": 0.1,
    "clip_grad_norm": 1,
    "early_stopping": 5,
    "average": {"greedy": 3},
}
WAYS: dict[str, list[Any]] = {
    "defaults": [{"train": {"epochs": EPOCHS}}],
    "from_probe": [{"finetune_from_probe": {"epochs": EPOCHS}}],
    "automm": [{"train": AUTOMM}],
    "automm_medium": [{"train": {**AUTOMM, "lr": 4e-4}}],
}


def recipe(network: dict[str, str], data: dict[str, Any], way: str, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "precision": "float32",
        "device": "cpu",
        "model": network,
        "data": data,
        "steps": [{"swap_head": "auto"}, *WAYS[way]],
    }


def measured(samples: Samples, model: str, way: str, seed: int) -> dict[str, Any]:
    """Test accuracy, that of the validation part, and the processor seconds of the entire run."""
    architecture, file = MODELS[model]
    with tempfile.TemporaryDirectory() as folder:
        source = written(samples, PARTS, Path(folder) / "data", seed)
        network = {"architecture": architecture, "weights": weights(file)}
        data = {"source": "zoo/image_folder", "path": str(source), "image_size": SIZE}
        began = sum(os.times()[:4])
        run = zoo.finetune(recipe(network, data, way, seed), output=Path(folder) / "run", progress=Listener())
        seconds = sum(os.times()[:4]) - began
    parts = run.report["evaluation"]["parts"]
    return {part: parts[part]["metrics"]["accuracy"] for part in ("validation", "test")} | {"seconds": seconds}


def table(found: dict[str, dict[str, Any]]) -> str:
    """Mean and spread over the seeds of the test accuracy, in percent; the seconds are the median of all."""
    lines = [f"| data | model | {' | '.join(WAYS)} |", f"|{'---|' * (len(WAYS) + 2)}"]
    for data in DATA:
        for model in NETWORKS:
            cells = [_cell([found.get(f"{data}/{model}/{way}/{seed}") for seed in SEEDS]) for way in WAYS]
            lines.append(f"| {data} | {model} | {' | '.join(cells)} |")
    seconds = [[run["seconds"] for name, run in found.items() if f"/{way}/" in name] for way in WAYS]
    medians = " | ".join(f"{statistics.median(each):.0f}" if each else "" for each in seconds)
    lines.append(f"| processor s | | {medians} |")
    return "\n".join(lines)


def _cell(runs: list[dict[str, Any] | None]) -> str:
    shares = [100 * run["test"] for run in runs if run]
    if len(shares) < 2:
        return f"{shares[0]:.1f} (1 seed)" if shares else ""
    seeds = "" if len(shares) == len(SEEDS) else f" ({len(shares)} seeds)"
    return f"{statistics.mean(shares):.1f} ± {statistics.stdev(shares):.1f}{seeds}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of DATA/MODEL/WAY/SEED")
    parser.add_argument("--results", type=Path, default=Path("defaults.json"))
    parser.add_argument("--table", action="store_true", help="print what is there, and measure nothing")
    asked = parser.parse_args()
    found = json.loads(asked.results.read_text()) if asked.results.exists() else {}
    # ways vary fastest: what is interrupted compares all ways, on fewer seeds
    for name in [f"{d}/{m}/{way}/{seed}" for seed in SEEDS for m in NETWORKS for d in DATA for way in WAYS]:
        if asked.table or name in found or not any(part in name for part in asked.only):
            continue
        data, model, way, seed = name.split("/")
        found[name] = measured(DATA[data](), model, way, int(seed))
        asked.results.write_text(json.dumps(found, indent=1))
        print(name, {key: round(value, 3) for key, value in found[name].items()}, file=sys.stderr, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
