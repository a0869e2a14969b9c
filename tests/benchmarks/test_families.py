"""A dozen families through a real fine-tune, frozen and whole; the recipe and the checks are the benchmark's own."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load_benchmark():
    spec = importlib.util.spec_from_file_location("families", ROOT / "benchmarks" / "families.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["families"] = module  # a process that is spawned looks its functions up there
    spec.loader.exec_module(module)
    return module


families = load_benchmark()
DOZEN = (
    "mobilenetv3_small_050",
    "convnext_atto",
    "regnety_002",
    "levit_128s",
    "cs3darknet_s",
    "pvt_v2_b0",
    "mixer_s32_224",
    "xcit_nano_12_p16_224",
    "pit_ti_224",
    "nf_resnet26",
    "gcvit_xxtiny",
    "swin_tiny_patch4_window7_224",
)


@pytest.mark.slow
@pytest.mark.parametrize("way", families.WAYS)
@pytest.mark.parametrize("name", DOZEN)
def test_a_family_goes_through(name, way, tmp_path):
    found = families.carry_out(name, way, tmp_path)
    assert (found["backbone"] == "end to end") == (way == "nothing")


def test_there_are_sixty():
    assert len(set(families.NAMES)) == 60
    assert set(DOZEN) <= set(families.NAMES)


def quick(asked):
    """Rows without any training: one that ends its process, one that never ends, and others."""
    asked.send(None)
    while True:
        name, way = asked.recv()
        if name == "dies":
            os._exit(3)
        time.sleep(60 if name == "hangs" else 0)
        asked.send({"name": name, "way": way, "process": os.getpid()})


def test_a_row_that_dies_or_hangs_costs_no_other_row():
    worker = families.Worker(limit=20, serve=quick)
    first, second = worker.row("a", "nothing"), worker.row("b", "nothing")
    assert first["process"] == second["process"]
    assert worker.row("dies", "nothing")["failed"] == "ended its process with 3"
    worker.limit = 0.2
    assert worker.row("hangs", "nothing")["failed"].startswith("took longer")
    worker.limit = 20
    assert worker.row("c", "nothing")["process"] != first["process"]
    worker.stop()
