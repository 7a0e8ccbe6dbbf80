"""A hub on this machine: enough of its interface to fetch from a repository and to push to one."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "c" * 40


@dataclass
class Hub:
    """A folder as the one repository `name`, at one revision.

    Attributes:
        fetched: files that were fetched. asked: (path, content) of what was posted.
    """

    folder: Path
    name: str
    revision: str
    address: str = ""
    fetched: list[str] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def get(self, path: str) -> Any:
        """What a path answers: an object, a file's content, or None."""
        if path in {f"api/models/{self.name}/revision/{one}" for one in (self.revision, COMMIT)}:
            return {"id": self.name, "sha": COMMIT}
        if path in {f"api/models/{self.name}/tree/{one}" for one in (self.revision, COMMIT)}:
            files = sorted(file for file in self.folder.rglob("*") if file.is_file())
            return [
                {"type": "file", "path": str(file.relative_to(self.folder)), "size": file.stat().st_size, "oid": "0"}
                for file in files
            ]
        file = self.folder / path.removeprefix(f"{self.name}/resolve/{COMMIT}/")
        return file.read_bytes() if path.startswith(f"{self.name}/resolve/") and file.is_file() else None

    def post(self, path: str, lines: list[Any]) -> Any:
        self.asked.append((path, lines[0]))
        if path == "api/repos/create":
            return {"url": f"{self.address}/{self.name}"}
        if path == f"api/models/{self.name}/preupload/{self.revision}":
            return {"files": [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in lines[0]["files"]]}
        if path == f"api/models/{self.name}/commit/{self.revision}":
            for line in lines[1:]:
                file = self.folder / line["value"]["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(base64.b64decode(line["value"]["content"]))
            return {"commitUrl": f"{self.address}/{self.name}/commit/{COMMIT}", "commitOid": COMMIT}
        return {} if path in ("api/validate-yaml", f"api/models/{self.name}/branch/{self.revision}") else None


@contextmanager
def serve(folder: Path, name: str, revision: str = "main") -> Iterator[Hub]:
    """Listen as long as the context lasts."""
    hub = Hub(folder, name, revision)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0].lstrip("/")
            found = hub.get(path)
            if self.command == "GET" and isinstance(found, bytes):
                hub.fetched.append(path.split(f"/{COMMIT}/")[1])
            self.answer(found)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            self.answer(hub.post(self.path.split("?")[0].lstrip("/"), lines or [None]))

        def answer(self, found: Any) -> None:
            content = found if isinstance(found, bytes) else json.dumps({} if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            headers = {"Content-Length": len(content), "X-Repo-Commit": COMMIT}
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            if found is None:
                headers["X-Error-Code"] = "RevisionNotFound"
            for key, value in headers.items():
                self.send_header(key, str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing on the console."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def at_hub(folder, *words, asked=None, **more):
    """A command with a cache of its own in `folder`, as the user of a hub runs it; `asked`: on its input, as JSON."""
    clean = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    env = clean | {"HF_HOME": str(folder / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": "hf_x"} | more
    return subprocess.run(
        [sys.executable, *map(str, words)], env=env, capture_output=True, text=True,
        input=None if asked is None else json.dumps(asked, default=str),
    )  # fmt: skip


def commands_at_hub(folder, *commands, **more):
    """Several commands, one after the other in one process: (exit status, stdout, stderr) of each."""
    done = at_hub(folder, "-m", "tests.packaging.without", asked={"packages": [], "commands": commands}, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
