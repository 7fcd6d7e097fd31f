"""A server behind a wrapper: it is ended with what it started, and its log keeps what was said before."""

from __future__ import annotations

import shlex
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from modelyard.child_server import ServerError, started_engine

SERVER = """
import signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
if "--deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Healthy).serve_forever()
"""


@pytest.mark.integration
@pytest.mark.parametrize("options", ["", "--deaf"])
def test_engine_behind_a_wrapper_is_ended_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    monkeypatch.setattr("modelyard.child_server.END_SECONDS", 1.0)
    (tmp_path / "engine.py").write_text(textwrap.dedent(SERVER))
    wrapper = tmp_path / "wrapper.sh"
    wrapper.write_text(f'#!/bin/sh\necho begun\n{shlex.quote(sys.executable)} {tmp_path}/engine.py {options} "$@"\necho never\n')
    beats: list[None] = []
    log = tmp_path / "engine.log"
    for _ in range(2):
        with started_engine(f"sh {wrapper}", tmp_path / "model", log, beat=lambda: beats.append(None)) as url:
            assert url.startswith("http://127.0.0.1:")
            started = psutil.Process().children(recursive=True)
            assert [one for one in started if str(tmp_path / "engine.py") in one.cmdline()]
        assert not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path / "engine.py") in (one.info["cmdline"] or ())]
    assert beats
    assert log.read_text().count("begun") == 2
    assert "never" not in log.read_text()


def test_engine_that_takes_too_long_to_start_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match=rf"sleep 60' did not start; see {tmp_path}/log"),
        started_engine("sh -c 'sleep 60'", tmp_path, tmp_path / "log", seconds=0.2),
    ):
        pass


def test_program_of_this_environment_is_found_though_nobody_activated_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "environment" / "bin"
    programs.mkdir(parents=True)
    (programs / "engine").write_text('#!/bin/sh\necho "engine of this environment: $1"\n')
    (programs / "engine").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    for command in ("engine", "env A=1 engine"):
        with pytest.raises(ServerError, match="did not start"), started_engine(command, tmp_path / "model", tmp_path / "log"):
            pass
    assert (tmp_path / "log").read_text() == f"engine of this environment: {tmp_path}/model\n" * 2
