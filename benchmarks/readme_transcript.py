"""The transcript in README.md and README.zh.md: python benchmarks/readme_transcript.py

Runs `zoo finetune recipes/quickstart.yaml`, keeps the first and last epochs of each step, cuts lines that are longer
than the page, and puts what was said in place of the block behind `$ zoo finetune`. A minute or two on an idle machine;
with an empty ZOO_CACHE nothing is remembered from earlier runs. `--log FILE` takes what such a run has said already.
"""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
WIDTH = 130
COMMAND = "zoo finetune recipes/quickstart.yaml"
BLOCK = re.compile(rf"    \$ {re.escape(COMMAND)}\n(?:    .*\n)+")


def said(log):
    """What is kept of a run's lines: all but the epochs in the middle and what names this machine's folders."""
    if log is not None:
        lines = Path(log).read_text(encoding="utf-8").splitlines()
    else:
        with tempfile.TemporaryDirectory() as scratch:
            command = [*COMMAND.split(), "--output", f"{scratch}/run"]
            done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            lines = done.stdout.decode().splitlines()
    kept = []
    for line in lines:
        if line.startswith(("checkpoint:", "next:", "report:")) or "~ is measured as it trains" in line:
            continue
        line = line if len(line) <= WIDTH else f"{line[: WIDTH - 2].rpartition(',')[0]}, …"
        epoch = re.match(r"train \d/\d epoch (\d+)/(\d+)", line)
        if epoch and epoch[1] not in ("1", epoch[2]):
            line = "..."
        if line != "..." or kept[-1] != "...":
            kept.append(line)
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", help="what a run has said, in place of a new run")
    block = "\n".join(f"    {line}" for line in (f"$ {COMMAND}", *said(parser.parse_args().log)))
    for name in ("README.md", "README.zh.md"):
        page = ROOT / name
        text, count = BLOCK.subn(lambda _: f"{block}\n", page.read_text(encoding="utf-8"))
        assert count == 1, f"{name} has {count} transcripts"
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
