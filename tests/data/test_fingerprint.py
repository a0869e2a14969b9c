"""The fingerprint of data: stable where nothing changed, and every kind of change named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.contracts import Data, Preprocessing
from zoo.data import fingerprint as module
from zoo.data.fingerprint import Differences, compare, fingerprint, read_lines
from zoo.data.open_data import open_data
from zoo.given import given
from zoo.recipe.options import DataOptions


def images(root: Path, classes=("cat", "dog"), n=6) -> Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(n):
            pixels = np.random.default_rng([number, index]).integers(0, 255, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def of(folder: Path):
    options = DataOptions(source="kit/image_folder", arguments={"path": str(folder)})
    return fingerprint(open_data(options, Preprocessing(size=(8, 8))))


def opened(dataset, **data):
    with given({"datasets": {"python:x": lambda: Data(dataset, **data)}}):
        return open_data(DataOptions(source="python:x"), Preprocessing(size=(8, 8)))


def of_objects(dataset, **data):
    return fingerprint(opened(dataset, **data))


def test_the_same_data_elsewhere_has_the_same_fingerprint(tmp_path):
    folder = images(tmp_path / "here")
    shutil.copytree(folder, tmp_path / "there")
    first, again = of(folder), of(tmp_path / "there")
    assert first.digest == again.digest
    assert first.as_dict() == {"digest": first.digest, "samples": 12, "read": "everything"}
    assert read_lines(first.as_lines()) == first.rows
    assert {row.part for row in first.rows} == {"train", "validation"}
    assert compare(first.rows, again.rows) == Differences()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "cat/3.png").unlink(), "1 sample removed: cat/3.png"),
        (lambda root: shutil.copy(root / "cat/3.png", root / "cat/33.png"), "1 sample added: cat/33.png"),
        (lambda root: shutil.copy(root / "dog/3.png", root / "cat/3.png"), "1 sample of other bytes: cat/3.png"),
        (lambda root: (root / "cat").rename(root / "zebra"), "6 samples added: zebra/0.png, zebra/1.png"),
        (lambda root: (root / "cat/3.png").rename(root / "dog/3a.png"), "1 sample removed: cat/3.png"),
    ],
)
def test_what_changed_is_named(tmp_path, change, said):
    folder = images(tmp_path / "data")
    before = of(folder)
    change(folder)
    now = of(folder)
    assert before.digest != now.digest
    found = compare(before.rows, now.rows)
    assert any(line.startswith(said) for line in found.lines()), list(found.lines())
    assert found.only_replaced == ("other bytes" in said)


def test_a_label_of_a_table_that_changed_is_named(tmp_path):
    folder, table = images(tmp_path / "data"), tmp_path / "table.csv"
    rows = [f"data/{name}/{index}.png,{name}" for name in ("cat", "dog") for index in range(6)]
    options = DataOptions(source="kit/csv", arguments={"path": str(table)}, validation_fraction=0.5)

    def read():
        table.write_text("\n".join(["path,label", *rows]))
        return fingerprint(open_data(options, Preprocessing(size=(8, 8))))

    before = read()
    rows[2] = rows[2].replace(",cat", ",dog")
    found = compare(before.rows, read().rows)
    assert folder.exists()
    assert found.relabelled == ("cat/2.png",)


def test_of_large_files_parts_are_read(tmp_path, monkeypatch):
    folder = images(tmp_path / "data")
    monkeypatch.setattr(module, "LEAST", 64)
    monkeypatch.setattr(module, "BUDGET", 12 * 64)
    before = of(folder)
    assert before.read == "64 bytes of each file"
    shutil.copy(folder / "dog/3.png", folder / "cat/3.png")
    assert compare(before.rows, of(folder).rows).replaced == ("cat/3.png",)
    monkeypatch.setattr(module, "BUDGET", 4 * 64)
    every = of(folder)
    assert every.read == "64 bytes of one file in 3, and the size of all"
    assert sum(bool(row.digest) for row in every.rows) == 4


def test_values_in_memory_are_compared_too():
    pixels = torch.arange(20 * 3 * 8 * 8, dtype=torch.uint8).reshape(20, 3, 8, 8)
    samples = [(pixels[index], index % 2) for index in range(20)]
    before = of_objects(samples, classes=("a", "b"))
    assert before.digest == of_objects(list(samples), classes=("a", "b")).digest
    samples[7] = (samples[7][0] + 1, 1)
    assert compare(before.rows, of_objects(samples, classes=("a", "b")).rows).replaced == ("sample 7",)


def test_data_that_changes_by_itself_is_the_same_data():
    class Augmenting(list):
        def __getitem__(self, index):
            value, target = super().__getitem__(index)
            return value + torch.rand(value.shape), target

    samples = Augmenting([(torch.zeros(4), index % 2) for index in range(20)])
    data = opened(samples, classes=("a", "b"), inputs="features")
    torch.manual_seed(5)
    first = fingerprint(data)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1)), "it changes no generator"
    assert first.digest == of_objects(samples, classes=("a", "b"), inputs="features").digest
    assert first.read.startswith("their number alone")
