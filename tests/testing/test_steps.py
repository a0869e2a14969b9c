"""The contract of steps holds for steps of zoo's own."""

from zoo.testing import StepContract


class TestFreeze(StepContract):
    component = "zoo/freeze"
    arguments = {"policy": "all_but_head"}
