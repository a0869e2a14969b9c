"""The contract of architecture sources, and of the weights and preprocessing that they and weights components name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from zoo import registry
from zoo.contracts import Preprocessing, Weights
from zoo.errors import InputError
from zoo.formats.entry import Entry
from zoo.testing.contract import SMALL_CNN, Contract, passes_check
from zoo.testing.fresh_process import check_round_trip, check_without_torch, images_for, in_fresh_python


class ArchitectureContract(Contract):
    """One callable builds the network: alike each time, on `meta` too, and a checkpoint brings it back."""

    kind = "architectures"

    def recipe(self) -> dict[str, Any]:
        return {"model": {"architecture": self.component, "arguments": dict(self.arguments)}, "steps": ["save"]}

    def built(self, device: str = "cpu") -> Any:
        from zoo.model.build import build

        return build(self.component, self.arguments, device=device)

    def test_it_builds_without_memory_and_twice_alike(self) -> None:
        check_alike(self.built("meta"), self.built("meta"))

    def test_it_gives_a_prediction_for_each_image(self) -> None:
        check_answers(self.built())

    def test_a_checkpoint_gives_the_same_bits_in_a_fresh_process(self, tmp_path: Path) -> None:
        check_round_trip(self.built(), tmp_path)


class ArchitectureSourceContract:
    """`namespace` is the entry point's name; `sample` are architectures that are quick to build."""

    namespace: ClassVar[str]
    sample: ClassVar[tuple[str, ...]]

    def source(self) -> Any:
        return registry.load_source(registry.resolve(f"{self.namespace}/{self.sample[0]}", "architectures"))

    def test_names_come_without_torch(self) -> None:
        report = in_fresh_python(
            f"own = ('architectures', {self.namespace!r})\n"
            "row = next(row for row in registry.entries() if (row.kind, row.name) == own)\n"
            "rows = list(registry.load_source(row).names())"
        )
        assert report["rows"], f"no architectures under {self.namespace}/"
        assert "torch" not in report["modules"], f"listing {self.namespace} imports torch"

    def test_the_sample_is_among_the_names(self) -> None:
        assert set(self.sample) <= set(self.source().names())

    def test_each_builds_without_memory_and_twice_alike(self) -> None:
        from zoo.model.build import build

        for name in self.sample:
            check_alike(*(build(f"{self.namespace}/{name}", device="meta") for _ in range(2)))

    def test_each_gives_a_prediction_for_each_image(self) -> None:
        from zoo.model.build import build

        for name in self.sample:
            check_answers(build(f"{self.namespace}/{name}"))

    def test_each_works_under_zoo_check(self) -> None:
        for name in self.sample:
            passes_check({"model": f"{self.namespace}/{name}", "steps": ["save"]})

    def test_a_checkpoint_gives_the_same_bits_in_a_fresh_process(self, tmp_path: Path) -> None:
        from zoo.model.build import build

        check_round_trip(build(f"{self.namespace}/{self.sample[0]}"), tmp_path)

    def test_preprocessing_is_said(self) -> None:
        source = self.source()
        for name in self.sample if hasattr(source, "preprocessing") else ():
            if (stated := source.preprocessing(name, None)) is not None:
                check_preprocessing(stated)

    def test_every_tag_has_weights_of_that_architecture(self) -> None:
        source = self.source()
        for name in self.sample if hasattr(source, "tags") else ():
            for tag in source.tags(name):
                weights = source.weights(name, tag)
                check_weights(weights)
                assert weights.architecture == f"{self.namespace}/{name}"

    def test_an_unknown_tag_is_an_error_for_people(self) -> None:
        source = self.source()
        if hasattr(source, "weights"):
            with pytest.raises(InputError):
                source.weights(self.sample[0], "no_such_tag")


class WeightsContract(Contract):
    """The component says where weights lie, for which architecture, and they are what it says."""

    kind = "weights"

    def test_it_says_what_they_are(self) -> None:
        weights = self.load()()
        check_weights(weights)
        registry.resolve(weights.architecture, "architectures")
        if isinstance(weights.remap, str):
            registry.resolve(weights.remap, "remaps")

    def test_it_comes_without_torch(self) -> None:
        check_without_torch(self.component, self.kind)

    def recipe(self) -> dict[str, Any] | None:
        """The weights loaded into their architecture, where they are on this machine."""
        weights = self.load()()
        if "://" in weights.location or not Path(weights.location).exists():
            return None
        return {"model": {"architecture": weights.architecture, "weights": self.component}, "steps": ["save"]}

    def test_a_file_has_the_digest_it_should(self) -> None:
        weights = self.load()()
        if "://" not in weights.location:
            content = Path(weights.location).read_bytes()
            assert weights.sha256 is None or hashlib.sha256(content).hexdigest().startswith(weights.sha256)


class RemapContract(Contract):
    """The rules are rules. With `shapes`, names and shapes as in a file that they are for, they are run; with `target`,
    names and shapes as in the architecture that they lead to, they have to fill all of it, and back again where
    `inverts` says so."""

    kind = "remaps"
    shapes: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    target: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    inverts: ClassVar[bool] = False

    def recipe(self) -> dict[str, Any]:
        return {"model": {"architecture": SMALL_CNN, "remap": self.component}, "steps": ["save"]}

    def rules(self) -> Any:
        from zoo.remap.rules import parse_rules

        return parse_rules(list(self.load()()))

    def test_its_rules_are_understood(self) -> None:
        assert self.rules()

    def test_it_comes_without_torch(self) -> None:
        check_without_torch(self.component, self.kind)

    def test_it_leads_to_the_target(self) -> None:
        from zoo.remap.rules import Surroundings, run

        if not self.shapes:
            return
        outcome = run(self.rules(), _entries(self.shapes), surroundings=Surroundings(_entries(self.target)))
        found = {name: tuple(value.shape) for name, value in outcome.values.items()}
        assert found
        if self.target:
            assert found == {name: tuple(shape) for name, shape in self.target.items()}

    def test_it_leads_back_where_it_says_so(self) -> None:
        from zoo.remap.rules.invert import check_inverse

        if self.inverts:
            assert self.target, "say names and shapes in `target`"
            check_inverse(self.rules(), _entries(self.target))


def _entries(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Entry]:
    return {name: Entry(name, "F32", tuple(shape)) for name, shape in shapes.items()}


def check_alike(first: Any, second: Any) -> None:
    """Two assemblies on `meta` of one structure, with something in them, and without memory."""
    shapes = [{k: tuple(v.shape) for k, v in each.model.state_dict().items()} for each in (first, second)]
    assert shapes[0] == shapes[1], "it builds another network each time"
    assert shapes[0], "the network has no tensors"
    assert all(tensor.is_meta for tensor in first.model.state_dict().values()), "a tensor takes memory on meta"


def check_answers(assembly: Any) -> None:
    """A batch of two images gives a prediction for each, the same one twice."""
    import torch

    from zoo.model.prediction import prediction

    images, model = images_for(assembly), assembly.model.eval()
    with torch.no_grad():
        first, second = prediction(model(images)), prediction(model(images))
    assert first.shape[0] == 2, f"two images give {list(first.shape)}"
    assert torch.equal(first, second), "it gives other outputs for the same images in evaluation mode"


def check_preprocessing(preprocessing: Preprocessing) -> None:
    assert isinstance(preprocessing, Preprocessing)
    assert len(preprocessing.mean) == len(preprocessing.std) == preprocessing.channels
    assert all(side > 0 for side in preprocessing.size)
    assert preprocessing.interpolation in ("nearest", "bilinear", "bicubic", "lanczos")
    assert 0 < preprocessing.crop_fraction <= 1
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.as_dict()))) == preprocessing


def check_weights(weights: Weights) -> None:
    assert isinstance(weights, Weights)
    assert weights.location.startswith(("https://", "hf://")) or Path(weights.location).exists()
    assert weights.sha256 is None or len(weights.sha256) >= 8
    if weights.preprocessing is not None:
        check_preprocessing(weights.preprocessing)
