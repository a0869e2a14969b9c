"""The contract of datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from zoo.contracts import Data
from zoo.testing.contract import Contract


class DatasetContract(Contract):
    """Opening with `arguments` gives samples, classes and targets that fit each other."""

    kind = "datasets"
    looked_at: ClassVar[int] = 20

    def test_samples_are_what_zoo_reads(self) -> None:
        data = self.load()(**self.arguments)
        assert isinstance(data, Data)
        for part in filter(None, (data.train, data.validation, data.test)):
            assert len(part) > 0
            for index in range(0, len(part), max(1, len(part) // self.looked_at)):
                image, target = part[index]
                _check_image(image, data)
                _check_target(target, data)

    def test_class_names_are_distinct(self) -> None:
        classes = list(self.load()(**self.arguments).classes)
        assert len(classes) == len(set(classes))
        assert all(isinstance(name, str) for name in classes)


def _check_image(image: Any, data: Data) -> None:
    import torch
    from PIL.Image import Image

    if data.inputs == "features":
        assert isinstance(image, torch.Tensor)
        assert image.is_floating_point()
    elif isinstance(image, torch.Tensor):
        assert image.dtype == torch.uint8
        assert image.ndim == 3
    else:
        assert isinstance(image, Image) or Path(image).is_file()


def _check_target(target: Any, data: Data) -> None:
    if data.task == "classification":
        assert int(target) == target
        assert 0 <= target < (len(data.classes) or target + 1)
    elif data.task == "multilabel":
        assert len(target) == len(data.classes)
