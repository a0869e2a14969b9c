"""The contracts of what training is made of, from transforms and losses to callbacks and trackers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from zoo.testing.contract import SMALL_CNN, Contract, passes_check
from zoo.testing.steps import write_images


class _InTraining(Contract):
    """`zoo check` takes a recipe that trains with the component and `arguments`, and a small training runs with it.

    `option` is where the component stands in a `train` step, in a list where it is one of several.
    """

    option: ClassVar[str]
    several: ClassVar[bool] = False
    architecture: ClassVar[str] = SMALL_CNN

    def _supplied(self) -> tuple[int, tuple[str, ...]]:
        from zoo.recipe.catalogue import supplied

        return supplied(self.kind, self.load())

    def _positional(self) -> int:
        return self._supplied()[0]

    def _known(self) -> dict[str, Any]:
        from dataclasses import replace

        from zoo.recipe.references import filled
        from zoo.recipe.signature import parameters

        first, by_name = self._supplied()
        known = parameters(self.load(), first=first, skip=by_name)
        worked_out = set(filled(self.kind, self.component, known))
        return {key: replace(value, required=value.required and key not in worked_out) for key, value in known.items()}

    def section(self, images: Path) -> dict[str, Any]:
        """A recipe that trains for two epochs on eight small images of two classes."""
        write_images(images)
        named: Any = {self.component: dict(self.arguments)}
        value = [named] if self.several else named
        data = {"source": "zoo/image_folder", "path": str(images), "image_size": 32, "batch_size": 4}
        train = {"epochs": 2, "lr": 1e-3} | ({} if self.option == "transforms" else {self.option: value})
        data |= {"transforms": value} if self.option == "transforms" else {}
        return {"model": self.architecture, "data": data, "steps": [{"swap_head": "auto"}, {"train": train}]}

    def test_it_works_under_zoo_check(self, tmp_path: Path) -> None:  # type: ignore[override]
        passes_check(self.section(tmp_path / "images"))

    def test_it_trains(self, tmp_path: Path) -> None:
        from zoo.verbs.training import finetune

        run = finetune(self.section(tmp_path / "images"), output=tmp_path / "run", device="cpu")
        assert run.checkpoint.exists()
        assert self.component in (tmp_path / "run/recipe.yaml").read_text(encoding="utf-8")
        json.loads((tmp_path / "run/report.json").read_text(encoding="utf-8"))


class TransformContract(_InTraining):
    """Images come out as uint8 [c, h, w], and training runs on them."""

    kind = "transforms"
    option = "transforms"
    several = True


class LossContract(_InTraining):
    """A value a sample, which training minimises."""

    kind = "losses"
    option = "loss"


class MetricContract(_InTraining):
    """One number, measured after every epoch."""

    kind = "metrics"
    option = "metrics"
    several = True


class OptimizerContract(_InTraining):
    """It moves what trains."""

    kind = "optimizers"
    option = "optimizer"


class SchedulerContract(_InTraining):
    """It moves the learning rate, and its state can be saved."""

    kind = "schedulers"
    option = "scheduler"


class CallbackContract(_InTraining):
    """Its hooks run, and its state can be saved."""

    kind = "callbacks"
    option = "callbacks"
    several = True


class TrackerContract(_InTraining):
    """It is started, given what is logged, and finished."""

    kind = "trackers"
    option = "trackers"
    several = True
