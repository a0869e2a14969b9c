"""zoo where there is no POSIX: everything that Windows lacks is taken away, in an interpreter of its own."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("zoo/**/*.py"), *ROOT.glob("plugins/*/zoo_*/**/*.py")])
RECIPE = {
    "name": "tiny",
    "model": {"architecture": "timm/test_resnet"},
    "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 16, "limit": 48, "workers": 0},
    "steps": [{"swap_head": {"num_classes": "auto"}}, {"freeze": "all_but_head"}, {"train": {"epochs": 3, "lr": 0.01}}],
}
WITHOUT_POSIX = """
import os, signal, sys
import psutil  # on Linux it needs what is taken away below

for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty", "syslog"):
    sys.modules[name] = None
for name in ("pread", "pwrite", "preadv", "pwritev", "copy_file_range", "sendfile", "posix_fadvise", "posix_fallocate",
             "geteuid", "getuid", "getegid", "getgid", "O_DIRECTORY", "O_CLOEXEC", "O_SYNC", "fork", "forkpty",
             "killpg", "sched_getaffinity", "getloadavg", "fchmod", "fdatasync", "sync", "mkfifo", "chroot"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "setitimer", "getitimer", "alarm", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "pause"):
    if hasattr(signal, name):
        delattr(signal, name)

real_open = os.open
def open_no_folder(path, flags, mode=0o777, *, dir_fd=None):
    if isinstance(path, (str, os.PathLike)) and dir_fd is None and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return real_open(path, flags, mode, dir_fd=dir_fd)
os.open = open_no_folder
"""
AS_WINDOWS_DOES = '''
refused = []

def in_use(path):
    """Whether this process has the file, or one below the folder, open or mapped."""
    used = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
            if os.path.lexists(f"/proc/self/fd/{number}")]
    with open("/proc/self/maps") as lines:
        used += [line.split(maxsplit=5)[5].strip() for line in lines if len(line.split(maxsplit=5)) == 6]
    real = os.path.realpath(path)
    return any(name == real or name.startswith(real + os.sep) for name in used)

looking = False

def hook(event, arguments):
    global looking
    if looking or event not in ("os.rename", "os.remove"):
        return
    looking = True
    try:
        paths = arguments[:2] if event == "os.rename" else arguments[:1]
        folder = arguments[-1] if event == "os.remove" else -1
        for path in paths:
            path = os.fspath(path) if folder in (-1, None) else os.path.join(f"/proc/self/fd/{folder}", path)
            if in_use(path):
                refused.append(path)
                raise PermissionError(13, "the file is in use", path)
    finally:
        looking = False

if sys.platform == "linux":
    sys.addaudithook(hook)
'''
WORK = '''
import contextlib, io, json
from pathlib import Path

def zoo_command(*arguments):
    """What the command printed; it has to succeed."""
    from zoo.cli import run
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    assert code == 0, (arguments, code, out.getvalue(), err.getvalue())
    return out.getvalue()

def main(folder):
    import zoo
    from zoo.training.callbacks import Listener
    from zoo.training.trunk import batches, prepare

    class Stop(Listener):
        def epoch_ended(self, *arguments):
            self.count = getattr(self, "count", 0) + 1
            if self.count == 2:
                raise KeyboardInterrupt

    found = {}
    recipe, run, model = folder / "recipe.yaml", folder / "run", folder / "run" / "model.safetensors"
    found["listed"] = "timm/resnet50" in zoo_command("list")
    zoo_command("check", recipe)
    batches.memory_budget = lambda: 0  # features lie in mapped files then
    try:
        zoo.finetune(str(recipe), output=run, progress=Stop())
    except KeyboardInterrupt:
        found["interrupted"] = sorted(path.suffix for path in (run / "state").iterdir())
    report = json.loads(zoo_command("finetune", recipe, "--output", run, "--resume", "--json"))
    found["trained"] = [stage["action"] for stage in report["stages"]]
    found["cached"] = {path.name for path in Path(os.environ["ZOO_CACHE"]).glob("features/*/*")} >= {
        "features-00000.safetensors", "manifest.json"}
    found["partial"] = len(list(Path(os.environ["ZOO_CACHE"]).glob("features/.partial*")))
    zoo_command("convert", model, folder / "renamed.safetensors", "--remap", "conv1=stem")
    zoo_command("convert", model, folder / "half.safetensors", "--dtype", "float16")
    tensors = [zoo.inspect(folder / f"{name}.safetensors")["tensors"] for name in ("renamed", "half")]
    found["renamed"] = any(tensor["name"].startswith("stem") for tensor in tensors[0])
    found["dtypes"] = sorted({tensor["dtype"] for tensor in tensors[1]})
    found["measured"] = sorted(json.loads(zoo_command("evaluate", model, "--json"))["metrics"])
    found["predicted"] = json.loads(zoo_command("predict", model, folder / "digit.png", "--json"))["read"]
    found["refused"] = sorted(
        name for name in map(os.path.basename, refused) if not name.endswith(".lock")  # filelock's own affair
    )
    found["left"] = sorted(path.name for path in folder.rglob("*") if path.name.endswith((".tmp", ".part")))
    print(json.dumps(found))

if __name__ == "__main__":
    main(Path(sys.argv[1]))
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    Image.fromarray(load_digits().images[0].astype("uint8") * 15).resize((32, 32)).save(tmp_path / "digit.png")
    return tmp_path


def carried_out(folder, *parts):
    """The document that the work prints, with the parts in front of it."""
    script = folder / "work.py"
    script.write_text("".join([*parts, WORK]), encoding="utf-8")
    environment = {**os.environ, "ZOO_CACHE": str(folder / "cache"), "HOME": str(folder), "ZOO_TRACEBACK": "1"}
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is taken away")
def test_everything_works_without_posix(folder):
    found = carried_out(folder, WITHOUT_POSIX, AS_WINDOWS_DOES)
    used = found.pop("refused")  # a resumed run uses its state to the end; the files stay until the next run
    assert all(name.startswith(("base-", "step-")) for name in used), used
    assert found == {
        "listed": True,
        "interrupted": [".json", ".json", ".jsonl", ".safetensors", ".safetensors", ".safetensors"],
        "trained": ["train"],
        "cached": True,
        "partial": 0,
        "renamed": True,
        "dtypes": ["F16", "I64"],
        "measured": ["accuracy", "loss"],
        "predicted": 1,
        "left": [],
    }


@pytest.mark.slow
def test_workers_that_are_not_forked(folder):
    """Windows and macOS start them afresh: everything a worker gets has to be pickled."""
    data = {**RECIPE["data"], "workers": 1, "augmentation": "crop_flip"}
    steps = [*RECIPE["steps"][:2], {"train": {"epochs": 1, "feature_cache": "off"}}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "data": data, "steps": steps}))
    script = folder / "work.py"
    script.write_text(
        f"{WITHOUT_POSIX}\nif __name__ == '__main__':\n    import torch, zoo\n"
        "    torch.multiprocessing.set_start_method('spawn')\n"
        "    print(zoo.finetune(sys.argv[1] + '/recipe.yaml', output=sys.argv[1] + '/run').metrics)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "accuracy" in done.stdout


TEXT = {"read_text", "write_text"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_is_read_and_written_as_utf8(path):
    """What the system's encoding is, is nobody's business but the terminal's."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg for keyword in node.keywords}
        arguments = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        if name in TEXT and isinstance(node.func, ast.Attribute) and "metadata" not in arguments:
            of_a_distribution = {"entry_points.txt", "METADATA", "PKG-INFO"} & set(arguments)
            named = "encoding" in given or "utf-8" in arguments or of_a_distribution
            assert named, f"{path}:{node.lineno}: {name} without an encoding"
        if name == "open" and isinstance(node.func, ast.Name):
            binary = any("b" in str(argument) for argument in arguments)
            assert binary or "encoding" in given, f"{path}:{node.lineno}: open without an encoding"
