"""As much of the Hugging Face hub as the zoo's upload and download of an agent need, on this machine."""

import base64
import functools
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

COMMIT = "0" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """One repository, held in a dictionary of file contents."""

    protocol_version = "HTTP/1.1"

    def __init__(self, files: dict[str, bytes], *args: object) -> None:
        self.files = files
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._serve_file(with_body=False)

    def do_GET(self) -> None:
        if "/tree/" in self.path:
            self._reply(
                [{"type": "file", "path": name, "size": len(body), "oid": "1"} for name, body in self.files.items()]
            )
        elif "/api/" in self.path:
            siblings = [{"rfilename": name} for name in self.files]
            self._reply({"id": "someone/agent", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})
        else:
            self._serve_file(with_body=True)

    def do_POST(self) -> None:
        body = (
            self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self._chunks()
        )
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for name in names]
            self._reply({"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self._reply(
                {
                    "commitUrl": f"https://huggingface.co/someone/ppo_penalty-CartPole-v1/commit/{COMMIT}",
                    "commitOid": COMMIT,
                    "hookOutput": "",
                }
            )
        else:
            self._reply(
                {"url": "https://huggingface.co/someone/ppo_penalty-CartPole-v1", "name": "someone/agent", "id": "1"}
            )

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _serve_file(self, *, with_body: bool) -> None:
        name = self.path.partition(f"/resolve/{COMMIT}/")[2] or self.path.partition("/resolve/main/")[2]
        if name not in self.files:
            self._reply({"error": "no such file"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        body = self.files[name]
        self._send(body, 200, {"ETag": f'"{hash(body)}"', "X-Repo-Commit": COMMIT}, with_body=with_body)

    def _reply(self, answer: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        with_body = self.command != "HEAD"
        self._send(
            json.dumps(answer).encode(), status, {"Content-Type": "application/json", **(headers or {})}, with_body
        )

    def _send(self, body: bytes, status: int, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[str]:
    """Serve a repository; uploads change `files`. Gives the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, files))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
