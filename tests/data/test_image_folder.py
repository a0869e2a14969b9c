"""The image folder: what it reads, and what it says about what it cannot read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.data.image_folder import image_folder
from zoo.errors import InputError


def test_importing_the_sources_needs_no_torch():
    code = "import zoo.data.image_folder, zoo.data.csv_table, sys; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_class_folders_give_sorted_classes_and_samples(folder):
    (folder / "one" / ".hidden.png").write_bytes(b"x")
    (folder / "one" / "notes.txt").write_text("no image")
    (folder / "one" / "deeper").mkdir()
    shutil.copy(folder / "one" / "01.png", folder / "one" / "deeper" / "01.PNG")
    data = image_folder(str(folder))
    assert data.classes == ("one", "two", "zero")
    assert data.validation is None
    assert [data.train.targets.count(index) for index in range(3)] == [13, 12, 12]
    path, target = data.train[13]
    assert (Path(path).parent.name, target) == ("two", 1)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Val"])
def test_a_folder_for_each_part(folder, tmp_path, name):
    for part in ("train", name, "test"):
        shutil.copytree(folder, tmp_path / "all" / part)
    shutil.rmtree(tmp_path / "all" / name / "one")  # a class may be missing from validation; indices must not shift
    shutil.rmtree(tmp_path / "all" / "test" / "two")
    data = image_folder(str(tmp_path / "all"))
    assert len(data.train) == 36
    assert sorted(set(data.validation.targets)) == [1, 2]
    assert sorted(set(data.test.targets)) == [0, 2]
    said = f"{tmp_path}/all: train/ is the train part, {name}/ is the validation part, test/ is the test part"
    assert list(data.notes) == [said]


def test_a_test_folder_is_for_testing_not_for_choosing(folder, tmp_path):
    for part in ("training_set", "test-set"):
        shutil.copytree(folder, tmp_path / "both" / part)
    shutil.copytree(folder / "one", tmp_path / "both" / "leftover")
    (tmp_path / "both" / "docs").mkdir()
    data = image_folder(str(tmp_path / "both"))
    assert (len(data.train), data.validation, len(data.test)) == (36, None, 36)
    assert "training_set/ is the train part, test-set/ is the test part" in data.notes[0]
    assert data.notes[1].endswith("leftover beside training_set/ is not used")


def test_a_class_may_be_called_like_a_part(folder):
    (folder / "two").rename(folder / "train")
    assert image_folder(str(folder)).classes == ("one", "train", "zero")


def test_parts_that_make_no_sense(folder, tmp_path):
    for part in ("val", "test"):
        shutil.copytree(folder, tmp_path / "odd" / part)
    with pytest.raises(InputError, match=r"contains val and test, and no train folder") as caught:
        image_folder(str(tmp_path / "odd"))
    assert f"name one by itself, {tmp_path}/odd/val" in caught.value.problems[0].suggestion
    shutil.copytree(folder, tmp_path / "odd" / "train")
    shutil.copytree(folder, tmp_path / "odd" / "valid")
    with pytest.raises(InputError, match=r"val, valid mean one part of the data twice"):
        image_folder(str(tmp_path / "odd"))


def test_every_fault_of_a_folder_is_named_at_once(folder):
    (folder / "empty").mkdir()
    (folder / "one" / "99.png").touch()
    (folder / "two" / "99.jpg").touch()
    with pytest.raises(InputError) as caught:
        image_folder(str(folder))
    text = str(caught.value)
    assert all(part in text for part in ("set/empty contains no images", "one/99.png is empty", "two/99.jpg is empty"))
    assert len(caught.value.problems) == 3


def test_validation_classes_that_training_lacks(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "both" / "train")
    shutil.copytree(folder / "one", tmp_path / "both" / "val" / "onne")
    with pytest.raises(InputError, match=r"'onne' does not occur.*did you mean one"):
        image_folder(str(tmp_path / "both"))


@pytest.mark.parametrize(
    ("make", "message"), [(None, "does not exist"), ("file", "is a file"), ("dir", "no class fol")]
)
def test_no_folder(tmp_path, make, message):
    path = tmp_path / "data"
    if make == "file":
        path.touch()
    if make == "dir":
        path.mkdir()
    with pytest.raises(InputError, match=message):
        image_folder(str(path))


def test_every_image_that_can_be_decoded_is_used_and_others_are_counted(folder):
    for suffix in (".avif", ".jfif", ".jp2", ".TGA"):
        (folder / "one" / f"other{suffix}").write_bytes(b"x")
    for name in ("notes.txt", "more.txt", "LICENSE", "photo.heic", ".DS_Store", "._other.png"):
        (folder / "one" / name).write_bytes(b"x")
    (folder / "one" / "lost.png").symlink_to(folder / "nowhere.png")
    (folder / "beside.png").write_bytes(b"x")
    data = image_folder(str(folder))
    assert len(data.train) == 36 + 4
    (note,) = data.notes
    assert note.startswith(f"{folder}: passed over: 2 .txt, ")
    for part in (
        "1 without a suffix",
        "1 .heic",
        "1 links that lead nowhere",
        "1 hidden images",
        "1 image files beside the class folders",
    ):
        assert part in note


def test_a_hidden_folder_is_no_class_and_that_is_said(folder):
    for name in ("..x", ".y", ".empty", ".git", "__MACOSX"):
        (folder / name).mkdir()
    for name in ("..x", ".y", ".git", "__MACOSX"):
        shutil.copy(next((folder / "one").iterdir()), folder / name)
    (folder / "one" / ".thumbs").mkdir()
    data = image_folder(str(folder))
    assert data.classes == ("one", "two", "zero")
    assert data.notes == [
        f"warning: {folder}: ..x, .y contains images, is hidden and so no class; a class needs another name",
        f"{folder}: passed over: 1 hidden folders",
    ]
    (folder / ".y").rename(folder / "y")
    assert image_folder(str(folder)).classes == ("one", "two", "y", "zero")


def test_linked_folders_are_followed_once(folder, tmp_path):
    shutil.copytree(folder / "two", tmp_path / "store")
    (folder / "one" / "more").symlink_to(tmp_path / "store")
    (folder / "one" / "again").symlink_to(tmp_path / "store")
    (folder / "one" / "round").symlink_to(folder / "one")
    (folder / "linked").symlink_to(tmp_path / "store")
    data = image_folder(str(folder))
    assert data.classes == ("linked", "one", "two", "zero")
    assert [data.train.targets.count(index) for index in range(4)] == [12, 24, 12, 12]


def test_a_class_folder_without_images_says_what_lies_there(folder):
    (folder / "empty").mkdir()
    (folder / "empty" / "a.heic").write_bytes(b"x")
    with pytest.raises(
        InputError, match=r"set/empty contains no images; passed over: 1 \.heic \(remove it; images are"
    ):
        image_folder(str(folder))


def test_runs_of_zoos_are_no_class(folder):
    (folder / "checkpoints" / "first").mkdir(parents=True)
    (folder / "checkpoints" / "first" / ".zoo-run.json").write_text("{}")
    (folder / "checkpoints" / "first" / "batch.png").write_bytes(b"x")
    (folder / "run").mkdir()
    (folder / "run" / ".zoo.lock").touch()
    data = image_folder(str(folder))
    assert (data.classes, len(data.train)) == (("one", "two", "zero"), 36)
    assert data.notes == [f"{folder}: checkpoints, run contains runs of zoo's and is no class"]


def test_class_names_that_look_the_same(folder, tmp_path):
    shutil.copytree(folder / "one", folder / "One")
    assert image_folder(str(folder)).notes == [
        f"warning: {folder}: the classes One and one differ only in upper and lower case"
    ]
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    shutil.copytree(folder, tmp_path / "both" / "train")
    shutil.copytree(folder / "one", tmp_path / "both" / "train" / composed)
    shutil.copytree(folder / "one", tmp_path / "both" / "val" / decomposed)
    data = image_folder(str(tmp_path / "both"))
    assert set(data.validation.targets) == {data.classes.index(composed)}
    shutil.copytree(folder / "one", tmp_path / "both" / "train" / decomposed)
    with pytest.raises(InputError, match=rf"2 class folders called {composed} differ only in how"):
        image_folder(str(tmp_path / "both"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file system takes no such name")
def test_a_class_whose_name_is_not_utf_8_is_refused(folder):
    shutil.copytree(folder / "one", folder / "caf\udce9")
    with pytest.raises(InputError, match=r"caf\\udce9' has a name that is not UTF-8 \(rename it\)"):
        image_folder(str(folder))


def test_a_training_folder_beside_class_folders(folder, tmp_path):
    """Flat, train is a class like the others; with class folders inside, either reading could be meant."""
    shutil.copytree(folder, folder / "train")
    with pytest.raises(InputError, match=r"train/ contains class folders, and one/, two/, zero/ beside it images"):
        image_folder(str(folder))
    assert len(image_folder(str(folder / "train")).train) == 36  # what the message says to type
    for part in ("train", "val"):
        shutil.copytree(folder / "one", tmp_path / "flat" / part)
    with pytest.raises(InputError, match=r"train, val contain no class folders \(sort the images: .*/CLASS/IMAGE"):
        image_folder(str(tmp_path / "flat"))


def test_links_that_lead_back_up_are_not_followed(folder):
    (folder / "one" / "up").symlink_to(folder)
    data = image_folder(str(folder))
    assert [data.train.targets.count(index) for index in range(3)] == [12, 12, 12]
    assert data.notes == [f"{folder}: passed over: 1 links to the folder they lie in"]


def test_one_folder_in_two_classes_is_said(folder):
    (folder / "same").symlink_to(folder / "one")
    notes = image_folder(str(folder)).notes
    assert notes == [
        f"warning: {folder}/one and {folder}/same are one folder, by a link: its images are in two classes"
    ]


def test_what_archivers_leave_is_no_class_and_a_pipe_no_image(folder):
    (folder / "__MACOSX").mkdir()
    os.mkfifo(folder / "one" / "pipe.png")
    data = image_folder(str(folder))
    assert (data.classes, len(data.train)) == (("one", "two", "zero"), 36)
    assert data.notes == [f"{folder}: passed over: 1 pipes or devices"]


def test_names_with_signs_that_are_not_seen(folder):
    shutil.copytree(folder / "one", folder / "one\u200b")
    assert image_folder(str(folder)).notes == [
        f"warning: {folder}: the classes 'one' and 'one\\u200b' differ only in signs that look alike or are not seen"
    ]


def test_parts_inside_the_classes_are_refused(folder):
    for name in ("one", "two", "zero"):
        for part in ("train", "val"):
            (folder / name / part).mkdir()
    with pytest.raises(InputError, match=r"each class folder contains train, val, which are parts of the data .put"):
        image_folder(str(folder))


def test_classes_one_folder_deeper_are_asked_about(folder, tmp_path):
    for fold in ("fold1", "fold2"):
        shutil.copytree(folder, tmp_path / "sets" / fold)
    (said,) = image_folder(str(tmp_path / "sets")).notes
    assert said.endswith(
        "fold1, fold2 are taken for the classes, and each contains the folders one, two, zero: are these the classes?"
    )


def test_folders_of_the_system_are_no_classes(folder):
    for name in ("lost+found", "$RECYCLE.BIN", "System Volume Information", "__pycache__"):
        (folder / name).mkdir()
    assert image_folder(str(folder)).classes == ("one", "two", "zero")


def test_an_empty_part_is_said(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "sets" / "training_data")
    (tmp_path / "sets" / "val").mkdir()
    data = image_folder(str(tmp_path / "sets"))
    assert data.notes[1].endswith("val beside training_data/ is empty")
