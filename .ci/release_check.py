"""What a user would install, tried: wheels of all distributions, in a fresh environment, away from the checkout.

make release-check     or     python .ci/release_check.py

Builds the wheels from the tracked files, compares each with its package's files, installs them (without -e) with what
they require into a new virtual environment in a temporary folder, and runs `zoo list`, `zoo check` and the quickstart
there. Torch comes from the package index: minutes, and gigabytes of temporary space.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "recipes/quickstart.yaml"


def main():
    with tempfile.TemporaryDirectory(prefix="zoo-release-") as folder:
        place = Path(folder).resolve()
        with step("copy the tracked files"):
            source = copy_tracked(place / "source")
        projects = [source, *sorted(source.glob("plugins/*/"))]
        with step(f"build {len(projects)} wheels"):
            wheels = build(projects, place / "wheels")
        with step("compare wheels with packages"):
            fail_with([problem for project in projects for problem in compare(project, wheels)])
        with step("install the wheels and what they require"):
            python = install(wheels, place / "environment")
        with step("zoo list, zoo check, the quickstart, zoo.load"):
            use(python, place, [name_of(project) for project in projects])


@contextlib.contextmanager
def step(title):
    print(f"{title} …", end=" ", flush=True)
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:.0f} s")


def fail_with(problems):
    if problems:
        sys.exit("\n".join(["failed:", *problems]))


def run(*command, **options):
    """A command's standard output; what it printed is shown if it fails."""
    done = subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, encoding="utf-8", **options
    )
    if done.returncode:
        fail_with([f"{' '.join(map(str, command))}: exit code {done.returncode}", done.stdout, done.stderr])
    return done.stdout


def copy_tracked(to):
    """The tracked files as they are now: no old build/, nothing that was never added."""
    for name in run("git", "ls-files", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)
    return to


def build(projects, into):
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", into, *projects)
    return sorted(into.glob("*.whl"))


def name_of(project):
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]


def compare(project, wheels):
    """What a wheel lacks of its package's files, and what it holds besides them."""
    name = name_of(project)
    package = "zoo" if name == "zoo-kit" else name.replace("-", "_")
    found = [wheel for wheel in wheels if wheel.name.startswith(f"{name.replace('-', '_')}-")]
    if len(found) != 1:
        return [f"{name}: {len(found)} wheels"]
    with zipfile.ZipFile(found[0]) as archive:
        names = set(archive.namelist())
    information = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    files = {path for path in (project / package).rglob("*") if path.suffix == ".py" or path.name == "py.typed"}
    expected = {path.relative_to(project).as_posix() for path in files} | {f"{package}/py.typed"}
    if package == "zoo":  # the recipes lie outside the package, where an installer puts a wheel's data
        data = f"{found[0].name.rsplit('-', 3)[0]}.data/data/share/zoo"
        expected |= {f"{data}/{path.relative_to(project).as_posix()}" for path in (project / "recipes").rglob("*.yaml")}
    problems = [f"{found[0].name} lacks {path}" for path in sorted(expected - names)]
    problems += [f"{found[0].name} holds {path}" for path in sorted(names - information - expected)]
    if not any(path.endswith(".dist-info/licenses/LICENSE") for path in information):
        problems.append(f"{found[0].name} lacks its LICENSE")
    return problems


def install(wheels, into):
    """The Python of a new virtual environment that holds the wheels."""
    venv.create(into, with_pip=True)
    python = into / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    options = ("--quiet", "--disable-pip-version-check", "--no-compile")  # torch's 2,000 files need not all be compiled
    run(python, "-m", "pip", "install", *options, *wheels, env=environment(into))
    run(python, "-m", "pip", "check", env=environment(into))
    return python


def environment(home):
    """This process's variables without those that could lead back to the checkout, or to what earlier runs kept."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ZOO_", "VIRTUAL_ENV"))}
    return kept | {"ZOO_CACHE": str(home / "zoo-cache"), "PYTHONIOENCODING": "utf-8"}


def use(python, place, distributions):
    """Run the commands of the README from a folder that holds a recipe and nothing else."""
    away = place / "away"
    away.mkdir()
    shutil.copyfile(ROOT / RECIPE, away / "quickstart.yaml")
    variables = environment(python.parent.parent)
    zoo = python.with_name("zoo.exe" if os.name == "nt" else "zoo")

    def call(*command):
        return run(*command, cwd=away, env=variables)

    where = call(python, "-c", "import zoo; print(zoo.__file__)").strip()
    fail_with([f"zoo comes from {where}"] if not Path(where).resolve().is_relative_to(place / "environment") else [])
    components = json.loads(call(zoo, "list", "--json"))["components"]
    fail_with([f"broken: {row}" for row in components if row["status"] == "broken"])
    listed = {row["distribution"] for row in components}
    fail_with([f"zoo list names nothing of {name}" for name in distributions if name not in listed])
    call(zoo, "check", "quickstart.yaml")
    output = place / "run"
    options = ("--set", "train.epochs=1", "--output", output, "--json")
    answer = json.loads(call(zoo, "finetune", "quickstart.yaml", *options))
    call(python, "-c", "import sys, zoo; zoo.load(sys.argv[1])", answer["checkpoint"])
    print(f"accuracy {answer['metrics']['accuracy']:.4f} …", end=" ")


if __name__ == "__main__":
    main()
