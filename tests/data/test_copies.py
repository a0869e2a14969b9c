"""One picture in two parts, or under two labels."""

import shutil
from types import SimpleNamespace

import pytest

from zoo.cli import run
from zoo.data.copies import copies, copies_in
from zoo.data.fingerprint import Row


def row(part, label, name, digest="d", size=9):
    return Row(part, label, name, size, digest)


def test_copies_in_two_parts_are_named():
    rows = [
        row("train", "a", "a/1.png"),
        row("train", "a", "a/2.png"),
        row("test", "a", "x.png"),
        row("test", "a", "y.png", "e"),
    ]
    assert copies(rows, "everything") == [
        "warning: 1 sample of the test part is in the train part, too: x.png is a/1.png"
    ]
    assert copies(rows[:2], "everything") == []


def test_copies_of_two_labels_are_named():
    rows = [row("train", "cat", "a.png"), row("train", "dog", "b.png")]
    assert copies(rows, "everything") == [
        "warning: 1 sample has several labels, in copies: a.png (cat) and b.png (dog)"
    ]


@pytest.mark.parametrize(("name", "found"), [("a.jpg", 1), ("a.bmp", 0), ("a.npy", 0)])
def test_of_files_read_in_part_only_compressed_ones_are_compared(name, found):
    assert len(copies([row("train", "a", name), row("validation", "a", name)], "8192 bytes of each file")) == found


def test_what_was_not_read_is_no_copy():
    assert copies([row("train", "a", "a.png", ""), row("test", "b", "b.png", "")], "everything") == []


def test_a_large_set_is_left_to_the_run():
    assert copies_in(SimpleNamespace(parts={"train": range(30_000)})) == []


SAID = "warning: 12 samples of the validation part are in the train part, too: val/one/00.jpg is train/one/00.jpg"


@pytest.fixture
def recipe(folder, tmp_path):
    shutil.move(folder, tmp_path / "held")
    shutil.copytree(tmp_path / "held", folder / "train")
    shutil.copytree(tmp_path / "held" / "one", folder / "val" / "one")
    (tmp_path / "small.yaml").write_text(
        f"model: timm/test_resnet\nprecision: float32\ndata: {{source: image_folder, path: {folder}, image_size: 32}}\n"
        "steps: [{swap_head: auto}, {train: {max_steps: 1}}]\n"
    )
    return str(tmp_path / "small.yaml")


def test_a_check_says_it(recipe, capsys):
    assert run(["check", recipe]) == 0
    assert SAID in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_says_it(recipe, tmp_path, capsys):
    assert run(["finetune", recipe, "--output", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert SAID in captured.out + captured.err
