"""Time conversions against `cp` and print a Markdown table: python benchmarks/convert.py --size 2000

A checkpoint of `--size` MB (400 float32 tensors, names with `module.` in front) is written as .safetensors and as .pth.
Every round runs each way of converting it once, as a process of its own, imports included; a ratio compares a run with
the `cp` of its own round. The files are in the page cache and each output is deleted before the next run, so a way that
does not sync is not charged for the disk, and a way that does is: compare it with `cp` + `sync`. Needs four times the
size on disk. 2,000 MB takes about a minute a round; 200 MB shows that everything works.

`zoo` is the command as users run it (synced, not read back); `zoo, read back` is its default; `zoo, no sync` leaves the
bytes to the page cache as `cp` does. On a busy machine processor seconds (the median; all cores, the kernel's
included) tell more than wall seconds. Peak memory is the largest resident set; files that are mapped count in it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MAKE = """
import sys, torch
from safetensors.torch import save_file
from pathlib import Path
folder, megabytes, count = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
elements = int(megabytes * 1e6 / 4 / count)
tensors = {f"module.blocks.{index}.weight": torch.randn(elements // 500, 500) for index in range(count)}
save_file(tensors, folder / "source.safetensors")
torch.save(tensors, folder / "source.pth")
"""

BY_HAND = {
    "safetensors": """
import sys
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1])
save_file({name.removeprefix("module."): tensor for name, tensor in tensors.items()}, sys.argv[2], {"format": "pt"})
""",
    "pth": """
import sys, torch
from safetensors.torch import save_file
tensors = torch.load(sys.argv[1], weights_only=True)
save_file({name.removeprefix("module."): tensor for name, tensor in tensors.items()}, sys.argv[2], {"format": "pt"})
""",
    "cast": """
import sys, torch
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1])
save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, sys.argv[2], {"format": "pt"})
""",
}

NO_SYNC = """
import sys
from zoo.remap.plan import make_plan
from zoo.remap.rules import parse_rules
from zoo.formats import open_source
from zoo.conversion.stream import write
with open_source(sys.argv[1]) as source:
    plan = make_plan(source.entries, parse_rules(sys.argv[3]), aliases=source.aliases)
    write(plan, source, sys.argv[2], metadata={"format": "pt"}, verify_bytes=False, sync=False)
"""

RENAME, CAST = "strip_prefix: module.", "cast: bfloat16"


@dataclass
class Way:
    """One way of converting: its name, the command line, and the way whose output its own must equal."""

    name: str
    command: list[str]
    like: str | None = None
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    megabytes: float = 0.0


def ways(folder: Path) -> list[Way]:
    """What is timed, in the order in which a round runs it."""
    safetensors, pth, out = (str(folder / name) for name in ("source.safetensors", "source.pth", "out.safetensors"))

    def zoo(source: str, rule: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "zoo", "convert", source, out, "--remap", rule, *options]

    def script(code: str, *arguments: str) -> list[str]:
        return [sys.executable, "-c", code, *arguments]

    fast = "--no-verify-bytes"
    return [
        Way("cp", ["cp", safetensors, out]),
        Way("cp + sync", ["sh", "-c", f"cp {safetensors} {out} && sync {out}"]),
        Way("rename .safetensors: load, rename, save", script(BY_HAND["safetensors"], safetensors, out)),
        Way("rename .safetensors: zoo", zoo(safetensors, RENAME, fast), "rename .safetensors: load, rename, save"),
        Way("rename .safetensors: zoo, read back", zoo(safetensors, RENAME), "rename .safetensors: zoo"),
        Way("rename .safetensors: zoo, no sync", script(NO_SYNC, safetensors, out, RENAME), "rename .safetensors: zoo"),
        Way("rename .pth: load, rename, save", script(BY_HAND["pth"], pth, out), "rename .safetensors: zoo"),
        Way("rename .pth: zoo", zoo(pth, RENAME, fast), "rename .safetensors: zoo"),
        Way("rename .pth: zoo, no sync", script(NO_SYNC, pth, out, RENAME), "rename .safetensors: zoo"),
        Way("cast to bfloat16: load, cast, save", script(BY_HAND["cast"], safetensors, out)),
        Way("cast to bfloat16: zoo", zoo(safetensors, CAST, fast), "cast to bfloat16: load, cast, save"),
        Way("cast to bfloat16: zoo, no sync", script(NO_SYNC, safetensors, out, CAST), "cast to bfloat16: zoo"),
    ]


def run(way: Way, out: Path) -> None:
    """Run one way once; its time and peak memory are added to it. Raises CalledProcessError where it fails."""
    out.unlink(missing_ok=True)
    start = time.perf_counter()
    process = subprocess.Popen(way.command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    way.seconds.append(time.perf_counter() - start)
    way.processor.append(usage.ru_utime + usage.ru_stime)
    way.megabytes = max(way.megabytes, usage.ru_maxrss / 1000)
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), way.command)


def same(one: Path, two: Path) -> bool:
    """Whether two safetensors files differ in nothing but the spaces after the header."""
    with open(one, "rb") as first, open(two, "rb") as second:
        headers = [json.loads(file.read(int.from_bytes(file.read(8), "little"))) for file in (first, second)]
        for header in headers:
            header.pop("__metadata__", None)  # zoo's says what made the file
        blocks = iter(lambda: (first.read(1 << 20), second.read(1 << 20)), (b"", b""))
        return headers[0] == headers[1] and all(mine == theirs for mine, theirs in blocks)


def check(table: list[Way], out: Path, folder: Path) -> None:
    """Every way's output equals that of the way it should be like: the same tensors and bytes."""
    for way in table:
        run(way, out)
        kept = folder / f"kept-{table.index(way)}"
        shutil.copyfile(out, kept)
        if way.like is not None:
            other = folder / f"kept-{next(i for i, each in enumerate(table) if each.name == way.like)}"
            if not same(kept, other):
                raise SystemExit(f"{way.name} and {way.like} gave different bytes")
            kept.unlink() if not any(each.like == way.name for each in table) else None
    for way in table:
        way.seconds.clear()
        way.processor.clear()


def measure(table: list[Way], rounds: int, out: Path, say: Callable[[str], None]) -> None:
    """Run all ways in rounds, so that what slows the machine down for a while slows all of them down."""
    for number in range(rounds):
        for way in table:
            run(way, out)
            way.ratios.append(way.seconds[-1] / table[0].seconds[-1])
        say(f"round {number + 1} of {rounds}: cp {table[0].seconds[-1]:.2f} s")
    out.unlink(missing_ok=True)


def as_markdown(table: list[Way]) -> str:
    """The table: wall seconds, the median ratio to `cp` of the same round, processor seconds and the peak of memory."""
    rows = ["| way | min s | median s | max s | × cp (paired) | processor s | peak MB |", "|---|" + "---|" * 6]
    for way in table:
        low, middle, high = min(way.seconds), statistics.median(way.seconds), max(way.seconds)
        ratio, processor = statistics.median(way.ratios), statistics.median(way.processor)
        times = f"{low:.2f} | {middle:.2f} | {high:.2f} | {ratio:.2f} | {processor:.2f}"
        rows.append(f"| {way.name} | {times} | {way.megabytes:.0f} |")
    return "\n".join(rows)


def main() -> None:
    """Make the files, check that all ways agree, time them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=200, help="MB of tensors (default: 200)")
    parser.add_argument("--tensors", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--no-check", action="store_true", help="do not compare the outputs first")
    parser.add_argument("--only", help="ways whose name contains this; cp always runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        out = folder / "out.safetensors"
        arguments = [str(folder), str(options.size), str(options.tensors)]
        subprocess.run([sys.executable, "-c", MAKE, *arguments], check=True)
        table = ways(folder)
        if not options.no_check:
            check(table, out, folder)
        chosen = [way for way in table if way.name == "cp" or options.only is None or options.only in way.name]
        measure(chosen, options.rounds, out, lambda line: print(line, file=sys.stderr, flush=True))
        size = (folder / "source.safetensors").stat().st_size
    print(f"{size / 1e9:.2f} GB in {options.tensors} tensors, {options.rounds} rounds\n")
    print(as_markdown(chosen))


if __name__ == "__main__":
    main()
