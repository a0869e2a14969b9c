"""The benchmark of conversions still runs, and its ways of converting still agree."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "convert.py"


@pytest.mark.slow
def test_every_way_of_converting_gives_the_same_tensors():
    command = [sys.executable, SCRIPT, "--size", "4", "--tensors", "8", "--rounds", "1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.count("\n| ") == 13
    assert "| rename .pth: zoo |" in done.stdout
