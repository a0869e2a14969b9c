"""The registry: found by metadata alone, named without doubt, and no plugin breaks another."""

import importlib.metadata
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest

from zoo import plugin_process, registry
from zoo.errors import InputError
from zoo.installed import OWN

ROOT = Path(__file__).parent.parent

SOURCE = """
class Source:
    def names(self):
        return {names}
    def build(self, name, **arguments):
        return name, arguments
source = Source()
"""


def source(names):
    return SOURCE.format(names=names)


class TestFinding:
    def test_nothing_is_imported(self, plugins):
        plugins.write("zoo-acme", "[zoo.surgeries]\nsharpen = acme_never:sharpen", acme_never="raise SystemExit(3)")
        row = plugins.row("acme/sharpen")
        assert (row.kind, row.plugin, row.distribution, row.version) == ("surgeries", "acme", "zoo-acme", "1.0")
        assert row.target == "acme_never:sharpen"
        assert row.status == "ok"
        assert "acme_never" not in sys.modules

    def test_every_kind_has_a_group(self, plugins):
        text = "\n".join(f"[zoo.{kind}]\nthing = acme_kinds:thing" for kind in registry.KINDS)
        plugins.write("zoo-acme", text, acme_kinds="def thing(): ...")
        assert [row.kind for row in registry.components() if row.name == "acme/thing"] == sorted(registry.KINDS)

    def test_a_plugins_name_is_its_distributions_without_zoo(self):
        assert registry.plugin_name("zoo-acme") == "acme"
        assert registry.plugin_name("Zoo_Acme.Extra") == "acme-extra"
        assert registry.plugin_name("acme") == "acme"

    def test_the_cores_own_name_is_zoo(self):
        assert registry.plugin_name("zoo-kit") == registry.plugin_name("Zoo_Kit") == "zoo"
        own = registry.resolve("zoo/swap_head", "surgeries")
        assert registry.resolve("kit/swap_head", "surgeries") == own  # as recipes and checkpoints called it
        assert "kit/swap_head" not in registry.names("surgeries")

    def test_other_packages_groups_are_not_ours(self, plugins):
        plugins.write("acme", "[console_scripts]\nacme = acme:main\n[zoology]\nx = y:z")
        assert not [row for row in registry.entries() if row.distribution == "acme"]

    def test_comments_and_blank_lines_are_no_entries(self, plugins):
        plugins.write("zoo-acme", "[zoo.remaps]\n\n# none yet\n; nor here\none = acme_m:one\n", acme_m="")
        assert [row.name for row in registry.entries() if row.plugin == "acme"] == ["acme/one"]

    def test_zoos_own_components_use_the_same_door(self):
        assert "zoo/swap_head" in registry.names("surgeries")
        assert "zoo/all_but_head" in registry.names("freezing")
        assert "zoo/image_folder" in registry.names("datasets")

    def test_entries_agree_with_the_standard_library(self):
        theirs = {
            (kind, point.name, point.value)
            for kind in registry.KINDS
            for point in importlib.metadata.entry_points(group=f"zoo.{kind}")
        }
        ours = {(row.kind, row.name, row.target) for row in registry.entries()}
        assert {(kind, name.rpartition("/")[2], target) for kind, name, target in ours} == theirs


class TestSources:
    def test_a_source_is_opened_into_its_architectures(self, plugins):
        plugins.write("zoo-acme", "[zoo.architectures]\nacme = acme_s:source", acme_s=source("['b', 'a', 'b']"))
        assert [row.name for row in registry.components("architectures") if row.plugin == "acme"] == [
            "acme/a",
            "acme/b",
        ]
        assert registry.load("acme/a", "architectures")(depth=3) == ("a", {"depth": 3})

    def test_the_entrys_name_is_the_namespace(self, plugins):
        plugins.write("zoo-acme", "[zoo.architectures]\nnets = acme_s:source", acme_s=source("['a']"))
        assert plugins.row("nets/a").plugin == "acme"

    def test_a_function_is_an_architecture_and_not_imported_to_be_listed(self, plugins):
        text = "raise ImportError('not to be imported')\ndef net(width: int = 3):\n    return width"
        plugins.write("zoo-acme", "[zoo.architectures]\nnet = acme_f:net", acme_f=text)
        assert plugins.row("acme/net").status == "ok"
        assert "acme_f" not in sys.modules

    def test_a_function_named_like_its_plugin_keeps_its_namespace(self, plugins):
        plugins.write("zoo-acme", "[zoo.architectures]\nacme = acme_f:net", acme_f="def net(): ...")
        assert plugins.row("acme/acme").status == "ok"

    def test_a_callable_that_only_an_import_can_tell_is_listed_too(self, plugins):
        plugins.write("zoo-acme", "[zoo.architectures]\nnet = acme_p:net", acme_p="net = dict")
        assert registry.load("acme/net", "architectures")(width=4) == {"width": 4}

    @pytest.mark.usefixtures("command")
    def test_a_sources_prints_stay_out_of_standard_output(self, plugins, capfd):
        text = "print('hello from import')" + source("print('hello from names') or ['a']")
        plugins.write("zoo-acme", "[zoo.architectures]\nacme = acme_loud:source", acme_loud=text)
        assert plugins.row("acme/a").status == "ok"
        captured = capfd.readouterr()
        assert captured.out == ""
        assert "hello from import\nhello from names\n" in captured.err


class TestNaming:
    @pytest.fixture
    def twins(self, plugins):
        plugins.write("zoo-acme", "[zoo.remaps]\nshared = acme_t:f\nonly = acme_t:f", acme_t="def f(): return 'acme'")
        plugins.write("zoo-bell", "[zoo.remaps]\nshared = bell_t:f", bell_t="def f(): return 'bell'", version="2.5")
        return plugins

    def test_a_full_name_finds_its_component(self, twins):
        assert registry.load("acme/shared", "remaps")() == "acme"
        assert registry.load("bell/shared", "remaps")() == "bell"

    def test_a_bare_name_works_while_it_is_unique(self, twins):
        assert registry.resolve("only", "remaps").name == "acme/only"

    def test_an_ambiguous_name_lists_the_candidates(self, twins):
        with pytest.raises(InputError) as caught:
            registry.resolve("shared", "remaps")
        assert str(caught.value) == (
            "'shared' is ambiguous: acme/shared (remaps, zoo-acme 1.0), bell/shared (remaps, zoo-bell 2.5) "
            "(write the full name)"
        )

    def test_what_a_name_may_mean(self, twins):
        assert [row.name for row in registry.named("shared", "remaps")] == ["acme/shared", "bell/shared"]
        assert [row.name for row in registry.named("bell/shared", "remaps")] == ["bell/shared"]
        assert registry.find("nothing", "remaps") is None
        with pytest.raises(InputError, match="ambiguous"):
            registry.find("shared", "remaps")
        written = registry.short_names("remaps")
        assert {"only", "acme/shared", "bell/shared"} < set(written), "in short while that is unique"
        assert "shared" not in written
        assert "acme/only" in registry.short_names("remaps", full=True)
        assert "sklearn/digits" in registry.short_names("datasets"), "a dataset keeps its namespace"

    def test_a_broken_component_is_found_and_says_why(self, plugins):
        plugins.write("zoo-acme", "[zoo.remaps]\nx = acme_gone:f")
        assert len(registry.named("x", "remaps")) == 1
        with pytest.raises(InputError, match="acme/x is broken"):
            registry.find("x", "remaps")

    def test_a_misspelling_is_answered_with_the_nearest_names(self):
        with pytest.raises(InputError, match=r"did you mean zoo/swap_head\?"):
            registry.resolve("swaphead", "surgeries")
        with pytest.raises(InputError, match=r"did you mean .*timm/resnet50"):
            registry.resolve("timm/resnet5O", "architectures")

    def test_a_name_nothing_is_near_to_points_to_the_list(self):
        with pytest.raises(InputError, match="see: zoo list --kind remaps"):
            registry.resolve("qqqqqq", "remaps")

    def test_a_name_in_two_kinds_needs_the_kind(self, plugins):
        plugins.write("zoo-acme", "[zoo.remaps]\nx = acme_k:f\n[zoo.modules]\nx = acme_k:f", acme_k="def f(): ...")
        assert registry.resolve("acme/x", "modules").kind == "modules"
        with pytest.raises(InputError, match="say which kind"):
            registry.resolve("acme/x", None)

    def test_the_same_name_twice_is_listed_twice_and_refused(self, plugins):
        plugins.write("zoo-acme", "[zoo.remaps]\nx = acme_a:f\nx = acme_a:g", acme_a="def f(): ...\ndef g(): ...")
        assert [row.target for row in registry.components("remaps") if row.name == "acme/x"] == ["acme_a:f", "acme_a:g"]
        with pytest.raises(InputError, match="ambiguous"):
            registry.resolve("acme/x", "remaps")

    def test_two_distributions_of_one_plugin_name_are_listed_both(self, plugins):
        plugins.write("zoo-acme", "[zoo.remaps]\nx = acme_a:f", acme_a="def f(): ...")
        plugins.write("acme", "[zoo.remaps]\nx = acme_b:f", acme_b="def f(): ...")
        assert sorted(r.distribution for r in registry.entries() if r.name == "acme/x") == ["acme", "zoo-acme"]
        with pytest.raises(InputError, match="uninstall one"):
            registry.resolve("acme/x", "remaps")

    def test_a_distribution_seen_twice_on_the_path_counts_once(self, plugins, tmp_path, monkeypatch):
        plugins.write("zoo-acme", "[zoo.remaps]\nx = acme_new:f", acme_new="def f(): ...", version="2.0")
        monkeypatch.syspath_prepend(tmp_path / "site")
        plugins.write("zoo-acme", "[zoo.remaps]\nx = acme_old:f", folder=tmp_path / "behind", acme_old="")
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "behind")])
        registry.refresh()
        assert plugins.row("acme/x").version == "2.0"


BROKEN = {
    "import error": ("acme = acme_b:source", "import not_there_at_all", "No module named 'not_there_at_all'"),
    "missing module": ("acme = acme_nowhere:source", "", "No module named 'acme_nowhere'"),
    "missing attribute": ("acme = acme_b:source", "other = 1", "no attribute 'source'"),
    "syntax error": ("acme = acme_b:source", "def (", "SyntaxError"),
    "exits at import": ("acme = acme_b:source", "raise SystemExit(3)", "SystemExit: 3"),
    "exits in names": ("acme = acme_b:source", source("exit('bye')"), "SystemExit: bye"),
    "interrupts itself": ("acme = acme_b:source", "raise KeyboardInterrupt", "KeyboardInterrupt"),
    "own base exception": ("acme = acme_b:source", "class E(BaseException): ...\nraise E('odd')", "E: odd"),
    "not a callable": ("acme = acme_b:source", "source = 3", "is int, which nobody can call"),
    "no build": ("acme = acme_b:source", "import types\nsource = types.SimpleNamespace(names=list)", "nobody can call"),
    "build is no function": (
        "acme = acme_b:source",
        source("[]") + "\nSource.build = 3",
        "needs build(name, **arguments)",
    ),
    "names is no list": ("acme = acme_b:source", source("None"), "'NoneType' object is not iterable"),
    "names is text": ("acme = acme_b:source", source("'resnet'"), "names() gave 'resnet', which is not a name"),
    "names of numbers": ("acme = acme_b:source", source("['a', 3]"), "names() gave 3, which is not a name"),
    "names with lines": ("acme = acme_b:source", source("['a\\nb']"), "which is not a name"),
    "names raises": ("acme = acme_b:source", source("1 / 0"), "ZeroDivisionError"),
    "endless names": ("acme = acme_b:source", source("map(str, __import__('itertools').count())"), "more than 50000"),
    "recursion": ("acme = acme_b:source", source("self.names()"), "RecursionError"),
    "malformed line": ("acme = what is this", "", "not of the form"),
    "no target": ("acme", "", "not of the form"),
}


class TestOwnership:
    def test_a_bare_name_of_zoos_own_is_zoos_whatever_is_installed(self, plugins):
        plugins.write("zoo-acme", "[zoo.surgeries]\nswap_head = acme_s:f", acme_s="def f(): ...")
        assert registry.resolve("swap_head", "surgeries").name == "zoo/swap_head"
        assert registry.resolve("acme/swap_head", "surgeries").distribution == "zoo-acme"
        written = registry.short_names("surgeries")
        assert "swap_head" in written
        assert "acme/swap_head" in written

    def test_a_broken_namespace_is_the_plugins_trouble(self, plugins):
        plugins.write("zoo-acme", "[zoo.surgeries]\ncut = acme_gone:f")
        assert "acme/cut is broken" in str(registry.why_absent("acme/other", "surgeries"))
        assert registry.why_absent("acme/other", "datasets") is None
        assert registry.why_absent("bell/other", None) is None

    def test_zoos_own_are_those_of_its_repository(self):
        projects = [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]
        assert {tomllib.loads(path.read_text())["project"]["name"] for path in projects} <= OWN

    def test_a_plugin_that_is_switched_off_supplies_nothing(self, plugins, monkeypatch):
        plugins.write("zoo-acme", "[zoo.surgeries]\ncut = acme_s:f", acme_s="def f(): ...")
        monkeypatch.setenv("ZOO_PLUGINS", "-acme")
        registry.refresh()
        assert "acme/cut" not in registry.names("surgeries")
        assert registry.switched_off() == {"acme": "switched off by ZOO_PLUGINS=-acme"}
        with pytest.raises(InputError, match="the plugin acme is switched off by ZOO_PLUGINS=-acme"):
            registry.resolve("acme/cut", "surgeries")


@pytest.mark.usefixtures("command")
class TestBrokenPlugins:
    @pytest.mark.parametrize("case", BROKEN)
    def test_is_a_row_with_its_cause_and_everything_else_works(self, plugins, case):
        entry, module, cause = BROKEN[case]
        plugins.write("zoo-acme", f"[zoo.architectures]\n{entry}", acme_b=module)
        row = plugins.row("acme")
        assert row.status == "broken"
        assert cause in row.cause
        assert "\n" not in row.cause
        assert (row.distribution, row.version) == ("zoo-acme", "1.0")
        assert "timm/resnet50" in registry.names("architectures")
        with pytest.raises(InputError) as caught:
            registry.load("acme/anything", "architectures")
        assert cause in str(caught.value)
        assert "zoo-acme 1.0" in str(caught.value)

    @pytest.mark.parametrize("case", ["import error", "exits at import", "interrupts itself", "own base exception"])
    def test_of_another_kind_says_so_when_it_is_named(self, plugins, case):
        _, module, cause = BROKEN[case]
        plugins.write("zoo-acme", "[zoo.surgeries]\ncut = acme_c:cut", acme_c=module)
        assert plugins.row("acme/cut").status == "ok"  # nothing is imported to find out
        (examined,) = registry.examine([plugins.row("acme/cut")])
        assert cause in examined.row.cause
        with pytest.raises(InputError) as caught:
            registry.load("cut", "surgeries")
        assert str(caught.value).startswith("acme/cut is broken: zoo-acme 1.0 (acme_c:cut): ")
        assert cause in str(caught.value)
        assert "pip uninstall zoo-acme" in str(caught.value)

    def test_a_kind_that_does_not_exist(self, plugins):
        plugins.write("zoo-acme", "[zoo.surgery]\ncut = acme_k:cut", acme_k="def cut(): ...")
        row = plugins.row("acme/cut")
        assert row.status == "broken"
        assert "did you mean surgeries?" in row.cause

    def test_an_unclosed_header(self, plugins):
        plugins.write("zoo-acme", "[zoo.remaps\nx = acme_u:f", acme_u="")
        assert plugins.row("acme/x").kind == "remaps"

    def test_entry_points_that_are_no_text(self, plugins):
        plugins.write("zoo-acme", "")
        next(plugins.folder.glob("*.dist-info/entry_points.txt")).write_bytes(b"[zoo.remaps]\nx = \xff\xfe:f")
        registry.refresh()
        assert "timm/resnet50" in registry.names("architectures")

    def test_metadata_that_is_missing(self, plugins):
        plugins.write("zoo-acme", "[zoo.remaps]\nx = acme_u:f", acme_u="")
        next(plugins.folder.glob("*.dist-info/METADATA")).write_text("")
        registry.refresh()
        assert [row.version for row in registry.entries() if row.target == "acme_u:f"] == ["unknown"]

    def test_an_unknown_name_tells_of_plugins_that_are_broken(self, plugins):
        plugins.write("zoo-acme", "[zoo.architectures]\nacme = acme_b:source", acme_b="raise ImportError")
        with pytest.raises(InputError, match="broken plugins: acme, see: zoo doctor"):
            registry.resolve("resnet_of_acme", "architectures")


class TestPluginsInALibraryCall:
    """Where zoo does not own the process: everything is a sentence still, and nothing of the process is touched."""

    @pytest.mark.parametrize("case", ["import error", "interrupts itself", "names raises", "malformed line"])
    def test_is_a_row_with_its_cause(self, plugins, case):
        entry, module, cause = BROKEN[case]
        plugins.write("zoo-acme", f"[zoo.architectures]\n{entry}", acme_b=module)
        assert cause in plugins.row("acme").cause

    def test_an_interrupt_passes_through(self, plugins):
        plugins.write("zoo-acme", "[zoo.surgeries]\ncut = acme_b:cut", acme_b="raise KeyboardInterrupt")
        with pytest.raises(KeyboardInterrupt):
            registry.load("cut", "surgeries")

    def test_prints_go_where_the_caller_has_them(self, plugins, capsys):
        plugins.write("zoo-acme", "[zoo.surgeries]\ncut = acme_p:cut", acme_p="print('hello')\ndef cut(): ...")
        registry.load("cut", "surgeries")
        assert capsys.readouterr() == ("hello\n", "")


@pytest.mark.usefixtures("command")
class TestSlowPlugins:
    def test_an_import_that_never_ends(self, plugins, monkeypatch):
        monkeypatch.setitem(plugin_process.SECONDS, plugin_process.NAMES, 0.3)
        text = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except Exception:\n        pass"
        plugins.write("zoo-acme", "[zoo.architectures]\nacme = acme_slow:source", acme_slow=text)
        began = time.monotonic()
        assert "took more than 0.3 s" in plugins.row("acme").cause
        assert time.monotonic() - began < 5

    def test_outside_the_main_thread_nothing_differs(self, plugins):
        plugins.write("zoo-acme", "[zoo.architectures]\nacme = acme_s:source", acme_s=source("['a']"))
        found = []
        thread = threading.Thread(target=lambda: found.extend(registry.names("architectures")))
        thread.start()
        thread.join()
        assert "acme/a" in found

    def test_a_real_ctrl_c_stops_zoo(self, plugins):
        text = "import time\nprint('waiting', flush=True)\ntime.sleep(60)"
        plugins.write("zoo-acme", "[zoo.architectures]\nacme = acme_slow:source", acme_slow=text)
        environment = {**os.environ, "PYTHONPATH": str(plugins.folder)}
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", "list"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stderr.readline() == b"waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert errors.strip() == b"interrupted"
