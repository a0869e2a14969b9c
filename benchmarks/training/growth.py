"""How cost grows with epochs and with data: a linear probe of resnet18 at 96 px, by the tutorial loop and by zoo.

    python benchmarks/training/growth.py

One run of each; the loop is not run ("–") where it would take more than ten minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common import Job, write_images
from run import CONTESTANTS, Run, prepare, run

COPIES, EPOCHS = (1, 4, 16), (1, 10, 30)
MOST = 40  # copies x epochs that the tutorial loop is asked for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    options = parser.parse_args()
    print("| training images | epochs | tutorial loop s | zoo s | ratio | tutorial process s | zoo process s | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for copies in COPIES:
        data = str(write_images(options.work, 96, copies=copies))
        for epochs in EPOCHS:
            job = Job("resnet18", "probe", 96, epochs, data)
            prepare(job)
            loop = measured("tutorial loop", job) if epochs * copies <= MOST else None
            print(row(1437 * copies, epochs, loop, measured("zoo", job)), flush=True)


def measured(name: str, job: Job) -> Run:
    one = run(CONTESTANTS[name][0], job, cold=True)
    print(f"{job.data}, {job.epochs} epochs: {name}: {one}", file=sys.stderr, flush=True)
    return one


def row(images: int, epochs: int, loop: Run | None, zoo: Run) -> str:
    whole = f"{loop.wall:.1f} | {zoo.wall:.1f} | {loop.wall / zoo.wall:.1f}" if loop else f"– | {zoo.wall:.1f} | –"
    inner = f"{loop.loop:.1f} | {zoo.loop:.1f} | {loop.loop / zoo.loop:.1f}" if loop else f"– | {zoo.loop:.1f} | –"
    return f"| {images} | {epochs} | {inner} | {whole} |"


if __name__ == "__main__":
    main()
