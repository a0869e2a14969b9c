"""`zoo.push` to a hub on this machine, and back: what goes, what stays, what is refused, what loads."""

import json
import re

import pytest
import torch

import zoo
from zoo.cli import run
from zoo.errors import InputError, WorkError
from zoo.formats.save import save_tensors

CARD = "---\ntags: [zoo]\n---\n\n# my own words\n"


@pytest.fixture
def checkpoint(tmp_path):
    """A small network of zoo's in a run's folder."""
    torch.manual_seed(1)
    model = zoo.build("tutorial/fashion_mlp", hidden=16)
    (tmp_path / "run").mkdir()
    zoo.save(model, tmp_path / "run" / "model.safetensors")
    return tmp_path / "run" / "model.safetensors"


def test_a_dry_run_asks_nobody(checkpoint, hub):
    planned = zoo.push(checkpoint, "me/digits", dry_run=True)
    assert hub.asked == []
    assert (planned.commit, planned.private, planned.address) == (None, True, "hf://me/digits")
    sizes = {file.name: file.size for file in planned.files}
    assert sizes == {"model.safetensors": checkpoint.stat().st_size, "README.md": len(planned.card.encode())}


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the hub's client to its HTTP library
@pytest.mark.parametrize("large", [False, True], ids=["as text", "as large files"])
def test_it_goes_into_a_new_private_repository_and_loads_back(checkpoint, hub, large):
    hub.large = lambda name: large and name.endswith(".safetensors")
    done = zoo.push(checkpoint.parent, "me/digits")
    assert done.created
    assert hub.visible == {"me/digits": "private"}
    files = hub.repositories["me/digits"]
    assert files["model.safetensors"] == checkpoint.read_bytes()
    assert files["README.md"] == done.card.encode()
    assert {file.state for file in done.files} == {"new"}
    back, here = zoo.load("hf://me/digits"), zoo.load(checkpoint)
    assert back.zoo.architecture == "tutorial/fashion_mlp"
    assert all(torch.equal(tensor, here.state_dict()[name]) for name, tensor in back.state_dict().items())
    again = zoo.push(checkpoint, "hf://me/digits")
    assert again.commit is None
    assert {file.state for file in again.files} == {"unchanged"}
    assert len(hub.commits) == 1


def test_public_is_asked_for(checkpoint, hub):
    zoo.push(checkpoint, "me/digits", public=True)
    assert hub.visible == {"me/digits": "public"}


def test_the_run_s_own_card_goes(checkpoint, hub):
    (checkpoint.parent / "README.md").write_text(CARD)
    assert zoo.push(checkpoint, "me/digits").notes == ()
    assert hub.repositories["me/digits"]["README.md"] == CARD.encode()


def test_other_files_stay_and_none_is_replaced_unasked(checkpoint, hub):
    mine = {"notes.txt": b"mine", "README.md": b"mine, too"}
    hub.repositories["me/digits"] = dict(mine)
    with pytest.raises(InputError, match=r"has another README\.md already \(another name, or --overwrite"):
        zoo.push(checkpoint, "me/digits")
    assert hub.repositories["me/digits"] == mine
    done = zoo.push(checkpoint, "me/digits", overwrite=True)
    assert {file.name: file.state for file in done.files} == {"model.safetensors": "new", "README.md": "replaced"}
    assert hub.repositories["me/digits"]["notes.txt"] == b"mine"
    assert not done.created
    assert hub.visible == {}


def test_another_large_file_is_known_by_its_digest(checkpoint, hub):
    hub.large = lambda name: name.endswith(".safetensors")
    hub.repositories["me/digits"] = {"model.safetensors": b"x" * checkpoint.stat().st_size}
    with pytest.raises(InputError, match=r"another model\.safetensors already"):
        zoo.push(checkpoint, "me/digits")


class TestRefusals:
    def test_no_token(self, checkpoint, hub, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(InputError, match=r"there is no token .*hf auth login"):
            zoo.push(checkpoint, "me/digits")
        assert hub.asked == []

    def test_a_token_that_is_none(self, checkpoint, hub, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_old")
        with pytest.raises(InputError, match="does not take the token"):
            zoo.push(checkpoint, "me/digits")

    @pytest.mark.parametrize(("token", "repository"), [("hf_reader", "me/digits"), ("hf_writer", "they/digits")])
    def test_no_right_to_write(self, checkpoint, hub, monkeypatch, token, repository):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(InputError, match=f"may not write into {repository}: .*rights to create"):
            zoo.push(checkpoint, repository)
        assert hub.repositories == {}

    def test_a_network_that_is_down(self, checkpoint, hub):
        hub.shutdown()
        hub.server_close()
        with pytest.raises(WorkError, match="cannot be reached"):
            zoo.push(checkpoint, "me/digits")

    def test_a_hub_that_fails_on_the_way_leaves_what_it_says(self, checkpoint, hub):
        hub.failing = {"/commit/": 507}
        with pytest.raises(WorkError, match=r"no room left; me/digits is made, and empty .*nothing was deleted"):
            zoo.push(checkpoint, "me/digits")
        assert hub.repositories == {"me/digits": {}}
        hub.failing = {}
        assert zoo.push(checkpoint, "me/digits").commit is not None

    def test_a_card_that_the_hub_refuses(self, checkpoint, hub):
        hub.faults = ["license is no licence"]
        with pytest.raises(InputError, match=r"refuses me/digits: .*license is no licence"):
            zoo.push(checkpoint, "me/digits")

    @pytest.mark.parametrize("name", ["digits", "a/b/c", "me/..", "me/a--b", ""])
    def test_no_repository(self, checkpoint, name):
        with pytest.raises(InputError, match="cannot be a repository"):
            zoo.push(checkpoint, name, dry_run=True)

    def test_no_checkpoint_of_zoo_s(self, tmp_path):
        save_tensors({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
        with pytest.raises(InputError, match="no zoo checkpoint"):
            zoo.push(tmp_path / "a.safetensors", "me/digits", dry_run=True)
        with pytest.raises(InputError, match="there is no file"):
            zoo.push(tmp_path / "none.safetensors", "me/digits", dry_run=True)
        with pytest.raises(InputError, match="an address already"):
            zoo.push("hf://me/digits", "me/digits", dry_run=True)


def test_places_of_this_machine_are_named(tmp_path, checkpoint):
    model = zoo.build("tutorial/fashion_mlp", hidden=16, weights=str(checkpoint))
    zoo.save(model, tmp_path / "tuned.safetensors")
    planned = zoo.push(tmp_path / "tuned.safetensors", "me/x", dry_run=True)
    (note,) = [note for note in planned.notes if "names places" in note]
    assert str(checkpoint) in note
    assert str(tmp_path) not in planned.card


RECIPE = """\
model: {checkpoint: CHECKPOINT}
data: {source: sklearn/digits, image_size: 28, limit: 32}
steps:
  - train: {max_steps: 1, lr: 1.0e-3}
"""


def test_a_recipe_goes_on_from_what_was_pushed(checkpoint, hub, tmp_path, capsys):
    zoo.push(checkpoint, "me/digits")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("CHECKPOINT", "hf://me/digits"))
    assert zoo.check(recipe).ok
    trained = zoo.finetune(recipe, output=tmp_path / "out", device="cpu")
    assert trained.model.zoo.architecture == "tutorial/fashion_mlp"
    capsys.readouterr()
    assert run(["evaluate", "hf://me/digits", "--data", "sklearn/digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] > 0


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://me/none", "the hub has no repository me/none"),
        ("hf://me/digits@v9", "no model.safetensors|no revision|has no"),
        ("https://example.org/model.safetensors", "is a file on this machine or hf://"),
    ],
)
def test_a_recipe_that_names_what_is_not_there(hub, tmp_path, address, said):
    hub.repositories["me/digits"] = {}
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("CHECKPOINT", address))
    (problem,) = zoo.check(tmp_path / "recipe.yaml").errors
    assert re.search(rf"recipe\.yaml:1:\d+: .*({said})", str(problem))
