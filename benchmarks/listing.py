"""How long `zoo list` takes beside what it competes with, in interleaved runs of entire processes.

.venv/bin/python benchmarks/listing.py [ROUNDS]
"""

import statistics
import subprocess
import sys
import time

PYTHON = sys.executable
CONTENDERS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "import typer": [PYTHON, "-c", "import typer"],
    "zoo list": [PYTHON, "-m", "zoo", "list"],
    "zoo list resnet": [PYTHON, "-m", "zoo", "list", "resnet"],
    "zoo list --json": [PYTHON, "-m", "zoo", "list", "--json"],
    "zoo --help": [PYTHON, "-m", "zoo", "--help"],
    "timm.list_models()": [PYTHON, "-c", "import timm; timm.list_models()"],
}


def seconds(command):
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    for command in CONTENDERS.values():
        seconds(command)  # warm the file cache
    taken = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, command in CONTENDERS.items():
            taken[name].append(seconds(command))
    print(f"{'seconds':22}{'least':>8}{'median':>8}   ({rounds} rounds)")
    for name, values in taken.items():
        print(f"{name:22}{min(values):8.3f}{statistics.median(values):8.3f}")


if __name__ == "__main__":
    main()
