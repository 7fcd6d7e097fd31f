"""Decoding by another server: our own stands in for vLLM, whose dialect it speaks, and the answers are those of one process."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from modelyard.commands.app import main
from modelyard.serving.batcher import Asked, FullError, Piece
from modelyard.serving.upstream import Upstream
from tests.unit import small_model
from tests.unit.serving.running import Server

SAID = [{"role": "user", "content": "Which of these is red?"}]
STANDS_IN = f"{shlex.quote(sys.executable)} -m modelyard serve --classifier none --book none --threads 1"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("upstream")
    small_model.write(root)
    return root / "hf"


@pytest.fixture(scope="module")
def own(model: Path) -> Iterator[Server]:
    """The model as one process serves it."""
    server = Server(model, "--classifier", "none", directory=model.parent)
    yield server
    assert server.end() == (0, "")


def answers(server: Server) -> list[object]:
    """Whole and streamed, drawn and greedy, text and tokens, with everything that is said beside."""
    name = server.client.models.list().data[0].id
    chat, text = server.client.chat.completions, server.client.completions
    whole = chat.create(model=name, messages=SAID, max_tokens=12, seed=7, logprobs=True)
    pieces = [piece.choices[0].delta.content or "" for piece in chat.create(model=name, messages=SAID, max_tokens=12, seed=7, stream=True)]
    stopped = text.create(model=name, prompt="red or", max_tokens=24, temperature=0, stop=[whole.choices[0].message.content[2:4]])
    tokens = text.create(model=name, prompt=[5, 6, 7], max_tokens=8, temperature=0, logprobs=1)
    return [
        [whole.choices[0].to_dict(), whole.usage.to_dict(), whole.system_fingerprint],
        "".join(pieces),
        [stopped.choices[0].text, stopped.choices[0].finish_reason, stopped.usage.to_dict()],
        [tokens.choices[0].text, tokens.choices[0].logprobs.token_logprobs],
    ]


@pytest.mark.integration
def test_answers_of_another_engine_are_those_of_ours_and_it_ends_with_the_server(own: Server, model: Path, tmp_path: Path) -> None:
    other = Server(model, "--engine", STANDS_IN, directory=tmp_path)
    engine = psutil.Process(other.process.pid).children(recursive=True)
    assert engine
    expected, found = answers(own), answers(other)
    assert found[1:3] == expected[1:3]
    assert found[0][1:] == expected[0][1:]
    assert _near(found[0][0], expected[0][0])
    assert found[3] == pytest.approx(expected[3]) if isinstance(expected[3], float) else _near(found[3], expected[3])
    assert other.end() == (0, "")
    assert not any(process.is_running() for process in engine)


def _near(found: object, expected: object) -> bool:
    """Equal but for the last digits of numbers."""
    if isinstance(expected, float):
        return found == pytest.approx(expected, abs=1e-5)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_near(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_near, found, expected))
    return found == expected


@pytest.mark.integration
def test_stream_says_tokens_only_where_nothing_is_held(own: Server) -> None:
    body = {"model": "hf", "prompt": [5, 6, 7], "max_tokens": 6, "temperature": 0, "stream": True, "logprobs": 1, "return_token_ids": True}
    lines = httpx.post(f"{own.url}/completions", json=body, timeout=60).text.splitlines()
    choices = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
    ids = [token for choice in choices for token in choice["token_ids"]]
    assert len(ids) == len([one for choice in choices for one in choice["logprobs"]["token_logprobs"]]) == 6
    whole = own.client.completions.create(model="hf", prompt=[5, 6, 7], max_tokens=6, temperature=0)
    assert "".join(choice["text"] for choice in choices) == whole.choices[0].text
    ended = own.client.completions.create(
        model="hf", prompt=[5, 6, 7], max_tokens=6, temperature=0, extra_body={"stop_token_ids": [ids[2]]}
    )
    assert ended.choices[0].finish_reason == "stop"
    assert ended.usage.completion_tokens == ids.index(ids[2]) + 1
    with pytest.raises(openai.BadRequestError, match="prompt: token 99999 is none of the model's"):
        own.client.completions.create(model="hf", prompt=[5, 99999])


class Strange(BaseHTTPRequestHandler):
    """A server that answers as the prompt's first token says."""

    def do_GET(self) -> None:
        self._send(b'{"data": [{"id": "m"}]}', "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = body["prompt"][0]
        if kind == 0:
            self.send_error(500, "out of memory")
            return
        piece = {"choices": [{"text": "a", "finish_reason": None, "token_ids": [1], "logprobs": {"token_logprobs": [-1.0]}}]}
        bare = {"choices": [{"text": "a", "finish_reason": None, "logprobs": None}]}
        events = {1: [piece], 2: [bare], 3: [{"error": {"message": "engine died"}}], 4: [{"error": "no memory"}], 5: [{"choices": ["a"]}]}[
            kind
        ]
        self._send("".join(f"data: {json.dumps(one)}\n\n" for one in events).encode(), "text/event-stream")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def strange() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Strange)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()


def ask(upstream: Upstream, kind: int) -> Piece:
    """The last piece of an answer to a prompt of this kind."""
    pieces: list[Piece] = []
    ended = threading.Event()

    def tell(piece: Piece) -> None:
        pieces.append(piece)
        if piece.reason:
            ended.set()

    upstream.submit(Asked([kind], 4, 0.0, 1.0, 0, (), frozenset()), tell)
    assert ended.wait(10)
    return pieces[-1]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (0, "status 500"),
        (1, "the answer broke off"),
        (2, "sends no token_ids with log-probabilities"),
        (3, "engine died"),
        (4, "no memory"),
        (5, "'str' object"),
    ],
)
def test_engine_that_fails_ends_the_answer_with_one_line_and_is_asked_again(strange: str, kind: int, said: str) -> None:
    upstream = Upstream(strange, lambda ids: "x" * len(ids), most=2)
    for _ in range(2):
        piece = ask(upstream, kind)
        assert piece.reason == "error"
        assert said in piece.problem
        assert "\n" not in piece.problem
    upstream.close()
    assert upstream.load == (0, 0)


def test_engine_takes_no_more_than_its_number_and_one_that_is_away_is_named(strange: str) -> None:
    upstream = Upstream(strange, lambda ids: "", most=0)
    with pytest.raises(FullError, match="0 requests are answered or wait"):
        upstream.submit(Asked([1], 4, 0.0, 1.0, 0, (), frozenset()), lambda piece: None)
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:9/v1/models: names no model"):
        Upstream("http://127.0.0.1:9/v1", lambda ids: "", most=1)


@pytest.mark.parametrize(("engine", "code", "said"), [("no-such-program serve", 1, "no-such-program"), ("false", 1, "did not start; see ")])
def test_engine_that_does_not_start_is_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], engine: str, code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path))
    assert main(["serve", str(model), "--engine", engine]) == code
    err = capfd.readouterr().err
    assert said in err
    assert err.count("\n") == 1
