"""A stand-in for the hub on this machine: the part of its HTTP interface that huggingface_hub uses for models.

https://huggingface.co/docs/hub/api, and LFS's batch API
(https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

TOKEN = "hf_secret"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repo:
    """A repository with one commit on ``main``."""

    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    branches: set[str] = field(default_factory=lambda: {"main"})


@dataclass
class Hub:
    """Repositories by name, uploaded objects by hash, and what was asked."""

    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve ``hub`` at ``hub.url`` until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self._path()
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            if repo := self._repo(found[1], found[2]):
                names = [{"rfilename": name} for name in repo.files]
                self._json({"id": found[1], "sha": COMMIT, "siblings": names, "private": repo.private})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            if repo := self._repo(found[1], found[2]):
                entries = [
                    {"type": "file", "path": name, "size": len(data), "oid": _sha1(data)}
                    for name, data in repo.files.items()
                ]
                self._json(entries)
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*found.groups())
        else:
            self._json({"error": "unknown"}, 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path, body = self._path(), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "unauthorized"}, 401)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(branch|preupload|commit)/([^/]+)", path):
            if repo := self._repo(found[1], None if found[2] == "branch" else found[3]):
                getattr(self, f"_{found[2]}")(repo, found[3], body, found[1])
        elif path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        else:
            self._json({"error": "unknown"}, 404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        assert hashlib.sha256(body).hexdigest() == self._path().rpartition("/")[2]
        self.hub.objects[hashlib.sha256(body).hexdigest()] = body
        self._json({})

    def _path(self) -> str:
        path = unquote(urlparse(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        return path

    def _repo(self, name: str, revision: str | None) -> Repo | None:
        """The repository if the caller may see it, else None after the answer of the hub."""
        repo = self.hub.repos.get(name)
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repo is None or (repo.private and not allowed):
            self._json({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
        elif revision not in (None, COMMIT, *repo.branches):
            self._json({"error": "Revision not found"}, 404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return repo
        return None

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repo = self._repo(name, revision)
        if repo is None:
            return
        if repo.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "Access is restricted"}, 403, {"X-Error-Code": "GatedRepo"})
        elif file not in repo.files:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        else:
            data = repo.files[file]
            self._send(data, 200, {"ETag": f'"{_sha1(data)}"', "X-Repo-Commit": COMMIT})

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != "me":
            self._json({"error": "Forbidden"}, 403)
            return
        status = 409 if name in self.hub.repos else 200
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.hub.repos.setdefault(name, Repo(private=bool(private)))
        self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": name}, status)

    def _branch(self, repo: Repo, branch: str, body: bytes, name: str) -> None:
        repo.branches.add(branch)
        self._json({})

    def _preupload(self, repo: Repo, revision: str, body: bytes, name: str) -> None:
        files = json.loads(body)["files"]
        modes = ["lfs" if file["path"].endswith(".safetensors") else "regular" for file in files]
        answers = zip(files, modes, strict=True)
        self._json({"files": [{"path": f["path"], "uploadMode": m, "shouldIgnore": False} for f, m in answers]})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            item | {"actions": {"upload": {"href": f"{self.hub.url}/objects/{item['oid']}"}}}
            for item in wanted["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")

    def _commit(self, repo: Repo, revision: str, body: bytes, name: str) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.objects[value["oid"]]
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT, "success": True})

    def _json(
        self, value: Any, status: int = 200, headers: dict[str, str] | None = None, kind: str = "application/json"
    ) -> None:
        message = {"X-Error-Message": value["error"]} if isinstance(value, dict) and "error" in value else {}
        self._send(json.dumps(value).encode(), status, {"Content-Type": kind} | message | (headers or {}))

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
