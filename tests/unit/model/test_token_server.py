"""Token ids by a server: what is sent, who is asked again, and answers that are none, each in one line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from modelyard.model import token_server
from modelyard.model.token_server import NoReloadError, TokenServer

END = 9
SLOW_SECONDS = 3.0


class Scripted(BaseHTTPRequestHandler):
    """Answers a prompt as its first token says; remembers what it was sent."""

    asked: ClassVar[list[tuple[str, Any]]] = []
    reloads: ClassVar[int] = 200
    places: ClassVar[threading.Semaphore] = threading.Semaphore(64)
    lives: ClassVar[bool] = True
    held: ClassVar[threading.Event] = threading.Event()
    told: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        if self.path == "/health" and not self.lives:
            self._send(503, {})
            return
        self._send(200, {"data": [{"id": "the-policy"}]})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "null")
        before = sum(sent == (self.path, body) for sent in self.asked)
        self.asked.append((self.path, body))
        if self.path != "/v1/completions":
            self._send(self.reloads, {"results": [None]})
            return
        kind = body["prompt"][0]
        if kind == 1 and before == 0:
            self._send(503, {"error": "busy"})
            return
        tokens, logprobs = {2: ([5, 6], [-1.0, -2.0]), 3: ([5, END, 6, 7], [-1.0] * 4), 4: (None, [-1.0]), 5: ([END], [None])}.get(
            kind, ([5, 6, END], [-1.0, -2.0, -3.0])
        )
        if kind == 7:
            if not self.places.acquire(blocking=False):
                self._send(429, {"error": "no place"})
                return
            time.sleep(0.05)
            self.places.release()
        if kind == 8:
            self.held.wait(SLOW_SECONDS)
            self.told.append(kind)
        if kind == 6:
            self._send(400, {"error": "too long"})
            return
        self._send(200, {"choices": [{"token_ids": tokens, "logprobs": {"token_logprobs": logprobs}}]})

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def scripted() -> Iterator[str]:
    Scripted.asked, Scripted.reloads, Scripted.told, Scripted.held = [], 200, [], threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    Scripted.held.set()
    server.shutdown()


@pytest.mark.parametrize("suffix", ["", "/", "/v1"])
def test_completions_carry_ids_seed_and_one_end_and_draw_from_the_whole_distribution(scripted: str, suffix: str) -> None:
    done: list[int] = []
    server = TokenServer(scripted + suffix, requests=2)
    drawn = server.complete([[0, 1], [0], [0, 3]], [7, 8, 9], max_new_tokens=4, end=END, beat=done.append)
    server.close()
    assert drawn.tokens == [[5, 6, END]] * 3
    assert drawn.logprobs == [[-1.0, -2.0, -3.0]] * 3
    assert done == [1, 2, 3]
    sent = sorted((body for _, body in Scripted.asked), key=lambda body: body["seed"])
    assert [(body["prompt"], body["seed"]) for body in sent] == [([0, 1], 7), ([0], 8), ([0, 3], 9)]
    for body in sent:
        del body["prompt"], body["seed"]
        assert body == {
            "model": "the-policy", "max_tokens": 4, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
            "stop_token_ids": [END], "ignore_eos": True, "logprobs": 1, "return_token_ids": True,
        }  # fmt: skip


def test_server_without_a_place_is_asked_until_it_has_answered_others(scripted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_server, "TRIES", 2)
    monkeypatch.setattr(Scripted, "places", threading.Semaphore(1))
    server = TokenServer(scripted, requests=12, pause=0.01)
    assert server.complete([[7, i] for i in range(12)], range(12), max_new_tokens=3, end=END).tokens == [[5, 6, END]] * 12
    assert len(Scripted.asked) > 24, "most were told more than once that there is no place"
    monkeypatch.setattr(Scripted, "places", threading.Semaphore(0))
    monkeypatch.setattr(token_server, "NO_PLACE_SECONDS", 0.1)
    with pytest.raises(ValueError, match=r"429: .*no place"):
        server.complete([[7]], [0], max_new_tokens=3, end=END)


def test_answer_that_does_not_come_is_not_asked_for_again_and_an_error_waits_for_nobody(
    scripted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_server, "SECONDS", httpx.Timeout(0.3))
    with pytest.raises(ValueError, match="ReadTimeout"):
        TokenServer(scripted, 1, pause=0.01).complete([[8]], [0], max_new_tokens=3, end=END)
    assert len(Scripted.asked) == 1
    monkeypatch.setattr(token_server, "SECONDS", httpx.Timeout(60))
    Scripted.told.clear()
    with pytest.raises(ValueError, match="too long"):
        TokenServer(scripted, 2).complete([[8], [6]], [0, 1], max_new_tokens=3, end=END)
    assert not Scripted.told, "the other answer was not waited for"


def test_slow_server_is_heard_of_while_it_lives_and_given_up_when_it_does_not(scripted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_server, "LOOK_SECONDS", 0.2)
    done: list[int] = []
    TokenServer(scripted, 1).complete([[8]], [0], max_new_tokens=3, end=END, beat=done.append)
    assert done.count(0) > 2
    assert done[-1] == 1
    monkeypatch.setattr(Scripted, "lives", False)
    with pytest.raises(ValueError, match="/health: says nothing any more, with 1 requests"):
        TokenServer(scripted, 1).complete([[8]], [0], max_new_tokens=3, end=END)


def test_busy_server_is_asked_again(scripted: str) -> None:
    assert TokenServer(scripted, 1, pause=0.01).complete([[1]], [0], max_new_tokens=3, end=END).tokens == [[5, 6, END]]
    assert len(Scripted.asked) == 2


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (2, r"ended a completion of 2 tokens at token 6; one ends at token 9 or has 4"),
        (3, r"ended a completion of 4 tokens at token 7; one ends at token 9 or has 4"),
        (4, r"sends no token_ids with log-probabilities \(vLLM does from 0\.10\.2 on\)"),
        (5, r"sends no token_ids with log-probabilities"),
        (6, r"400: .*too long"),
    ],
)
def test_answer_that_is_no_completion_of_ours_is_one_line(scripted: str, kind: int, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        TokenServer(scripted, 1).complete([[0], [kind]], [0, 1], max_new_tokens=4, end=END)
    assert "\n" not in str(refusal.value)


def test_reload_names_the_directory_and_empties_the_prefix_cache(scripted: str, tmp_path: Path) -> None:
    TokenServer(scripted, 1).reload(tmp_path)
    asked = {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path)}}
    assert Scripted.asked == [("/collective_rpc", asked), ("/reset_prefix_cache", None)]
    Scripted.reloads = 400
    with pytest.raises(ValueError, match=rf"collective_rpc: 400: .*; it has to read {tmp_path} under this path"):
        TokenServer(scripted, 1).reload(tmp_path)
    Scripted.reloads = 404
    with pytest.raises(NoReloadError, match="collective_rpc: 404"):
        TokenServer(scripted, 1).reload(tmp_path)


def test_server_that_is_away_is_one_line() -> None:
    server = TokenServer("http://127.0.0.1:9", 1, pause=0.0)
    for ask in (server.name, lambda: server.reload(Path("x")), lambda: server.complete([[1]], [0], max_new_tokens=1, end=0)):
        with pytest.raises(ValueError, match=r"^http://127\.0\.0\.1:9/") as refusal:
            ask()
        assert "\n" not in str(refusal.value)
