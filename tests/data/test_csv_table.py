"""The table of images and labels: what it reads, and what it says about what it cannot read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo.data.csv_table import csv_table
from zoo.errors import InputError


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
    assert (one.task, list(one.train.targets), one.classes) == ("regression", [1.5, 2.0], ("label",))
    two = csv_table(table(folder, "path,label\none/00.jpg,1.5 2\n"), separator=" ", task="regression")
    assert (list(two.train.targets), two.classes) == ([[1.5, 2.0]], ("label 1", "label 2"))
    age = csv_table(table(folder, "path,age\none/00.jpg,1.5\ntwo/01.png,2\n"), label_column="age")
    assert age.classes == ("age",)


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
    said = f"{path}: column split says 'left', 'right', which are no parts of the data: all rows train"
    assert (len(csv_table(path).train), csv_table(path).notes) == (2, [said])
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
        ("paths,label\n", "no column 'path'; there is: paths, label .write image_column: paths"),
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


IMAGES = [f"{name}/{number:02}.{'png' if number % 2 else 'jpg'}" for name in ("one", "two") for number in range(12)]


def rows(label, images=IMAGES, head="path,label", sign=",") -> str:
    """A table whose label is `label(place)`."""
    return "\n".join([head.replace(",", sign), *(f"{image}{sign}{label(at)}" for at, image in enumerate(images))])


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_columns_separated_otherwise(folder, sign):
    path = table(folder, rows(lambda at: "a,b" if at % 2 else "c", sign=sign))
    data = csv_table(path)
    assert (data.classes, len(data.train)) == (("a,b", "c"), 24)
    assert data.notes[0].startswith(f"{path}: its columns are separated by ")


def test_a_decimal_comma(folder):
    data = csv_table(table(folder, rows(lambda at: f"{at / 10:.2f}".replace(".", ","), sign=";")))
    assert (data.task, data.train.targets[3]) == ("regression", 0.3)


def test_utf_16_and_signs_that_unicode_calls_line_ends(folder):
    text = rows(lambda at: "a\u2028b" if at % 2 else "c\x0bd\x85")
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (folder / "set.csv").write_text(text, encoding=encoding)
        data = csv_table(str(folder / "set.csv"))
        assert (data.classes, len(data.train)) == (("a\u2028b", "c\x0bd"), 24)


@pytest.mark.parametrize("missing", ["nan", "N/A", "", "?", "inf"])
def test_a_missing_value_among_numbers_is_named(folder, missing):
    with pytest.raises(InputError, match=r"set.csv:17:1: (label '.*' is not a number|no label)"):
        csv_table(table(folder, rows(lambda at: missing if at == 15 else f"{0.1 + 0.37 * at:.2f}")))


def test_a_missing_value_among_names_is_told(folder):
    data = csv_table(table(folder, rows(lambda at: "nan" if at == 15 else ("cat", "dog")[at % 2])))
    assert data.classes == ("cat", "dog", "nan")
    assert data.notes == [f"warning: {folder / 'set.csv'}: 'nan' is taken for a class"]


def test_many_whole_numbers_are_classes_or_measured(folder):
    path = table(folder, rows(lambda at: 20 + 3 * at))
    with pytest.raises(
        InputError, match=r"24 different whole numbers, 20 to 89: classes or measured\? .*task: regression"
    ):
        csv_table(path)
    assert csv_table(path, task="regression").train.targets[1] == 23.0
    assert len(csv_table(path, task="classification").classes) == 24
    assert len(csv_table(table(folder, rows(lambda at: at % 20))).notes) == 0


def test_an_empty_cell_is_an_image_without_any_class(folder):
    data = csv_table(table(folder, rows(lambda at: "" if at % 5 == 0 else "red|warm")), separator="|")
    assert (data.classes, data.train.targets[0], data.train.targets[1]) == (("red", "warm"), [0.0, 0.0], [1.0, 1.0])
    with pytest.raises(InputError, match=r":2:1: no label"):
        csv_table(table(folder, rows(lambda at: "" if at % 5 == 0 else "1 2")), separator=" ", task="regression")


def test_ragged_numbers_and_rows(folder):
    with pytest.raises(InputError, match=r":5:1: label '1' has 1 numbers, the first row has 2"):
        csv_table(table(folder, rows(lambda at: "1" if at == 3 else "1 2")), separator=" ", task="regression")
    path = table(folder, rows(lambda at: "cat, black" if at == 3 else "dog"))
    with pytest.raises(
        InputError, match=r":5:1: this row has 1 more cells than the header \(write a cell that contains com"
    ):
        csv_table(path)
    assert csv_table(table(folder, rows(lambda at: '"cat, black"' if at == 3 else "dog"))).classes == (
        "cat, black",
        "dog",
    )


def test_a_column_that_is_there_twice(folder):
    with pytest.raises(InputError, match=r":1:1: column 'label' is there twice \(rename one of them\)"):
        csv_table(table(folder, rows(lambda at: "a,b", head="path,label,label")))
    assert len(csv_table(table(folder, rows(lambda at: "a,1,2", head="path,label,x,x"))).train) == 24


def test_an_image_that_is_listed_twice(folder):
    path = table(folder, rows(lambda at: "b" if at < 3 else "a", images=[*IMAGES, "./" + IMAGES[5], *IMAGES[5:8]]))
    data = csv_table(path)
    assert len(data.train) == 24
    assert data.notes == [f"warning: {path}: 4 rows repeat an image of an earlier row; each counts once"]
    with pytest.raises(InputError, match=r":26:1: image one/00.jpg is listed twice, as 'd' here and as 'c' in line 2"):
        csv_table(table(folder, rows(lambda at: "d" if at > 20 else "c", images=[*IMAGES, IMAGES[0]])))


def test_images_in_two_parts_are_told(folder):
    path = table(
        folder,
        rows(lambda at: f"{'ab'[at % 2]},{'val' if at > 20 else 'train'}", [*IMAGES, IMAGES[0]], "path,label,split"),
    )
    assert csv_table(path).notes[-1] == (
        f"warning: 1 images are in the train part and in the validation part: {folder / IMAGES[0]}"
    )
    other = table(folder, rows(lambda at: "a", IMAGES[:2]), "val.csv")
    assert (
        "2 images are in the train part" in csv_table(table(folder, rows(lambda at: "a")), validation=other).notes[-1]
    )


@pytest.mark.parametrize(
    "text", ["path,label\nx.png,\x00a\n", 'path,label\n"' + "a" * 200_000 + '",b\n', "\x00", '"', "a" * 300_000]
)
def test_what_is_no_table_is_named(folder, text):
    with pytest.raises(InputError, match=r"set\.csv"):
        csv_table(table(folder, text))


COLUMNS = ["cat", "dog", "owl"]


def columns(folder: Path, *rows: str) -> str:
    images = ("one/00.jpg", "one/01.png", "two/00.jpg", "two/01.png")
    return table(folder, "\n".join(["path,cat,dog,owl", *map(",".join, zip(images, rows, strict=False))]) + "\n")


@pytest.mark.parametrize(
    ("rows", "task", "targets"),
    [
        (("1,0,0", "0,0,1"), "classification", [0, 2]),
        (("0.5,0.5,0", "0,0.2,0.8"), "classification", [[0.5, 0.5, 0], [0, 0.2, 0.8]]),
        (("1,0,1", "0,0,0"), "multilabel", [[1, 0, 1], [0, 0, 0]]),
        (("1.5,0,-1", "0,0,0"), "regression", [[1.5, 0, -1], [0, 0, 0]]),
    ],
)
def test_a_column_a_class(folder, rows, task, targets):
    data = csv_table(columns(folder, *rows), label_column=COLUMNS)
    assert (data.task, list(data.train.targets)) == (task, targets)
    assert data.classes == tuple(COLUMNS)
    assert any(note.startswith(f"{folder / 'set.csv'}: label columns cat, dog, owl: ") for note in data.notes)


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (("1,0,0", "0,,1"), {}, "3:1: column 'dog' is empty in this row (write 0 where the class is not there"),
        (("1,0,0", "0,x,1"), {}, "3:1: column 'dog' says 'x', which is not a number"),
        (("0.5,0.5,0", "1,0,0", "0.5,0.4,0"), {}, "4:1: the probabilities of this row add up to 0.9, not 1 (several"),
        (("0.5,0.9,0", "1,0,1"), {}, "from 0 to 1 that do not add up to 1: what are they? (write task: multilabel"),
        (("1,0,2", "1,0,0"), {"task": "multilabel"}, "2:1: 2 is no probability (task: regression takes any number)"),
        (("1,0,0",), {"separator": "|"}, "label_column names several columns (remove separator)"),
        (("1,0,0",), {"label_column": ["cat", "dgo"]}, "no column 'dgo'; there is: path, cat, dog, owl (did you mean"),
    ],
)
def test_what_is_wrong_with_a_column_a_class(folder, rows, options, said):
    with pytest.raises(InputError) as caught:
        csv_table(columns(folder, *rows), **{"label_column": COLUMNS, **options})
    assert said in str(caught.value)


def test_the_cure_for_open_columns_works(folder):
    path = columns(folder, "0.5,0.9,0", "1,0,1")
    assert csv_table(path, label_column=COLUMNS, task="multilabel").train.targets[0] == [0.5, 0.9, 0.0]
    assert csv_table(path, label_column=COLUMNS, task="regression").train.targets[0] == [0.5, 0.9, 0.0]


def test_a_quotation_mark_that_is_not_closed(folder):
    rows = 'path,label\none/00.jpg,cat\ntwo/01.png,"dog\nzero/00.jpg,cat\n'
    with pytest.raises(
        InputError, match=r":3:1: this row goes on to the end of the file \(is a quotation mark not clo"
    ):
        csv_table(table(folder, rows))
    with pytest.raises(InputError, match=r":2:1: the image's name goes on over several lines"):
        csv_table(table(folder, 'path,label\n"one/00.jpg,cat\ntwo/01.png,dog\n'))
    data = csv_table(table(folder, 'path,label\none/00.jpg,"big\ncat"\ntwo/01.png,dog\n'))
    assert data.classes == ("big\ncat", "dog")
    said = "a row of line 2 goes on over several lines: is a quotation mark not closed?"
    assert data.notes == [f"warning: {folder / 'set.csv'}: {said}"]


def test_names_that_look_alike_are_warned_of(folder):
    names = ["Cat", "cat", "e\u0301", "\u00e9", "dog", "dog\u200b"]
    paths = [f"one/{2 * index:02}.jpg" for index in range(6)]
    rows = "".join(f"{path},{name}\n" for path, name in zip(paths, names, strict=True))
    data = csv_table(table(folder, f"path,label\n{rows}"))
    assert data.classes == ("Cat", "cat", "dog", "dog\u200b", "\u00e9")  # one Unicode form
    where = f"warning: {folder / 'set.csv'}: the classes"
    assert data.notes == [
        f"{where} Cat and cat differ only in upper and lower case",
        f"{where} 'dog' and 'dog\\u200b' differ only in signs that look alike or are not seen",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": ["a", "a"]}, "label_column names a twice"),
        ({"label_column": "path"}, "image_column and label_column both name 'path'"),
        ({"separator": ""}, "separator is empty"),
    ],
)
def test_columns_that_no_table_could_have(folder, options, message):
    with pytest.raises(InputError, match=message):
        csv_table(table(folder, "path,label,a\none/00.jpg,1,1\n"), **options)


def test_a_table_in_another_encoding(folder):
    (folder / "set.csv").write_bytes("path,label\none/00.jpg,cat\n".encode("utf-16-le"))
    with pytest.raises(InputError, match="is no text, or in another encoding than UTF-8"):
        csv_table(str(folder / "set.csv"))


def test_numbers_as_python_writes_them_are_no_measurements(folder):
    with pytest.raises(InputError, match=r":4:1: label '1_000' is not a number"):
        csv_table(table(folder, "path,label\none/00.jpg,1.5\ntwo/01.png,2.5\nzero/00.jpg,1_000\n"))


def test_pipes_and_devices_are_named(folder):
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(InputError, match=r":2:1: image pipe\.png is a pipe\n.*:3:1: image /dev/zero is a device"):
        csv_table(table(folder, "path,label\npipe.png,a\n/dev/zero,b\n"))


def test_a_name_that_is_too_long(folder):
    with pytest.raises(InputError, match=r"cannot read x+: File name too long"):
        csv_table("x" * 5000)


@pytest.mark.parametrize("labels", ['"0,5" "1,5" "12,5"', "1% 2% 3.5%", "1mm 2mm 7mm", "\u22121 \u22122.5 \u22123"])
def test_labels_that_look_measured(folder, labels):
    images = ("one/00.jpg", "two/01.png", "zero/00.jpg")
    rows = zip(images, labels.split(), strict=True)
    path = table(folder, "path,label\n" + "".join(f"{image},{label}\n" for image, label in rows))
    with pytest.raises(InputError, match="look measured, and are no numbers: classes or measured"):
        csv_table(path)
    assert len(csv_table(path, task="classification").classes) == 3


def test_one_number_in_two_spellings_is_warned_of(folder):
    path = table(folder, "path,label\none/00.jpg,1\ntwo/01.png,1.0\nzero/00.jpg,none\n")
    said = ["'none' is taken for a class", "the classes 1 and 1.0 are the same number"]
    assert csv_table(path).notes == [f"warning: {path}: {text}" for text in said]


def test_several_labels_in_a_cell_are_warned_of(folder):
    path = table(folder, "path,label\none/00.jpg,red|round\ntwo/01.png,red\nzero/00.jpg,round\n")
    said = f"warning: {path}: 'red|round' is taken for one class; several in a cell need separator: '|'"
    assert csv_table(path).notes == [said]
    assert csv_table(path, separator="|").task == "multilabel"
    plain = table(folder, "path,label\none/00.jpg,red fox\ntwo/01.png,grey wolf\nzero/00.jpg,dog\n")
    assert csv_table(plain).notes == []
