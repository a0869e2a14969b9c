"""A step that a plugin brings: read, checked, run, resumed, reported and in the schema, by its file alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from listeners import Killing
from zoo import registry
from zoo.errors import InputError, WorkError
from zoo.finetuning.finetune import finetune
from zoo.finetuning.report import summary
from zoo.preflight import check
from zoo.recipe import load_recipe
from zoo.recipe.schema import recipe_schema
from zoo.training.callbacks import Listener

CLIP = '''
import torch

from zoo.api import InputError, Step


class Clip(Step):
    """Keeps parameters within bounds."""

    limit: float
    """The largest absolute value that is left."""
    match: str = ""
    """Only parameters whose names contain it."""

    fails_safely = True

    @property
    def files(self):
        return frozenset({"clipped.txt"})

    def check_options(self, document, earlier):
        if self.limit == 0:
            document.add((*self.place.path, "limit"), "clip.limit: nothing is left below 0", "write a limit above 0")

    def check(self, rehearsal):
        self.chosen(rehearsal.assembly.model)

    def chosen(self, model):
        found = {name: tensor for name, tensor in model.named_parameters() if self.match in name}
        if not found:
            raise InputError(f"clip: no parameter is called {self.match!r}")
        return found

    def run(self, run):
        if self.limit < 0:
            raise ValueError("a limit below 0")
        clipped = 0
        with torch.no_grad():
            for tensor in self.chosen(run.assembly.model).values():
                clipped += int((tensor.abs() > self.limit).sum())
                tensor.clamp_(-self.limit, self.limit)
        (run.folder / "clipped.txt").write_text(f"{clipped}\\n")
        run.record(self, clipped=clipped)

    @classmethod
    def row(cls, record):
        return super().row(record) | {"metrics": f"{record['clipped']} clipped"}
'''
TRAIN = {"train": {"epochs": 2, "lr": 0.01, "optimizer": "SGD", "precision": "float32"}}
STEPS = [{"clip": 0.05}, TRAIN, {"acme/clip": {"limit": 0.02, "match": "weight"}}, "evaluate"]


@pytest.fixture
def clip(plugins):
    plugins.write("zoo-acme", "[zoo.steps]\nclip = acme_clip:Clip", acme_clip=CLIP)


@pytest.fixture
def recipe(tmp_path):
    def write(*steps) -> str:
        data = {"source": "sklearn/digits", "limit": 40, "image_size": 32, "batch_size": 20}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({"model": "tutorial/net_b_renamed", "data": data, "steps": list(steps)}))
        return str(path)

    return write


def mistakes(path: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        check(load_recipe(path)).require()
    return [str(problem).removeprefix(f"{Path(path).parent}/") for problem in caught.value.problems]


def rows(report) -> list[list[str]]:
    return [line.split() for line in summary(report).splitlines()]


def test_mistakes_are_found_where_they_are_written(clip, recipe):
    assert mistakes(recipe({"clip": {"limt": 1}}, {"clip": 0}, {"clip": "a"}, "clip")) == [
        "recipe.yaml:9:5: clip: unknown key 'limt' (did you mean limit?)",
        "recipe.yaml:10:9: clip.limit: nothing is left below 0 (write a limit above 0)",
        "recipe.yaml:11:9: clip.limit: expected a number, got 'a'",
        "recipe.yaml:12:3: clip: limit is missing (expected a number)",
    ]
    assert mistakes(recipe({"clip": {"limit": 1, "match": "haed"}})) == [
        "recipe.yaml:10:12: clip: no parameter is called 'haed'"
    ]


def test_a_run_does_it_reports_it_and_owns_its_file(clip, recipe, tmp_path):
    report = finetune(recipe(*STEPS), output=tmp_path / "run", progress=Listener()).report
    assert [stage["action"] for stage in report["stages"]] == ["acme/clip", "train", "acme/clip", "evaluate"]
    assert report["stages"][2]["clipped"] == int((tmp_path / "run/clipped.txt").read_text()) > 0
    weights = [value for name, value in load_file(tmp_path / "run/model.safetensors").items() if "weight" in name]
    assert max(float(value.abs().max()) for value in weights) == pytest.approx(0.02)
    assert ["3", "acme/clip", str(report["stages"][2]["clipped"]), "clipped"] in rows(report)
    assert "clipped.txt" in json.loads((tmp_path / "run/.zoo-run.json").read_text())["files"]


def test_a_resumed_run_takes_its_work_from_the_state(clip, recipe, tmp_path):
    path = recipe(*STEPS)
    finetune(path, output=tmp_path / "through", progress=Listener())
    with pytest.raises(KeyboardInterrupt):
        finetune(path, output=tmp_path / "twice", progress=Killing(epoch=1, error=KeyboardInterrupt()))
    report = finetune(path, output=tmp_path / "twice", resume=True, progress=Listener()).report
    assert [stage["action"] for stage in report["stages"]] == ["acme/clip", "train", "acme/clip", "evaluate"]
    through, twice = (load_file(tmp_path / name / "model.safetensors") for name in ("through", "twice"))
    assert all((twice[name] == value).all() for name, value in through.items())


def test_a_failure_names_it_and_keeps_what_was_trained(clip, recipe, tmp_path):
    path = recipe(TRAIN, {"clip": -1})
    with pytest.raises(WorkError, match=r"^acme/clip failed: ValueError: a limit below 0 \(.*acme_clip\.py:36\)$"):
        finetune(path, output=tmp_path / "run", progress=Listener())
    assert (tmp_path / "run/model.safetensors").exists()


def test_a_report_is_read_where_the_plugin_is_gone(clip, recipe, tmp_path, monkeypatch):
    report = finetune(recipe(*STEPS), output=tmp_path / "run", progress=Listener()).report
    own = tuple(row for row in registry.entries() if row.plugin != "acme")
    monkeypatch.setattr(registry, "entries", lambda: own)
    assert rows(report)[1] == ["1", "acme/clip"]


def test_editors_know_its_options(clip):
    forms = recipe_schema()["$defs"]["step"]["anyOf"][1]["properties"]
    assert forms["clip"] == forms["acme/clip"]
    options, short = forms["clip"]["anyOf"]
    assert options["required"] == ["limit"]
    assert options["properties"]["match"]["description"] == "Only parameters whose names contain it."
    assert short["type"] == "number"


def test_zoo_s_own_steps_keep_their_names(plugins, recipe):
    plugins.write("zoo-acme", "[zoo.steps]\ntrain = acme_clip:Clip\nclip = acme_clip:Clip", acme_clip=CLIP)
    plugins.write("zoo-other", "[zoo.surgeries]\nclip = other_clip:clip", other_clip="def clip(model): ...")
    steps = load_recipe(recipe({"train": 1}, {"acme/train": 1}, {"other/clip": {}})).steps
    assert [step.place.name for step in steps] == ["train", "acme/train", "surgery"]
    (said,) = mistakes(recipe({"clip": 1}))
    assert said == (
        "recipe.yaml:8:3: 'clip' is ambiguous: acme/clip (steps, zoo-acme 1.0), other/clip (surgeries, zoo-other 1.0) "
        "(write the full name)"
    )


def test_what_is_no_step_is_refused_where_it_is_named(plugins, recipe):
    entries = "[zoo.steps]\ncut = acme_cut:cut\nrun = acme_run:Run"
    run = "from zoo.api import Step\nclass Run(Step):\n    files: int = 3"
    plugins.write("zoo-acme", entries, acme_cut="def cut(): ...", acme_run=run)
    with pytest.warns(UserWarning, match="shadows an attribute"):
        first, second = mistakes(recipe("cut", "run"))
    assert first == (
        "recipe.yaml:8:3: acme/cut is no step: acme_cut:cut does not derive from zoo.api.Step "
        "(report it to the authors of zoo-acme)"
    )
    assert "TypeError: no option of a step may be called files" in second
