"""zoo-huggingface's data sets: folders and files of `datasets`, with their class names, splits and hidden labels."""

import pickle

import numpy as np
import pytest
from PIL import Image
from zoo_huggingface.datasets import dataset
from zoo_huggingface.rows import Rows

import zoo
from zoo.errors import InputError
from zoo.testing import DatasetContract

datasets = pytest.importorskip("datasets")
NAMES = ["cat", "dog"]
PICTURES = [Image.fromarray(np.full((8, 8, 3), 20 * row, np.uint8)) for row in range(6)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def table(labels, kind, **more):
    features = datasets.Features({"image": datasets.Image(), "label": kind, **dict.fromkeys(more, datasets.Image())})
    return datasets.Dataset.from_dict({"image": PICTURES[: len(labels)], "label": labels, **more}, features=features)


def classes():
    return datasets.ClassLabel(names=NAMES)


@pytest.fixture
def saved(tmp_path):
    """What `save_to_disk` wrote, of three splits."""
    parts = {"train": [0, 1, 0, 1], "val": [1, 0], "test": [-1, -1]}
    whole = datasets.DatasetDict({name: table(labels, classes()) for name, labels in parts.items()})
    whole.save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


class TestContract(DatasetContract):
    component = "huggingface/dataset"

    @pytest.fixture(autouse=True)
    def given(self, saved):
        type(self).arguments = {"path": str(saved)}


def test_splits_classes_and_what_is_hidden(saved):
    data = dataset(str(saved))
    assert (data.classes, data.task) == (("cat", "dog"), "classification")
    assert (data.train.targets, data.validation.targets, data.test) == ([0, 1, 0, 1], [1, 0], None)
    assert [note.partition(": ")[2] for note in data.notes] == [
        "the split val is the validation part", "the labels of the split test are hidden, so it is left out",
    ]  # fmt: skip
    image, target = data.train[1]
    assert (image.size, image.getpixel((0, 0)), target) == ((8, 8), (20, 20, 20), 1)
    assert pickle.loads(pickle.dumps(data.train))[1][0].tobytes() == image.tobytes()


def test_one_data_set_is_the_training_part(tmp_path):
    table([0, 1], classes()).save_to_disk(tmp_path / "one")
    data = dataset(str(tmp_path / "one"))
    assert (len(data.train), data.validation, data.test) == (2, None, None)


def test_parquet_a_folder_and_a_file(tmp_path):
    (tmp_path / "data").mkdir()
    table([0, 1, 1], classes()).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    table([1], classes()).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    data = dataset(str(tmp_path / "data"))
    assert (data.train.targets, data.test.targets, data.classes) == ([0, 1, 1], [1], ("cat", "dog"))
    alone = dataset(str(tmp_path / "data" / "train-00000-of-00001.parquet"))
    assert (alone.train.targets, alone.test) == ([0, 1, 1], None)


def test_images_in_folders_stay_files(tmp_path):
    for name in NAMES:
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
        PICTURES[0].save(tmp_path / "images" / "train" / name / "1.png")
    data = dataset(str(tmp_path / "images"))
    assert data.classes == ("cat", "dog")
    assert str(data.train[1][0]) == str(tmp_path / "images" / "train" / "dog" / "1.png")


@pytest.mark.parametrize(
    ("labels", "kind", "task", "names", "targets"),
    [
        ([3, 0], datasets.Value("int64"), "classification", (), [3, 0]),
        (["b", "a"], datasets.Value("string"), "classification", ("a", "b"), [1, 0]),
        ([[1], []], datasets.List(classes()), "multilabel", ("cat", "dog"), [[0.0, 1.0], [0.0, 0.0]]),
        ([["b"], ["a", "b"]], datasets.List(datasets.Value("string")), "multilabel", ("a", "b"), [[0, 1], [1, 1]]),
        ([0.5, 2.0], datasets.Value("float32"), "regression", (), [0.5, 2.0]),
        ([[0.5, 1], [2.0, 3]], datasets.List(datasets.Value("float32")), "regression", (), [[0.5, 1.0], [2.0, 3.0]]),
    ],
)
def test_what_labels_may_be(tmp_path, labels, kind, task, names, targets):
    table(labels, kind).save_to_disk(tmp_path / "one")
    data = dataset(str(tmp_path / "one"))
    assert (data.task, data.classes, data.train.targets) == (task, names, targets)


class TestMistakes:
    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"label": "lable"}, r"has no column 'lable' \(did you mean label\?"),
            ({"image": "label"}, "the column 'label' of .* contains no images"),
            ({"train": "trian"}, r"has no split 'trian' \(train: … names one; did you mean train\?"),
            ({"test": "val2"}, "has no split 'val2' .*test: … names one"),
        ],
    )
    def test_names(self, saved, given, said):
        with pytest.raises(InputError, match=said):
            dataset(str(saved), **given)

    def test_rows_without_a_label(self, tmp_path):
        table([0, -1, None], classes()).save_to_disk(tmp_path / "one")
        with pytest.raises(InputError, match=r"row 1 has no usable label: -1[\s\S]*row 2 has no usable label: None"):
            dataset(str(tmp_path / "one"))

    def test_two_columns_of_images(self, tmp_path):
        table([0, 1], classes(), mask=PICTURES[:2]).save_to_disk(tmp_path / "one")
        with pytest.raises(InputError, match=r"2 columns that may be the image: image, mask .*write image: COLUMN"):
            dataset(str(tmp_path / "one"))
        assert len(dataset(str(tmp_path / "one"), image="mask").train) == 2

    def test_a_picture_that_is_none(self):
        cells = [{"bytes": b"no picture", "path": None}, {"bytes": None, "path": "/none.png"}]
        features = datasets.Features({"image": datasets.Image(decode=False)})
        train = Rows(datasets.Dataset.from_dict({"image": cells}, features=features), "image", [0, 1])
        with pytest.raises(InputError, match="cannot decode the image of row 0"):
            train[0]
        with pytest.raises(InputError, match=r"row 1 has no image: there is no file /none\.png"):
            train[1]

    def test_a_hub_that_is_not_asked(self, monkeypatch):
        def never(*_, **__):
            raise AssertionError("it went to the network")

        monkeypatch.setattr("socket.create_connection", never)
        with pytest.raises(InputError, match=r"me/cats is not on this machine .*download: true"):
            dataset("me/cats")

    def test_what_is_no_data_set(self, tmp_path):
        (tmp_path / "a.txt").write_text("x")
        with pytest.raises(InputError, match="neither a parquet nor an arrow file"):
            dataset(str(tmp_path / "a.txt"))

    def test_without_the_library(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "datasets", None)
        with pytest.raises(InputError, match=r'pip install "zoo-huggingface\[datasets\]"'):
            dataset("me/cats")


def test_a_recipe_reads_it(saved, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: tutorial/fashion_mlp\n"
        f"data: {{source: huggingface/dataset, path: {saved}}}\n"
        "steps: [{swap_head: auto}, {train: {max_steps: 1, lr: 0.1}}]\n"
    )
    verdict = zoo.check(recipe)
    assert verdict.ok, verdict.errors
    assert verdict.outputs == 2
