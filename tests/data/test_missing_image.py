"""Where an image is that a table names by another path."""

import pytest

from zoo.data.csv_table import csv_table
from zoo.errors import InputError


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        ("/home/kim/data/one/00.jpg", "there is one/00.jpg; relative"),
        ("/one/00.jpg", "there is one/00.jpg; relative"),
        ("00.jpg", "there is one/00.jpg; relative"),
        ("one/00", "there is one/00.jpg; relative"),
        ("one/00.jpeg", "there is one/00.jpg; relative"),
        ("ONE/00.JPG", "there is one/00.jpg; relative"),
        ("one\\00.jpg", "write / in place of"),
        ("C:\\data\\one\\00.jpg", "a path of a Windows machine"),
        ("https://example.org/00.jpg", "a table lists files: download the images"),
        ("~/one/00.jpg", "~ and variables stand for nothing"),
        ("$DATA/one/00.jpg", "~ and variables stand for nothing"),
        ("three/99.jpg", "(relative paths count from the table's folder)"),
    ],
)
def test_a_missing_image_is_looked_for(folder, image, hint):
    (folder / "set.csv").write_text(f"path,label\n{image},cat\n")
    with pytest.raises(InputError) as caught:
        csv_table(str(folder / "set.csv"))
    assert f"image {image} does not exist" in str(caught.value)
    assert hint in str(caught.value)


def test_the_path_that_is_named_works(folder):
    (folder / "cafe\u0301.jpg").write_bytes((folder / "one" / "00.jpg").read_bytes())
    table = folder / "set.csv"
    table.write_text("path,label\ncaf\u00e9.jpg,cat\n", encoding="utf-8")
    with pytest.raises(InputError, match="another Unicode form") as caught:
        csv_table(str(table))
    named = str(caught.value).partition("there is ")[2].partition(" (its name")[0]
    table.write_text(f"path,label\n{named},cat\n", encoding="utf-8")
    assert len(csv_table(str(table)).train) == 1
