"""`zoo new plugin`: a complete package with one component of each kind asked for, written from templates.

A kind is one file in `templates/kinds`, its parts divided by lines `# --- tests` and `# --- recipe`, and one line in
`EXAMPLES`.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import string
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo.errors import InputError, WorkError, did_you_mean
from zoo.installed import all_entries
from zoo.registry import CORE, KINDS, plugin_name

TEMPLATES = Path(__file__).parent / "templates"
# kind -> the entry point's name, and the attribute it names
EXAMPLES = {
    "architectures": ("two_layers", "two_layers"),
    "surgeries": ("cosine_head", "cosine_head"),
    "freezing": ("first_modules", "first_modules"),
    "modules": ("LayerScale", "LayerScale"),
    "datasets": ("stripes", "stripes"),
    "weights": ("digits", "digits"),
    "remaps": ("their_names", "their_names"),
    "initializers": ("scaled_normal", "scaled_normal"),
    "steps": ("clip", "Clip"),
    "transforms": ("cutout", "cutout"),
    "losses": ("squared_margin", "squared_margin"),
    "metrics": ("within", "within"),
    "optimizers": ("SignSGD", "SignSGD"),
    "schedulers": ("warm_root", "warm_root"),
    "callbacks": ("Patience", "Patience"),
    "trackers": ("Lines", "Lines"),
}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PARTS = re.compile(r"^# --- (tests|recipe)\n", re.M)


def parts_of(kind: str, plugin: str) -> tuple[str, str, str]:
    """A kind's example for the plugin called `plugin`: its module, its tests, and a step of a recipe (or nothing)."""
    text = (TEMPLATES / f"kinds/{kind}.txt").read_text(encoding="utf-8")
    module, _, tests, _, recipe = _PARTS.split(text)
    filled = [string.Template(part).substitute(plugin=plugin) for part in (module, tests, recipe)]
    return filled[0], filled[1], filled[2]


def entry_points(kinds: Iterable[str], package: str) -> str:
    """The entry points' tables of a `pyproject.toml`."""
    lines = []
    for kind in kinds:
        name, attribute = EXAMPLES[kind]
        lines.append(f'[project.entry-points."zoo.{kind}"]\n{name} = "{package}.{kind}:{attribute}"\n')
    return "\n".join(lines)


def write_plugin(name: str, kinds: Sequence[str], folder: str | os.PathLike[str] | None = None) -> Path:
    """Write the package of a plugin into `folder` (`zoo-NAME` in the current directory), completely or not at all.

    `name` is the plugin's, with or without `zoo-` in front. Raises InputError where the folder is there already, the
    name cannot be a plugin's, or another one that is installed has it.
    """
    distribution = distribution_name(name)
    target = Path(folder) if folder is not None else Path(distribution)
    if target.exists():
        raise InputError(f"{target} is there already: nothing is overwritten", suggestion="another folder: --output")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{distribution}-", dir=target.parent))
    except OSError as error:
        raise InputError(f"cannot write into the folder {target.parent}: {error.strerror}") from error
    try:
        for path, text in files_of(distribution, kinds).items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(text, encoding="utf-8")
        made.chmod(0o755)
        made.rename(target)
    except BaseException as error:
        shutil.rmtree(made, ignore_errors=True)
        if isinstance(error, OSError):
            message = f"{target} was not written: {error.strerror}"
            raise WorkError(message, suggestion="nothing was left behind") from error
        raise
    return target


def distribution_name(name: str) -> str:
    """`zoo-acme` for `acme`, `zoo-acme` or `Zoo_Acme`. Raises InputError for what cannot be the name of a plugin."""
    distribution = f"zoo-{re.sub(r'[-_. ]+', '-', name).lower().removeprefix('zoo-')}"
    if not _NAME.fullmatch(distribution.removeprefix("zoo-")):
        raise InputError(f"{name!r} cannot name a plugin", suggestion="letters, digits and hyphens, as in acme")
    plugin = plugin_name(distribution)
    if distribution == CORE or plugin == "zoo":
        raise InputError(f"{name!r} is zoo's own name", suggestion="name the plugin another way")
    for row in all_entries():
        if row.plugin == plugin:
            message = f"a plugin {plugin} is installed already: {row.distribution} {row.version}"
            raise InputError(message, suggestion="name the plugin another way")
    return distribution


def files_of(distribution: str, kinds: Sequence[str]) -> dict[str, str]:
    """The text of every file by its path in the package's folder. Raises InputError for a kind that is none."""
    for kind in kinds:
        if kind not in EXAMPLES:
            hint = did_you_mean(kind, KINDS) or f"the kinds: {', '.join(KINDS)}"
            raise InputError(f"there is no kind {kind!r}", suggestion=hint)
    plugin, package = plugin_name(distribution), distribution.replace("-", "_")
    rows = [f"| `{plugin}/{EXAMPLES[kind][0]}` | {kind} | {_in_a_recipe(kind, plugin)} |" for kind in kinds]
    known = {
        "name": distribution,
        "plugin": plugin,
        "package": package,
        "description": f"A plugin of zoo: {', '.join(kinds)}",
        "rows": "\n".join(rows),
        "entry_points": entry_points(kinds, package),
        "year": str(datetime.date.today().year),
    }
    named = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        "LICENSE": "LICENSE",
        ".gitignore": "gitignore",
        ".github/workflows/tests.yml": "tests.yml",
    }
    files = {path: _template(f"{name}.txt", known) for path, name in named.items()}
    files |= {f"{package}/__init__.py": f'"""The plugin {plugin} of zoo."""\n', f"{package}/py.typed": ""}
    for kind in kinds:
        module, tests, _ = parts_of(kind, plugin)
        files |= {f"{package}/{kind}.py": module, f"tests/test_{kind}.py": tests}
    return files


def _template(name: str, known: dict[str, str]) -> str:
    return string.Template((TEMPLATES / name).read_text(encoding="utf-8")).substitute(known)


def _in_a_recipe(kind: str, plugin: str) -> str:
    recipe = parts_of(kind, plugin)[2].strip()
    written = {
        "architectures": "model: {}",
        "datasets": "data: {}",
        "weights": "model: {{architecture: …, weights: {}}}",
        "remaps": "remap: {}",
    }
    return f"`{recipe or written[kind].format(f'{plugin}/{EXAMPLES[kind][0]}')}`"
