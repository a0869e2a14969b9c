"""The contract of steps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from zoo.testing.contract import SMALL_CNN, Contract


class StepContract(Contract):
    """The step, with `arguments` as its options, is passes_check, run in a small fine-tuning, and reported.

    `before` and `after` are the steps of a recipe around it.
    """

    kind = "steps"
    architecture: ClassVar[str] = SMALL_CNN
    before: ClassVar[Sequence[Any]] = ({"swap_head": "auto"},)
    after: ClassVar[Sequence[Any]] = ({"train": {"max_steps": 1}},)

    def steps(self) -> list[Any]:
        return [*self.before, {self.component: dict(self.arguments)}, *self.after]

    def images(self, folder: Path) -> dict[str, Any]:
        """A data section: two classes of four small images, written into the folder."""
        write_images(folder)
        return {"source": "zoo/image_folder", "path": str(folder), "image_size": 32, "batch_size": 4}

    def test_its_parameters_are_annotated(self) -> None:
        from zoo.recipe.step import is_step

        assert is_step(self.load()), f"{self.component} does not derive from zoo.api.Step"

    def test_its_signature_is_a_schema(self) -> None:
        step = self.load()
        json.dumps(step.form(), allow_nan=False)
        step.model_validate_json(json.dumps(dict(self.arguments)), strict=True)

    def test_it_works_under_zoo_check(self, tmp_path: Path) -> None:  # type: ignore[override]
        from zoo.testing.contract import passes_check

        data = self.images(tmp_path / "images")
        passes_check({"model": self.architecture, "data": data, "steps": self.steps()})

    def test_it_runs_and_is_reported(self, tmp_path: Path) -> None:
        from zoo.finetuning.report import summary
        from zoo.verbs.training import finetune

        recipe = {"model": self.architecture, "data": self.images(tmp_path / "images"), "steps": self.steps()}
        run = finetune(recipe, output=tmp_path / "run", device="cpu")
        report = json.loads((tmp_path / "run/report.json").read_text(encoding="utf-8"))
        assert run.checkpoint.exists()
        assert summary(report)


def write_images(folder: Path, classes: Sequence[str] = ("dark", "light"), each: int = 4) -> Mapping[str, int]:
    """Small images by class folder, of another brightness each; how many of each class."""
    from PIL import Image

    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(each):
            level = 255 * number // max(1, len(classes) - 1)
            Image.new("RGB", (16, 16), (level, 10 * index, 0)).save(folder / name / f"{index}.png")
    return dict.fromkeys(classes, each)
