"""The server as its users start it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import openai


class Server:
    """``modelyard serve`` as a process of its own, with OpenAI's client for it."""

    def __init__(self, model: str | Path, *options: str, directory: Path) -> None:
        command = [sys.executable, "-m", "modelyard", "serve", str(model), "--port", "0", "--threads", "1", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=directory)
        self.filter = self.process.stdout.readline()
        said = self.process.stdout.readline()
        found = re.search(r"API at (http://\S+/v1)", said)
        assert found, self.filter + said + self.process.stderr.read()
        self.url = found[1]
        self.client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=60)

    def end(self) -> tuple[int, str]:
        """Exit code and standard error of a server that is told to go."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said
