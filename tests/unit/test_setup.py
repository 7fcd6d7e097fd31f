"""``infra/setup.sh``: which installer it takes, and from where torch comes."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDER = f"""#!{sys.executable}
import json, pathlib, sys
words = sys.argv[1:]
with open({{log!r}}, "a") as log:
    log.write(json.dumps(words) + "\\n")
if words[0] == "venv":
    pathlib.Path(words[-1], "bin").mkdir(parents=True)
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or Path("/dev/nvidiactl").exists(), reason="CPU wheels are for Linux machines without an NVIDIA device"
)


@pytest.fixture
def index() -> Iterator[str]:
    """An index that answers."""

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
        server.shutdown()


def installed(tmp_path: Path, torch_index: str) -> tuple[list[list[str]], str]:
    """The words that uv was called with, and what was said."""
    log, tools = tmp_path / "log", tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").write_text(RECORDER.format(log=str(log)))
    (tools / "uv").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin", "TORCH_INDEX": torch_index}
    done = subprocess.run(
        [str(ROOT / "infra/setup.sh"), sys.executable, str(tmp_path / "venv")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return [json.loads(line) for line in log.read_text().splitlines()], done.stdout


def test_machine_without_gpu_takes_cpu_wheels_where_their_index_answers(tmp_path: Path, index: str) -> None:
    (venv, torch, rest), said = installed(tmp_path, index)
    assert venv[0] == "venv"
    assert "--seed" in venv, "sources that are packages are fetched with the environment's pip"
    assert torch[-3:] == ["--index-url", index, "torch==2.13.0"]
    assert rest[-2:] == ["--editable", ".[dev]"]
    assert all(words[words.index("--constraint") + 1] == "constraints.txt" for words in (torch, rest))
    assert "with uv" in said


def test_index_that_does_not_answer_is_passed_over_without_a_word(tmp_path: Path) -> None:
    (_, torch, _), said = installed(tmp_path, "http://127.0.0.1:9/whl/cpu")
    assert "--index-url" not in torch
    assert torch[-1] == "torch==2.13.0"
    assert "CPU wheels" not in said
