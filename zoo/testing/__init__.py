"""Contract tests for plugin authors: subclass one, say which component, run pytest.

    from zoo.testing import SurgeryContract

    class TestCosineHead(SurgeryContract):
        component = "acme/cosine_head"
        arguments = {"num_classes": 5}

The plugin has to be installed (`pip install -e .`): the tests go through the registry, as a recipe does. Needs pytest.
"""

import pytest

# so that a failing contract shows what it compared
pytest.register_assert_rewrite(*(f"zoo.testing.{name}" for name in ("architectures", "datasets", "operations")))

from zoo.testing.architectures import ArchitectureSourceContract, RemapContract, WeightsContract  # noqa: E402
from zoo.testing.datasets import DatasetContract  # noqa: E402
from zoo.testing.operations import (  # noqa: E402
    FreezingContract,
    InitializerContract,
    ModuleContract,
    SurgeryContract,
)

__all__ = [
    "ArchitectureSourceContract",
    "DatasetContract",
    "FreezingContract",
    "InitializerContract",
    "ModuleContract",
    "RemapContract",
    "SurgeryContract",
    "WeightsContract",
]
