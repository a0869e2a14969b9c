"""What fifty third-party plugins of twenty entry points each cost `zoo list`: paired runs of entire processes.

.venv/bin/python benchmarks/listing_plugins.py [ROUNDS]

Each plugin supplies one architecture source and 19 surgeries. The first run, in which zoo asks every source for its
names, is printed apart: the answers are remembered.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PLUGINS, ENTRIES = 50, 20
SOURCE = """
class Source:
    def names(self):
        return ["net"]
    def build(self, name):
        raise NotImplementedError
source = Source()
def cut(model):
    return model
"""


def write(site):
    """The plugins as an installer leaves them."""
    for number in range(PLUGINS):
        package, info = f"bench{number}", site / f"zoo_bench{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{package}.py").write_text(SOURCE)
        metadata = f"Metadata-Version: 2.1\nName: zoo-bench{number}\nVersion: 1.0\nRequires-Dist: zoo-kit>=0.1\n"
        (info / "METADATA").write_text(f"{metadata}Requires-Dist: torch\n\nA plugin.\n")
        cuts = "".join(f"cut{index} = {package}:cut\n" for index in range(ENTRIES - 1))
        (info / "entry_points.txt").write_text(
            f"[zoo.architectures]\n{package} = {package}:source\n[zoo.surgeries]\n{cuts}"
        )
        (info / "RECORD").write_text(f"{package}.py,,\n{info.name}/METADATA,,\n")


def seconds(environment):
    """CPU seconds of one `zoo list`, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "zoo", "list"], env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as folder:
        write(site := Path(folder, "site"))
        without = {**os.environ, "ZOO_CACHE": str(Path(folder, "cache"))}
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(site)]))
        beside = {**without, "PYTHONPATH": path}
        seconds(without)
        first = seconds(beside)
        pairs = [(seconds(without), seconds(beside)) for _ in range(rounds)]
    none, all_of_them = (statistics.median(values) for values in zip(*pairs, strict=True))
    print(f"zoo list, CPU seconds, median of {rounds} pairs")
    print(f"  no third-party plugin            {none:.3f}")
    print(f"  {PLUGINS} plugins of {ENTRIES} entry points     {all_of_them:.3f}")
    print(f"  median ratio of the pairs        {statistics.median(b / a for a, b in pairs):.2f}  (aim: at most 1.5)")
    print(f"  the first run, which asks all    {first:.3f}")


if __name__ == "__main__":
    main()
