"""The facts of a run: of a finished one, and whatever is left of others."""

import json

import pytest

from zoo.errors import InputError
from zoo.reporting.facts import gather


def test_a_finished_run(run):
    facts = gather(folder := run())
    assert (facts["name"], facts["state"], facts["folder"]) == ("small", "done", str(folder))
    assert [(row["step"], row["epoch"], row["lr_2"]) for row in facts["epochs"]] == [(3, 1, 0.01), (3, 2, 0.01)]
    assert facts["recipe"]["pinned"].endswith("pinned\n")
    assert facts["predicted"]["samples"] == 60
    assert facts["notes"] == ["there is no model.safetensors that can be read: what it says is left out"]
    assert json.loads(json.dumps(facts)) == facts


def test_a_report_file_names_its_run(run):
    assert gather(run() / "report.json")["name"] == "small"


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_what_a_run_that_did_not_end_has_left(run, state):
    folder = run()
    (folder / "report.json").unlink()
    (folder / "metrics.csv").write_text("step,epoch,loss\n3,1,2.5\n3,2,\n")
    status = {"state": state, "why": "memory ran out", "name": "small", "heartbeat": "12:00"}
    (folder / "status.json").write_text(json.dumps(status))
    facts = gather(folder)
    assert facts["state"] == state
    assert facts["epochs"] == [{"step": 3.0, "epoch": 1.0, "loss": 2.5}, {"step": 3.0, "epoch": 2.0, "loss": None}]
    assert facts["report"] is facts["predicted"] is None
    said = {"running": "it last said something at 12:00", "failed": "memory ran out", "interrupted": "memory ran out"}
    assert said[state] in facts["notes"][0]


@pytest.mark.parametrize("file", ["report.json", "status.json", "predictions.csv", "model.safetensors"])
def test_a_damaged_file_is_said_and_the_others_are_read(run, file):
    folder = run()
    (folder / file).write_bytes(b"\xff\x00{")
    facts = gather(folder)
    assert facts["recipe"]["pinned"]
    assert any(str(folder / file) in note for note in facts["notes"])


@pytest.mark.parametrize("stages", ["null", "[null]", "[1]", "{}", '[{"step": 1}]'])
def test_a_report_of_another_shape_is_no_report(run, stages):
    folder = run()
    (folder / "report.json").write_text(f'{{"stages": {stages}}}')
    assert f"{folder / 'report.json'} is not the report of a run" in gather(folder)["notes"]


def test_predictions_that_were_cut_or_are_gone_are_said(run):
    folder = run()
    (folder / "predictions.csv").write_text("image,part\nx")
    facts = gather(folder)
    assert facts["predicted"] is None
    assert f"{folder / 'predictions.csv'} cannot be read: list index out of range" in facts["notes"]
    (folder / "predictions.csv").unlink()
    said = "there is no predictions.csv: mistakes, classes and calibration are left out"
    assert said in gather(folder)["notes"]


def test_a_run_of_an_older_version_has_no_status(run):
    folder = run(failed="the loss is not finite")
    (folder / "status.json").unlink()
    assert (gather(folder)["state"], gather(folder)["why"]) == ("failed", "the loss is not finite")


def test_what_is_no_run(tmp_path, run):
    with pytest.raises(InputError, match="No such file or directory"):
        gather(tmp_path / "gone")
    run()
    with pytest.raises(InputError, match=r"name one of its runs: .*small"):
        gather(tmp_path)
