"""Components that the engine calls: made of what a recipe names, and named where their code fails."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.contracts import Callback, Tracker
from zoo.errors import InputError, WorkError
from zoo.registry import Component
from zoo.training.components import blamed, files_of, make, restore_state, state_of

ROW = Component("acme/x", "losses", "acme", "zoo-acme", "1.0", "acme:x")
ACME = """
from zoo.api import Callback, InputError, Tracker
class Quiet(Callback):
    files = ("quiet.txt",)
    def __init__(self, *, often: int = 1): self.often = often
class Picky(Callback):
    def __init__(self, *, often: int = 1): raise InputError("often has to be odd", suggestion="write often: 3")
class Log(Tracker):
    files = ("log", "log.txt")
"""


@pytest.fixture
def acme(plugins):
    text = "[zoo.callbacks]\nQuiet = acme_c:Quiet\nPicky = acme_c:Picky\n[zoo.trackers]\nLog = acme_c:Log\n"
    plugins.write("zoo-acme", text, acme_c=ACME)


def test_what_a_recipe_names_is_made(acme):
    component, made = make("callbacks", {"Quiet": {"often": 3}}, Callback)
    assert (component.name, made.often) == ("acme/Quiet", 3)
    assert isinstance(make("trackers", "acme/Log", Tracker)[1], Tracker)
    with pytest.raises(InputError, match="often has to be odd") as caught:
        make("callbacks", "Picky", Callback)
    assert caught.value.problems[0].suggestion == "write often: 3", "the author's own words"


def test_the_files_they_write_are_known_before_they_are_made(acme):
    assert files_of("callbacks", ["Quiet", "Picky", "unknown"]) == {"quiet.txt"}
    assert files_of("trackers", ["Log"]) == {"log", "log.txt"}


def test_a_failure_is_the_plugins_but_for_lack_of_memory():
    with pytest.raises(WorkError, match=r"acme/x \(zoo-acme 1.0\) failed: ZeroDivisionError"), blamed(ROW):
        1 / 0  # noqa: B018
    with pytest.raises(InputError, match="as it is"), blamed(ROW):
        raise InputError("as it is")
    with pytest.raises(torch.OutOfMemoryError), blamed(ROW):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(ZeroDivisionError), blamed(None):
        1 / 0  # noqa: B018


def test_a_state_is_taken_and_given_back():
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    restore_state(other, state_of(one))
    assert torch.equal(one.weight, other.weight)
    assert state_of(nn.ReLU()) is None
    assert state_of(3) is None
    restore_state(3, None)
