"""Fine-tunes 60 architectures of 60 timm families (those of trunk_split.py), six steps each; prints Markdown.

    python benchmarks/families.py [NAME ...]

Every one goes through `zoo.finetune` in the default setting (precision, memory layout and feature cache by themselves),
once with all but the head frozen and once whole, at the size it was made for, on real images (sklearn's digits). The
checkpoint that a run leaves is then measured by `zoo.evaluate`, whose numbers have to be the run's own, and rebuilt by
`zoo.load`, which has to give the trained model's outputs. A row is printed as soon as it is known.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import zoo
from zoo.api import ZooError
from zoo.training.callbacks import Listener

WAYS = {"all but the head": [{"freeze": "all_but_head"}], "nothing": []}
STEPS, SAMPLES, BATCH = 6, 12, 4


def names() -> list[str]:
    """The architectures of trunk_split.py, in its order."""
    spec = importlib.util.spec_from_file_location("trunk_split", Path(__file__).with_name("trunk_split.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = module.NAMES
    return found


def recipe(name: str, way: str) -> dict[str, Any]:
    """Six steps in the default setting; `way` is a key of WAYS."""
    train = {"train": {"max_steps": STEPS, "lr": 1e-3}}
    return {
        "name": name,
        "model": f"timm/{name}",
        "data": {"source": "sklearn/digits", "batch_size": BATCH, "limit": SAMPLES},
        "steps": [{"swap_head": "auto"}, *WAYS[way], train],
    }


def carry_out(name: str, way: str, folder: Path) -> str:
    """The row of a run: how the frozen part was run, the setting, the last loss. Raises what fails."""
    run = zoo.finetune(recipe(name, way), output=folder, progress=Listener(), device="cpu")
    stage = run.report["stages"][-1]
    assert sum(epoch["steps"] for epoch in stage["epochs"][-1:]) == STEPS, stage["epochs"]
    measured = zoo.evaluate(run.checkpoint, device="cpu")
    assert measured["metrics"] == run.metrics, f"evaluate gives {measured['metrics']}, the run {run.metrics}"
    again, trained = zoo.load(run.checkpoint), run.model
    inputs = torch.randn(2, 3, *trained.zoo.preprocessing.size)
    with torch.inference_mode():
        assert torch.equal(again(inputs), trained(inputs)), "zoo.load gives another model"
    cache = stage["feature_cache"].get("method", "end to end")
    return f"{cache} | {stage['precision']} | {stage['epochs'][-1]['loss']:.3f}"


def row(name: str, way: str) -> tuple[bool, str]:
    """Whether it went through, and its row."""
    folder, began = Path(tempfile.mkdtemp(prefix="families-")), time.monotonic()
    try:
        done, told = True, carry_out(name, way, folder / "run")
    except (ZooError, AssertionError) as error:
        done, told = False, f"**failed**: {str(error).splitlines()[0]} | |"
    finally:
        shutil.rmtree(folder)
    return done, f"| {name} | {way} | {told} | {time.monotonic() - began:.0f} |"


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    chosen = parser.parse_args().names or names()
    print("| architecture | frozen | frozen part | precision | loss | seconds |\n|---|---|---|---|---|---|", flush=True)
    passed = 0
    for name in chosen:
        for way in WAYS:
            done, told = row(name, way)
            passed += done
            print(told, flush=True)
    print(f"\n{passed} of {len(WAYS) * len(chosen)} went through.")


if __name__ == "__main__":
    main()
