"""A headless Chromium that is told what to do by its DevTools protocol: window, colour scheme, what a page finds in its storage, a picture.

Only what pictures need. Left out: waiting for single elements; a page is given time to settle.
"""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.request import urlopen

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_SECONDS = 240.0
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0", "--remote-allow-origins=*")


class Page:
    """One tab."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self._numbers = itertools.count(1)

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result. Raises RuntimeError with the browser's reason."""
        number = next(self._numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self.socket.recv(timeout=START_SECONDS))
            if said.get("id") == number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error'].get('message')}")
                return dict(said["result"])

    def remember(self, stored: Mapping[str, str]) -> None:
        """Put ``stored`` into the local storage of every page, before its own scripts run."""
        lines = "".join(f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)});" for key, value in stored.items())
        self.tell("Page.addScriptToEvaluateOnNewDocument", source=f"try {{ {lines} }} catch (error) {{}}")

    def picture(
        self,
        url: str,
        file: Path,
        width: int = 1400,
        height: int = 1000,
        scheme: Literal["light", "dark"] = "light",
        scale: float = 1.0,
        settle: float = 1.0,
    ) -> None:
        """A picture of the window after ``settle`` seconds; ``scale`` pixels a CSS pixel."""
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.tell("Page.navigate", url=url)
        time.sleep(settle)
        file.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser() -> Iterator[Page]:
    """A tab of a browser with a profile of its own. Raises RuntimeError where there is no browser."""
    from websockets.sync.client import connect

    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if program is None:
        raise RuntimeError(f"no browser found (looked for {', '.join(BROWSERS)})")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = _port(Path(profile) / "DevToolsActivePort", running)
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=START_SECONDS) as answer:
                tab = next(one for one in json.load(answer) if one["type"] == "page")
            with connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
                page = Page(socket)
                page.tell("Page.enable")
                yield page
        finally:
            running.terminate()
            running.wait()


def _port(file: Path, running: subprocess.Popen[bytes]) -> int:
    """The port that a starting browser chose."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and running.poll() is None:
        if file.is_file() and (words := file.read_text().split()):
            return int(words[0])
        time.sleep(0.1)
    raise RuntimeError("the browser did not start")
