"""Faulty plugins: the table of docs/plugin-faults.md, each row installed and tried."""

import json
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from torch.nn import Linear

from zoo import plugin_process, registry
from zoo.cli import doctor, run
from zoo.errors import ZooError
from zoo.recipe import load_recipe

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/plugin-faults.md"
UNRELATED = ROOT / "recipes/tutorials/custom_layers.yaml"
SOURCE = "[zoo.architectures]\nacme = acme_m:source"
CUT = "[zoo.surgeries]\ncut = acme_m:cut"
PLAIN = "def cut(model): return model"


def names(body, head=""):
    """A source's module: line 3 is what `names()` does."""
    return (
        f"{head}class Source:\n    def names(self):\n        {body}\n    def build(self, name): ...\nsource = Source()"
    )


# first column of the table -> entry points, module
CASES = {
    "a source that imports what is not there": (SOURCE, "import not_there"),
    "a source with a syntax error": (SOURCE, "def ("),
    "a source that calls `sys.exit(3)` at import": (SOURCE, "import sys; sys.exit(3)"),
    "a source that calls `os._exit(0)` at import": (SOURCE, "import os; os._exit(0)"),
    "a source that crashes at import": (SOURCE, "import ctypes; ctypes.string_at(0)"),
    "an entry point to a module that is not there": ("[zoo.architectures]\nacme = acme_nowhere:source", ""),
    "an entry point to an attribute that is not there": (SOURCE, "other = 1"),
    "an entry point to a number": (SOURCE, "source = 3"),
    "a source whose `names()` raises": (SOURCE, names("1 / 0")),
    "a source whose `names()` never ends": (SOURCE, names("import time; time.sleep(600)")),
    "a source whose `names()` swallows every exception": (
        SOURCE,
        names(
            "import time\n        while True:\n            try: time.sleep(600)\n            except BaseException: pass"
        ),
    ),
    "a source whose `names()` spins in C": (SOURCE, names("import itertools; sum(itertools.repeat(0))")),
    "a source whose `names()` gives a million names": (SOURCE, names("return map(str, range(1_000_000))")),
    "a source whose `names()` takes its time": (SOURCE, names("import time; time.sleep(0.3); return ['net']")),
    "a source that prints, from C too": (
        SOURCE,
        names("print('b'); return ['net']", "import os; print('a'); os.write(1, b'c'); os.system('echo d');\n"),
    ),
    "a source whose exception has no text": (
        SOURCE,
        "class OddError(Exception):\n    def __str__(self): raise ValueError\nraise OddError",
    ),
    "an `entry_points.txt` that is no text": (SOURCE, PLAIN),
    "a plugin that needs a newer zoo": (CUT, PLAIN),
    "two distributions that supply one name": (CUT, PLAIN),
    "an entry point with a control character in its name": ("[zoo.surgeries]\ncu\x1bt = acme_m:cut", PLAIN),
    "a surgery called `swap_head`": ("[zoo.surgeries]\nswap_head = acme_m:cut", PLAIN),
    "a distribution called `kit`": (CUT, PLAIN),
    "a distribution called `zoo`": (CUT, PLAIN),
    "a source called `timm`": ("[zoo.architectures]\ntimm = acme_m:source", names("return ['resnet50']")),
    "a surgery whose module calls `os._exit(0)`": (CUT, "import os; os._exit(0)"),
    "a surgery whose module has a syntax error": (CUT, "def ("),
    "weights that are 3": ("[zoo.weights]\nx = acme_m:x", "def x(): return 3"),
    "a plugin that empties `sys.path`, `builtins` and the environment": (
        CUT,
        "import builtins, os, sys\nsys.path.clear(); os.environ.clear()\n"
        f"builtins.print = builtins.len = None\n{PLAIN}",
    ),
    "a plugin that replaces `torch.nn.Linear.forward`": (
        CUT,
        f"import torch.nn\ntorch.nn.Linear.forward = lambda self, x: x\n{PLAIN}",
    ),
}
DISTRIBUTIONS = {"a distribution called `kit`": "kit", "a distribution called `zoo`": "zoo"}
SLOW_TO_IMPORT = ("a plugin that replaces `torch.nn.Linear.forward`",)  # torch, in a process of its own
NAMED = {  # what a recipe calls it
    "a surgery called `swap_head`": "acme/swap_head",
    "a distribution called `kit`": "kit/cut",
    "a distribution called `zoo`": "zoo/cut",
    "an entry point with a control character in its name": "'acme/cu\\\\x1bt'",
    "a source called `timm`": "timm/resnet50",
    "an `entry_points.txt` that is no text": "acme",
}


def rows():
    """The cells of the page's table, by the first one."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def install(plugins, case):
    entry_points, module = CASES[case]
    plugins.write(DISTRIBUTIONS.get(case, "zoo-acme"), entry_points, acme_m=module)
    (info,) = plugins.folder.glob("*.dist-info")
    if case == "an `entry_points.txt` that is no text":
        (info / "entry_points.txt").write_bytes(f"{SOURCE}\n".encode() + b"x = \xff\xfe")
    elif case == "a plugin that needs a newer zoo":
        with (info / "METADATA").open("a") as file:
            file.write("Requires-Dist: zoo-kit>=999\n")
    elif case == "two distributions that supply one name":
        plugins.write("acme", entry_points, acme_m=module)
    registry.refresh()


def quoted(cell):
    """What a cell says word for word."""
    return [text for text in re.findall(r"`([^`]+)`", cell) if text != "--json"]


def listed(case):
    """What `zoo list` and its document say of the plugin."""
    found = [row for row in registry.components() if row.distribution in ("zoo-acme", "acme", "kit", "zoo")]
    return "\n".join(f"{row.name} {row.status} {row.cause or ''}" for row in found)


def doctored(case):
    """What `zoo doctor` says of the plugin; `sound` where every import is."""
    found = [row for row in registry.entries() if row.distribution in ("zoo-acme", "acme", "kit", "zoo")]
    examined = registry.examine(found)
    broken = [each.row for each in examined if each.row.status != "ok"]
    said = [f"{row.name}: {row.cause}\nmend: {registry.mend(row)}" for row in broken] or ["sound"]
    said += [change for each in examined for change in each.changes]
    return "\n".join([*said, *doctor.clashes(), *(problem for problem, _ in doctor.twice())])


def naming(case, folder):
    """What a recipe that names the plugin's component comes to, as far as it is read without torch."""
    kind = CASES[case][0].split("]")[0].removeprefix("[zoo.")
    name = NAMED.get(case) or {"surgeries": "acme/cut", "architectures": "acme/net", "weights": "acme/x"}[kind]
    text = UNRELATED.read_text()
    if kind == "surgeries":
        text = text.replace("steps:\n", f"steps:\n  - {name}\n")
    elif kind == "architectures":
        text = re.sub(r"architecture: .*", f"architecture: {name}", text)
    else:
        text = re.sub(r"(  architecture: .*)", rf"\1\n  weights: {name}", text)
    (folder / "recipe.yaml").write_text(text)
    try:
        recipe = load_recipe(str(folder / "recipe.yaml"))
        if kind == "weights":
            recipe.weights.look_up(recipe.model.architecture)
    except ZooError as error:
        return str(error)
    return "sound"


def says(said, cell):
    for text in quoted(cell):
        assert text in said, f"{text!r} is not in what was said:\n{said}"


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW_TO_IMPORT else case for case in CASES]
)
def test_a_row_of_the_page(plugins, tmp_path, monkeypatch, capfd, case):
    in_list, in_doctor, unrelated, named = rows()[case]
    monkeypatch.setattr(Linear, "forward", Linear.forward)  # one of them replaces it in this process
    if "took more than" in in_list:
        monkeypatch.setitem(plugin_process.SECONDS, plugin_process.NAMES, 0.7)
    install(plugins, case)
    said = listed(case)
    says(said, in_list)
    assert ("broken" in said) == in_list.startswith("broken")
    says(doctored(case), in_doctor)
    assert unrelated.startswith("goes on")
    assert load_recipe(str(UNRELATED)).name == "custom_layers"
    outcome = naming(case, tmp_path)
    says(outcome, named)
    assert (outcome == "sound") == named.startswith("sound"), outcome
    assert "bug in zoo" not in outcome
    if "from C" not in case:  # there it is the command's own process that keeps standard output: the wheels' test
        assert capfd.readouterr().out == "", "standard output is zoo's alone"


def test_every_row_is_tried():
    assert list(rows()) == list(CASES)


def test_a_source_is_asked_once_a_version(plugins, monkeypatch):
    log = plugins.folder / "log"
    body = names(f"open({str(log)!r}, 'a').write('x'); return ['net']")
    plugins.write("zoo-acme", SOURCE, acme_m=body)
    for _ in range(3):
        assert plugins.row("acme/net").status == "ok"
        registry.refresh()  # as a new command does
    assert log.read_text() == "x"
    time.sleep(0.01)
    (plugins.folder / "acme_m.py").write_text(body + "\n# edited")
    registry.refresh()
    assert plugins.row("acme/net").status == "ok"
    assert log.read_text() == "xx"


def test_a_full_name_opens_its_own_source_alone(plugins):
    log = plugins.folder / "log"
    body = names("return ['net']", f"open({str(log)!r}, 'a').write(__name__)\n")
    plugins.write("zoo-acme", SOURCE, acme_m=body)
    assert registry.resolve("torchvision/vgg16", "architectures").plugin == "torchvision"
    assert registry.resolve("timm/resnet50", None).plugin == "timm"
    assert not log.exists()
    assert registry.resolve("acme/net", "architectures").plugin == "acme"
    assert log.exists()


def test_the_entire_traceback_can_be_had(plugins, capsys):
    plugins.write("zoo-acme", SOURCE, acme_m="def deep():\n    import not_there\ndeep()")
    assert run(["list", "acme"]) == 0
    assert "Traceback" not in capsys.readouterr().err
    assert run(["list", "acme", "--traceback"]) == 0
    assert "acme_m.py" in (said := capsys.readouterr().err)
    assert "in deep" in said


def wheel(folder, case, number):
    """A wheel of a case, as an index would hand it out."""
    name, module = f"zoo_bad{number}", f"bad{number}_m"
    entry_points, text = (part.replace("acme_m", module) for part in CASES[case])
    entry_points = re.sub(r"^acme =", f"bad{number} =", entry_points, flags=re.M)
    info = f"{name}-1.0.dist-info"
    requires = "Requires-Dist: zoo-kit>=999\n" if "newer zoo" in case else ""
    files = {
        f"{module}.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entry_points,
    }
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD")))
    return path


@pytest.mark.slow
def test_real_wheels_all_installed_at_once(tmp_path):
    kept = [case for case in CASES if case not in DISTRIBUTIONS and case not in SLOW_TO_IMPORT and "timm" not in case]
    kept = [case for case in kept if "took more than" not in rows()[case][0] and "no text" not in case]
    kept = [case for case in kept if "control character" not in case]
    wheels = [str(wheel(tmp_path, case, number)) for number, case in enumerate(kept)]
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q", "--target", str(site), *wheels]
    subprocess.run(pip, check=True, capture_output=True)
    code = f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv[0] = 'zoo'; from zoo.cli import main; main()"

    def zoo(*arguments):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert "Traceback" not in done.stderr
        return done

    found = json.loads(zoo("list", "--json").stdout)["components"]
    mine = {row["distribution"]: row["status"] for row in found if row["distribution"].startswith("zoo_bad")}
    assert mine == {
        f"zoo_bad{number}": "broken" if rows()[case][0].startswith("broken") else "ok"
        for number, case in enumerate(kept)
    }
    assert sum(row["status"] == "ok" for row in found) > 1400
    report = json.loads((done := zoo("doctor", "--json")).stdout)
    assert done.returncode == 1
    assert {row["distribution"] for row in report["plugins"]} > mine.keys()
    assert "swap_head" in zoo("show", "swap_head").stdout
    assert zoo("check", str(UNRELATED)).returncode == 0
