"""Datasets that torchvision splits by name: training, validation and test as far as there are such. zoo holds out what
is not there (`validation_fraction` in a recipe)."""

from __future__ import annotations

from typing import Any, Literal

from zoo.api import Data
from zoo_torchvision.datasets.opening import as_data, digits, open_split


def _by_name(
    name: str,
    root: str,
    download: bool,
    train: str = "train",
    validation: str | None = None,
    test: str | None = "test",
    *,
    classes: Any = None,
    **own: Any,
) -> Data:
    """The dataset `name`; `train`, `validation` and `test` are torchvision's words for its splits."""
    splits = [
        open_split(name, root, download=download, split=s, **own) if s else None for s in (train, validation, test)
    ]
    return as_data(*splits, classes=classes)


Tenth = Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


def svhn(root: str = "data", download: bool = False, extra: bool = False) -> Data:
    """SVHN: 73,257 + 26,032 digits of house numbers, 32x32; `extra` trains on the 531,131 easier ones instead."""
    return _by_name("SVHN", root, download, "extra" if extra else "train", classes=digits())


def stl10(root: str = "data", download: bool = False) -> Data:
    """STL-10: 5,000 + 8,000 labelled photographs in 10 classes, 96x96."""
    return _by_name("STL10", root, download)


def food101(root: str = "data", download: bool = False) -> Data:
    """Food-101: 75,750 + 25,250 photographs of 101 dishes."""
    return _by_name("Food101", root, download)


def oxford_iiit_pet(
    root: str = "data", download: bool = False, target: Literal["category", "binary-category"] = "category"
) -> Data:
    """Oxford-IIIT Pet: 3,680 + 3,669 photographs of 37 breeds, or (`binary-category`) of cats and dogs."""
    classes = ("Cat", "Dog") if target == "binary-category" else None
    return _by_name("OxfordIIITPet", root, download, "trainval", classes=classes, target_types=target)


def gtsrb(root: str = "data", download: bool = False) -> Data:
    """GTSRB: 26,640 + 12,630 German traffic signs in 43 classes, which it numbers and does not name."""
    return _by_name("GTSRB", root, download, classes=digits(43))


def stanford_cars(root: str = "data") -> Data:
    """Stanford Cars: 8,144 + 8,041 photographs of 196 models; its address is gone, the files have to be there."""
    return _by_name("StanfordCars", root, False, fetchable=False)


def fer2013(root: str = "data") -> Data:
    """FER2013: 28,709 + 7,178 faces with 7 expressions, 48x48, grey; its files come from Kaggle by hand."""
    names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    return _by_name("FER2013", root, False, classes=names, fetchable=False)


def imagenet(root: str = "data") -> Data:
    """ImageNet-1k (ILSVRC 2012): 1,281,167 + 50,000 photographs; the archives have to be in `root`."""
    return _by_name("ImageNet", root, False, "train", "val", None, fetchable=False)


def imagenette(
    root: str = "data", download: bool = False, variant: Literal["full", "320px", "160px"] = "160px"
) -> Data:
    """Imagenette: 9,469 + 3,925 photographs of 10 easy ImageNet classes; `variant` is the short side."""
    return _by_name("Imagenette", root, download, "train", "val", None, size=variant)


def places365(root: str = "data", download: bool = False, small: bool = True) -> Data:
    """Places365-Standard: 1,803,460 + 36,500 photographs of 365 scenes; `small` is 256x256."""
    return _by_name("Places365", root, download, "train-standard", "val", None, small=small)


def flowers102(root: str = "data", download: bool = False) -> Data:
    """Flowers-102: 1,020 + 1,020 + 6,149 photographs of 102 flowers."""
    return _by_name("Flowers102", root, download, validation="val")


def dtd(root: str = "data", download: bool = False, partition: Tenth = 1) -> Data:
    """Describable Textures: 1,880 + 1,880 + 1,880 photographs of 47 textures; `partition` is one of its ten."""
    return _by_name("DTD", root, download, validation="val", partition=partition)


def fgvc_aircraft(
    root: str = "data",
    download: bool = False,
    annotation_level: Literal["variant", "family", "manufacturer"] = "variant",
) -> Data:
    """FGVC Aircraft: 3,334 + 3,333 + 3,333 photographs of 100 variants."""
    return _by_name("FGVCAircraft", root, download, validation="val", annotation_level=annotation_level)


def pcam(root: str = "data", download: bool = False) -> Data:
    """PatchCamelyon: 262,144 + 32,768 + 32,768 patches of lymph nodes, with and without tumour, 96x96. Needs h5py."""
    return _by_name("PCAM", root, download, validation="val", classes=("no tumour", "tumour"))


def rendered_sst2(root: str = "data", download: bool = False) -> Data:
    """Rendered SST2: 6,920 + 872 + 1,821 sentences as images, negative or positive."""
    return _by_name("RenderedSST2", root, download, validation="val")


def country211(root: str = "data", download: bool = False) -> Data:
    """Country211: 31,650 + 10,550 + 21,100 photographs from 211 countries."""
    return _by_name("Country211", root, download, validation="valid")


def celeba(root: str = "data", download: bool = False) -> Data:
    """CelebA: 162,770 + 19,867 + 19,962 faces with 40 attributes each (multi-label)."""
    words = ("train", "valid", "test")
    splits = [open_split("CelebA", root, download=download, split=word, target_type="attr") for word in words]
    classes = tuple(name for name in splits[0].attr_names if name)
    return as_data(*splits, classes=classes, task="multilabel")


def inaturalist(root: str = "data", download: bool = False, mini: bool = False) -> Data:
    """iNaturalist 2021: 2.7 million (`mini`: 500,000) + 100,000 photographs of 10,000 species."""
    train = "2021_train_mini" if mini else "2021_train"
    first = open_split("INaturalist", root, download=download, version=train)
    return as_data(first, open_split("INaturalist", root, download=download, version="2021_valid"))
