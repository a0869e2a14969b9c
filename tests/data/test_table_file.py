"""A table's file: what stands in front of its header and behind its rows, other encodings, and hints that help."""

import re

import pytest

from zoo.data.csv_table import csv_table
from zoo.errors import InputError

ROWS = "one/00.jpg,cat\ntwo/01.png,dog\n"


def write(folder, content):
    (folder / "set.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / "set.csv")


@pytest.mark.parametrize(
    "text",
    [
        "\n  \npath,label\n" + ROWS,
        "sep=,\npath,label\n" + ROWS,
        "sep=;\npath;label\n" + ROWS.replace(",", ";"),
        "path,label\n" + ROWS.replace("\n", ",\n"),
        "path,label,\n" + ROWS.replace("\n", ",,\n"),
        "path,label\n\n" + ROWS + "  \n,\n,,\n",
        ",path,label\n0," + ROWS.replace("\n", "\n1,", 1),
    ],
    ids=["empty lines", "sep=,", "sep=;", "a comma behind", "two behind", "empty rows", "an index"],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_write_is_read(folder, text, ending):
    data = csv_table(write(folder, text.replace("\n", ending)))
    assert (data.classes, list(data.train.targets)) == (("cat", "dog"), [0, 1])
    assert [note for note in data.notes if "warning" in note] == []


def test_lines_are_counted_as_an_editor_does(folder):
    with pytest.raises(InputError, match=r"set\.csv:5:1: no label in this row"):
        csv_table(write(folder, "\nsep=,\npath,label\none/00.jpg,cat\ntwo/01.png,\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROWS, "write path,label above the rows"),
        ("path,Label\n" + ROWS, "write label_column: Label"),
        ("'path','label'\n" + ROWS, 'quotation marks of the form "'),
        ("path label\n" + ROWS, "columns are separated by commas, semicolons, tabs or bars"),
        (b"PK\x03\x04\x00\x00", "is an Excel workbook or another zip archive (save it as CSV"),
        (b"\x1f\x8b\x08", "is a gzip archive"),
        (f"path,label\n{ROWS}two/00.jpg,caf\xe9\n".encode("latin-1"), "set.csv:4:1: byte 0xe9 is no text in UTF-8"),
        (f"path,label\n{ROWS * 2000}".encode() + b"a,\xff", "set.csv:4002:1: byte 0xff is no text in UTF-8"),
    ],
)
def test_what_is_no_table_is_named_with_a_way_out(folder, text, said):
    with pytest.raises(InputError, match=re.escape(said)):
        csv_table(write(folder, text))


def test_a_column_of_parts_under_another_name_is_told(folder):
    path = write(folder, "path,label,Subset\none/00.jpg,cat,train\ntwo/01.png,dog,val\none/01.png,dog,train\n")
    (said,) = csv_table(path).notes
    assert said == f"warning: {path}: column 'Subset' says train, val, and is not used; it is with split_column: Subset"
    assert len(csv_table(path, split_column="Subset").validation) == 1
    assert csv_table(path, split_column="").notes == []


def test_an_image_twice_in_other_spellings(folder):
    text = "path,label\none/00.jpg,cat\ntwo/../one/./00.jpg,cat\none/01.png,dog\n"
    data = csv_table(write(folder, text))
    assert (len(data.train), [note.rpartition(": ")[2] for note in data.notes]) == (
        2,
        ["1 rows repeat an image of an earlier row; each counts once"],
    )
    with pytest.raises(
        InputError, match=r"set\.csv:3:1: image one/00\.jpg is listed twice, as 'dog' here and as 'cat'"
    ):
        csv_table(write(folder, text.replace("00.jpg,cat\none", "00.jpg,dog\none")))
