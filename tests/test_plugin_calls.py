"""What a component raises, or returns that its kind does not, is said of the plugin."""

import pytest

from zoo.api import InputError, Weights, WorkError
from zoo.installed import Component
from zoo.plugin_calls import call, expect, texts

EVIL = Component("evil/x", "weights", "evil", "zoo-evil", "1.2", "zoo_evil:x")


def raising(error):
    def work():
        raise error

    return work


def test_a_value_of_the_right_type_comes_back():
    weights = Weights("/x.pth", "a/b")
    assert expect(EVIL, call(EVIL, lambda: weights), Weights) is weights
    assert texts(EVIL, iter(["a", "b"]), "names") == ["a", "b"]


@pytest.mark.parametrize("value", [3, None, object(), "text"])
def test_another_type_is_named(value):
    said = f"zoo-evil 1.2: weights 'x' returned {type(value).__name__}, expected zoo.api.Weights"
    with pytest.raises(WorkError, match=said):
        expect(EVIL, value, Weights)


@pytest.mark.parametrize(("value", "kind"), [("abc", "str"), (3, "int"), (["a", 3], "int")])
def test_texts_are_texts(value, kind):
    with pytest.raises(WorkError, match=rf"weights 'x' returned {kind}, expected names"):
        texts(EVIL, value, "names")


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), RecursionError(), GeneratorExit()])
def test_whatever_it_raises_is_its_failure(error):
    with pytest.raises(WorkError, match=rf"^evil/x failed: {type(error).__name__}.*test_plugin_calls\.py:\d+\)$"):
        call(EVIL, raising(error))


def test_zoos_own_errors_and_memory_that_runs_out_pass_through():
    with pytest.raises(InputError, match=r"^as it is$"):
        call(EVIL, raising(InputError("as it is")))
    with pytest.raises(MemoryError):
        call(EVIL, raising(MemoryError()))
    with pytest.raises(KeyboardInterrupt):
        call(EVIL, raising(KeyboardInterrupt()))
