"""Rows of predictions as a table, a document and a CSV file."""

import csv
import json

import pytest

from zoo.errors import InputError
from zoo.training.prediction_files import csv_writer, document, table

CAT = {
    "image": "a.png",
    "predictions": [{"label": "cat", "probability": 0.9712}, {"label": "dog", "probability": 0.02}],
}
BROKEN = {"image": "long/name.png", "error": "cannot decode"}
BOTH = {**CAT, "labels": ["cat", "dog"]}
NONE = {**CAT, "labels": []}
VALUE = {"image": "b.png", "predictions": [{"label": "width", "value": 1.5}]}


def test_a_table_widens_as_rows_come():
    assert list(table([CAT, BROKEN, CAT])) == [
        "a.png  cat 97.12%  dog 2.00%",
        "long/name.png  error: cannot decode",
        "a.png          cat 97.12%            dog 2.00%",
    ]
    assert list(table([BOTH])) == ["a.png  cat, dog"]
    assert list(table([NONE])) == ["a.png  (no label)  cat 97.12%  dog 2.00%"]
    assert list(table([VALUE])) == ["b.png  width 1.5"]


@pytest.mark.parametrize("rows", [[], [CAT], [CAT, BROKEN, VALUE]])
def test_a_document_is_one_whatever_comes(rows):
    unreadable = sum("error" in row for row in rows)
    told = json.loads("".join(document(iter(rows))))
    assert told == {"images": rows, "read": len(rows) - unreadable, "unreadable": unreadable}


def written(path, task, outputs, rows):
    with csv_writer(path, task, 2, outputs) as put:
        for row in rows:
            put(row)
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_columns_of_each_task(tmp_path):
    first, second = written(tmp_path / "c.csv", "classification", ("cat", "dog"), [CAT, BROKEN])
    assert first == {"image": "a.png", "label": "cat", "probability": "0.9712", "label 2": "dog",
                     "probability 2": "0.02", "error": ""}  # fmt: skip
    assert (second["image"], second["label"], second["error"]) == ("long/name.png", "", "cannot decode")
    assert json.loads(written(tmp_path / "m.csv", "multilabel", ("cat", "dog"), [BOTH])[0]["labels"]) == ["cat", "dog"]
    assert written(tmp_path / "r.csv", "regression", ("width",), [VALUE])[0]["output: width"] == "1.5"


def test_a_failure_leaves_no_half_file(tmp_path):
    def fail():
        with csv_writer(tmp_path / "c.csv", "classification", 1, ("cat",)) as put:
            put(CAT)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path):
    (tmp_path / "c.csv").write_text("mine")
    with pytest.raises(InputError, match="--overwrite"), csv_writer(tmp_path / "c.csv", "classification", 1, ("cat",)):
        pass
    assert (tmp_path / "c.csv").read_text() == "mine"
