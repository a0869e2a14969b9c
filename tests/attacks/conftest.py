"""What was tried against zoo by files that wish it ill, in the manner of safetensors' attacks: one file a target.

Each runs by itself, `python -m pytest tests/attacks/test_rules.py`, and says what the attack is, so that it can be
tried on other tools. The fuzzers are slow; `ZOO_FUZZ_SECONDS=60 python -m pytest tests/attacks/test_fuzz.py` gives each
a minute.
"""

import struct
import time
import zipfile

import pytest

from zoo.errors import ZooError


def text(word):
    data = word.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def named(module, name):
    return f"c{module}\n{name}\n".encode()


TENSOR = (
    named("torch._utils", "_rebuild_tensor_v2")
    + b"(("
    + text("storage")
    + named("torch", "FloatStorage")
    + text("0")
    + text("cpu")
    + b"K\x02tQK\x00K\x02\x85K\x01\x85\x89"
    + named("collections", "OrderedDict")
    + b")RtR"
)
"""The opcodes of a tensor of two zeros."""


@pytest.fixture
def pth(tmp_path):
    """Writes a file of torch.save's with these opcodes for each key, beside a tensor `a`."""

    def write(**values):
        path = tmp_path / "file.pth"
        pairs = [text("a") + TENSOR, *(text(key) + value for key, value in values.items())]
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", b"\x80\x02}(" + b"".join(pairs) + b"u.")
            file.writestr("archive/data/0", bytes(8))
        return path

    return write


@pytest.fixture
def ends():
    """Runs what is attacked: it gives a value or an error of zoo's own, within seconds of processor time."""

    def run(work, seconds=10):
        began = time.process_time()
        try:
            return work()
        except ZooError as error:
            return error
        finally:
            assert time.process_time() - began < seconds

    return run
