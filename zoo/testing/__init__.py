"""Contract tests for plugin authors: subclass one, say which component, run pytest.

    from zoo.testing import SurgeryContract

    class TestCosineHead(SurgeryContract):
        component = "acme/cosine_head"
        arguments = {"num_classes": 5}

The plugin has to be installed (`pip install -e .`): the tests go through the registry, as a recipe does. They need
pytest, zoo-kit and torch, nothing else: what works on a model is tried on zoo/small_cnn, where `architecture` does not
name another. There is one contract a kind; `CONTRACTS` has them by the kind's name.
"""

import pytest

# so that a failing contract shows what it compared
_ROOMS = ("architectures", "contract", "datasets", "fresh_process", "operations", "steps", "training")
pytest.register_assert_rewrite(*(f"zoo.testing.{name}" for name in _ROOMS))

from zoo.testing.architectures import (  # noqa: E402
    ArchitectureContract,
    ArchitectureSourceContract,
    RemapContract,
    WeightsContract,
)
from zoo.testing.datasets import DatasetContract  # noqa: E402
from zoo.testing.operations import (  # noqa: E402
    FreezingContract,
    InitializerContract,
    ModuleContract,
    SurgeryContract,
)
from zoo.testing.steps import StepContract  # noqa: E402
from zoo.testing.training import (  # noqa: E402
    CallbackContract,
    LossContract,
    MetricContract,
    OptimizerContract,
    SchedulerContract,
    TrackerContract,
    TransformContract,
)

__all__ = [
    "CONTRACTS",
    "ArchitectureContract",
    "ArchitectureSourceContract",
    "CallbackContract",
    "DatasetContract",
    "FreezingContract",
    "InitializerContract",
    "LossContract",
    "MetricContract",
    "ModuleContract",
    "OptimizerContract",
    "RemapContract",
    "SchedulerContract",
    "StepContract",
    "SurgeryContract",
    "TrackerContract",
    "TransformContract",
    "WeightsContract",
]

CONTRACTS = {
    "architectures": ArchitectureContract,
    "surgeries": SurgeryContract,
    "freezing": FreezingContract,
    "modules": ModuleContract,
    "datasets": DatasetContract,
    "weights": WeightsContract,
    "remaps": RemapContract,
    "initializers": InitializerContract,
    "steps": StepContract,
    "transforms": TransformContract,
    "losses": LossContract,
    "metrics": MetricContract,
    "optimizers": OptimizerContract,
    "schedulers": SchedulerContract,
    "callbacks": CallbackContract,
    "trackers": TrackerContract,
}
