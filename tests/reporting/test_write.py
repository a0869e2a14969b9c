"""Pages written at the end of a run and by `zoo report`: never at a run's cost, never over somebody else's file."""

import json
import os
import shutil

import pytest
import yaml

import zoo
from listeners import Notes
from zoo.cli import run as command_line
from zoo.file_name import RUN_MARK
from zoo.finetuning import ending
from zoo.formats.files import FullDiskError
from zoo.reporting import pictures as pictures_module
from zoo.reporting import write as write_module
from zoo.reporting.facts import gather
from zoo.reporting.pictures import draw
from zoo.reporting.write import report, write_pages
from zoo.training.callbacks import Listener

RECIPE = {
    "model": {"architecture": "timm/test_resnet"},
    "data": {"source": "zoo/image_folder", "image_size": 32, "batch_size": 8, "validation_fraction": 0.5},
    "steps": [{"swap_head": "auto"}, {"freeze": "all_but_head"}, {"train": {"epochs": 1, "lr": 0.01}}],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on images in folders, one of them of a class whose name is markup, from weights in a file."""
    import torch
    from PIL import Image

    folder = tmp_path_factory.mktemp("reporting")
    generator = torch.Generator().manual_seed(0)
    for name in ("sun", "<b>sea"):
        (folder / "photos" / name).mkdir(parents=True)
        for place in range(12):
            pixels = torch.randint(0, 255, (32, 32, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(folder / "photos" / name / f"{place}.png")
    zoo.save(zoo.build("timm/test_resnet"), folder / "base.safetensors")
    recipe = {**RECIPE, "data": {**RECIPE["data"], "path": str(folder / "photos")}}
    recipe["model"] = RECIPE["model"] | {"weights": str(folder / "base.safetensors")}
    (folder / "small.yaml").write_text(yaml.safe_dump(recipe))
    notes = Notes()
    run = zoo.finetune(folder / "small.yaml", output=folder / "run", progress=notes)
    assert not [note for note in notes.notes if note.startswith("warning")]
    return run


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the run's folder."""
    return shutil.copytree(trained.folder, tmp_path / "run", symlinks=True)


def test_a_run_leaves_a_page_and_a_card(trained):
    text = (trained.folder / "report.html").read_text(encoding="utf-8")
    assert text.count('class="thumb"') == len(gather(trained.folder)["predicted"]["extremes"]["mistakes"]) + len(
        gather(trained.folder)["predicted"]["extremes"]["doubtful"]
    )
    assert text.count("where the network looked") == text.count('class="thumb"') > 3
    assert "&lt;b&gt;sea" in text
    assert "<b>sea" not in text
    assert (trained.folder / "README.md").read_text(encoding="utf-8").startswith("---\nlibrary_name: zoo")


def test_written_again_it_is_the_same(trained, copied):
    before = (copied / "report.html").read_text(encoding="utf-8")
    path, notes = report([copied])
    assert notes == []
    assert path == copied / "report.html"
    assert path.read_text(encoding="utf-8") == before


def test_resumed_a_finished_run_gets_the_pages_that_it_was_ended_before(copied, trained):
    """Whether they are missing, or those of the interrupted run that it was before."""
    recipe, page, card = trained.folder.parent / "small.yaml", copied / "report.html", copied / "README.md"
    expected = page.read_text(), card.read_text()
    page.unlink()
    card.write_text("of the interrupted run")
    os.utime(card, (1, 1))
    zoo.finetune(recipe, output=copied, resume=True, progress=Listener())
    assert (page.read_text(), card.read_text()) == expected
    page.write_text("newer than the report")
    zoo.finetune(recipe, output=copied, resume=True, progress=Listener())
    assert page.read_text() == "newer than the report"


def test_layers_say_what_moved_and_the_tree_what_is_new(trained):
    drawn = draw(gather(trained.folder))
    changes = {row["path"]: row["change"] for row in drawn.layers}
    assert changes.pop("fc") is None
    assert set(changes.values()) == {0.0}
    (head,) = (child for child in drawn.tree["children"] if child["name"] == "fc")
    assert (head["state"], head["origin"]) == ("trains", "new")
    assert (drawn.tree["state"], drawn.tree["origin"]) == ("partly frozen", "partly loaded")
    assert drawn.notes == []


def test_moved_data_and_lost_weights_are_left_out_and_said(copied, monkeypatch):
    monkeypatch.setattr(pictures_module, "open_for", lambda *_: (_ for _ in ()).throw(zoo.InputError("it has moved")))
    monkeypatch.setattr(pictures_module, "with_base", lambda *_: (_ for _ in ()).throw(zoo.WorkError("not found")))
    path, notes = report([copied])
    assert notes == ["changes against the base weights left out: not found", "thumbnails left out: it has moved"]
    text = path.read_text(encoding="utf-8")
    assert 'class="thumb"' not in text
    assert "it has moved" in text


def test_other_images_in_the_place_of_the_runs_are_not_shown(copied, trained):
    rows = (copied / "predictions.csv").read_text(encoding="utf-8")
    (copied / "predictions.csv").write_text(rows.replace(".png", ".jpeg"), encoding="utf-8")
    assert draw(gather(copied)).notes == ["thumbnails left out: the data is not what it was when the run was made"]


@pytest.mark.parametrize("error", [RuntimeError("odd"), FullDiskError("report.html was not written: No space left")])
def test_what_cannot_be_described_is_said_once(copied, error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(write_module, "write_page", fail)
    notes = []
    write_pages(copied, note=notes.append)
    (note,) = notes
    assert note.startswith("warning: report.html could not be written: ")
    assert "the run itself is not touched by it" in note


def test_a_run_that_fails_leaves_what_there_is(trained, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise zoo.WorkError("no room")

    monkeypatch.setattr(ending, "save_checkpoint", fail)
    recipe = trained.folder.parent / "small.yaml"
    with pytest.raises(zoo.WorkError, match="no room"):
        zoo.finetune(recipe, output=tmp_path / "run", progress=Notes())
    assert json.loads((tmp_path / "run" / "status.json").read_text())["why"] == "no room"
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "the run failed: no room" in text
    assert 'id="curves"' in text
    assert not (tmp_path / "run" / "README.md").exists()


def test_somebody_elses_file_is_not_replaced(copied, tmp_path):
    (copied / "report.html").write_text("<p>mine</p>")
    with pytest.raises(zoo.InputError, match="was not written by zoo report"):
        report([copied])
    other = tmp_path / "page.html"
    assert report([copied], other)[0] == other
    assert report([copied], other)[0] == other  # its own it replaces
    (tmp_path / "link.html").symlink_to(other)
    with pytest.raises(zoo.InputError):
        report([copied], tmp_path / "link.html")


def test_the_mark_of_an_older_run_learns_of_the_page(copied):
    mark = json.loads((copied / RUN_MARK).read_text())
    (copied / RUN_MARK).write_text(json.dumps(mark | {"files": ["report.json"]}))
    report([copied])
    assert json.loads((copied / RUN_MARK).read_text())["files"] == ["report.html", "report.json"]


def test_the_command(trained, copied, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command_line(["report", str(copied)]) == 0
    assert capsys.readouterr().out == f"{copied / 'report.html'}\n"
    assert command_line(["report", str(copied), str(trained.folder)]) == 0
    assert capsys.readouterr().out == "comparison.html\n"
    text = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "2 runs side by side" in text
    assert "The same, as they were carried out." in text
    assert "&lt;b&gt;sea" in text
    assert command_line(["report", str(copied), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predicted"]["samples"] == 12
    assert command_line(["report", str(tmp_path / "gone")]) == 2
    assert "cannot be read: No such file or directory" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="for the administrator every folder is readable")
def test_a_folder_that_may_not_be_read(copied):
    copied.chmod(0)
    try:
        with pytest.raises(zoo.InputError, match="Permission denied"):
            report([copied])
    finally:
        copied.chmod(0o700)
