"""Building by name: fresh parameters, meta, arguments and their mistakes; rebuilding what a checkpoint describes."""

import pytest
import torch

from zoo.api import Preprocessing
from zoo.errors import InputError, WorkError
from zoo.model.build import build, rebuild

SOURCE = """
    [zoo.architectures]
    acme = acme_nets:source
    lone = acme_nets:Lone
"""
MODULE = """
    import torch
    from torch import nn
    from zoo.api import Preprocessing

    class Net(nn.Module):
        def __init__(self, width=4, depth=1):
            super().__init__()
            self.layers = nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])
            self.register_buffer("constant", torch.arange(4.0) * 2, persistent=False)

    class ReadsBack(Net):
        def __init__(self, width=4):
            super().__init__(width, depth=int(torch.ones(3).sum().item()))

    def lone(width: int = 3):
        return Net(width)

    Lone = lone

    def explodes():
        raise RuntimeError("no such file")

    class Source:
        networks = {"net": Net, "reads_back": ReadsBack, "number": lambda: 7, "explodes": explodes}
        def names(self):
            return self.networks
        def build(self, name, **arguments):
            return self.networks[name](**arguments)
        def preprocessing(self, name, tag):
            return Preprocessing(size=(8, 8)) if name == "net" else None

    source = Source()
"""


@pytest.fixture
def acme(plugins):
    plugins.without_torch()
    plugins.write("zoo-acme", SOURCE, acme_nets=MODULE)


def test_full_and_bare_names(acme):
    assert build("acme/reads_back").architecture == "acme/reads_back"
    assert build("reads_back").architecture == "acme/reads_back"
    assert build("acme/lone", {"width": 5}).model.layers[0].in_features == 5


def test_preprocessing_comes_from_the_source_where_it_gives_one(acme):
    assert build("acme/net").preprocessing.size == (8, 8)
    assert build("acme/reads_back").preprocessing == Preprocessing()
    assert build("acme/lone").preprocessing == Preprocessing()
    assert build("timm/tf_efficientnet_lite0", device="meta").preprocessing.mean == (0.5, 0.5, 0.5)


def test_parameters_are_fresh_each_time(acme):
    first, second = build("acme/net").model, build("acme/net").model
    assert not torch.equal(first.layers[0].weight, second.layers[0].weight)
    torch.manual_seed(5)
    third = build("acme/net").model
    torch.manual_seed(5)
    assert torch.equal(third.layers[0].weight, build("acme/net").model.layers[0].weight)


def test_on_meta_nothing_is_allocated(acme):
    model = build("acme/net", device="meta").model
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    huge = build("acme/net", {"width": 200_000, "depth": 4}, device="meta").model  # 640 GB as float32
    assert sum(parameter.numel() for parameter in huge.parameters()) > 1.6e11


def test_a_constructor_that_reads_numbers_back_is_built_on_meta_too(acme):
    assembly = build("acme/reads_back", device="meta")
    assert len(assembly.model.layers) == 3
    assert all(tensor.is_meta for tensor in (*assembly.model.parameters(), *assembly.model.buffers()))
    assert "does not run on meta" in assembly.notes[0]


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/resnet18", "acme/net"])
def test_every_unknown_argument_is_named(acme, name):
    with pytest.raises(InputError) as caught:
        build(name, {"wdith": 3, "zero_init_residuals": True})
    assert len(caught.value.problems) == 2
    assert "takes no argument 'wdith'" in caught.value.problems[0].message


def test_the_nearest_argument_is_suggested(acme):
    for name, written, meant in [
        ("timm/resnet18", "num_clases", "num_classes"),
        ("torchvision/vgg11", "dropuot", "dropout"),
        ("acme/net", "widht", "width"),
    ]:
        with pytest.raises(InputError) as caught:
            build(name, {written: 1})
        assert meant in caught.value.problems[0].suggestion


def test_a_value_that_does_not_fit_is_the_users_mistake(acme):
    with pytest.raises(InputError, match="width='wide'"):
        build("acme/net", {"width": "wide"})


@pytest.mark.parametrize("argument", ["pretrained", "weights", "checkpoint_path"])
def test_weights_do_not_come_in_by_an_argument(argument):
    with pytest.raises(InputError, match="behind zoo's back"):
        build("timm/resnet18", {argument: "anything"})


def test_an_architecture_that_fails_by_itself_is_no_mistake_of_the_user(acme):
    with pytest.raises(WorkError, match="acme/explodes cannot be built: RuntimeError: no such file"):
        build("acme/explodes")
    with pytest.raises(WorkError, match=r"architecture 'number' returned int, expected an nn\.Module"):
        build("acme/number")


def test_rebuild_computes_buffers_and_leaves_parameters_to_the_caller(acme):
    described = {"architecture": "acme/net", "arguments": {"depth": 2}, "classes": ["a", "b"], "task": "multilabel"}
    assembly = rebuild(described)
    assert torch.equal(assembly.model.constant, torch.tensor([0.0, 2.0, 4.0, 6.0]))
    assert (assembly.classes, assembly.task) == (("a", "b"), "multilabel")
    fresh = build("acme/net", {"depth": 2}).model
    assembly.model.load_state_dict(fresh.state_dict())
    assert all(map(torch.equal, assembly.model.parameters(), fresh.parameters()))


def test_rebuild_draws_no_random_numbers():
    torch.manual_seed(0)
    rebuild({"architecture": "timm/vit_tiny_patch16_224"})
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))


def test_rebuild_takes_the_preprocessing_that_is_described():
    described = {"architecture": "timm/resnet18", "preprocessing": Preprocessing(size=(64, 48)).as_dict()}
    assert rebuild(described, device="meta").preprocessing.size == (64, 48)


FILES = """
    from zoo.api import Preprocessing, file_beside
    from acme_nets import Net
    import json

    class Files:
        def names(self):
            return ["net", "wrong"]
        def build(self, name, **arguments):
            return Net(**arguments)
        def preprocessing(self, name, tag, arguments):
            return Preprocessing(size=(arguments.get("width", 1),) * 2)
        def resolve(self, name, arguments):
            if name == "wrong":
                return {"width": object()}
            read = arguments.get("file") and json.loads(file_beside(arguments["file"], "net.json").read_text())
            return {**(read or {}), **{key: value for key, value in arguments.items() if key != "file"}}

    source = Files()
"""


class TestResolvedArguments:
    """A source may read arguments elsewhere: what it read is recorded, and a checkpoint reads nothing."""

    @pytest.fixture(autouse=True)
    def files(self, acme, plugins, tmp_path):
        plugins.write("zoo-files", "[zoo.architectures]\nfiles = acme_files:source", acme_files=FILES)
        (tmp_path / "net.json").write_text('{"width": 5, "depth": 2}')

    def test_are_built_with_and_recorded(self, tmp_path):
        made = build("files/net", {"file": str(tmp_path), "depth": 1})
        assert made.arguments == {"width": 5, "depth": 1}
        assert [layer.in_features for layer in made.model.layers] == [5]

    def test_are_what_preprocessing_sees(self, tmp_path):
        assert build("files/net", {"file": str(tmp_path)}).preprocessing.size == (5, 5)
        assert build("files/net").preprocessing.size == (1, 1)

    def test_are_not_resolved_for_a_checkpoint(self, tmp_path):
        with pytest.raises(InputError, match="takes no argument 'file'"):
            rebuild({"architecture": "files/net", "arguments": {"file": str(tmp_path)}})
        assert rebuild({"architecture": "files/net", "arguments": {"width": 5}}).arguments == {"width": 5}

    def test_that_a_file_cannot_keep(self):
        with pytest.raises(WorkError, match="files/wrong writes its arguments out as what a checkpoint cannot keep"):
            build("files/wrong")

    def test_that_fail(self, tmp_path):
        (tmp_path / "net.json").write_text("{")
        with pytest.raises(WorkError, match="files/net fails to write its arguments out: JSONDecodeError"):
            build("files/net", {"file": str(tmp_path)})
