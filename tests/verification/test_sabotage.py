"""What was edited by hand or by a careless script is found, and the row that finds it says where."""

import re

import pytest
import torch

from tests.verification.conftest import edit_checkpoint, edit_report
from zoo.verification.verify import verify


def failed(document):
    assert document["ok"] is (not document["failed"])
    return {row["check"] for row in document["checks"] if row["result"] == "failed"}


def classes(record, tensors):
    record["classes"][:2] = reversed(record["classes"][:2])


def frozen_bit(record, tensors):
    tensors["conv1.weight"].view(torch.int32).flatten()[0] ^= 1


def trained(record, tensors):
    tensors["fc3.bias"][0] += 1e-4


def head_rows(record, tensors):
    tensors["fc3.weight"] = tensors["fc3.weight"].roll(1, 0)
    tensors["fc3.bias"] = tensors["fc3.bias"].roll(1, 0)


def mean(record, tensors):
    record["preprocessing"]["mean"] = [0.5, 0.5, 0.5]


def size(record, tensors):
    record["preprocessing"]["size"] = [40, 40]


def interpolation(record, tensors):
    record["preprocessing"]["interpolation"] = "nearest"


def metric(record, tensors):
    record["metrics"]["accuracy"] = 0.99


def interval(record, tensors):
    record["evaluation"]["intervals"]["accuracy"] = [0.98, 1.0]


def samples(record, tensors):
    record["evaluation"]["samples"] = 1000


def operations(record, tensors):
    record["operations"][0]["arguments"]["num_classes"] = 11


def task(record, tensors):
    record["task"] = "multilabel"


def base_hash(record, tensors):
    record["base_weights"]["sha256"] = "0" * 64


def frozen_list(record, tensors):
    record["frozen"].append("fc3.weight")


def seed(record, tensors):
    record["data"]["seed"] = 7


def half(record, tensors):
    tensors.update({name: tensor.half() for name, tensor in tensors.items()})


def extra(record, tensors):
    tensors["fc3.extra"] = torch.zeros(3)


# edit -> the row that finds it in the file alone, and, where its own digests are made anew, in the run's folder
CHECKPOINTS = {
    classes: ("classes", "classes"),
    frozen_bit: ("tensors", "frozen tensors and base weights"),
    trained: ("tensors", "model.safetensors"),
    head_rows: ("tensors", "model run again"),
    mean: ("preprocessing", "model run again"),
    size: ("preprocessing", "preprocessing"),  # on its own data the data's image_size decides
    interpolation: ("preprocessing", "model run again"),
    metric: ("what is said of the metrics", "metrics"),
    interval: ("what is said of the metrics", "metrics"),
    samples: ("what is said of the metrics", "metrics"),
    operations: ("operations", "operations"),
    task: ("classes", "classes"),
    base_hash: ("what is said of the base weights", "base weights"),
    frozen_list: ("list of frozen parameters", "list of frozen parameters"),
    seed: ("what is said of the data", "what is said of the data"),
    half: ("tensor names and shapes", "tensor names and shapes"),
    extra: ("tensor names and shapes", "model"),
}


@pytest.mark.parametrize("edit", CHECKPOINTS, ids=lambda edit: edit.__name__)
def test_an_edited_checkpoint_by_itself(copied, edit):
    (copied / "report.json").unlink()
    edit_checkpoint(copied / "model.safetensors", edit, own=False)
    assert CHECKPOINTS[edit][0] in failed(verify(copied, quick=True))


@pytest.mark.parametrize("edit", CHECKPOINTS, ids=lambda edit: edit.__name__)
def test_one_edited_together_with_its_own_digests(copied, edit):
    edit_checkpoint(copied / "model.safetensors", edit, own=True)
    found = failed(verify(copied, device="cpu"))
    assert {"model.safetensors", CHECKPOINTS[edit][1]} <= found


def better(report):
    report["metrics"]["accuracy"] = report["evaluation"]["parts"]["validation"]["metrics"]["accuracy"] = 0.999


def more(report):
    report["evaluation"]["parts"]["validation"]["samples"] = 1000


def coverage(report):
    report["weights"]["coverage"] = 0.5


def proof(report):
    report["stages"][-1]["freeze_proof"]["hashes"]["conv1.weight"] = "0" * 16


def epochs(report):
    report["stages"][-1]["epochs"][0]["validation"]["accuracy"] = 0.999


def nothing_left(report):
    report["stages"][-1].pop("freeze_proof")


# edit -> the row that finds it where the report's seal is made anew; None where only the seal can
REPORTS = {
    better: "metrics",
    more: "metrics",
    coverage: "coverage",
    proof: "frozen tensors",
    epochs: None,
    nothing_left: "frozen tensors",
}


@pytest.mark.parametrize("edit", REPORTS, ids=lambda edit: edit.__name__)
def test_an_edited_report(copied, edit):
    edit_report(copied, edit, own=False)
    assert "report.json" in failed(verify(copied, quick=True))
    edit_report(copied, lambda report: None, own=True)
    found = failed(verify(copied, quick=True))
    assert REPORTS[edit] in found if REPORTS[edit] else not found


def test_edited_predictions(copied):
    path = copied / "predictions.csv"
    text = path.read_text()
    wrong = re.search(r"^\d+,validation,(\d),(?!\1)\d,", text, re.MULTILINE)
    path.write_text(text.replace(wrong[0], wrong[0][:-2] + wrong[1] + ",", 1))  # a wrong answer put right
    assert failed(verify(copied, quick=True)) == {"predictions.csv"}
    edit_report(copied, lambda report: report["files"].pop("predictions.csv"), own=True)
    rows = verify(copied, quick=True)["checks"]
    assert [row["detail"] for row in rows if row["result"] == "failed"] == [
        "its columns contradict one another: what is predicted, and how well, is not what is output"
    ]


def test_predictions_without_a_row(copied):
    path = copied / "predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    rows = [row for row in verify(copied, quick=True)["checks"] if row["result"] == "failed"]
    assert [row["check"] for row in rows] == ["predictions.csv", "predictions.csv"]
    assert "samples" in rows[1]["expected"]


def test_an_edited_recipe(copied):
    path = copied / "recipe.yaml"
    path.write_text(path.read_text().replace("epochs: 8", "epochs: 80"))
    assert failed(verify(copied, quick=True)) == {"recipe.yaml"}


def test_other_base_weights(copied, base, original, monkeypatch, tmp_path):
    """The file that the checkpoint was made upon was replaced."""
    other = tmp_path / "net_a.safetensors"
    other.write_bytes(base.read_bytes()[:-1] + b"\x00")

    def move(record, tensors):
        record["base_weights"] |= {"name": str(other), "location": str(other)}

    (copied / "report.json").unlink()
    edit_checkpoint(copied / "model.safetensors", move, own=True)
    assert failed(verify(copied, quick=True)) == {"base weights"}


def test_a_file_that_broke_off(copied):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    document = verify(copied)
    assert (document["ok"], document["failed"]) == (False, 1)


def test_edits_of_the_metadata_that_zoo_does_not_write(copied):
    edit_checkpoint(copied / "model.safetensors", lambda record, tensors: record.update(threshold=0.9), own=False)
    document = verify(copied)
    assert not document["ok"]
    assert "threshold" in document["checks"][0]["detail"]
