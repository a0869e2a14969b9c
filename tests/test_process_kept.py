"""A library call leaves the process as it found it, in the main thread and in any other."""

import gc
import logging
import os
import random
import signal
import sys
import threading
import warnings
from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState, PartialState
from PIL import Image
from sklearn.datasets import load_digits

import zoo
from zoo import isolation, registry
from zoo.training import devices
from zoo.training.callbacks import Listener

RECIPE = {
    "name": "tiny",
    "seed": 3,
    "model": {"architecture": "timm/test_resnet"},
    "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 16, "limit": 32, "workers": 0},
    "steps": [{"swap_head": {"num_classes": "auto"}}, {"freeze": "all_but_head"}, {"train": {"epochs": 1}}],
}
SIGNALS = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]
FLAGS = {
    "threads": torch.get_num_threads,
    "threads between operations": torch.get_num_interop_threads,
    "deterministic algorithms": torch.are_deterministic_algorithms_enabled,
    "default dtype": torch.get_default_dtype,
    "default device": torch.get_default_device,
    "matmul precision": torch.get_float32_matmul_precision,
    "gradients": torch.is_grad_enabled,
    "inference mode": torch.is_inference_mode_enabled,
    "anomaly detection": torch.is_anomaly_enabled,
    "autocast on cpu": lambda: torch.is_autocast_enabled("cpu"),
    "autocast dtype": lambda: torch.get_autocast_dtype("cpu"),
    "autocast cache": torch.is_autocast_cache_enabled,
    "cudnn benchmark": lambda: torch.backends.cudnn.benchmark,
    "cudnn deterministic": lambda: torch.backends.cudnn.deterministic,
    "cudnn enabled": lambda: torch.backends.cudnn.enabled,
    "cudnn tf32": lambda: torch.backends.cudnn.allow_tf32,
    "matmul tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
    "mkldnn": lambda: torch.backends.mkldnn.enabled,
    "process group": torch.distributed.is_initialized,
    "sharing strategy": torch.multiprocessing.get_sharing_strategy,
    "start method": lambda: torch.multiprocessing.get_start_method(allow_none=True),
}


def umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


def snapshot() -> dict:
    """Everything of the process that a caller may rely on."""
    name, keys, *rest = np.random.get_state()
    return {
        **{key: flag() for key, flag in FLAGS.items()},
        "signals": {number: signal.getsignal(number) for number in SIGNALS},
        "streams": tuple(map(id, (sys.stdin, sys.stdout, sys.stderr))),
        "hooks": tuple(map(id, (sys.excepthook, threading.excepthook, sys.displayhook))),
        "torch generator": torch.get_rng_state().tolist(),
        "python generator": random.getstate(),
        "numpy generator": (name, keys.tolist(), rest),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "shown warnings": id(warnings.showwarning),
        "logging": {
            name: (logger.level, list(logger.handlers), list(logger.filters), logger.disabled, logger.propagate)
            for name, logger in {"": logging.root, **logging.root.manager.loggerDict}.items()
            if isinstance(logger, logging.Logger)
        },
        "logging switched off": logging.root.manager.disable,
        "folder": os.getcwd(),
        "umask": umask(),
        "garbage": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "recursion": sys.getrecursionlimit(),
        "import path": list(sys.path),
        "threads alive": sorted(thread.name for thread in threading.enumerate()),
        "accelerate": [dict(kind._shared_state) for kind in (PartialState, AcceleratorState, GradientState)],
    }


@pytest.fixture(autouse=True, scope="module")
def nothing_frozen():
    """What the tests' own conftest has frozen becomes less by itself, with each object of it that is freed."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with a recipe, an image, and what a first run of all verbs left there (and imported)."""
    folder = tmp_path_factory.mktemp("process")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    Image.fromarray(load_digits().images[0].astype("uint8") * 15).resize((32, 32)).save(folder / "digit.png")
    for verb in VERBS.values():
        verb(folder)
    return folder


def fine_tuned(folder: Path) -> None:
    zoo.finetune(str(folder / "recipe.yaml"), output=folder / "run", overwrite=True, progress=Listener())


VERBS = {
    "finetune": fine_tuned,
    "check": lambda folder: zoo.check(folder / "recipe.yaml"),
    "evaluate": lambda folder: zoo.evaluate(folder / "run" / "model.safetensors"),
    "predict": lambda folder: zoo.predict(folder / "run" / "model.safetensors", folder / "digit.png"),
    "freeze": lambda folder: zoo.freeze(zoo.build("timm/test_resnet", num_classes=10, device="meta"), "all"),
    "save": lambda folder: zoo.save(zoo.load(folder / "run" / "model.safetensors"), folder / "again.safetensors"),
    "load": lambda folder: zoo.load(folder / "run" / "model.safetensors"),
    "build": lambda folder: zoo.build("timm/test_resnet", device="meta"),
    "load_into": lambda folder: zoo.load_into(
        zoo.build("timm/test_resnet", num_classes=10, device="meta").to_empty(device="cpu"),
        folder / "run" / "model.safetensors",
    ),
    "convert": lambda folder: zoo.convert(
        folder / "run" / "model.safetensors", folder / "half.safetensors", dtype="F16", overwrite=True
    ),
    "merge": lambda folder: zoo.merge(
        [folder / "run" / "model.safetensors"] * 2, folder / "mean.safetensors", overwrite=True
    ),
    "compare": lambda folder: zoo.compare(folder / "run", folder / "run"),
    "verify": lambda folder: zoo.verify(folder / "run"),
    "reproduce": lambda folder: zoo.reproduce(folder / "run"),
    "finetune_seeds": lambda folder: zoo.finetune_seeds(
        str(folder / "recipe.yaml"), 2, output=folder / "seeds", overwrite=True, progress=Listener()
    ),
    "inspect": lambda folder: zoo.inspect(folder / "run" / "model.safetensors"),
    "diff": lambda folder: zoo.diff(folder / "run" / "model.safetensors", folder / "half.safetensors"),
    "export": lambda folder: zoo.export(folder / "run", folder / "exported.pt2", overwrite=True),
    "embed": lambda folder: zoo.embed(folder / "run", "sklearn/digits", folder / "features.npz", overwrite=True),
    "push": lambda folder: zoo.push(folder / "run", "zoo/digits", dry_run=True),
    "names": lambda folder: (registry.refresh(), zoo.names()),
}


def test_every_public_verb_is_held_against_it():
    verbs = {name for name in zoo.__all__ if not isinstance(getattr(zoo, name), type)}
    assert verbs == set(VERBS)


def in_this_thread(work):
    work()


def in_another_thread(work):
    failed = []
    thread = threading.Thread(target=lambda: capture(work, failed))
    thread.start()
    thread.join()
    assert not failed, failed


def capture(work, failed):
    try:
        work()
    except BaseException as error:
        failed.append(error)


@pytest.mark.parametrize("called", [in_this_thread, in_another_thread])
@pytest.mark.parametrize("verb", VERBS)
def test_the_process_is_as_before(run, verb, called):
    random.seed(11)
    np.random.seed(12)
    torch.manual_seed(13)
    before = snapshot()
    called(lambda: VERBS[verb](run))
    after = snapshot()
    assert {name: (before[name], after[name]) for name in before if before[name] != after[name]} == {}


def test_a_run_that_fails_leaves_the_process_alone_too(run):
    class Failing(Listener):
        def step_started(self, trainer):
            raise ValueError("inside")

    before = snapshot()
    with pytest.raises(ValueError, match="inside"):
        zoo.finetune(str(run / "recipe.yaml"), output=run / "failed", progress=Failing())
    assert snapshot() == before


def test_a_callers_accelerator_goes_on_working(run):
    with_own = accelerate.Accelerator(cpu=True)
    try:
        VERBS["finetune"](run)
        VERBS["evaluate"](run)
        assert with_own.device == torch.device("cpu")
        assert PartialState._shared_state["device"] == torch.device("cpu")
        assert AcceleratorState().mixed_precision == "no"
    finally:
        with_own.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def test_the_result_is_the_recipes_seed_not_the_callers(run):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        VERBS["finetune"](run)
        found.append((run / "run" / "model.safetensors").read_bytes())
    assert found[0] == found[1]


def test_the_library_installs_no_signal_handler_and_tunes_no_allocator(run, monkeypatch):
    """A change that is undone at the end is one all the same: another thread would meet it."""

    def refuse(*_):
        raise AssertionError("the library changes the process")

    monkeypatch.setattr(signal, "signal", refuse)
    monkeypatch.setattr(signal, "setitimer", refuse)
    monkeypatch.setattr(devices.ctypes, "CDLL", refuse)
    monkeypatch.setattr(isolation.contextlib, "redirect_stdout", refuse)
    registry.refresh()
    VERBS["finetune"](run)
    assert "timm/resnet50" in zoo.names("architectures")


def test_only_a_command_owns_the_process():
    assert not isolation.owns_process()
    found = []
    with isolation.owned_process():
        assert isolation.owns_process()
        thread = threading.Thread(target=lambda: found.append(isolation.owns_process()))
        thread.start()
        thread.join()
    assert found == [False]
    assert not isolation.owns_process()


def test_draws_for_fresh_parameters_are_the_callers():
    """As those of every torch module: `torch.manual_seed` decides what `zoo.build` gives."""
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(next(zoo.build("timm/test_resnet").parameters()))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
