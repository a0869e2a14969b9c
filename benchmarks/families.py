"""Fine-tunes 60 architectures of 60 timm families, six steps each; prints Markdown.

    python benchmarks/families.py                        all 120 rows; half an hour of processor time
    python benchmarks/families.py vgg11 swin_tiny_patch4_window7_224    some, in this order
    python benchmarks/families.py --minutes 15           those that begin within so many minutes

Every one goes through `zoo.finetune` in the default setting (precision, memory layout and feature cache by themselves),
once with all but the head frozen and once whole, at the size it was made for: two epochs of three steps of two images,
which are files in a folder (scikit-learn's digits). The checkpoint that a run leaves is then measured by
`zoo.evaluate`, whose numbers have to be the run's own, and rebuilt by `zoo.load`, which has to give the trained model's
outputs.

A row is kept in `--results` (families.json) as it is done, and not run again; `--table` prints what is there. One that
failed is run again by the next call. All run in one process, one after the other; where one ends that process or takes
longer than `--limit`, that is its row, and the next begins in a new one.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

NAMES = """
mobilenetv3_small_050 edgenext_xx_small fasternet_t0 efficientvit_b0 dla46_c hardcorenas_a convnext_atto
inception_next_atto ghostnet_050 pvt_v2_b0 regnety_002 hgnetv2_b0 mobilevitv2_050 levit_128s cs3darknet_s
efficientvit_m0 efficientnet_b0 repghostnet_050 mobilevit_xxs rexnet_100 xcit_nano_12_p16_224 efficientformerv2_s0
pit_ti_224 mambaout_femto convit_tiny fastvit_t8 deit_tiny_distilled_patch16_224 repvit_m0_9 mixer_s32_224
efficientformer_l1 tiny_vit_5m_224 eva02_tiny_patch14_224 resnet18 dpn48b skresnet18 poolformer_s12 crossvit_tiny_240
hrnet_w18_small nf_resnet26 resnest14d gcvit_xxtiny bat_resnext26ts coatnet_nano_rw_224 cait_xxs24_224 botnet26t_256
densenet121 selecsls42 coat_tiny twins_pcpvt_small res2net50_26w_4s mvitv2_tiny swin_tiny_patch4_window7_224
davit_tiny focalnet_tiny_srf hiera_tiny_224 nest_tiny inception_v3 vgg11 beit_base_patch16_224 convmixer_768_32
""".split()
"""One of each family, the cheapest first."""

WAYS = {"all but the head": [{"freeze": "all_but_head"}], "nothing": []}
EPOCHS, BATCH = 2, 2
IMAGES = {"train": 6, "validation": 4}
STEPS = EPOCHS * IMAGES["train"] // BATCH
Row = dict[str, Any]
HEADER = "| architecture | frozen | frozen part | precision | loss | processor s | s |"


def written(folder: Path) -> Path:
    """Zeros and ones of scikit-learn's digits, 8 x 8, as files in a folder for each part and class."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits(n_class=2)
    pixels = iter(zip((found.images * 255 / 16).astype(np.uint8), found.target, strict=True))
    for part, count in IMAGES.items():
        for place, (image, label) in zip(range(count), pixels, strict=False):
            path = folder / part / str(label) / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


def recipe(name: str, way: str, images: Path) -> dict[str, Any]:
    """Six steps in the default setting; `way` is a key of WAYS."""
    return {
        "name": name,
        "model": f"timm/{name}",
        "data": {"source": "zoo/image_folder", "path": str(images), "batch_size": BATCH},
        "steps": [{"swap_head": "auto"}, *WAYS[way], {"train": {"epochs": EPOCHS, "lr": 1e-3}}],
    }


def carry_out(name: str, way: str, folder: Path) -> Row:
    """How the frozen part was run, the setting and the last loss of a run. Raises what fails, AssertionError where the
    checkpoint is not what was trained."""
    import torch

    import zoo
    from zoo.training.callbacks import Listener

    images = written(folder / "images")
    run = zoo.finetune(recipe(name, way, images), output=folder / "run", progress=Listener(), device="cpu")
    stage = run.report["stages"][-1]
    last = stage["epochs"][-1]
    assert last["steps"] == STEPS, stage["epochs"]
    assert math.isfinite(last["loss"]), f"the loss is {last['loss']}"
    measured = zoo.evaluate(run.checkpoint, device="cpu")
    assert measured["metrics"] == run.metrics, f"evaluate gives {measured['metrics']}, the run {run.metrics}"
    again, trained = zoo.load(run.checkpoint), run.model
    inputs = torch.randn(2, 3, *trained.zoo.preprocessing.size)
    with torch.inference_mode():
        assert torch.equal(again(inputs), trained(inputs)), "zoo.load gives another model"
    cache = stage["feature_cache"].get("method", "end to end")
    return {"backbone": cache, "precision": stage["precision"], "loss": last["loss"]}


def row(name: str, way: str) -> Row:
    """What came of it, with the seconds that it took of the wall and of the processor; `failed` has what failed."""
    began, used = time.monotonic(), time.process_time()
    found: Row = {"name": name, "way": way}
    with tempfile.TemporaryDirectory(prefix="families-") as folder:
        try:
            found |= carry_out(name, way, Path(folder))
        except Exception as error:
            found["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return found | {"seconds": time.monotonic() - began, "processor": time.process_time() - used}


def serve(asked: Connection) -> None:
    """A process that carries out one row after the other."""
    import timm  # noqa: F401 - before the first row, whose seconds are then its own

    import zoo  # noqa: F401

    warnings.filterwarnings("ignore")
    asked.send(None)
    while True:
        asked.send(row(*asked.recv()))


class Worker:
    """A process that carries out rows, a new one where the last has died or took too long."""

    def __init__(self, limit: float, serve: Callable[[Connection], None] = serve) -> None:
        self.limit, self.serve = limit, serve
        self.process: Any = None

    def row(self, name: str, way: str) -> Row:
        if self.process is None:
            self._start()
        self.connection.send((name, way))
        failed = f"took longer than {self.limit:.0f} s"
        try:
            if self.connection.poll(self.limit):
                found: Row = self.connection.recv()
                return found
        except EOFError:
            self.process.join()
            failed = f"ended its process with {self.process.exitcode}"
        self.stop()
        return {"name": name, "way": way, "failed": failed}

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=self.serve, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.connection.recv()  # it has imported what it needs


def table(rows: list[Row]) -> str:
    lines = [
        "| architecture | frozen | frozen part | precision | loss | processor s | s |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_line(found) for found in rows]
    passed = sum("failed" not in found for found in rows)
    return "\n".join([*lines, "", f"{passed} of {len(rows)} went through."])


def _line(found: Row) -> str:
    start = f"| {found['name']} | {found['way']} |"
    if "failed" in found:
        return f"{start} **failed**: {found['failed']} | | | | |"
    told = f"{found['backbone']} | {found['precision']} | {found['loss']:.3f}"
    return f"{start} {told} | {found['processor']:.0f} | {found['seconds']:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--limit", type=float, default=900, help="seconds a row, of the wall")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--results", type=Path, default=Path("families.json"))
    parser.add_argument("--table", action="store_true", help="print what is there, and run nothing")
    asked = parser.parse_args()
    rows: list[Row] = json.loads(asked.results.read_text()) if asked.results.exists() else []
    if not asked.table:
        run_missing(rows, asked)
    print(table(rows))


def run_missing(rows: list[Row], asked: argparse.Namespace) -> None:
    """Carries out what is not in `rows`, puts it there and into the results file."""
    began, worker = time.monotonic(), Worker(asked.limit)
    passed = {(found["name"], found["way"]) for found in rows if "failed" not in found}
    for name in asked.names or NAMES:
        for way in WAYS:
            if (name, way) in passed or time.monotonic() - began > 60 * asked.minutes:
                continue
            found = worker.row(name, way)
            rows[:] = [*(one for one in rows if (one["name"], one["way"]) != (name, way)), found]
            asked.results.write_text(json.dumps(rows, indent=1))
            print(_line(found), file=sys.stderr, flush=True)
    worker.stop()


if __name__ == "__main__":
    main()
