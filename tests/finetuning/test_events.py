"""JSON lines of a run: what each event says, how a run that ends early is reported, and a reader that goes away."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace as Some

import pytest

from zoo.errors import TerminatedError, WorkError
from zoo.finetuning.events import Events

RECORD = {
    "epoch": 1, "steps": 4, "lr": 0.1, "lr_by_group": [0.1], "loss": 0.5, "validation": {"loss": 0.6, "auc": math.nan},
    "images_per_second": 10.0, "seconds": 2.0, "peak_memory": 3,
}  # fmt: skip


def trainer(**progress):
    """What a listener reads of a trainer that is in its second epoch of three."""
    job = Some(options=Some(place=Some(index=1)), label="train")
    now = Some(**{"epoch": 1, "steps": 6, "best": {"epoch": 1, "metric": "accuracy", "value": 0.9}} | progress)
    return Some(job=job, progress=now, epochs=3, steps=12, rate=20.0, state=Some(folder=Path("run") / "state"))


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_event_and_its_keys():
    stream = io.StringIO()
    events = Events(stream)
    with events.of_run("recipe.yaml", None) as ended:
        events.step_started(trainer(epoch=0, steps=0))
        events.progressed(trainer(), 0.25)
        events.epoch_ended(trainer(), RECORD)
        events.note("warning: two\nlines")
        ended["checkpoint"] = "run/model.safetensors"
    said = lines(stream)
    assert all("time" in event for event in said)
    place = {"folder": "run", "step": 2, "label": "train", "epochs": 3, "optimizer_steps": 12}
    at = {"epoch": 2, "optimizer_step": 6, "images_per_second": 20.0}
    first = {"epoch": 1, "optimizer_step": 0, "images_per_second": 20.0}
    row = {key: RECORD[key] for key in RECORD if key != "steps"} | {"validation": {"loss": 0.6, "auc": None}}
    assert [{key: value for key, value in event.items() if key != "time"} for event in said] == [
        {"event": "started", "recipe": "recipe.yaml", "seeds": None},
        {"event": "step", "loss": None} | place | first,
        {"event": "step", "loss": 0.25} | place | at,
        {"event": "epoch", "best": {"epoch": 1, "metric": "accuracy", "value": 0.9}} | place | at | row,
        {"event": "note", "text": "warning: two\nlines"},
        {"event": "finished", "state": "done", "why": None, "checkpoint": "run/model.safetensors"},
    ]


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [
        (KeyboardInterrupt(), "interrupted", "Ctrl-C"),
        (TerminatedError(), "interrupted", "SIGTERM"),
        (WorkError("the disk is full"), "failed", "the disk is full"),
        (MemoryError(), "failed", "MemoryError"),
    ],
)
def test_a_run_that_ends_early(error, state, why):
    stream = io.StringIO()
    with pytest.raises(type(error)), Events(stream).of_run("recipe.yaml", 3):
        raise error
    last = lines(stream)[-1]
    assert (last["event"], last["state"], last["why"]) == ("finished", state, why)


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


def test_a_reader_that_goes_away_ends_no_run():
    events = Events(Gone())
    with events.of_run("recipe.yaml", None):
        events.progressed(trainer(), 0.25)
        events.epoch_ended(trainer(), RECORD)


def test_the_page_of_the_run_s_folder_names_every_key():
    stream = io.StringIO()
    events = Events(stream)
    with events.of_run("recipe.yaml", None) as ended:
        ended |= {"folder": "run", "checkpoint": "a", "metrics": {}, "seconds": 1.0, "runs": []}
        events.progressed(trainer(), 0.25)
        events.epoch_ended(trainer(), RECORD)
        events.note("said")
    page = (Path(__file__).parents[2] / "docs/run-folder.md").read_text(encoding="utf-8")
    section = page.partition("## --events")[2].partition("\n## ")[0]
    for event in lines(stream):
        row = next(line for line in section.splitlines() if line.startswith(f"| `{event['event']}`"))
        missing = [key for key in event if key not in ("event", "time") and f"`{key}`" not in row]
        assert not missing, (event["event"], missing)
