"""A real HTTP server that answers ``/v1/completions`` and ``/v1/chat/completions`` as vLLM does, by a real model behind it; every third
request is turned away first. ``only`` is the one path that it has. :func:`scripted` is one whose chat replies a function gives."""

import contextlib
import json
import string
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from modelyard.formats.feedback import Message
from modelyard.model.asked import Decoding
from modelyard.model.inference.queries import Query
from modelyard.model.inference.score import Scorer
from modelyard.model.subject import Subject


class Completions(BaseHTTPRequestHandler):
    subject: Subject
    only: str | None = None
    busy = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.only and self.path != f"/v1/{self.only}":
            self.send_response(404)
            self.end_headers()
            return
        type(self).busy += 1
        if type(self).busy % 3 == 0:
            self.send_response(429)
            self.end_headers()
            return
        if self.path.endswith("/chat/completions"):
            choice = self.likeliest(body) if body.get("logprobs") else self.replied(body)
        else:
            choice = self.scored(body["prompt"]) if body.get("echo") else self.completed(body)
        answer = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def completed(self, body: dict[str, Any]) -> dict[str, Any]:
        """What the model says next; stops are left to the client."""
        decoding = Decoding(max_new_tokens=body["max_tokens"], temperature=body["temperature"], samples=1, seed=body["seed"])
        (drawn,) = self.subject.complete([body["prompt"]], decoding)
        return {"text": drawn.text, "logprobs": {"token_logprobs": drawn.logprobs}}

    def replied(self, body: dict[str, Any]) -> dict[str, Any]:
        """What the model replies, by its own template."""
        decoding = Decoding(max_new_tokens=body["max_tokens"], temperature=body["temperature"], samples=1, seed=body["seed"])
        (drawn,) = self.subject.reply([messages_of(body)], decoding)
        return {"message": {"role": "assistant", "content": drawn.text}}

    def likeliest(self, body: dict[str, Any]) -> dict[str, Any]:
        """The letters A to T as the likeliest first tokens of a reply."""
        letters = string.ascii_uppercase[: body["top_logprobs"]]
        (found,) = self.subject.likelihoods([[(messages_of(body), letter) for letter in letters]])
        top = [{"token": letter, "logprob": one.total} for letter, one in zip(letters, found, strict=True)]
        return {"message": {"content": "A"}, "logprobs": {"content": [{"token": "A", "top_logprobs": top}]}}

    def scored(self, prompt: str) -> dict[str, Any]:
        """The prompt's own log-probabilities, and those of the likeliest token in each place."""
        encoding = self.subject.encoder._tokenizer.encode(prompt)
        ids, offsets = encoding.ids, [start for start, _ in encoding.offsets]
        scorer = Scorer(self.subject.engine)
        ((whole,),) = scorer.score([Query([ids[:1]], [ids[1:]])])
        each = [one.margin for (one,) in scorer.score([Query([ids[:i]], [[ids[i]]]) for i in range(1, len(ids))])]
        top = [None, *({"?": p - min(margin, 0)} for p, margin in zip(whole.logprobs, each, strict=True))]
        return {"text": prompt, "logprobs": {"token_logprobs": [None, *whole.logprobs], "text_offset": offsets, "top_logprobs": top}}

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def messages_of(body: dict[str, Any]) -> tuple[Message, ...]:
    """The conversation of a request."""
    return tuple(Message.model_validate(one) for one in body["messages"])


@contextlib.contextmanager
def serving(subject: Subject, only: str | None = None) -> Iterator[str]:
    """The server's ``http://host:port/v1`` while it runs. One request at a time: engines are not thread-safe."""
    handler = type("Handler", (Completions,), {"subject": subject, "only": only, "busy": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()


class Scripted(BaseHTTPRequestHandler):
    reply: Callable[[str], tuple[str, str] | None]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = type(self).reply(body["messages"][-1]["content"])
        self.send_response(400 if said is None else 200)
        self.end_headers()
        if said is not None:
            choice = {"message": {"role": "assistant", "content": said[0]}, "finish_reason": said[1]}
            self.wfile.write(json.dumps({"choices": [choice]}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextlib.contextmanager
def scripted(reply: Callable[[str], tuple[str, str] | None]) -> Iterator[str]:
    """A chat server's ``http://host:port/v1``: ``reply`` gives text and ``finish_reason`` to what the user said last, or None, which is refused."""
    handler = type("Handler", (Scripted,), {"reply": staticmethod(reply)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
