"""Models on a hub: pushed to and loaded from a server that answers as the hub's HTTP API does."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

import neuralcf
from neuralcf.errors import ArgumentError, ModelFormatError

huggingface_hub = pytest.importorskip("huggingface_hub")


class Hub(ThreadingHTTPServer):
    """Repositories in memory: a list of commits, each with all files by name, and branches."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.commits, self.branches, self.requests = {}, {}, []

    def commit(self, repo, branch, files):
        commit = hashlib.sha1(repr((repo, branch, len(self.commits))).encode()).hexdigest()
        self.commits[commit] = files
        self.branches[repo, branch] = commit
        return commit

    def found(self, repo, revision):
        commit = self.branches.get((repo, unquote(revision)), revision)
        return (commit, self.commits[commit]) if commit in self.commits else (None, None)


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, content=b"", **headers):
        if not isinstance(content, bytes):
            content, headers = json.dumps(content).encode(), {**headers, "Content-Type": "application/json"}
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def missing(self, code):
        self.send(404, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def do_POST(self):
        hub, path = self.server, urlsplit(self.path).path.split("/")[1:]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub.requests.append(self.path)
        if path == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'someone'}/{asked['name']}"
            if (repo, "main") in hub.branches:
                self.send(409, {"error": "exists", "url": f"{hub.address}/{repo}"})
            else:
                hub.commit(repo, "main", {".gitattributes": b""})
                self.send(200, {"url": f"{hub.address}/{repo}", "name": repo, "id": repo})
            return
        if path[:2] != ["api", "models"]:  # such as a check of the model card
            self.send(200, {"errors": [], "warnings": []})
            return
        repo, what, revision = "/".join(path[2:4]), path[4], unquote(path[5])
        if what == "branch":
            if (repo, revision) in hub.branches:
                self.send(409, {"error": "exists"})
            else:
                hub.branches[repo, revision] = hub.branches[repo, "main"]
                self.send(200, {})
        elif what == "preupload":
            files = json.loads(body)["files"]
            self.send(
                200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        else:
            assert what == "commit"
            files = dict(hub.found(repo, revision)[1])
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "deletedFile":
                    del files[value["path"]]
            commit = hub.commit(repo, revision, files)
            self.send(200, {"commitOid": commit, "commitUrl": f"{hub.address}/{repo}/commit/{commit}", "success": True})

    def do_GET(self):
        hub, path = self.server, urlsplit(self.path).path.split("/")[1:]
        hub.requests.append(self.path)
        if path[:2] == ["api", "whoami-v2"]:
            self.send(200, {"type": "user", "name": "someone", "orgs": []})
        elif path[:2] == ["api", "models"]:
            repo, revision = "/".join(path[2:4]), path[5] if len(path) > 5 else "main"
            commit, files = hub.found(repo, revision)
            if commit is None:
                self.missing("RevisionNotFound" if (repo, "main") in hub.branches else "RepoNotFound")
            elif len(path) > 4 and path[4] == "tree":
                self.send(200, [{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files.items()])
            else:
                siblings = [{"rfilename": name} for name in files]
                self.send(200, {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings, "private": False})
        elif path[0] == "api":
            self.missing("EntryNotFound")
        else:
            repo, revision, name = "/".join(path[:2]), path[3], "/".join(path[4:])
            commit, files = hub.found(repo, revision)
            if commit is None or name not in files:
                self.missing("EntryNotFound")
            else:
                self.send(200, files[name], ETag=f'"{_oid(files[name])}"', X_Repo_Commit=commit)

    do_HEAD = do_GET  # noqa: N815


def _oid(content):
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # huggingface_hub reads its environment when it is imported.
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_TOKEN", "secret")
    yield server
    server.shutdown()
    server.server_close()


def save_model(path, seed=0, *, seen=True):
    rng = np.random.default_rng(seed)
    tensors = {
        "gmf.user_embedding.weight": rng.standard_normal((20, 4), dtype=np.float32),
        "gmf.item_embedding.weight": rng.standard_normal((30, 4), dtype=np.float32),
        "output.weight": np.ones((1, 4), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    ids = [f"u{n}" for n in range(20)], np.arange(30) + 100
    metrics = [{"name": "ndcg@10", "value": 0.25, "protocol": "full catalogue"}]
    rows = (np.arange(21), np.arange(20)) if seen else None
    neuralcf.save(tensors, path, kind="gmf", ids=ids, seen=rows, config={"metrics": metrics})
    return neuralcf.Recommender.load(path)


def lists(recommender, **options):
    found = recommender.recommend(["u3", "u7"], 5, **options)
    return found.ids.tolist(), found.scores.tobytes()


def test_push_and_load_by_revision(hub, tmp_path):
    old, new = save_model(tmp_path / "old"), save_model(tmp_path / "new", 1, seen=False)
    first = old.push_to_hub("someone/model", seen=True)
    second = new.push_to_hub("someone/model")
    assert old.push_to_hub("someone/model", revision="no histories") != first
    files = {name: set(hub.commits[commit]) for name, commit in (("first", first), ("second", second))}
    assert files["first"] - files["second"] == {"seen.safetensors"}  # a file that the new model lacks is removed
    card = hub.commits[first]["README.md"].decode()
    assert "| ndcg@10 | 0.2500 | full catalogue |" in card
    assert "library_name: neuralcf" in card

    load = neuralcf.Recommender.from_pretrained
    assert lists(load("someone/model"), exclude_seen=False) == lists(new, exclude_seen=False)
    assert lists(load("someone/model", revision=first)) == lists(old)
    assert lists(load("someone/model", revision="no histories"), exclude_seen=False) == lists(old, exclude_seen=False)
    with pytest.raises(ArgumentError, match="exclude_seen: the model was saved without interactions"):
        load("someone/model", revision="no histories").recommend("u3")
    assert lists(load(tmp_path / "old", threads=1)) == lists(old)


def test_what_is_in_the_cache_needs_no_hub(hub, tmp_path, monkeypatch):
    model = save_model(tmp_path / "model")
    commit = model.push_to_hub("someone/model", seen=True)
    neuralcf.Recommender.from_pretrained("someone/model", revision=commit)
    asked = len(hub.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert lists(neuralcf.Recommender.from_pretrained("someone/model", revision=commit)) == lists(model)
    assert len(hub.requests) == asked


def test_a_damaged_download_is_refused(hub, tmp_path):
    commit = save_model(tmp_path / "model").push_to_hub("someone/model")
    weights = bytearray(hub.commits[commit]["model.safetensors"])
    weights[-1] ^= 1
    hub.commits[commit]["model.safetensors"] = bytes(weights)
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        neuralcf.Recommender.from_pretrained("someone/model")


def test_errors(hub, tmp_path):
    model = save_model(tmp_path / "model")
    load = neuralcf.Recommender.from_pretrained
    with pytest.raises(ArgumentError, match=r"revision: .* is a directory, which has no revisions"):
        load(tmp_path / "model", revision="main")
    with pytest.raises(FileNotFoundError, match="no such directory, and no name of a model on a hub"):
        load(tmp_path / "none")
    with pytest.raises(OSError, match="404"):
        load("someone/else")
    changed = load(tmp_path / "model")
    changed.remove_items(changed.item_ids.take([0]))
    with pytest.raises(ArgumentError, match="push_to_hub: items were changed since the model was loaded"):
        changed.push_to_hub("someone/model")
    save_model(tmp_path / "model", 1)
    with pytest.raises(ModelFormatError):
        model.push_to_hub("someone/model")
    assert not hub.commits
