"""A real server that is busy, refuses parameters, answers what is no completion or dies: what it is asked then, and what is kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelyard.desk.red_team.target import answer as target_answer
from modelyard.exit_codes import FAILED, code_of
from modelyard.model.asked import Decoding
from modelyard.model.completions_client import UnreachableError
from modelyard.model.endpoint import Endpoint

GREEDY = Decoding(max_new_tokens=5, temperature=0.0, samples=1, seed=0, stops=("\n",))
Answer = tuple[int, Any, dict[str, str]]


def chosen(text: str) -> Answer:
    return 200, {"choices": [{"message": {"content": text}, "text": text}]}, {}


def unsupported(name: str) -> Answer:
    return 400, {"error": {"message": f"Unsupported parameter: '{name}'.", "param": name, "code": "unsupported_parameter"}}, {}


@contextmanager
def server(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its address as an endpoint, and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            status, content, headers = answer(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write((content if isinstance(content, str) else json.dumps(content)).encode())

        def log_message(self, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}/v1#m", asked
        finally:
            running.shutdown()


@pytest.mark.parametrize(
    "content",
    [{"error": {"message": "quota", "code": 429}}, {"choices": []}, {"choices": None}, {"choices": ["x"]}, "<html>quota</html>", "[]"],
)
def test_answer_that_is_no_completion_is_one_line_with_its_beginning(content: Any) -> None:
    said = content if isinstance(content, str) else json.dumps(content)
    with server(lambda body: (200, content, {})) as (url, _), pytest.raises(ValueError, match="answers what is no completion: ") as error:
        Endpoint(url).reply(["x"], GREEDY)
    assert said in str(error.value)


def test_completion_without_a_text_is_one_line() -> None:
    with server(lambda body: (200, {"choices": [{}]}, {})) as (url, _), pytest.raises(ValueError, match="a completion without a text"):
        Endpoint(url).complete(["x"], GREEDY)


def test_parameters_that_a_server_refuses_by_name_are_renamed_or_left_out_for_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 1)

    def reasoning(body: dict[str, Any]) -> Answer:
        return next((unsupported(name) for name in ("max_tokens", "temperature", "stop") if name in body), chosen("yes"))

    with server(reasoning) as (url, asked):
        model = Endpoint(url)
        replies = model.reply(["a", "b"], GREEDY)

    assert [one.text for one in replies] == ["yes", "yes"]
    assert len(asked) == 5, "three refusals, once each"
    assert set(asked[-1]) == {"model", "messages", "max_completion_tokens", "seed"}
    assert asked[-1]["max_completion_tokens"] == 5
    assert model.refused == ["max_tokens", "stop", "temperature"]


@pytest.mark.parametrize(
    "error",
    [
        {
            "message": "max_tokens is too large: 8192. This model supports at most 4096 completion tokens, whereas you provided 8192.",
            "param": "max_tokens",
        },
        {"message": "'messages' is not supported", "param": "messages"},
    ],
)
def test_other_refusals_end_the_asking_with_what_was_said(error: dict[str, str]) -> None:
    with server(lambda body: (400, {"error": error}, {})) as (url, asked), pytest.raises(ValueError, match=error["message"]) as raised:
        Endpoint(url).reply(["x"], GREEDY)
    assert len(asked) == 1
    assert not isinstance(raised.value, UnreachableError)


@pytest.mark.parametrize(
    "after", [{"Retry-After": "7"}, {"Retry-After": "Mon, 30 Nov 2026 10:00:09 GMT", "Date": "Mon, 30 Nov 2026 10:00:02 GMT"}]
)
def test_busy_server_is_waited_for_as_long_as_it_asks(after: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("modelyard.model.completions_client.ended_within", lambda ended, seconds: waits.append(seconds))
    turns = iter([(429, {}, after), (503, {}, {}), chosen("yes")])
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda self, timestamp=None: after.get("Date", "x"))
    without_date = {key: value for key, value in after.items() if key != "Date"}

    def answer(body: dict[str, Any]) -> Answer:
        status, content, headers = next(turns)
        return status, content, without_date if headers else {}

    with server(answer) as (url, _):
        (one,) = Endpoint(url).reply(["x"], GREEDY)

    assert one.text == "yes"
    assert waits == [7.0, 2.0]


INTERRUPTED = """
import sys
from modelyard.model.asked import Decoding
from modelyard.model.endpoint import Endpoint
Endpoint(sys.argv[1]).reply(["x"] * 20, Decoding(max_new_tokens=5, temperature=0.0, samples=1, seed=0, stops=()))
"""


def test_interrupt_ends_the_waiting_for_a_busy_server_and_the_waiting_is_said() -> None:
    with server(lambda body: (429, "later", {"Retry-After": "100"})) as (url, asked):
        command = [sys.executable, "-c", INTERRUPTED, url]
        asking = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
        )
        while len(asked) < 8:
            time.sleep(0.05)
        asking.send_signal(signal.SIGINT)
        _, said = asking.communicate(timeout=30)
    assert "KeyboardInterrupt" in said
    assert ": 429: " in said
    assert "; asking again in 100 s" in said


def test_server_that_stays_busy_or_says_nothing_failed_and_is_no_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(lambda body: (429, "later", {})) as (url, asked), pytest.raises(UnreachableError, match="429: later") as busy:
        Endpoint(url, pause=0.0).reply(["x"], GREEDY)
    with pytest.raises(UnreachableError, match="ConnectError") as silent:
        Endpoint(url, pause=0.0).reply(["x"], GREEDY)

    assert len(asked) == 9
    assert code_of(busy.value) == code_of(silent.value) == FAILED
    assert isinstance(busy.value, ValueError), "as all who ask a model know it"


def test_replies_that_were_finished_when_one_failed_are_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 2)
    prompts = [f"prompt {k}" for k in range(6)]
    whole = threading.Event()

    def answer(body: dict[str, Any]) -> Answer:
        said = body["messages"][-1]["content"]
        return (500, "dead", {}) if said == "prompt 3" and not whole.is_set() else chosen(said.upper())

    with server(answer) as (url, asked):
        first = Endpoint(url, pause=0.0)
        first.keep(tmp_path / "a.replies")
        with pytest.raises(UnreachableError):
            first.reply(prompts, GREEDY)
        answered = {body["messages"][-1]["content"] for body in asked} - {"prompt 3"}
        whole.set()
        asked.clear()
        second = Endpoint(url)
        second.keep(tmp_path / "a.replies")
        replies = second.reply(prompts, GREEDY)
        second.forget()

    assert [one.text for one in replies] == [prompt.upper() for prompt in prompts]
    assert {"prompt 0", "prompt 1", "prompt 2"} <= answered
    assert {body["messages"][-1]["content"] for body in asked} == set(prompts) - answered
    assert not (tmp_path / "a.replies").exists()


def test_choice_that_cannot_be_read_is_asked_for_again_after_a_restart(tmp_path: Path) -> None:
    given: list[Any] = [None, {"content": [{"top_logprobs": [{"token": "A", "logprob": -0.5}]}]}]

    with server(lambda body: (200, {"choices": [{"message": {"content": "A"}, "logprobs": given.pop(0)}]}, {})) as (url, asked):
        for message in ("gives no log-probabilities", ""):
            model = Endpoint(url)
            model.keep(tmp_path / "a.replies")
            if message:
                with pytest.raises(ValueError, match=message):
                    model.letters(["x"], "AB")
            else:
                assert model.letters(["x"], "AB") == model.letters(["x"], "AB") == [[-0.5, -0.5]]

    assert len(asked) == 2


def test_text_is_cut_at_all_stops_though_a_server_takes_four() -> None:
    stops, said = tuple(f"Q{number}:" for number in range(10)), "yes Q9: no Q4: so"

    with server(lambda body: (200, {"choices": [{"message": {"content": said}, "text": said}]}, {})) as (url, asked):
        decoding = GREEDY.model_copy(update={"stops": stops})
        found = Endpoint(url).reply(["x"], decoding) + Endpoint(url).complete(["x"], decoding)

    assert [one.text for one in found] == ["yes "] * 2, "at the first of them in the text, whichever were sent"
    assert [body["stop"] for body in asked] == [list(stops[:4])] * 2


@pytest.mark.parametrize(("text", "whole"), [("yes\nno", True), ("yes", False)])
def test_text_that_a_stop_ends_here_was_not_cut(text: str, whole: bool) -> None:
    choice = {"message": {"content": text}, "text": text, "finish_reason": "length"}
    with server(lambda body: (200, {"choices": [choice]}, {})) as (url, _):
        found = Endpoint(url).reply(["x"], GREEDY) + Endpoint(url).complete(["x"], GREEDY)

    assert [(one.text, one.ended) for one in found] == [("yes", whole)] * 2


@pytest.mark.parametrize(("after", "waited"), [("9", [9.0, 9.0]), ("600", [])])
def test_red_teamer_waits_for_a_busy_target_twenty_seconds_in_all(after: str, waited: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("modelyard.model.completions_client.ended_within", lambda ended, seconds: waits.append(seconds))

    with server(lambda body: (429, "later", {"Retry-After": after})) as (url, _), pytest.raises(UnreachableError, match="429: later"):
        target_answer(url, [{"role": "user", "content": "x"}], 0, 5)

    assert waits == waited


@pytest.mark.parametrize(("status", "silent"), [(429, True), (503, True), (500, False), (502, False)])
def test_server_is_silent_where_it_would_answer_no_other_request_either(status: int, silent: bool) -> None:
    with server(lambda body: (status, "dead", {})) as (url, _):
        model = Endpoint(url, pause=0.0)
        with pytest.raises(UnreachableError) as raised:
            model.reply(["x"], GREEDY)

    assert model.silent(raised.value) is silent
    assert not Endpoint(url).silent(raised.value), "another's error, a judge's say"
    with pytest.raises(UnreachableError) as gone:
        model.reply(["x"], GREEDY)
    assert model.silent(gone.value)
