"""Indexes that send the reader elsewhere: a shard is a plain file in the same folder, and no index."""

import json
import os
import sys

import pytest

from zoo.errors import InputError
from zoo.formats import open_source


def index(folder, weight_map):
    path = folder / "m.index.json"
    path.write_text(weight_map if isinstance(weight_map, str) else json.dumps({"weight_map": weight_map}))
    return path


@pytest.mark.parametrize(
    "shard",
    ["../x.safetensors", "/etc/passwd", "a/../../x", "..", ".", "", "a\\..\\x", "C:\\x", "\\\\host\\share\\x", "a\0b",
     "a\nb", "CON", "m.index.json", "x" * 5000, "a\ud800b"],
)  # fmt: skip
def test_names_that_are_no_plain_file(shard, tmp_path, ends):
    assert isinstance(ends(lambda: open_source(index(tmp_path, {"w": shard}))), InputError)


@pytest.mark.parametrize(
    "content",
    ["[" * 200_000, '{"weight_map":' * 100_000, "{}", "[]", "1", '{"weight_map": 3}', '{"weight_map": {"a": 1}}',
     "\ufeff{}", '{"weight_map": {"a": ' + "9" * 10_000 + "}}"],
)  # fmt: skip
def test_indexes_that_are_none(content, tmp_path, ends):
    assert isinstance(ends(lambda: open_source(index(tmp_path, content))), InputError)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("target", ["loop.safetensors", "../secret.safetensors", "/etc/passwd", "gone"])
def test_links_that_lead_out_or_nowhere(target, tmp_path, ends):
    (tmp_path / "secret.safetensors").write_bytes(b"")
    folder = tmp_path / "model"
    folder.mkdir()
    os.symlink(target, folder / "loop.safetensors")
    assert isinstance(ends(lambda: open_source(index(folder, {"a": "loop.safetensors"}))), InputError)
