"""hf:// and https:// against servers on this machine: what is fetched, kept, refused, and said when nothing answers."""

import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from zoo.cache import weights_folder
from zoo.errors import InputError, WorkError
from zoo.formats import open_source
from zoo.formats.remote import check_address, file_beside, is_address

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TENSORS = {"a": torch.arange(3.0)}


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path and counts what is asked for; answers as the hub does where it knows nothing."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.errors, self.short = {}, [], {}, False
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        content = self.answer()
        self.wfile.write(content[:-5] if self.server.short else content)

    def answer(self):
        self.server.asked.append(f"{self.command} {self.path}")
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", self.server.errors.get(self.path, "EntryNotFound"))
        self.send_header("Content-Length", len(content or b""))
        self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        return content or b""

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


def put(server, name, content, repo="org/repo", revision="main"):
    server.files[f"/{repo}/resolve/{revision}/{name}"] = content


def test_hub_prefers_safetensors_and_keeps_it(server, same):
    put(server, "model.safetensors", save(TENSORS))
    put(server, "pytorch_model.bin", b"not asked for")
    same(open_source("hf://org/repo"), TENSORS)
    assert not [row for row in server.asked if "pytorch_model" in row]
    gets = [row for row in server.asked if row.startswith("GET") and "model.safetensors" in row]
    same(open_source("hf://org/repo"), TENSORS)
    assert [row for row in server.asked if row.startswith("GET") and "model.safetensors" in row] == gets


def test_hub_falls_back_to_torch_s_file(server, same, tmp_path):
    torch.save(TENSORS, tmp_path / "x.bin")
    put(server, "pytorch_model.bin", (tmp_path / "x.bin").read_bytes())
    same(open_source("hf://org/repo"), TENSORS)


def test_hub_file_and_revision(server, same):
    put(server, "sub/other.safetensors", save(TENSORS), revision="v1.0")
    same(open_source("hf://org/repo/sub/other.safetensors@v1.0"), TENSORS)


def test_hub_shards(server, same):
    put(server, "model.safetensors.index.json", json.dumps({"weight_map": {"a": "s-1.safetensors"}}).encode())
    put(server, "s-1.safetensors", save(TENSORS))
    same(open_source("hf://org/repo"), TENSORS)


def test_hub_shards_that_lead_elsewhere_are_not_asked_for(server):
    put(server, "model.safetensors.index.json", json.dumps({"weight_map": {"a": "../../x"}}).encode())
    with pytest.raises(InputError, match="plain file name"):
        open_source("hf://org/repo")
    assert not [row for row in server.asked if row.endswith("/x")]


def test_hub_works_from_its_cache_when_nothing_answers(server, same, monkeypatch):
    put(server, "model.safetensors", save(TENSORS))
    open_source("hf://org/repo").close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    same(open_source("hf://org/repo"), TENSORS)
    with pytest.raises(WorkError, match="cannot be reached"):
        open_source("hf://org/other")


def test_hub_that_lacks_the_repository_or_file(server):
    with pytest.raises(InputError, match=r"has no model\.safetensors, "):
        open_source("hf://org/repo")
    path = "/org/repo/resolve/main/x.bin"
    server.errors[path] = "RepoNotFound"
    with pytest.raises(InputError, match="no repository org/repo"):
        open_source("hf://org/repo/x.bin")
    server.errors[path] = "RevisionNotFound"
    with pytest.raises(InputError, match="no revision"):
        open_source("hf://org/repo/x.bin")
    server.errors[path] = "GatedRepo"
    with pytest.raises(InputError, match="gated"):
        open_source("hf://org/repo/x.bin")


@pytest.mark.parametrize("address", ["hf://", "hf://repo", "hf://org/", "hf://../repo/x", "hf://org/--x..y"])
def test_addresses_that_can_be_no_repository(address, server):
    with pytest.raises(InputError, match=r"is not of the form|cannot be a repository|does not stay in"):
        open_source(address)


def test_download_is_kept_and_checked_against_its_name(server, same):
    content = save(TENSORS)
    digest = hashlib.sha256(content).hexdigest()
    server.files[f"/w/model-{digest[:8]}.safetensors"] = content
    address = f"{server.address}/w/model-{digest[:8]}.safetensors"
    same(open_source(address), TENSORS)
    same(open_source(address), TENSORS)
    assert len(server.asked) == 1
    assert [path.name for path in weights_folder().iterdir()] == [f"model-{digest[:8]}.safetensors"]


def left_over():
    return [path for path in Path(weights_folder()).rglob("*") if path.is_file()]


def test_a_wrong_digest_is_not_kept(server):
    server.files["/model-00000000.safetensors"] = save(TENSORS)
    with pytest.raises(WorkError, match="but 00000000 was expected"):
        open_source(f"{server.address}/model-00000000.safetensors")
    assert not left_over()


def test_an_expected_digest_is_checked_for_any_source(server, tmp_path, same):
    content = save(TENSORS)
    server.files["/m.safetensors"] = content
    digest = hashlib.sha256(content).hexdigest()
    same(open_source(f"{server.address}/m.safetensors", sha256=digest[:10]), TENSORS)
    (tmp_path / "m.safetensors").write_bytes(content)
    same(open_source(tmp_path / "m.safetensors", sha256=digest), TENSORS)
    with pytest.raises(WorkError, match="was expected"):
        open_source(tmp_path / "m.safetensors", sha256="0" * 64)


def test_the_same_name_at_two_addresses(server, same):
    server.files["/one/m.safetensors"] = save(TENSORS)
    server.files["/two/m.safetensors"] = save({"b": torch.ones(2)})
    same(open_source(f"{server.address}/one/m.safetensors"), TENSORS)
    same(open_source(f"{server.address}/two/m.safetensors"), {"b": torch.ones(2)})


def test_transfers_that_fail(server):
    with pytest.raises(InputError, match="404"):
        open_source(f"{server.address}/none.safetensors")
    server.files["/m.safetensors"], server.short = save(TENSORS), True
    with pytest.raises(WorkError):
        open_source(f"{server.address}/m.safetensors")
    with pytest.raises(WorkError, match="cannot be downloaded"):
        open_source("http://127.0.0.1:9/m.safetensors")
    assert not left_over()


def test_addresses_that_are_not_fetched(tmp_path):
    with pytest.raises(InputError, match="not encrypted"):
        open_source("http://example.org/m.safetensors")
    with pytest.raises(InputError, match="names no file"):
        open_source("https://example.org/")


def test_what_is_an_address():
    for address in ("hf://org/repo", "https://example.org/m.pth", "http://localhost/m.pth", "file:///m.pth", "hf://x"):
        assert is_address(address)
    for name in ("resnet50", "timm/resnet50", "./m.pth", "C:/m.pth", "hf:/org/repo", "httpsx", ""):
        assert not is_address(name)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://resnet18", "is not of the form"),
        ("hf://org/repo/../x", "does not stay"),
        ("https://example.org/", "names no file"),
        ("https:///m.pth", "names no file"),
        ("https://[1/m.pth", "is no address"),
        ("http://example.org/m.pth", "not encrypted"),
    ],
)
def test_an_address_is_checked_without_asking_for_it(address, said):
    with pytest.raises(InputError, match=said):
        check_address(address)


def test_file_addresses(tmp_path, same):
    (tmp_path / "a b.safetensors").write_bytes(save(TENSORS))
    same(open_source((tmp_path / "a b.safetensors").as_uri()), TENSORS)


@pytest.mark.parametrize("rest", ["/../../x.bin", "/sub/../../../x.bin", "/a\\b.bin", "/x.bin@../../main", "/CON"])
def test_addresses_that_leave_the_repository_s_folder_of_the_cache(rest, server):
    with pytest.raises(InputError, match="does not stay in the repository's folder"):
        open_source(f"hf://org/repo{rest}")


def test_a_download_is_kept_under_a_name_that_is_one_everywhere(server, same):
    put_at = "/files/%5C..%5Cweights%3A1.safetensors"
    server.files[put_at] = save(TENSORS)
    source = open_source(f"{server.address}{put_at}")
    same(source, TENSORS)
    assert source.files[0].name == "weights_1.safetensors"


class TestBeside:
    def test_a_file_or_in_a_folder(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "model.safetensors").write_bytes(b"")
        for location in (tmp_path, tmp_path / "model.safetensors", f"file://{tmp_path}/model.safetensors"):
            assert file_beside(str(location), "config.json") == tmp_path / "config.json"
            assert file_beside(str(location), "other.json") is None
        assert file_beside("https://example.org/model.safetensors", "config.json") is None

    def test_in_a_repository_and_its_folders(self, server):
        put(server, "config.json", b"1")
        put(server, "sub/config.json", b"2", revision="v1")
        found = file_beside("hf://org/repo", "config.json")
        assert found is not None
        assert found.read_bytes() == b"1"
        found = file_beside("hf://org/repo/sub/model.safetensors@v1", "config.json")
        assert found is not None
        assert found.read_bytes() == b"2"
        assert file_beside("hf://org/repo", "none.json") is None

    def test_without_a_network_what_is_not_known_is_said(self, server, monkeypatch):
        put(server, "config.json", b"1")
        assert file_beside("hf://org/repo", "config.json") is not None
        assert file_beside("hf://org/repo", "none.json") is None
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert file_beside("hf://org/repo", "config.json") is not None
        assert file_beside("hf://org/repo", "none.json") is None
        with pytest.raises(WorkError, match=r"its cache contains no other\.json of org/repo"):
            file_beside("hf://org/repo", "other.json")

    @pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "", "a/b"])
    def test_names_that_lead_elsewhere(self, tmp_path, name):
        with pytest.raises(InputError, match="cannot be a file beside weights"):
            file_beside(str(tmp_path), name)
