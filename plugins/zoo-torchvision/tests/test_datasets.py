"""zoo-torchvision's datasets: real files in each layout, the right splits, and plain words when files are missing."""

import csv
import itertools
import json
import struct

import numpy as np
import pytest
from PIL import Image

from zoo import registry
from zoo.errors import InputError, WorkError
from zoo.testing import DatasetContract

ALL = [row.name for row in registry.components("datasets") if row.plugin == "torchvision"]
ON_DISK = [name for name in ALL if name != "torchvision/FakeData"]


def opened(name, **arguments):
    return registry.load(f"torchvision/{name}", "datasets")(**arguments)


def picture(path, shade=0):
    """An 8x8 image file of one shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(path)


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def idx(path, array):
    """The file format of MNIST: two zeros, type, dimensions, sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    for prefix, count in (("train", 7), ("t10k", 3)):
        idx(raw / f"{prefix}-images-idx3-ubyte", np.arange(count * 784).reshape(count, 28, 28) % 256)
        idx(raw / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10)
    return tmp_path


class TestFakeData(DatasetContract):
    component = "torchvision/FakeData"
    arguments = {"size": 10, "num_classes": 4, "image_size": 16}


class TestFashion:
    def test_train_and_test_files_are_for_training_and_testing(self, fashion):
        data = opened("FashionMNIST", root=str(fashion))
        assert (len(data.train), data.validation, len(data.test)) == (7, None, 3)
        image, target = data.train[6]
        assert (image.size, target) == ((28, 28), 6)
        assert np.asarray(image).ravel().tolist() == [value % 256 for value in range(6 * 784, 7 * 784)]
        assert data.classes[:2] == ("T-shirt/top", "Trouser")

    def test_nothing_is_fetched_again_that_is_there(self, fashion, monkeypatch):
        monkeypatch.setattr("torchvision.datasets.mnist.MNIST.download", lambda self: pytest.fail("fetched"))
        assert len(opened("FashionMNIST", root=str(fashion), download=True).train) == 7

    def test_a_fetch_that_fails_is_told(self, tmp_path, monkeypatch):
        def refuse(self):
            raise RuntimeError("Error downloading train-images:\nTried https://mirror/, got:\n<no route>\n")

        monkeypatch.setattr("torchvision.datasets.mnist.MNIST.download", refuse)
        with pytest.raises(WorkError) as caught:
            opened("KMNIST", root=str(tmp_path), download=True)
        (problem,) = caught.value.problems
        assert problem.message.startswith("KMNIST could not be fetched into ")
        assert problem.message.endswith(": Error downloading train-images: <no route>")
        assert "lay the files under" in problem.suggestion


class TestMissing:
    @pytest.mark.parametrize("name", ON_DISK)
    def test_says_what_is_missing_and_what_to_write(self, name, tmp_path):
        root = tmp_path / "nothing"
        with pytest.raises(InputError) as caught:
            registry.load(name, "datasets")(root=str(root))
        (problem,) = caught.value.problems
        assert name.partition("/")[2] in problem.message
        assert str(root) in problem.message
        fetchable = name.partition("/")[2] not in ("StanfordCars", "FER2013", "ImageNet")
        assert ("`download: true`" in problem.suggestion) == fetchable
        assert not [path for path in tmp_path.rglob("*") if path.is_file()], "opening wrote something"

    def test_the_advice_is_given_once(self, tmp_path):
        with pytest.raises(InputError) as caught:
            opened("CIFAR10", root=str(tmp_path))
        assert "download=True" not in str(caught.value)


class TestSplits:
    """Each layout in small, as the archives unpack."""

    def test_dtd(self, tmp_path):
        names = {
            "train": ["banded/a.jpg", "dotted/a.jpg"],
            "val": ["dotted/b.jpg", "banded/b.jpg"],
            "test": ["banded/c.jpg"],
        }
        for split, files in names.items():
            text(tmp_path / "dtd/dtd/labels" / f"{split}1.txt", *files)
            for file in files:
                picture(tmp_path / "dtd/dtd/images" / file)
        data = opened("DTD", root=str(tmp_path))
        assert (len(data.train), [target for _, target in data.validation]) == (2, [1, 0])
        assert data.classes == ("banded", "dotted")
        assert [target for _, target in data.test] == [0]

    def test_oxford_pets(self, tmp_path):
        folder = tmp_path / "oxford-iiit-pet"
        text(folder / "annotations/trainval.txt", "Abyssinian_1 1 1 1", "great_pyrenees_1 2 2 1")
        text(folder / "annotations/test.txt", "great_pyrenees_2 2 2 1")
        for name in ("Abyssinian_1", "great_pyrenees_1", "great_pyrenees_2"):
            picture(folder / "images" / f"{name}.jpg")
        data = opened("OxfordIIITPet", root=str(tmp_path))
        assert data.classes == ("Abyssinian", "Great Pyrenees")
        assert ([target for _, target in data.train], data.test[0][1]) == ([0, 1], 1)
        assert opened("OxfordIIITPet", root=str(tmp_path), target="binary-category").classes == ("Cat", "Dog")

    def test_gtsrb(self, tmp_path):
        for label in range(3):
            picture(tmp_path / f"gtsrb/GTSRB/Training/{label:05}/0.ppm")
        picture(tmp_path / "gtsrb/GTSRB/Final_Test/Images/00000.ppm")
        with open(tmp_path / "gtsrb/GT-final_test.csv", "w", newline="") as stream:
            csv.writer(stream, delimiter=";").writerows([["Filename", "ClassId"], ["00000.ppm", 2]])
        data = opened("GTSRB", root=str(tmp_path))
        assert ([target for _, target in data.train], data.test[0][1]) == ([0, 1, 2], 2)
        assert len(data.classes) == 43

    def test_fgvc_aircraft(self, tmp_path):
        data_folder = tmp_path / "fgvc-aircraft-2013b/data"
        text(data_folder / "variants.txt", "707-320", "A380")
        files = {"train": ["1 707-320"], "val": ["2 A380"], "trainval": ["1 707-320", "2 A380"], "test": ["3 A380"]}
        for split, lines in files.items():
            text(data_folder / f"images_variant_{split}.txt", *lines)
            for line in lines:
                picture(data_folder / "images" / f"{line[0]}.jpg")
        data = opened("FGVCAircraft", root=str(tmp_path))
        assert (len(data.train), data.validation[0][1], data.classes) == (1, 1, ("707-320", "A380"))
        assert [target for _, target in data.test] == [1]

    def test_food101(self, tmp_path):
        for split, files in {
            "train": {"ramen": ["ramen/1"], "waffles": ["waffles/1"]},
            "test": {"ramen": ["ramen/2"]},
        }.items():
            text(tmp_path / f"food-101/meta/{split}.json", json.dumps(files))
            for name in itertools.chain(*files.values()):
                picture(tmp_path / f"food-101/images/{name}.jpg")
        data = opened("Food101", root=str(tmp_path))
        assert (len(data.train), len(data.test), data.classes) == (2, 1, ("ramen", "waffles"))

    def test_imagenette(self, tmp_path):
        for split in ("train", "val"):
            for wnid in ("n01440764", "n02102040"):
                (folder := tmp_path / "imagenette2-160" / split / wnid).mkdir(parents=True)
                Image.new("RGB", (8, 8)).save(folder / "0.JPEG")
        data = opened("Imagenette", root=str(tmp_path))
        assert (len(data.train), len(data.validation)) == (2, 2)
        assert data.classes == ("tench", "English springer")

    def test_a_dataset_without_splits_leaves_the_split_to_zoo(self, tmp_path):
        for name in ("AnnualCrop", "Forest"):
            picture(tmp_path / f"eurosat/2750/{name}/{name}_1.jpg")
        data = opened("EuroSAT", root=str(tmp_path))
        assert (len(data.train), data.validation, data.classes) == (2, None, ("AnnualCrop", "Forest"))
