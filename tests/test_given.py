"""Objects handed to a call: components while it lasts, names afterwards."""

import threading

import pytest
from torch import nn

from zoo import registry
from zoo.errors import InputError
from zoo.given import any_given, given, is_given, name_of


class Net(nn.Linear):
    pass


def flipped(image):
    return image


NAME = f"python:{__name__}.Net"


def test_names_are_those_of_classes_and_functions():
    assert name_of(Net(1, 1)) == name_of(Net) == NAME
    assert name_of(flipped) == f"python:{__name__}.flipped"
    assert is_given(NAME)
    assert not is_given("timm/resnet50")
    assert not is_given(None)


def test_inside_it_is_a_component_of_its_kind_and_afterwards_none():
    net = Net(1, 1)
    before = registry.names("architectures")
    with given({"architectures": {NAME: lambda: net}}):
        component = registry.resolve(NAME, "architectures")
        assert component.status == "ok"
        assert registry.load(component)() is net
        assert registry.names("architectures") == [*before, NAME]
        assert any_given()
        with pytest.raises(InputError):
            registry.resolve(NAME, "datasets")
    assert registry.names("architectures") == before
    assert not any_given()


def test_another_thread_does_not_see_it():
    seen = []
    with given({"architectures": {NAME: Net}}):
        thread = threading.Thread(target=lambda: seen.append(any_given()))
        thread.start()
        thread.join()
    assert seen == [False]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("architectures", r"the class .*Net is Python code .*zoo.load\(PATH, model=Net\(\)\)"),
        ("datasets", "the data .* data=…, the object itself"),
    ],
)
def test_where_it_is_missing_it_says_what_to_type(kind, says):
    with pytest.raises(InputError, match=says):
        registry.resolve(NAME, kind)
