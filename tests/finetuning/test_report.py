"""The summary of a run says what the report holds."""

from __future__ import annotations

import json

import pytest

from zoo.errors import InputError
from zoo.finetuning.report import read_report, summary

EPOCH = {"loss": 0.5, "images_per_second": 120.4, "validation": {"loss": 0.4, "accuracy": 0.9}}
TRAIN = {
    "step": 3,
    "action": "train",
    "metrics": {"loss": 0.4, "accuracy": 0.9},
    "epochs": [EPOCH, {**EPOCH, "loss": 0.25}],
    "kept_epoch": 1,
    "trainable": 12810,
    "frozen": 3371008,
    "freeze_proof": {"tensors": 294, "moved": [], "digest": "ab"},
    "seconds": 2.25,
}
LOAD = {"step": 2, "action": "load", "weights": "a.pt", "coverage": 0.5, "missing": [f"{n}.bias" for n in range(6)]}
REPORT = {
    "checkpoint": "runs/one/model.safetensors",
    "metrics": {"accuracy": 0.9},
    "seconds": 5.0,
    "device": "cpu",
    "weights": {"weights": "efficientnet-lite/lite0", "coverage": 0.987, "missing": ["classifier.weight"]},
    "stages": [LOAD, TRAIN],
}


def test_the_summary_of_a_run():
    lines = summary(REPORT).splitlines()
    assert [line.split() for line in lines[:3]] == [
        "step action epochs loss metrics trainable frozen images/s seconds".split(),
        "2 load 50.0% of the parameters".split(),
        "3 train 2 (kept 1) 0.2500 accuracy 0.9000 12,810 3,371,008 120 2.2".split(),
    ]
    assert lines[3] == "weights: efficientnet-lite/lite0, 98.7% of the parameters; not loaded: classifier.weight"
    assert lines[4].endswith("50.0% of the parameters; not loaded: *.bias")
    assert lines[5].startswith("frozen: 294 tensors")
    assert lines[6:8] == ["accuracy 0.9000 after 5.0 s on cpu", "checkpoint: runs/one/model.safetensors"]


def test_what_a_step_did_to_fit_into_memory():
    did = {
        "out_of_memory": [{"step": 1, "parts": 2, "samples": 16}],
        "parts": 2,
        "validation_parts": 4,
        "checkpointed": 12,
        "compiled": {"seconds": 31.2},
    }
    assert summary({**REPORT, "stages": [TRAIN | did]}).splitlines()[2] == (
        "step 3: memory ran out: from step 1 on batches in 2 parts; validation batches in 4 parts; "
        "gradient checkpointing of 12 blocks; compiled in 31.2 s"
    )


def test_a_run_of_nothing_and_an_interrupted_one():
    assert summary({**REPORT, "stages": [], "metrics": {}, "weights": None}).startswith("nothing was measured after")
    assert "interrupted: this is the last complete epoch" in summary({**REPORT, "interrupted": True})


def test_reports_are_read_from_the_runs_folder(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    assert read_report(tmp_path) == read_report(tmp_path / "report.json") == REPORT


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "does not exist"), ("{", "cannot be read"), ("[" * 100_000, "cannot be read"), ("[]", "is not the")],
    ids=["none", "cut short", "deep", "another"],
)
def test_what_is_no_report(tmp_path, text, message):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_report(tmp_path)
