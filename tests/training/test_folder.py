"""A run's folder: the mark comes first, and what it does not name is never touched."""

from __future__ import annotations

import json
import os

import pytest

from zoo.errors import InputError
from zoo.file_name import RUN_MARK
from zoo.recipe import load_recipe
from zoo.training import folder as folder_module
from zoo.training.folder import RunFolder, default_folder, planned

RECIPE = """\
name: small
model: tutorial/net_a
data: tutorial/rows
steps:
  - save: early
  - look: {modules: [hidden]}
  - train: 1
"""
TEMPORARY = "0123456789abcdef.tmp"


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return load_recipe(str(tmp_path / "recipe.yaml"))


@pytest.fixture
def taken(tmp_path, recipe):
    """A folder that a run has marked and written into."""
    run = tmp_path / "run"
    (run / "state").mkdir(parents=True)
    (run / "state").rmdir()
    RunFolder(run, recipe).take()
    (run / "state").mkdir()
    (run / "tensorboard").mkdir()
    for name in (
        "model.safetensors",
        "state/state.json",
        "state/base-2.safetensors",
        "tensorboard/events.out.tfevents.1",
    ):
        (run / name).write_text("{}")
    return run


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_a_run_writes(recipe):
    expected = {"model.safetensors", "report.json", "recipe.yaml", "state", "tensorboard", "early.safetensors"} | {
        "predictions.csv",
        "metrics.csv",
        "confusion.csv",
        "status.json",
        "first_batch.jpg",
        "not_finite",
        "README.md",
        "report.html",
    }
    assert planned(recipe) == expected


def test_the_mark_names_the_recipe_and_the_files(taken, recipe, tmp_path):
    assert json.loads((taken / RUN_MARK).read_text()) == {
        "format": 1,
        "recipe": str(tmp_path / "recipe.yaml"),
        "files": sorted(planned(recipe)),
    }


def test_overwriting_removes_what_zoo_wrote_and_nothing_else(taken, recipe):
    for name in ("notes.txt", "state/notes.txt", "state/mine.safetensors", "tensorboard/picture.png"):
        (taken / name).write_text("mine")
    place = RunFolder(taken, recipe)
    place.check(resume=False, overwrite=True)
    place.take()
    left = ["notes.txt", "state", "state/mine.safetensors", "state/notes.txt", "tensorboard", "tensorboard/picture.png"]
    assert names(taken) == [RUN_MARK, *left]


def test_a_kill_while_it_overwrites_leaves_every_file_named(taken, recipe, tmp_path, monkeypatch):
    (tmp_path / "other.yaml").write_text(RECIPE.replace("early", "late"))
    place = RunFolder(taken, load_recipe(str(tmp_path / "other.yaml")))
    (taken / "early.safetensors").touch()

    def killed(*arguments):
        raise SystemExit

    monkeypatch.setattr(RunFolder, "_remove", killed)
    with pytest.raises(SystemExit):
        place.take()
    monkeypatch.undo()
    again = RunFolder(taken, recipe)
    again.check(resume=False, overwrite=True)
    again.take()
    assert names(taken) == [RUN_MARK]


def test_a_kill_before_or_in_the_mark_leaves_a_folder_to_run_in(tmp_path, recipe, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    (run / f".{RUN_MARK}.{TEMPORARY}").touch()
    place = RunFolder(run, recipe)
    place.check(resume=False, overwrite=False)
    place.take()
    assert names(run) == [RUN_MARK]
    RunFolder(run, recipe).check(resume=False, overwrite=False)  # killed after the mark: nothing is lost by a new run


def test_leftovers_of_a_killed_run_go_with_the_next(taken, recipe):
    ours = [f".model.safetensors.{TEMPORARY}", f"state/.step-2-3.safetensors.{TEMPORARY}", f".report.json.{TEMPORARY}"]
    theirs = [f".notes.txt.{TEMPORARY}", f"state/.notes.{TEMPORARY}", ".model.safetensors.swp"]
    for name in (*ours, *theirs):
        (taken / name).touch()
    before = names(taken)
    place = RunFolder(taken, recipe)
    place.check(resume=True, overwrite=False)
    place.take(keep=True)
    assert names(taken) == [name for name in before if name not in ours]


@pytest.mark.parametrize("name", ["model.safetensors", "state", "state/state.json", "tensorboard", "report.json"])
def test_a_resumed_run_follows_no_link_out_of_its_folder(taken, recipe, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "state.json").write_text("{}")
    if (taken / name).is_dir():
        os.rename(taken / name, tmp_path / "moved")
    elif (taken / name).exists():
        (taken / name).unlink()
    (taken / name).symlink_to(outside if "." not in name else outside / "state.json")
    with pytest.raises(InputError, match="is a symbolic link; a run writes into its own folder only") as caught:
        RunFolder(taken, recipe).check(resume=True, overwrite=False)
    assert caught.value.problems[0].suggestion == f"remove {taken / name}"
    place = RunFolder(taken, recipe)
    place.check(resume=False, overwrite=True)
    place.take()
    assert names(outside) == ["state.json"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": 99, "recipe": "x", "files": []}', '{"format": 1, "files": []}']
)
def test_a_mark_that_is_none(taken, recipe, text):
    (taken / RUN_MARK).write_text(text)
    with pytest.raises(InputError, match="should say what a run wrote into this folder, and cannot be read") as caught:
        RunFolder(taken, recipe)
    assert caught.value.problems[0].suggestion == f"name another folder: --output {taken}-2"


def test_a_mark_that_is_a_link_is_not_written_through(tmp_path, recipe):
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "mine.json").write_text('{"format": 1, "recipe": "x", "files": []}')
    (run / RUN_MARK).symlink_to(tmp_path / "mine.json")
    with pytest.raises(InputError, match="it is no regular file"):
        RunFolder(run, recipe)


def test_names_in_a_mark_lead_nowhere_else(taken, recipe, tmp_path):
    (tmp_path / "victim").write_text("mine")
    mark = json.loads((taken / RUN_MARK).read_text())
    mark["files"] += ["../victim", "..", "", "/etc", "state/../../victim"]
    (taken / RUN_MARK).write_text(json.dumps(mark))
    place = RunFolder(taken, recipe)
    place.check(resume=False, overwrite=True)
    place.take()
    assert (tmp_path / "victim").read_text() == "mine"
    assert names(taken) == [RUN_MARK]


def test_a_free_folder_is_named(taken, recipe, monkeypatch):
    (taken.parent / "run-2").mkdir()
    with pytest.raises(InputError, match=r"--output .*/run-3\)"):
        RunFolder(taken, recipe).check(resume=False, overwrite=False)
    monkeypatch.chdir(taken)
    with pytest.raises(InputError, match=r"--output .*/run-3\)"):
        RunFolder(type(taken)("."), recipe).check(resume=False, overwrite=False)


def test_resuming_without_a_state_loses_no_result(taken, recipe, tmp_path):
    place = RunFolder(taken, recipe)
    place.check(resume=True, overwrite=False)
    with pytest.raises(InputError, match="and no resume state"):
        place.check_new_beginning()
    (taken / "model.safetensors").unlink()
    RunFolder(taken, recipe).check_new_beginning()  # its own, and unfinished
    (tmp_path / "other.yaml").write_text(RECIPE)
    with pytest.raises(InputError, match=r"contains an unfinished run of .*/recipe.yaml, and no resume state"):
        RunFolder(taken, load_recipe(str(tmp_path / "other.yaml"))).check_new_beginning()


def test_the_mark_is_written_before_anything_is_removed(taken, recipe, monkeypatch):
    done = []
    monkeypatch.setattr(folder_module.RunFolder, "_write", lambda self, names: done.append("mark"))
    monkeypatch.setattr(folder_module.RunFolder, "_remove", lambda self, name: done.append("remove"))
    RunFolder(taken, recipe).take()
    assert (done[0], done[-1], "remove" in done) == ("mark", "mark", True)


def test_a_run_whose_folder_nobody_named_replaces_no_finished_one(taken, recipe, tmp_path):
    path = tmp_path / "run"
    assert default_folder(path, recipe) == path  # what is unfinished is refused there, with --resume as the way on
    (taken / "state" / "state.json").write_text('{"finished": true}')
    assert default_folder(path, recipe) == tmp_path / "run-2"
    assert default_folder(path, recipe, overwrite=True) == path
    assert default_folder(path, recipe, resume=True) == path  # it says that there is nothing to resume
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run-2" / "mine.txt").write_text("")
    assert default_folder(path, recipe) == tmp_path / "run-2"
    RunFolder(tmp_path / "run-2", recipe).take()
    (tmp_path / "run-2" / "model.safetensors").write_text("")
    assert default_folder(path, recipe) == tmp_path / "run-3"
    (tmp_path / "run-2" / "state").mkdir()
    (tmp_path / "run-2" / "state" / "state.json").write_text("{}")
    assert default_folder(path, recipe) == tmp_path / "run-2"
    assert default_folder(path, recipe, resume=True) == tmp_path / "run-2"


def test_a_run_that_was_killed_before_training_began_stands_in_nobodys_way(tmp_path, recipe):
    run = tmp_path / "run"
    first = RunFolder(run, recipe)
    run.mkdir()
    first.take()
    (run / "state").mkdir()
    for name in ("status.json", "first_batch.jpg", "state/samples.jsonl"):
        (run / name).write_text("")
    RunFolder(run, recipe).check(resume=False, overwrite=False)
    (run / "state/state.json").write_text("{}")
    with pytest.raises(InputError, match="an unfinished run"):
        RunFolder(run, recipe).check(resume=False, overwrite=False)
