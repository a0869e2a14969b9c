"""`zoo finetune`: one document, what to type next, and mistakes before anything is written."""

import json

import pytest


def test_prints_one_document_and_nothing_else(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path, "--json", "--set", "train.max_steps=1")
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["checkpoint"] == str(tmp_path / "model.safetensors")
    assert set(document["metrics"]) >= {"accuracy"}
    assert document["seconds"] > 0
    assert len(document["stages"]) == 1
    assert "epoch 1/1" in outcome.err


def test_for_people_it_says_what_to_type_next(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path, "--set", "train.max_steps=1")
    assert f"\nnext: zoo predict {tmp_path / 'model.safetensors'} IMAGE" in outcome.out


def test_all_mistakes_of_a_recipe_at_once_and_nothing_written(zoo, trained, tmp_path):
    (tmp_path / "bad.yaml").write_text(
        (trained / "recipe.yaml").read_text().replace("squeezenet1_1", "squeezenet1_l").replace("lr:", "learn:")
    )
    outcome = zoo("finetune", tmp_path / "bad.yaml", "--output", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{tmp_path}/bad.yaml:3:17: " in outcome.err
    assert f"{tmp_path}/bad.yaml:11:27: " in outcome.err
    assert "torchvision/squeezenet1_1" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_is_not_there(zoo, tmp_path):
    outcome = zoo("finetune", tmp_path / "none.yaml")
    assert outcome.code == 2
    assert "none.yaml" in outcome.err


def test_a_device_that_is_not_there(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path / "out", "--device", "cuda:63")
    assert outcome.code == 2
    assert "cuda:63" in outcome.err


def test_resuming_what_is_finished_changes_nothing(zoo, trained, checkpoint):
    before = checkpoint.read_bytes()
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", trained / "out", "--resume", "--json")
    assert outcome.json["checkpoint"] == str(checkpoint)
    assert checkpoint.read_bytes() == before


SHORT = ("--set", "train.max_steps=1")


def test_quiet_leaves_the_summary_alone(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path, "--quiet", *SHORT)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"\nnext: zoo predict {tmp_path / 'model.safetensors'} IMAGE" in outcome.out


def test_quiet_says_what_is_wrong(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path / "a", "--quiet", "--set", "train.lr=-1")
    assert outcome.code == 2
    assert "lr" in outcome.err


def test_events_are_json_lines_and_nothing_else(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path, "--events", "--quiet", *SHORT)
    assert (outcome.code, outcome.err) == (0, "")
    events = [json.loads(line) for line in outcome.out.splitlines()]
    kinds = [event["event"] for event in events if event["event"] != "note"]
    steps = kinds.count("step")  # one each half second of training, and at the end of the epoch
    assert steps > 0
    assert kinds == ["started", *["step"] * steps, "epoch", "finished"]
    assert events[0]["recipe"] == str(trained / "recipe.yaml")
    report = json.loads((tmp_path / "report.json").read_text())
    assert events[-1] == {
        "event": "finished", "time": events[-1]["time"], "state": "done", "why": None, "folder": str(tmp_path),
        "checkpoint": report["checkpoint"], "metrics": report["metrics"], "seconds": report["seconds"],
    }  # fmt: skip


def test_events_of_a_recipe_with_mistakes(zoo, trained, tmp_path):
    broken = ("--set", "train.lr=-1")
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path / "a", "--events", *broken)
    assert outcome.code == 2
    started, finished = (json.loads(line) for line in outcome.out.splitlines())
    assert (started["event"], finished["event"], finished["state"]) == ("started", "finished", "failed")
    assert "lr" in finished["why"]


def test_events_and_one_document_exclude_each_other(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path / "a", "--events", "--json")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: --events and --json both want standard output (leave one of them out)\n"
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_events_of_several_seeds_name_the_folder(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path, "--seeds", "2", "--events", *SHORT)
    assert outcome.code == 0, outcome.err
    events = [json.loads(line) for line in outcome.out.splitlines()]
    folders = [event["folder"] for event in events if event["event"] == "epoch"]
    assert folders == [str(tmp_path / "seed-0"), str(tmp_path / "seed-1")]
    assert events[0]["seeds"] == 2
    assert [run["seed"] for run in events[-1]["runs"]] == [0, 1]
    assert "seed 1 (2 of 2)" in outcome.err


def test_a_launcher_s_other_processes_are_silent(zoo, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    outcome = zoo("finetune", trained / "none.yaml", "--events")
    assert (outcome.code, outcome.out) == (2, "")


def test_several_runs_have_no_time_in_common(zoo, tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: tutorial/net_a\ndata: sklearn/digits\nsteps: [train: 1]\n")
    outcome = zoo("finetune", str(tmp_path / "recipe.yaml"), "--seeds", "2", "--within", "10m")
    assert outcome.code == 2
    assert "--within is for one run, and --seeds makes several (give each train step a time_budget)" in outcome.err
