"""Every option of `train`: killed in the middle of an epoch and resumed, on cached features, in two processes.

`OPTIONS` has a row for each option; one without a row fails. docs/training-options.md shows the same rows
(`ZOO_WRITE_GOLDEN=1` writes it). A row runs its recipe on a tiny network (batch norm, dropout, an auxiliary
classifier) and 24 digits, step by step as `zoo finetune` does, without the check before and the measuring behind.
On a GPU: ZOO_TEST_DEVICE=cuda. Called as a program, this file runs all rows in turn: what one launch of two
processes does.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import PartialState
from launching import torchrun
from safetensors.torch import load_file, save_file

from listeners import Killed, Killing, Notes
from zoo.data.open_data import open_data
from zoo.errors import ZooError
from zoo.finetuning.run import ActiveRun
from zoo.model.build import build
from zoo.recipe import load_recipe
from zoo.steps.train import Train
from zoo.training import trainer as trainer_module
from zoo.training.devices import make_accelerator, seed_everything
from zoo.training.state import StateFolder

ROOT = Path(__file__).parents[2]
DEVICE = torch.device(os.environ.get("ZOO_TEST_DEVICE", "cpu"))  # cuda: with CUBLAS_WORKSPACE_CONFIG=:4096:8
PAGE = ROOT / "docs" / "training-options.md"
TABLE = re.compile(r"<!-- table: options -->\n(.*?)<!-- end -->\n", re.DOTALL)
WORKS = "the same"
COARSE = 1e-2  # on a GPU, where other kernels may round to TF32
KILLED_AT = 5  # optimizer steps: within an epoch of three batches, and of two steps of two batches


@dataclass(frozen=True)
class Row:
    """An option of `train`.

    `tries` are values of the train step, each tried in a run of its own; `data` are values of the data section.
    `proof` is the test of what the option does. `cache` and `processes` are `WORKS`, or a part of what the run then
    says. With cached features the result is that of training end to end, or `like` another `feature_cache`. `frozen`
    says that the option is one of frozen backbones. `tolerance` is for what is not bit for bit.
    """

    tries: Sequence[Mapping[str, Any]]
    proof: str
    cache: str = WORKS
    processes: str = WORKS
    data: Mapping[str, Any] = field(default_factory=dict)
    like: str = "off"
    frozen: bool = False
    tolerance: float = 1e-5


def row(*tries: Mapping[str, Any], proof: str, **values: Any) -> Row:
    return Row(tries, f"tests/{proof}", **values)


ADAMW = {"optimizer": "AdamW", "lr": 0.002}
AUGMENTED = {"augmentation": "crop_flip"}

OPTIONS: dict[str, Row] = {
    "epochs": row({"epochs": 4}, proof="training/test_trainer.py::test_epochs_and_steps"),
    "max_steps": row({"epochs": None, "max_steps": 8}, proof="training/test_trainer.py::test_epochs_and_steps"),
    "time_budget": row(
        {"time_budget": "1h", "scheduler": "cosine"},
        proof="training/test_time_budget.py::test_a_machine_that_becomes_slower_still_ends_in_time",
    ),
    "planned": row(
        {"epochs": None, "planned": [[0, 9], [7, 11]], "scheduler": "cosine"},
        proof="training/test_time_budget.py::test_a_plan_repeated_gives_the_same_bits",
    ),
    "lr": row({"lr": 0.01}, proof="training/test_trainer.py::test_it_computes_what_a_plain_loop_computes"),
    "optimizer": row(
        ADAMW,
        {"optimizer": {"lamb": {}}, "lr": 0.002},
        proof="training/test_optimizers.py::test_every_optimizer_on_offer_steps",
        tolerance=1e-3,
    ),
    "weight_decay": row(
        {"weight_decay": 0.1},
        proof="training/test_optimizers.py::test_weight_decay_comes_from_the_step_the_optimizer_or_its_default",
    ),
    "weight_decay_on": row(
        {"weight_decay_on": "all", "weight_decay": 0.1},
        proof="training/test_optimizers.py::test_weight_decay_on_all_is_torchs_own",
    ),
    "optimizer_state": row(  # what is carried takes two train steps, which the test that is named has
        {"optimizer_state": "fresh"},
        proof="finetuning/test_schedule_options.py::test_killed_in_the_middle_of_each_phase_it_goes_on_bit_for_bit",
    ),
    "scheduler": row(
        {"scheduler": "one_cycle"},
        {"scheduler": {"CosineLRScheduler": {"t_in_epochs": False}}},
        {"scheduler": {"plateau": {"patience": 0}}},
        proof="training/test_schedulers.py::test_closed_forms",
    ),
    "warmup": row({"warmup": 4}, proof="training/test_schedulers.py::test_warmup_rises_in_a_line_and_hands_over"),
    "loss": row(
        {"loss": {"focal": {"gamma": 1.0}}},
        proof="training/test_losses.py::test_every_loss_on_offer_gives_a_number_with_a_gradient",
    ),
    "label_smoothing": row({"label_smoothing": 0.1}, proof="training/test_losses.py::test_smoothing_and_class_weights"),
    "mixup": row(
        {"mixup": 0.4},
        {"mixup": 0.4, "cutmix": 1.0, "accumulate": 2},
        proof="data/test_mixing.py::test_mixup_adds_inputs_and_targets_by_one_share",
        cache="images change in every epoch",
    ),
    "cutmix": row(
        {"cutmix": 1.0},
        proof="data/test_mixing.py::test_cutmix_puts_a_box_of_the_other_image_in_and_counts_its_area",
        cache="images change in every epoch",
    ),
    "class_weights": row(
        {"class_weights": {"0": 3.0, "7": 0.5}},
        {"class_weights": "balanced", "accumulate": 2},
        proof="training/test_class_weights.py::test_a_step_cut_up_is_the_same_step",
    ),
    "sampler": row(
        {"sampler": "balanced"}, proof="data/test_sampler.py::test_an_epoch_draws_classes_evenly_and_every_epoch_anew"
    ),
    "auxiliary_loss": row(
        {"auxiliary_loss": 0.7},
        proof="training/test_trainer.py::test_auxiliary_classifiers_are_in_the_loss_by_their_weight",
    ),
    "metrics": row({"metrics": ["f1", "accuracy"]}, proof="training/test_metrics.py::test_short_names_for_classes"),
    "batch_size": row(
        {"batch_size": 6},
        {"batch_size": "auto"},
        proof="training/test_batch_size.py::test_it_is_written_down_and_resumed_as_it_was",
    ),
    "seed": row(
        {"seed": 11}, proof="test_reproducibility.py::test_a_step_in_front_leaves_the_order_of_a_train_step_as_it_is"
    ),
    "clip_grad_norm": row({"clip_grad_norm": 0.5}, proof="training/test_trainer.py::test_gradients_are_clipped"),
    "accumulate": row(
        {"accumulate": 2}, proof="training/test_trainer.py::test_accumulated_batches_are_one_large_batch"
    ),
    "layer_decay": row(
        {"layer_decay": 0.7},
        proof="training/test_optimizers.py::test_layer_decay_gives_real_rates_with_and_without_frozen_layers",
    ),
    "lr_scale": row(
        {"lr_scale": {"^head": 3.0}},
        proof="training/test_optimizers.py::test_lr_scale_takes_the_first_pattern_that_finds_the_name",
    ),
    "unfreeze_gradually": row(
        {"unfreeze_gradually": 1},
        {"unfreeze_gradually": {"groups": ["blocks"]}},
        proof="training/test_gradual.py::test_it_computes_what_a_plain_loop_computes",
        cache="unfreeze_gradually thaws the backbone",
    ),
    "ema": row({"ema": 0.8}, proof="training/test_trainer.py::test_averages_are_measured_and_left_in_the_model"),
    "average": row(
        {"average": {"last": 2}},
        {"average": "greedy"},
        {"average": {"swa": 2}},
        proof="training/test_averaging.py::test_the_last_epochs_are_averaged_and_batch_norms_estimated_anew",
    ),
    "precision": row(
        {"precision": "bfloat16"},
        proof="training/test_trainer.py::test_training_in_bfloat16_keeps_float32_parameters",
        like="every_step",
        tolerance=2e-2,
    ),
    "compile": row(
        {"compile": True},
        proof="training/test_trainer.py::test_compiled_it_trains_the_same",
        processes="each process's own 4 samples (compile: true), unlike one process",
    ),
    "gradient_checkpointing": row(
        {"gradient_checkpointing": True},
        proof="model/test_gradient_checkpointing.py::test_loss_gradients_and_running_statistics_are_the_same_bits",
        cache="feature cache: none, trained end to end: gradient_checkpointing needs the network's blocks",
    ),
    "memory_layout": row(
        {"memory_layout": "channels_last"},
        proof="training/test_autotune.py::test_fixed_precision_leaves_only_the_layout_open",
    ),
    "feature_cache": row(
        {"feature_cache": "kept"},
        {"feature_cache": "every_step"},
        proof="training/trunk/test_prepare.py::test_float32_losses_are_the_whole_models",
        frozen=True,
    ),
    "feature_precision": row(
        {"feature_precision": "float32"},
        proof="training/trunk/test_prepare.py::test_precision_of_features_is_recorded_and_can_be_asked_for",
        frozen=True,
    ),
    "views": row(
        {"views": 3},  # as many as epochs: each epoch then has the draws that it has without a cache
        proof="training/trunk/test_prepare.py::test_views_keep_augmented_passes",
        data=AUGMENTED,
        frozen=True,
    ),
    "keep": row(
        {"keep": "best"},
        {"keep": {"best": "loss"}},
        proof="training/test_choosing.py::test_keep_goes_by_any_metric_or_the_loss",
    ),
    "early_stopping": row(
        {"early_stopping": {"patience": 1, "metric": "loss", "min_delta": 5.0}, "epochs": 4},
        proof="training/test_choosing.py::test_a_resumed_run_stops_where_the_uninterrupted_one_does",
    ),
    "callbacks": row(
        {"callbacks": ["table/Patience"], "epochs": 4},
        proof="training/test_hooks.py::test_a_restored_trainer_knows_what_its_callbacks_knew",
    ),
    "trackers": row(
        {"trackers": ["tensorboard"]}, proof="training/test_trackers.py::test_steps_count_from_the_beginning_of_the_run"
    ),
}

PLUGIN = '''
import torch
from torch import nn
from zoo.api import Callback

def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

class Net(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.stem, self.blocks = block(3, 6), nn.Sequential(block(6, 8), block(8, 8))
        self.aside, self.drop, self.head = nn.Linear(8, 10), nn.Dropout(drop), nn.Linear(8, 10)

    def forward(self, images):
        features = self.blocks(self.stem(images)).mean((2, 3))
        main = self.head(self.drop(features))
        return (main, self.aside(features)) if self.training else main

def net(drop: float = 0.0) -> nn.Module:
    return Net(drop)

class Patience(Callback):
    """Ends training behind the second epoch that it has seen: what it counts is in the resume state."""
    def __init__(self):
        self.seen = 0
    def validation_ended(self, training, metrics):
        self.seen += 1
        if self.seen == 2:
            training.stop("two epochs are enough")
    def state_dict(self):
        return {"seen": self.seen}
    def load_state_dict(self, state):
        self.seen = state["seen"]
'''
ENTRY_POINTS = """
[zoo.architectures]
net = zoo_table:net
[zoo.callbacks]
Patience = zoo_table:Patience
"""


def started(folder: Path, row: Row, given: Mapping[str, Any], *, drop=0.0, frozen=False, listener=None) -> ActiveRun:
    """The run of a row's recipe in front of its first step, with the state that an earlier one left there."""
    recipe = {
        "seed": 3,
        "precision": "float32",
        "model": {"architecture": "table/net", "arguments": {"drop": drop}},
        "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 8, "limit": 24, "workers": 0, **row.data},
        "steps": [
            {"freeze": {"policy": "below", "module": "blocks.1"} if frozen or row.frozen else "none"},
            {"train": {"epochs": 3, "lr": 0.05, "optimizer": {"SGD": {"momentum": 0.9}}, **given}},
        ],
    }
    folder.mkdir(exist_ok=True)
    own = folder / f"recipe-{PartialState().process_index}.yaml"
    own.write_text(yaml.safe_dump(recipe))
    read = load_recipe(str(own))
    state = StateFolder(folder / "state", read.resolved)
    saved = state.load()
    seed_everything(read.seed)
    assembly = build(read.model.architecture, read.model.arguments)
    device = make_accelerator(DEVICE).device
    run = ActiveRun(read, folder, state, listener or Notes(), assembly, device, "float32", saved)
    if saved is not None:
        run.remember(saved.run)
    run.data = open_data(read.data, assembly.preprocessing, seed=read.seed)
    run.context = run.data.context
    return run


def carried_out(run: ActiveRun) -> ActiveRun:
    for step in run.recipe.steps:
        if run.saved is None or step.place.index >= run.saved.step or step.replayed:
            step.run(run)
    return run


compiled = functools.partial(torch.compile, backend="aot_eager")  # the graphs are made, no machine code of them


def weights(run: ActiveRun) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous().clone() for name, tensor in run.assembly.model.state_dict().items()}


def reported(value: Any) -> Any:
    """The report's row of the train step, without what is measured in seconds and bytes."""
    if isinstance(value, dict):
        return {key: reported(one) for key, one in value.items() if key not in VARYING}
    return [reported(one) for one in value] if isinstance(value, list | tuple) else value


def different(mine: Any, theirs: Any, where: str = "") -> list[str]:
    """The places at which two rows of a report differ."""
    if type(mine) is type(theirs) and isinstance(mine, dict) and mine.keys() == theirs.keys():
        return [text for key in mine for text in different(mine[key], theirs[key], f"{where}.{key}")]
    if type(mine) is type(theirs) and isinstance(mine, list) and len(mine) == len(theirs):
        return [
            text for n, pair in enumerate(zip(mine, theirs, strict=True)) for text in different(*pair, f"{where}.{n}")
        ]
    return [] if mine == theirs else [f"{where}: {mine} is not {theirs}"]


VARYING = (
    "seconds",
    "images_per_second",
    "passes",
    "peak_memory",
    "setting",
)  # how it was chosen: by timing, or as the run began


def near(mine: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], tolerance: float) -> bool:
    return mine.keys() == theirs.keys() and all(
        torch.allclose(mine[name], theirs[name], rtol=1e-4, atol=tolerance) for name in mine
    )


def said(run: ActiveRun) -> str:
    return "\n".join(run.listener.notes)


ROWS = [
    pytest.param(name, given, id=f"{name}-{number}" if number else name)
    for name, one in OPTIONS.items()
    for number, given in enumerate(one.tries)
]


@pytest.fixture
def table(plugins, monkeypatch):
    monkeypatch.setattr(torch, "compile", compiled)
    plugins.write("zoo-table", ENTRY_POINTS, zoo_table=PLUGIN)
    torch.use_deterministic_algorithms(DEVICE.type == "cuda")
    yield plugins
    torch.use_deterministic_algorithms(False)


def test_every_option_has_a_row_and_every_row_a_test():
    missing = set(Train.model_fields) - set(OPTIONS)
    assert not missing, f"add rows to OPTIONS: {sorted(missing)}"
    for name, one in OPTIONS.items():
        file, _, function = one.proof.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), name
        assert all(name in given for given in one.tries) or one.data, name


@pytest.mark.parametrize(("name", "given"), ROWS)
def test_killed_in_the_middle_of_an_epoch_it_goes_on_bit_for_bit(table, tmp_path, monkeypatch, name, given):
    one, values = OPTIONS[name], {"drop": 0.2}
    whole = carried_out(started(tmp_path / "whole", one, given, **values))
    with monkeypatch.context() as often:
        often.setattr(trainer_module, "SAVE_SECONDS", 0.0)  # after every optimizer step
        with pytest.raises(Killed):
            carried_out(started(tmp_path / "run", one, given, **values, listener=Killing(KILLED_AT)))
    torch.manual_seed(123)  # whatever the generators do meanwhile
    again = started(tmp_path / "run", one, given, **values)
    assert again.saved.training["progress"]["batch"] > 0
    assert again.saved.training["progress"]["steps"] == KILLED_AT
    carried_out(again)
    mine, theirs = weights(again), weights(whole)
    assert [key for key in theirs if not torch.equal(mine[key], theirs[key])] == []
    assert different(reported(again.stages), reported(whole.stages)) == []


@pytest.mark.parametrize(("name", "given"), ROWS)
def test_on_cached_features_it_is_what_training_end_to_end_is(table, tmp_path, name, given):
    one = OPTIONS[name]
    exact = {"feature_precision": "exact", **given}
    plain = carried_out(started(tmp_path / "plain", one, exact | {"feature_cache": one.like}, frozen=True))
    if one.cache == WORKS:
        cached = carried_out(started(tmp_path / "kept", one, {"feature_cache": "kept", **exact}, frozen=True))
        assert cached.stages[-1]["feature_cache"]["use"] == given.get("feature_cache", "kept")
    else:
        cached = carried_out(started(tmp_path / "kept", one, exact | {"feature_cache": "auto"}, frozen=True))
        assert one.cache in said(cached)
    assert near(weights(cached), weights(plain), one.tolerance if DEVICE.type == "cpu" else COARSE)
    for mine, theirs in zip(cached.stages[-1]["epochs"], plain.stages[-1]["epochs"], strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=max(10 * one.tolerance, 1e-4))
        assert mine["lr_by_group"] == theirs["lr_by_group"]


@pytest.mark.slow
def test_two_processes_train_what_one_does(table, tmp_path):
    """One launch for all rows. Every sample counts once: the losses of the epochs are those of one process."""
    command = [*torchrun(), __file__, str(tmp_path)]
    helpers = str(Path(__file__).parents[1] / "helpers")
    paths = os.pathsep.join([str(table.folder), helpers, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, *command], check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    different = []
    for name, given, folder in runs_of_all(tmp_path / "alone"):
        one, both = OPTIONS[name], tmp_path / "both" / folder.name
        document = json.loads((both / "row.json").read_text())
        if one.processes != WORKS and one.processes in document["said"]:
            continue
        alone = carried_out(started(folder, one, given))
        mine, theirs = document["row"], reported(alone.stages[-1])
        close = pytest.approx([epoch["loss"] for epoch in theirs["epochs"]], abs=max(10 * one.tolerance, 1e-4))
        counted = all(mine[key] == theirs[key] for key in ("samples", "kept_epoch", "stopped"))
        if not counted or [epoch["loss"] for epoch in mine["epochs"]] != close:
            different.append(f"{folder.name}: {mine} is not {theirs}")
        elif not near(load_file(both / "model.safetensors"), weights(alone), one.tolerance):
            different.append(f"{folder.name}: other weights")
    assert not different, "\n".join(different)


def runs_of_all(home: Path, only: Sequence[str] = ()):
    home.mkdir(exist_ok=True)
    for name, one in OPTIONS.items():
        if only and name not in only:
            continue
        for number, given in enumerate(one.tries):
            yield name, given, home / f"{name}-{number}"


def test_the_page_has_these_rows():
    lines = ["| option | what it does is shown by | killed and resumed | on cached features | in two processes |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for name, one in OPTIONS.items():
        file, _, function = one.proof.partition("::")
        like = {"off": WORKS, "every_step": f"{WORKS} as `feature_cache: every_step`"}[one.like]
        cache = like if one.cache == WORKS else f"says “{one.cache}”"
        processes = WORKS if one.processes == WORKS else f"says “{one.processes}”"
        lines.append(f"| `{name}` | [{function}](../{file}) | bit for bit | {cache} | {processes} |")
    made = "\n".join(lines) + "\n"
    found = TABLE.search(PAGE.read_text(encoding="utf-8"))
    if os.environ.get("ZOO_WRITE_GOLDEN"):
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page[: found.start(1)] + made + page[found.end(1) :], encoding="utf-8")
    else:
        assert found[1] == made


def both(home: Path) -> None:
    """In each of two processes: every row, what it reported and the weights that it left."""
    make_accelerator(DEVICE)
    main = PartialState().is_main_process
    for name, given, folder in runs_of_all(home):
        listener, document, run = Notes(), {"row": None}, None
        try:
            run = carried_out(started(folder, OPTIONS[name], given, listener=listener))
            document["row"] = reported(run.stages[-1])
        except ZooError as error:
            listener.note(str(error))
        if main:
            folder.mkdir(exist_ok=True)
            (folder / "row.json").write_text(json.dumps(document | {"said": "\n".join(listener.notes)}))
            if run is not None:
                save_file(weights(run), folder / "model.safetensors")


if __name__ == "__main__":
    torch.compile = compiled
    torch.set_num_threads(1)
    both(Path(sys.argv[1]) / "both")
