"""A Hugging Face hub on this machine: repositories that are made, written to and read."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading

import pytest
from huggingface_hub import constants

TOKENS = {"hf_writer": "me", "hf_reader": None}  # who may write, where the token may


class Hub(http.server.ThreadingHTTPServer):
    """`repositories` are files by name, by repository; `visible` is what each was made as; `asked` is every request.

    `faults` are what it finds wrong with a card. `large` decides which files go as the hub's large ones; a path in
    `failing` is answered with that status.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.visible, self.asked, self.objects = {}, {}, [], {}
        self.commits, self.failing, self.faults, self.large = [], {}, [], lambda _: False
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.serve()

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def do_PUT(self):
        self.serve()

    def log_message(self, *_):
        pass

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        for pattern, status in self.server.failing.items():
            if re.search(pattern, path):
                return self.answer(status, b'{"error": "no room left"}')
        for pattern, handle in ROUTES:
            if found := re.fullmatch(pattern, path):
                return handle(self, *found.groups(), body)
        return self.answer(404, error="RepoNotFound")

    def answer(self, status=200, content=b"", error=None, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), "X-Error-Code": error, **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def writer(self, repository):
        """Whether the request may write; answers it where it may not."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in TOKENS:
            self.answer(401, {"error": "Invalid credentials in Authorization header"})
        elif TOKENS[token] != repository.partition("/")[0]:
            self.answer(403, {"error": f"You don't have the rights to create a model under {repository}"})
        else:
            return True
        return False

    def resolve(self, repository, revision, name, _):
        files = self.server.repositories.get(repository)
        if files is None or name not in files:
            return self.answer(404, error="RepoNotFound" if files is None else "EntryNotFound")
        digest = hashlib.sha256(files[name]).hexdigest()
        return self.answer(200, files[name], ETag=f'"{digest}"', X_Repo_Commit="0" * 39 + str(len(self.server.commits)))

    def tree(self, repository, _):
        files = self.server.repositories.get(repository)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in TOKENS:
            return self.answer(401, {"error": "Invalid credentials in Authorization header"})
        if files is None:
            return self.answer(404, error="RepoNotFound")
        return self.answer(200, [self.row(name, content) for name, content in files.items()])

    def row(self, name, content):
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        row = {"type": "file", "path": name, "size": len(content), "oid": blob}
        if self.server.large(name):
            row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return row

    def create(self, body):
        asked = json.loads(body)
        repository = f"{asked['organization']}/{asked['name']}"
        if self.writer(repository):
            self.server.repositories[repository] = {}
            self.server.visible[repository] = asked.get("visibility")
            self.answer(200, {"url": f"{self.server.address}/{repository}"})

    def validate(self, _):
        faults = [{"message": fault} for fault in self.server.faults]
        self.answer(400 if faults else 200, {"errors": faults, "warnings": []}, error="BadRequest" if faults else None)

    def preupload(self, repository, body):
        if self.writer(repository):
            modes = [
                {"path": file["path"], "uploadMode": "lfs" if self.server.large(file["path"]) else "regular"}
                for file in json.loads(body)["files"]
            ]
            self.answer(200, {"files": [{**mode, "shouldIgnore": False} for mode in modes]})

    def batch(self, repository, body):
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.server.address}/objects/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def store(self, digest, body):
        assert hashlib.sha256(body).hexdigest() == digest
        self.server.objects[digest] = body
        self.answer(200)

    def commit(self, repository, body):
        if self.writer(repository):
            lines = [json.loads(line) for line in body.splitlines()]
            self.server.commits.append(lines)
            files = self.server.repositories[repository]
            for line in lines:
                value = line["value"]
                assert line["key"] in ("header", "file", "lfsFile"), "nothing is deleted"
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.server.objects[value["oid"]]
            url = f"{self.server.address}/{repository}/commit/{len(self.server.commits):040}"
            self.answer(200, {"commitUrl": url, "commitOid": url[-40:]})


ROUTES = [
    (r"/api/validate-yaml", Handler.validate),
    (r"/api/repos/create", Handler.create),
    (r"/api/models/([^/]+/[^/]+)/tree/main", Handler.tree),
    (r"/api/models/([^/]+/[^/]+)/preupload/main", Handler.preupload),
    (r"/api/models/([^/]+/[^/]+)/commit/main", Handler.commit),
    (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.batch),
    (r"/objects/(\w+)", Handler.store),
    (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", Handler.resolve),
]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that the client takes for the real one, and a token that may write into `me/…`."""
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # another protocol, to servers of its own
    monkeypatch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: False)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()
