"""What `zoo check` takes for a CSV table of a million images: CPU seconds and the most memory.

.venv/bin/python benchmarks/long_table.py [ROWS]

The images are hard links to a few files, so that every row has a path of its own.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

LINKS = 50_000  # to one file: some file systems allow 65,000
RECIPE = """\
model: torchvision/mobilenet_v2
data: {source: csv, path: table.csv, image_size: 32}
steps:
  - swap_head: auto
  - train: {epochs: 1}
"""


def write_table(folder: Path, rows: int) -> None:
    (folder / "images").mkdir()
    original = folder / "images/0.png"
    with (folder / "table.csv").open("w") as table:
        table.write("path,label\n")
        for row in range(rows):
            path = folder / f"images/{row}.png"
            if row % LINKS == 0:
                original = path
                Image.new("RGB", (32, 32), (row // LINKS * 10 % 256, 0, 0)).save(path)
            else:
                os.link(original, path)
            table.write(f"images/{row}.png,class_{row % 7}\n")


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder, rows)
        (folder / "recipe.yaml").write_text(RECIPE)
        command = [sys.executable, "-m", "zoo", "check", folder / "recipe.yaml"]
        done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.stdout[-400:], done.stderr[-400:], sep="")
    print(f"{rows:,} rows: {used.ru_utime + used.ru_stime:.1f} s CPU, {used.ru_maxrss / 1024:.0f} MB at most")


if __name__ == "__main__":
    main()
