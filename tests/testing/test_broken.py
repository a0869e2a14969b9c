"""Each test of each contract fails for a component that breaks the contract, and says what is wrong."""

import pytest

from zoo.testing import CONTRACTS, ArchitectureSourceContract

DATA = "from zoo.api import Data\nfrom PIL import Image\nimage = Image.new('RGB', (8, 8))\n"
NET = "import torch\nfrom torch import nn\n"
LINEAR = "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))"
STEP = "from zoo.api import Step\n"
UNDOCUMENTED = "def x(): return 1"
BARE = "def x(model, tensor=None, *, width=3): 'Cut.'"
WRITTEN = "from collections.abc import Callable\ndef x(model, *, function: Callable): 'Cut.'"

ANY = {
    "test_its_entry_point_resolves": ("raise ImportError('no such library')", "no such library"),
    "test_it_is_documented": (UNDOCUMENTED, "no docstring"),
    "test_its_parameters_are_annotated": ("def x(model, *, width=3): 'Cut.'", "annotate width"),
    "test_its_signature_is_a_schema": (
        "from collections.abc import Callable\ndef x(model, *, function: Callable): 'Cut.'",
        "no value in a recipe is what function is annotated with",
    ),
}
BROKEN = {
    ("surgeries", "test_the_model_still_answers"): (
        f"{NET}def x(model):\n    next(model.parameters()).data.fill_(float('nan'))\n    return model",
        "isfinite",
    ),
    ("surgeries", "test_it_runs_on_meta"): (
        f"{NET}def x(model):\n    wide = 3 if next(model.parameters()).is_meta else 5\n"
        "    model.extra = nn.Linear(wide, 1)\n    return model",
        "another structure",
    ),
    ("surgeries", "test_gradients_are_left_as_found"): (
        "def x(model):\n    model.stem.requires_grad_(False)\n    return model",
        "3 parameters do not train after it",
    ),
    ("surgeries", "test_its_record_is_plain_and_replays_to_the_same_structure"): (
        f"{NET}import itertools\ncount = itertools.count(1)\n"
        "def x(model):\n    model.extra = nn.Linear(1, next(count))\n    return model",
        "",
    ),
    ("surgeries", "test_a_checkpoint_gives_the_same_bits_in_a_fresh_process"): (
        f"{NET}class Scaled(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.scale = float(torch.rand(()))\n"
        "    def forward(self, x):\n        return x * self.scale\n"
        "def x(model):\n    model.dropout = Scaled()\n    return model",
        "not in the state dict",
    ),
    ("surgeries", "test_it_works_under_zoo_check"): ("def x(model): return 3", "returned int"),
    ("freezing", "test_it_names_what_exists_and_leaves_freezing_to_zoo"): (
        "def x(model):\n    model.requires_grad_(False)\n    return []",
        "it froze 21 parameters itself",
    ),
    ("freezing", "test_it_names_the_same_on_meta"): (
        "def x(model): return [] if next(model.parameters()).is_meta else ['stem']",
        "it names others",
    ),
    ("freezing", "test_what_it_names_does_not_move_and_the_rest_does"): (
        "def x(model):\n    model.blocks.register_forward_hook(lambda *given: given[-1].detach())\n"
        "    return ['classifier']",
        "nothing that it leaves to train gets a gradient",
    ),
    ("freezing", "test_it_works_under_zoo_check"): ("def x(model): return ['no.such.layer']", "no.such.layer"),
    ("modules", "test_it_builds_and_runs"): ("def x(): return 3", "isinstance"),
    ("modules", "test_it_runs_on_meta"): (
        f"{NET}def x():\n    module = nn.Linear(4, 3)\n    module.table = nn.Parameter(torch.zeros(3, device='cpu'))\n"
        "    return module",
        "a device of its own",
    ),
    ("modules", "test_its_state_is_all_in_the_state_dict"): (
        f"{NET}class x(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.w = torch.rand(4)\n"
        "    def forward(self, x):\n        return x * self.w",
        "gives other outputs",
    ),
    ("modules", "test_it_works_under_zoo_check"): (f"{NET}def x(): return nn.Linear(4, 3)", "4"),
    ("initializers", "test_it_fills_in_place"): ("def x(tensor): return tensor + 1", "another tensor"),
    ("initializers", "test_the_same_seed_gives_the_same"): (
        "import random\ndef x(tensor): tensor.fill_(random.random())",
        "torch's generator",
    ),
    ("initializers", "test_it_works_under_zoo_check"): ("def x(tensor, gain): tensor.fill_(gain)", "gain"),
    ("datasets", "test_samples_are_what_zoo_reads"): (
        f"{DATA}def x(): return Data([(image, 2)], classes=('a', 'b'))",
        "the target 2 is the index of no class",
    ),
    ("datasets", "test_it_opens_alike_twice"): (
        f"{DATA}import itertools\ncount = itertools.count()\ndef x(): return Data([(image, next(count))])",
        "another target",
    ),
    ("datasets", "test_listed_targets_are_those_of_the_samples"): (
        f"{DATA}class Listed(list):\n    targets = [1, 0]\ndef x(): return Data(Listed([(image, 0), (image, 1)]))",
        r"targets\[0\]",
    ),
    ("datasets", "test_worker_processes_can_have_it"): (
        f"{DATA}class Open(list):\n    def __reduce_ex__(self, protocol):\n        raise TypeError('a file is open')\n"
        "def x(): return Data(Open([(image, 0)]))",
        "a file is open",
    ),
    ("datasets", "test_class_names_are_distinct"): (f"{DATA}def x(): return Data([], classes=('a', 'a'))", ""),
    ("datasets", "test_it_works_under_zoo_check"): (f"{DATA}def x(): return Data([(image, 'cat')] * 4)", "'cat'"),
    ("weights", "test_it_says_what_they_are"): (
        "from zoo.api import Weights\ndef x(): return Weights('/no/such/file', 'zoo/small_cnn')",
        "",
    ),
    ("weights", "test_a_file_has_the_digest_it_should"): (
        "from zoo.api import Weights\ndef x(): return Weights(__file__, 'zoo/small_cnn', sha256='0' * 64)",
        "",
    ),
    ("weights", "test_it_comes_without_torch"): ("import torch\ndef x(): ...", "import it inside"),
    ("weights", "test_it_works_under_zoo_check"): (
        "from zoo.api import Weights\ndef x(): return Weights(__file__, 'zoo/small_cnn')",
        "acme_contract.py",
    ),
    ("remaps", "test_its_rules_are_understood"): ("def x(): return [{'renam': 1}]", "renam"),
    ("remaps", "test_it_comes_without_torch"): ("import torch\ndef x(): ...", "import it inside"),
    ("remaps", "test_it_works_under_zoo_check"): ("def x(): return [{'renam': 1}]", "renam"),
    ("remaps", "test_it_leads_to_the_target"): ("def x(): return [{'rename': {'^a$': 'c'}}]", "assert"),
    ("remaps", "test_it_leads_back_where_it_says_so"): ("def x(): return [{'drop': 'a'}]", "cannot run backwards"),
    ("architectures", "test_it_builds_without_memory_and_twice_alike"): (
        f"{NET}import itertools\ncount = itertools.count(1)\ndef x(): return nn.Linear(1, next(count))",
        "another network each time",
    ),
    ("architectures", "test_it_gives_a_prediction_for_each_image"): (
        f"{NET}class Pooled(nn.Module):\n    def forward(self, x):\n        return x.mean((0, 2, 3), keepdim=True)\n"
        "def x(): return nn.Sequential(nn.Conv2d(3, 2, 1), Pooled())",
        "two images give",
    ),
    ("architectures", "test_a_checkpoint_gives_the_same_bits_in_a_fresh_process"): (
        f"{NET}class Scaled(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.scale = float(torch.rand(()))\n        self.bias = nn.Parameter(torch.zeros(3))\n"
        "    def forward(self, x):\n        return x.mean((2, 3)) * self.scale + self.bias\ndef x(): return Scaled()",
        "not in the state dict",
    ),
    ("architectures", "test_it_works_under_zoo_check"): (
        f"{NET}def x(): return nn.Sequential(nn.Flatten(), nn.Linear(7, 2))",
        "does not go through|Linear",
    ),
    ("steps", "test_its_parameters_are_annotated"): ("def x(): 'No step.'", "does not derive from zoo.api.Step"),
    ("steps", "test_its_signature_is_a_schema"): (
        f"{STEP}class x(Step):\n    'S.'\n    limit: int\n    def run(self, run): ...",
        "limit",
    ),
    ("steps", "test_it_works_under_zoo_check"): (
        f"{STEP}class x(Step):\n    'S.'\n    def check(self, rehearsal): 1 / 0\n    def run(self, run): ...",
        "ZeroDivisionError",
    ),
    ("losses", "test_it_works_under_zoo_check"): ("def x(outputs, targets): return 1 / 0", "ZeroDivisionError"),
    ("losses", "test_its_parameters_are_annotated"): ("def x(outputs, targets, *, margin=1.0): ...", "annotate margin"),
    ("callbacks", "test_it_trains"): (
        "from zoo.api import Callback\nclass x(Callback):\n    'C.'\n    def step_ended(self, training): 1 / 0",
        "ZeroDivisionError",
    ),
    ("steps", "test_it_runs_and_is_reported"): (
        f"{STEP}class x(Step):\n    'S.'\n    def run(self, run): 1 / 0",
        "Zero",
    ),
}
ATTRIBUTES = {
    ("modules", "test_its_state_is_all_in_the_state_dict"): {"input_shape": (2, 4)},
    ("modules", "test_it_works_under_zoo_check"): {
        "step": {"replace_module": {"path": "classifier", "module": "acme/x"}}
    },
    ("remaps", "test_it_leads_to_the_target"): {"shapes": {"a": (1,)}, "target": {"b": (1,)}},
    ("remaps", "test_it_leads_back_where_it_says_so"): {"inverts": True, "target": {"b": (1,)}},
}
SOURCE = """
class Source:
    def names(self):
        return ["net"]
    def build(self, name):
        from torch import nn
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    def tags(self, name):
        return ["one"]
    def weights(self, name, tag):
        from zoo.api import Weights
        return Weights("hf://a/b", "acme/net") if tag == "one" else 1 / 0
    def preprocessing(self, name, tag):
        from zoo.api import Preprocessing
        return Preprocessing((8, 8))
source = Source()
"""
# what is put in the place of what in a source that keeps the contract, and which test then fails
SOURCES = {
    "test_names_come_without_torch": ("\nclass Source", "import torch\nclass Source", "imports torch"),
    "test_the_sample_is_among_the_names": ('["net"]', '["other"]', ""),
    "test_each_builds_without_memory_and_twice_alike": (
        "return nn.Sequential(",
        "self.widths = [*getattr(self, 'widths', [1]), 1]\n"
        "        return nn.Sequential(nn.Conv2d(3, 3, len(self.widths)), ",
        "another network",
    ),
    "test_each_gives_a_prediction_for_each_image": ("nn.Flatten()", "nn.Flatten(0)", "Linear|shape|mat"),
    "test_each_works_under_zoo_check": ("nn.Linear(3, 2)", "nn.Linear(5, 2)", "Linear"),
    "test_a_checkpoint_gives_the_same_bits_in_a_fresh_process": (
        "return nn.Sequential(",
        "import torch\n        class Noise(nn.Module):\n            scale = float(torch.rand(()))\n"
        "            def forward(self, x):\n                return x * self.scale\n"
        "        return nn.Sequential(Noise(), ",
        "not in the state dict",
    ),
    "test_preprocessing_is_said": ("Preprocessing((8, 8))", "Preprocessing((0, 8))", ""),
    "test_every_tag_has_weights_of_that_architecture": ('"acme/net")', '"acme/other")', ""),
    "test_an_unknown_tag_is_an_error_for_people": (' if tag == "one" else 1 / 0', "", "DID NOT RAISE"),
}


@pytest.mark.parametrize(("kind", "test"), BROKEN, ids=[" ".join(case) for case in BROKEN])
def test_it_fails_where_it_is_broken(fails, kind, test):
    module, said = BROKEN[kind, test]
    fails(CONTRACTS[kind], kind, module, test, said, **ATTRIBUTES.get((kind, test), {}))


@pytest.mark.parametrize("test", ANY)
def test_what_all_contracts_check_fails_where_it_is_broken(fails, test):
    fails(CONTRACTS["surgeries"], "surgeries", ANY[test][0], test, ANY[test][1])


@pytest.fixture
def source(plugins):
    """The contract's checks of a source made of a text."""

    def make(text, test):
        if "without_torch" in test:
            (plugins.folder / "torch.py").write_text("")  # another Python imports it in no time
        plugins.write("zoo-acme", "[zoo.architectures]\nacme = acme_source:source", acme_source=text)
        return type("Checked", (ArchitectureSourceContract,), {"namespace": "acme", "sample": ("net",)})()

    return make


def run(checked, test, tmp_path):
    method = getattr(checked, test)
    method(*([tmp_path] if "fresh_process" in test else []))


@pytest.mark.parametrize("test", SOURCES)
def test_it_fails_for_a_broken_source(source, test, tmp_path):
    sound, broken, said = SOURCES[test]
    assert sound in SOURCE
    with pytest.raises(BaseException, match=said or None) as caught:  # pytest.fail is one
        run(source(SOURCE.replace(sound, broken), test), test, tmp_path)
    assert not isinstance(caught.value, KeyboardInterrupt)


@pytest.mark.parametrize("test", SOURCES)
def test_it_holds_for_a_sound_source(source, test, tmp_path):
    if test != "test_an_unknown_tag_is_an_error_for_people":
        run(source(SOURCE, test), test, tmp_path)


def checks_of(contract):
    return {name for name in dir(contract) if name.startswith("test_")}


def test_none_is_left_out():
    """A check that several kinds inherit is shown for one of them."""
    shown = {getattr(CONTRACTS[kind], test) for kind, test in BROKEN}
    shown |= {getattr(CONTRACTS["surgeries"], test) for test in ANY}
    due = {getattr(contract, test) for contract in CONTRACTS.values() for test in checks_of(contract)}
    assert due - shown == set()
    assert checks_of(ArchitectureSourceContract) == set(SOURCES)
