"""What users and plugins build on stands in public_surface.txt: a change there is a decision, not an accident."""

import importlib
from pathlib import Path

import zoo
import zoo.api
import zoo.testing
from zoo.cli import COMMANDS, typer_command
from zoo.errors import did_you_mean
from zoo.recipe.chain import meant, name_of, step_class, step_names
from zoo.recipe.options import DataOptions, ModelOptions
from zoo.registry import KINDS

WRITTEN = Path(__file__).with_name("public_surface.txt")


def options_of(name):
    """The arguments and options of a command, as written in the shell."""
    module = importlib.import_module(f"zoo.cli.{name}")
    if name == "list":
        return [(action.option_strings or [action.metavar])[-1] for action in module.parser()._actions]
    parameters = typer_command(name, module.command).params
    return [max(p.opts, key=len) if p.param_type_name == "option" else p.metavar for p in parameters] + ["--help"]


def fields(model):
    return " ".join(model.model_fields)


def surface():
    yield from (f"zoo {name}: {' '.join(sorted(options_of(name)))}" for name in COMMANDS)
    yield f"import zoo: {' '.join(zoo.__all__)}"
    yield f"zoo.api: {' '.join(sorted(zoo.api.__all__))}"
    yield f"zoo.testing: {' '.join(zoo.testing.__all__)}"
    yield f"kinds: {' '.join(KINDS)}"
    yield f"recipe model: {fields(ModelOptions)}"
    yield f"recipe data: {fields(DataOptions)}"
    yield from (f"recipe {step}: {fields(step_class(name_of(meant(step)[0])))}" for step in step_names())


def test_the_surface_is_the_one_written_down():
    there, written = list(surface()), WRITTEN.read_text().splitlines()
    new = [line for line in there if line not in written]
    gone = [line for line in written if line not in there]
    nearest = "\n".join(did_you_mean(line, gone) or "" for line in new)
    assert not new, f"not written in {WRITTEN.name}:\n" + "\n".join(new) + f"\n{nearest}"
    assert not gone, f"written in {WRITTEN.name} and gone:\n" + "\n".join(gone)


def test_every_name_of_the_api_can_be_imported():
    for module in (zoo, zoo.api, zoo.testing):
        for name in module.__all__:
            assert getattr(module, name) is not None
