"""The contract of architecture sources, and of the weights and preprocessing that they and weights components name."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from zoo import registry
from zoo.contracts import Preprocessing, Weights
from zoo.errors import InputError
from zoo.testing.contract import Contract


class ArchitectureSourceContract:
    """`namespace` is the entry point's name; `sample` are architectures that are quick to build."""

    namespace: ClassVar[str]
    sample: ClassVar[tuple[str, ...]]

    def source(self) -> Any:
        return registry.load_source(registry.resolve(f"{self.namespace}/{self.sample[0]}", "architectures"))

    def test_names_come_without_torch(self) -> None:
        report = in_fresh_python(
            f"rows = [r.name for r in registry.components('architectures') if r.name.startswith('{self.namespace}/')]"
        )
        assert report["rows"], f"no architectures under {self.namespace}/"
        assert "torch" not in report["modules"], f"listing {self.namespace} imports torch"

    def test_the_sample_is_among_the_names(self) -> None:
        assert set(self.sample) <= set(self.source().names())

    def test_each_builds_without_memory_and_twice_alike(self) -> None:
        from zoo.model.build import build

        for name in self.sample:
            first, second = (build(f"{self.namespace}/{name}", device="meta").model for _ in range(2))
            shapes = [{key: tensor.shape for key, tensor in model.state_dict().items()} for model in (first, second)]
            assert shapes[0] == shapes[1]
            assert shapes[0]
            assert all(tensor.is_meta for tensor in first.state_dict().values())

    def test_preprocessing_is_said(self) -> None:
        source = self.source()
        for name in self.sample if hasattr(source, "preprocessing") else ():
            check_preprocessing(source.preprocessing(name, None))

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

    def test_a_file_has_the_digest_it_should(self) -> None:
        weights = self.load()()
        if "://" not in weights.location:
            content = Path(weights.location).read_bytes()
            assert weights.sha256 is None or hashlib.sha256(content).hexdigest().startswith(weights.sha256)


class RemapContract(Contract):
    """The rules are rules."""

    kind = "remaps"

    def test_its_rules_are_understood(self) -> None:
        from zoo.remap.rules import parse_rules

        assert parse_rules(list(self.load()()))


def in_fresh_python(statement: str) -> dict[str, Any]:
    """`rows` as a statement leaves them in a new interpreter, and the modules it imported."""
    code = f"import json, sys\nfrom zoo import registry\n{statement}\nprint(json.dumps([rows, sorted(sys.modules)]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    rows, modules = json.loads(done.stdout)
    return {"rows": rows, "modules": modules}


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
