"""What stands around the code agrees with itself: seven pyprojects, Makefile, workflow, hooks, licence."""

import re
import tomllib
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECTS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
SYSTEMS = {"ubuntu": "POSIX :: Linux", "macos": "MacOS", "windows": "Microsoft :: Windows"}
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/*.md"), *ROOT.glob("checkpoints/*.md")]
)
MAKEFILE = (ROOT / "Makefile").read_text()
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())


def read(project):
    return tomllib.loads((project / "pyproject.toml").read_text())


def metadata(project):
    return read(project)["project"]


def package(project):
    return "zoo" if project == ROOT else project.name.replace("-", "_")


def classified(project, prefix):
    """What a project's classifiers say after `prefix ::`."""
    texts = metadata(project)["classifiers"]
    return [text.removeprefix(f"{prefix} :: ") for text in texts if text.startswith(f"{prefix} :: ")]


def versions(project=ROOT):
    return [text for text in classified(project, "Programming Language :: Python") if re.fullmatch(r"\d\.\d+", text)]


def recipe(target):
    """The commands of a make target, as typed in an active environment."""
    body = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE).group(1)
    return [line.strip().replace("$(BIN)/", "") for line in body.splitlines()]


def test_ten_distributions():
    assert [metadata(project)["name"] for project in PROJECTS] == [
        "zoo-kit", "zoo-efficientnet-lite", "zoo-huggingface", "zoo-openclip", "zoo-peft", "zoo-sklearn",
        "zoo-tensorboard", "zoo-timm",
        "zoo-torchvision", "zoo-tutorial",
    ]  # fmt: skip


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name if path != ROOT else "zoo-kit")
def test_every_distribution_has_its_licence_types_and_classifiers(project):
    assert (project / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (project / package(project) / "py.typed").read_bytes() == b""
    (data,) = read(project)["tool"]["setuptools"]["package-data"].items()
    assert data[0] == package(project)
    assert "py.typed" in data[1]
    own, core = metadata(project), metadata(ROOT)
    for key in ("version", "license", "license-files", "authors", "requires-python"):
        assert own[key] == core[key], key
    assert set(core["classifiers"]) - set(own["classifiers"]) <= {"Environment :: Console"}
    assert set(own["classifiers"]) <= set(core["classifiers"])


def test_the_licence_is_the_one_declared():
    assert metadata(ROOT)["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text().split()[:4] == ["Apache", "License", "Version", "2.0,"]


def test_the_lowest_python_is_the_same_everywhere():
    lowest, tools = versions()[0], read(ROOT)["tool"]
    assert metadata(ROOT)["requires-python"] == f">={lowest}"
    assert tools["mypy"]["python_version"] == lowest
    assert tools["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"


def test_the_workflow_runs_where_the_classifiers_say():
    matrix = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == versions()
    names = [SYSTEMS[name.removesuffix("-latest")] for name in matrix["os"]]
    assert sorted(names) == sorted(classified(ROOT, "Operating System"))


def test_the_workflow_runs_what_make_runs():
    steps = [step["run"] for step in WORKFLOW["jobs"]["test"]["steps"] if "run" in step]
    plugins = "$(printf -- '-e %s ' plugins/*)"
    installing = [line.replace("$(PLUGINS)", plugins) for line in recipe(".venv/installed-for-tests")]
    testing = [line.replace("$(WORKERS)", "2") for line in recipe("test")]
    assert steps == [*[line for line in installing if line.startswith("python")], *testing]
    assert WORKFLOW["jobs"]["linux"]["steps"][-1]["run"] == "make ${{ matrix.target }}"
    for target in WORKFLOW["jobs"]["linux"]["strategy"]["matrix"]["target"]:
        assert recipe(target), target


def test_the_hooks_run_what_make_lint_runs():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == recipe("lint")
    assert {(hook["language"], hook["pass_filenames"]) for hook in local["hooks"]} == {("system", False)}


def test_the_makefiles_comment_names_its_targets():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE).group(1).split()
    assert re.findall(r"^# make (\S+) {3,}\S", MAKEFILE, re.MULTILINE) == phony
    for target in phony:
        assert recipe(target), target


def test_every_package_is_typed_and_measured():
    tools = read(ROOT)["tool"]
    packages = [package(project) for project in PROJECTS]
    assert tools["coverage"]["run"]["source_pkgs"] == packages
    assert [Path(path).name for path in tools["mypy"]["files"]] == packages


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_pages_name_targets_that_exist(page):
    named = set(re.findall(r"(?:^    |`|\()make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE))
    assert "test" in named
    for target in named:
        assert recipe(target), target


def anchors(page):
    """Where `page.md#…` can lead: its headings as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)", page.read_text()):
        if ":" in target:
            continue
        to = (page.parent / target).resolve() if target else page
        assert to.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(to), f"{page.name} links to {target}#{anchor}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text()
    missing = [
        page.name for page in ROOT.glob("docs/*.md") if f"({page.name}" not in index and page.name != "README.md"
    ]
    assert not missing


@pytest.fixture(scope="module")
def release_check():
    spec = spec_from_file_location("release_check", ROOT / ".ci/release_check.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"zoo_small/sub/deep.py": None}, "{} lacks zoo_small/sub/deep.py"),
        ({"zoo_small/py.typed": None}, "{} lacks zoo_small/py.typed"),
        ({"zoo_small-0.1.0.dist-info/licenses/LICENSE": None}, "{} lacks its LICENSE"),
        ({"tests/test_small.py": ""}, "{} holds tests/test_small.py"),
    ],
    ids=["whole", "a module", "py.typed", "licence", "tests"],
)
def test_a_wheel_that_lacks_a_file_is_found(release_check, tmp_path, change, problem):
    files = ["zoo_small/__init__.py", "zoo_small/sub/deep.py", "zoo_small/py.typed"]
    for name in (*files, "pyproject.toml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('[project]\nname = "zoo-small"\n' if name == "pyproject.toml" else "")
    wheel = tmp_path / "zoo_small-0.1.0-py3-none-any.whl"
    held = dict.fromkeys([*files, "zoo_small-0.1.0.dist-info/licenses/LICENSE"], "") | change
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in held.items():
            if text is not None:
                archive.writestr(name, text)
    assert release_check.compare(tmp_path, [wheel]) == ([problem.format(wheel.name)] if problem else [])
