"""The contract of datasets."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar

from zoo.contracts import Data
from zoo.testing.contract import SMALL_CNN, Contract


class DatasetContract(Contract):
    """Opening with `arguments` gives samples, classes and targets that fit each other, and the same ones again.

    `architecture` names the network that zoo check runs a sample through; one that takes rows where samples are rows.
    """

    kind = "datasets"
    architecture: ClassVar[str] = SMALL_CNN
    looked_at: ClassVar[int] = 20

    def test_samples_are_what_zoo_reads(self) -> None:
        data = self.call()
        assert isinstance(data, Data)
        for part in _parts(data):
            assert len(part) > 0
            for index in self._looked_at(part):
                image, target = part[index]
                _check_image(image, data)
                _check_target(target, data)

    def recipe(self) -> dict[str, Any]:
        data = {"source": self.component, "arguments": dict(self.arguments)}
        return {"model": self.architecture, "data": data, "steps": ["save"]}

    def test_it_opens_alike_twice(self) -> None:
        first, second = self.call(), self.call()
        assert list(first.classes) == list(second.classes)
        for one, other in zip(_parts(first), _parts(second), strict=True):
            assert len(one) == len(other)
            for index in self._looked_at(one):
                assert _plain(one[index][1]) == _plain(other[index][1]), f"sample {index} has another target"

    def test_listed_targets_are_those_of_the_samples(self) -> None:
        """A part may have `targets` (or `labels`), so that no image is read to know the classes."""
        from zoo.data.split import listed_targets

        for part in _parts(self.call()):
            if (targets := listed_targets(part)) is not None:
                for index in self._looked_at(part):
                    assert _plain(targets[index]) == _plain(part[index][1]), f"targets[{index}] is not sample {index}'s"

    def test_worker_processes_can_have_it(self) -> None:
        for part in _parts(self.call()):
            pickle.dumps(part)

    def _looked_at(self, part: Any) -> range:
        return range(0, len(part), max(1, len(part) // self.looked_at))

    def test_class_names_are_distinct(self) -> None:
        classes = list(self.call().classes)
        assert len(classes) == len(set(classes))
        assert all(isinstance(name, str) for name in classes)


def _parts(data: Data) -> list[Any]:
    return [part for part in (data.train, data.validation, data.test) if part is not None]


def _plain(target: Any) -> Any:
    """A target as it can be compared, a tensor or an array as a list."""
    return target.tolist() if hasattr(target, "tolist") else target


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
        assert isinstance(image, Image) or Path(image).is_file()  # what cannot be a path raises, and says so


def _check_target(target: Any, data: Data) -> None:
    if data.task == "classification":
        assert int(target) == target, f"the target {target!r} is no class index"
        assert 0 <= target < (len(data.classes) or target + 1), f"the target {target!r} is the index of no class"
    elif data.task == "multilabel":
        assert len(target) == len(data.classes)
