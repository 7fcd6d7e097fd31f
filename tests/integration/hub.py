"""A Hugging Face Hub for one dataset, as far as reading asks for it: the real client speaks to it over HTTP."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0" * 40


def _entry(root: Path, path: Path) -> dict:
    kind = "file" if path.is_file() else "directory"
    return {"type": kind, "path": path.relative_to(root).as_posix(), "size": path.stat().st_size, "oid": path.name}


@contextmanager
def hub(root: Path, repository: str):
    """URL of a server whose dataset ``repository`` (``owner/name``) holds the files of ``root``."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

        def _answer(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            api, files = f"/api/datasets/{repository}", f"/datasets/{repository}/resolve/"
            if path.startswith(f"{api}/tree/"):
                inside = root / path.removeprefix(f"{api}/tree/").partition("/")[2]
                found = sorted(inside.glob("**/*" if "recursive=True" in self.path else "*")) if inside.is_dir() else []
                self._answer(json.dumps([_entry(root, path) for path in found]).encode()) if found else self._nothing()
            elif path.startswith(files) and (file := root / path.removeprefix(files).partition("/")[2]).is_file():
                self._answer(file.read_bytes(), ETag=f'"{file.name}"')
            elif path.startswith(api):
                self._answer(json.dumps({"id": repository, "sha": COMMIT, "siblings": []}).encode())
            else:
                self._nothing()

        def _nothing(self) -> None:
            self._answer(b"{}", 404, X_Error_Code="EntryNotFound")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["paths"]
            self._answer(json.dumps([_entry(root, root / name) for name in wanted if (root / name).exists()]).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
