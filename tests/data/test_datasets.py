"""The image folder and the CSV source: what they read, and what they say about what they cannot read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.data.datasets import csv_table, image_folder
from zoo.errors import InputError


def test_importing_the_sources_needs_no_torch():
    code = "import zoo.data.datasets, sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
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
    (tmp_path / "both" / "leftover").mkdir()
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


def table(folder: Path, text: str, name: str = "set.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_classification_table(folder):
    data = csv_table(table(folder, "path,label\none/00.jpg,cat\ntwo/01.png, dog \nzero/00.jpg,cat\n"))
    assert (data.task, data.classes, list(data.train.targets)) == ("classification", ("cat", "dog"), [0, 1, 0])
    assert data.train[0][0] == str(folder / "one" / "00.jpg")


def test_whole_numbers_are_classes_in_numeric_order(folder):
    data = csv_table(table(folder, "path,label\none/00.jpg,10\ntwo/01.png,9\n"))
    assert (data.task, data.classes) == ("classification", ("9", "10"))


def test_multilabel_table(folder):
    data = csv_table(table(folder, "path,label\none/00.jpg,red|round\ntwo/01.png,red\n"), separator="|")
    assert (data.task, data.classes) == ("multilabel", ("red", "round"))
    assert list(data.train.targets) == [[1.0, 1.0], [1.0, 0.0]]


def test_regression_tables(folder):
    one = csv_table(table(folder, "path,label\none/00.jpg,1.5\ntwo/01.png,2\n"))
    assert (one.task, list(one.train.targets), one.classes) == ("regression", [1.5, 2.0], ())
    two = csv_table(table(folder, "path,label\none/00.jpg,1.5 2\n"), separator=" ", task="regression")
    assert list(two.train.targets) == [[1.5, 2.0]]


def test_columns_and_a_validation_table(folder):
    train = table(folder, "file,kind\none/00.jpg,a\none/01.png,b\n")
    held_out = table(folder, "file,kind\ntwo/00.jpg,b\n", "val.csv")
    data = csv_table(train, image_column="file", label_column="kind", validation=held_out)
    assert list(data.validation.targets) == [1]


def test_a_split_column(folder):
    rows = ["one/00.jpg,a,train", "one/01.png,b,Train", "two/00.jpg,b,dev", "two/01.png,a,test"]
    path = table(folder, "\n".join(["path,label,split", *rows]))
    data = csv_table(path)
    assert [list(part.targets) for part in (data.train, data.validation, data.test)] == [[0, 1], [1], [0]]
    assert list(data.notes) == [f"{path}: rows are parts by the column split: 2 train, 1 validation, 1 test"]
    assert len(csv_table(path, split_column="").train) == 4
    other = table(folder, "path,label\ntwo/00.jpg,b\n", "other.csv")
    with pytest.raises(InputError, match=r"has test rows in its column split, and test names another table"):
        csv_table(path, test=other)
    assert len(csv_table(other, split_column="fold", test=other).test) == 1


def test_a_split_column_of_another_meaning(folder):
    path = table(folder, "path,label,split\none/00.jpg,a,left\none/01.png,b,right\n")
    assert (len(csv_table(path).train), csv_table(path).notes) == (2, [])
    path = table(folder, "path,label,split\none/00.jpg,a,train\none/01.png,b,tset\n")
    with pytest.raises(InputError, match=r"set.csv:3:1: split 'tset' is no part of the data \(did you mean test"):
        csv_table(path)
    path = table(folder, "path,label,split\none/00.jpg,a,val\none/01.png,b,test\n")
    with pytest.raises(InputError, match=r"no row says train in its column split"):
        csv_table(path)


def test_every_fault_of_a_table_is_named_with_its_line(folder):
    (folder / "one" / "empty.png").touch()
    path = table(folder, "path,label\none/0.jpg,a\n,a\none/00.jpg,\none/empty.png,b\n")
    with pytest.raises(InputError) as caught:
        csv_table(path)
    text = str(caught.value)
    for part in (
        ":2:1: image one/0.jpg does not",
        ":3:1: no image",
        ":4:1: no label",
        ":5:1: image one/empty.png is empty",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paths,label\n", "no column 'path'; there is: paths, label .did you mean paths"),
        ("path,label\n", "has a header but no rows"),
        ("", "no column 'path'"),
    ],
)
def test_tables_without_content(folder, text, message):
    with pytest.raises(InputError, match=message):
        csv_table(table(folder, text))


def test_labels_of_the_wrong_kind(folder):
    with pytest.raises(InputError, match=r"set.csv:3:1: label 'two' is not a number"):
        csv_table(table(folder, "path,label\none/00.jpg,1.5\ntwo/01.png,two\n"), task="regression")
    train = table(folder, "path,label\none/00.jpg,cat\n")
    with pytest.raises(InputError, match=r"val.csv:2:1: label 'cta' does not occur.*did you mean cat"):
        csv_table(train, validation=table(folder, "path,label\ntwo/01.png,cta\n", "val.csv"))
    with pytest.raises(InputError, match=r"table .* does not exist"):
        csv_table(str(folder / "nothing.csv"))
