"""Names of files and what they need."""

import sys
from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.exporting.formats import format_of, need


def test_the_name_says_the_format():
    assert format_of(Path("a/b.pt2")) == "pt2"
    with pytest.raises(InputError, match=r"a\.onnx or a\.pt2"):
        format_of(Path("a.safetensors"))


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_what_is_not_installed_is_named_with_its_extra(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=rf'{missing} cannot be used: .*pip install "zoo-kit\[export\]"'):
        format_of(Path("a.onnx"))


def test_another_extra():
    with pytest.raises(InputError, match=r"zoo-kit\[parquet\]"):
        need("no_such_module", "parquet")
