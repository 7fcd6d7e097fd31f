"""A headless Chromium that is told what to do by its DevTools protocol: a tab for each person, what they type, press, click and see.

Keys and clicks are those of a keyboard and a mouse, so that a page's own handling of them runs. Left out: everything that neither the
pictures of the documentation (:mod:`bench.screenshots`) nor a walk through the pages needs, such as frames, pop-ups and downloads.
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
PAGE_SECONDS = 60.0
"""How long a page may take to load, and what it is waited for to happen."""
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0", "--remote-allow-origins=*")
Scheme = Literal["light", "dark"]
KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Backspace": (8, ""), "Space": (32, " "), "ArrowUp": (38, ""), "ArrowDown": (40, "")}
"""Key with a name -> its Windows virtual key code, and the text that it writes."""
MODIFIERS = {"Alt": 1, "Control": 2, "Shift": 8}
CENTRE = """(() => {
  const found = document.querySelector(%s);
  if (!found) return null;
  found.scrollIntoView({block: "center", behavior: "instant"});
  const box = found.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
  const top = document.elementFromPoint(x, y);
  return {x, y, free: found.contains(top) || [...found.labels ?? []].some((label) => label.contains(top))};
})()"""
"""Where an element lies, and whether a click there reaches it."""


class Connection:
    """The protocol's end of one target."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self._numbers = itertools.count(1)

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result. Raises RuntimeError with the browser's reason."""
        number = next(self._numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (said := self.hear(START_SECONDS)).get("id") != number:
            pass
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error'].get('message')}")
        return dict(said["result"])

    def hear(self, seconds: float) -> dict[str, Any]:
        """The next message. Raises TimeoutError."""
        return dict(json.loads(self.socket.recv(timeout=max(seconds, 0))))


class Page(Connection):
    """One tab."""

    def __init__(self, socket: Any) -> None:
        super().__init__(socket)
        self.problems: list[str] = []
        """What scripts threw and what the page's policy refused."""
        self._loads = 0
        for domain in ("Page", "Runtime", "Log"):
            self.tell(f"{domain}.enable")
        self.tell("Emulation.setFocusEmulationEnabled", enabled=True)  # a tab behind another is worked in like the one before it

    def go(self, url: str) -> None:
        """Open an address and wait until it has loaded. Raises RuntimeError."""
        before = self._loads
        said = self.tell("Page.navigate", url=url)
        if "errorText" in said:
            raise RuntimeError(f"{url}: {said['errorText']}")
        if "loaderId" in said:  # none: another fragment of the page that is shown
            self._loaded(before)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Wait for the page to which what happens inside leads. Raises RuntimeError where none has loaded in ``PAGE_SECONDS``."""
        before = self._loads
        yield
        self._loaded(before)

    def _loaded(self, before: int) -> None:
        deadline = time.monotonic() + PAGE_SECONDS
        while self._loads == before:
            try:
                self.hear(deadline - time.monotonic())
            except TimeoutError:
                raise RuntimeError(f"no page has loaded in {PAGE_SECONDS:.0f} s, {self.run('location.href')} is still shown") from None

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, of a promise what it holds. Raises RuntimeError with what it threw."""
        said = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if thrown := said.get("exceptionDetails"):
            raise RuntimeError(f"{expression}: {thrown.get('exception', thrown).get('description', thrown.get('text'))}")
        return said["result"].get("value")

    def until(self, expression: str, seconds: float = PAGE_SECONDS) -> Any:
        """The value of an expression as soon as it is truthy. Raises RuntimeError with its last value after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(expression)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.run('location.href')}: still {value!r} after {seconds:.0f} s: {expression}")
            time.sleep(0.05)
        return value

    def press(self, keys: str) -> None:
        """Press a key, with those held before it: ``n``, ``Tab``, ``Alt+4``, ``Control+Enter``. Raises KeyError for an unknown one."""
        *held, key = keys.split("+")
        self._strike(key, sum(MODIFIERS[one] for one in held))

    def write(self, text: str) -> None:
        """Type into what has the focus."""
        for letter in text:
            self._strike({" ": "Space", "\n": "Enter"}.get(letter, letter))

    def _strike(self, key: str, held: int = 0) -> None:
        code, text = KEYS.get(key) or (ord(key.upper()) if key.isalnum() and key.isascii() else 0, key)
        shown = {"key": text if key == "Space" else key, "code": f"Digit{key}" if key.isdigit() else key, "windowsVirtualKeyCode": code}
        writes = {"text": text} if text and not held & ~MODIFIERS["Shift"] else {}
        self.tell("Input.dispatchKeyEvent", type="keyDown" if writes else "rawKeyDown", modifiers=held, **shown, **writes)
        self.tell("Input.dispatchKeyEvent", type="keyUp", modifiers=held, **shown)

    def click(self, selector: str) -> None:
        """Click into the middle of the first element that fits. Raises RuntimeError where none can be clicked."""
        at = self.run(CENTRE % json.dumps(selector))
        if at is None or not at["free"]:
            raise RuntimeError(f"{self.run('location.href')}: {selector}: {'there is none' if at is None else 'hidden or covered'}")
        for kind in ("mousePressed", "mouseReleased"):
            self.tell("Input.dispatchMouseEvent", type=kind, x=at["x"], y=at["y"], button="left", clickCount=1)

    def fill(self, fields: Mapping[str, str], form: str = "main form") -> None:
        """Click each named field of a form and type what belongs into it."""
        for name, text in fields.items():
            self.click(f"{form} [name={json.dumps(name)}]")
            self.write(text)

    def submit(self, button: str) -> None:
        """Click a form's button and wait for the page that follows."""
        with self.loading():
            self.click(button)

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file in the field for one."""
        chosen = self.tell("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")["result"]
        self.tell("DOM.setFileInputFiles", files=[str(file)], objectId=chosen["objectId"])

    def remember(self, stored: Mapping[str, str]) -> None:
        """Put ``stored`` into the local storage of every page, before its own scripts run."""
        lines = "".join(f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)});" for key, value in stored.items())
        self.tell("Page.addScriptToEvaluateOnNewDocument", source=f"try {{ {lines} }} catch (error) {{}}")

    def window(self, width: int, height: int, scheme: Scheme = "light", scale: float = 1.0) -> None:
        """Give the window a size in CSS pixels and a colour scheme; ``scale`` pixels of a picture a CSS pixel."""
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, file: Path) -> None:
        """A picture of the window, as PNG."""
        file.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"]))

    def hear(self, seconds: float) -> dict[str, Any]:
        """The next message; what happened to the page is noted. Raises TimeoutError."""
        said = super().hear(seconds)
        match said.get("method"):
            case "Page.loadEventFired":
                self._loads += 1
            case "Runtime.exceptionThrown":
                thrown = said["params"]["exceptionDetails"]
                self.problems.append(thrown.get("exception", thrown).get("description", thrown["text"]))
            case "Log.entryAdded" if (entry := said["params"]["entry"])["level"] == "error" and entry["source"] != "network":
                self.problems.append(entry["text"])
        return said


class Browser(Connection):
    """A running browser."""

    def __init__(self, socket: Any, port: int) -> None:
        super().__init__(socket)
        self.port = port

    @contextmanager
    def tab(self) -> Iterator[Page]:
        """A tab with cookies and storage of its own, as of somebody at another machine."""
        context = self.tell("Target.createBrowserContext")["browserContextId"]
        target = self.tell("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        try:
            with connected(f"ws://127.0.0.1:{self.port}/devtools/page/{target}") as socket:
                yield Page(socket)
        finally:
            self.tell("Target.disposeBrowserContext", browserContextId=context)


def program() -> str | None:
    """The browser that is installed here."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own. Raises RuntimeError where there is no browser."""
    found = program()
    if found is None:
        raise RuntimeError(f"no browser found (looked for {', '.join(BROWSERS)})")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [found, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = _port(Path(profile) / "DevToolsActivePort", running)
            with urlopen(f"http://127.0.0.1:{port}/json/version", timeout=START_SECONDS) as answer:
                address = json.load(answer)["webSocketDebuggerUrl"]
            with connected(address) as socket:
                yield Browser(socket, port)
        finally:
            running.terminate()
            running.wait()


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A socket to one target."""
    from websockets.sync.client import connect

    with connect(address, max_size=None, proxy=None) as socket:
        yield socket


def _port(file: Path, running: subprocess.Popen[bytes]) -> int:
    """The port that a starting browser chose."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and running.poll() is None:
        if file.is_file() and (words := file.read_text().split()):
            return int(words[0])
        time.sleep(0.1)
    raise RuntimeError("the browser did not start")
