"""Input that JSON can spell and a text cannot hold: refused in words, or stored without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from modelyard.execution import ExecutionConfig
from modelyard.model.inference.slots import Slots
from modelyard.model.subject import Subject
from modelyard.serving.app import application
from modelyard.serving.book import Book
from modelyard.serving.content_filter import ContentFilter
from modelyard.serving.conversation import Serving
from modelyard.serving.current import Current
from modelyard.serving.metrics import Metrics
from modelyard.serving.served_model import ServedModel
from tests.unit.serving.test_content_filter import flagging


@pytest.fixture(scope="module")
def served(models: list[Path]) -> Iterator[tuple[TestClient, Book]]:
    subject = Subject.open("m", models[0], ExecutionConfig(threads=1), 2)
    book = Book(f"sqlite:///{models[0].parent}/odd.db")
    current = Current("m", ServedModel.here("m", subject, Slots(subject.engine, 2), 4, ContentFilter(flagging(harm="vile"), 0.5)))
    yield TestClient(application(Serving(current, book, Metrics()))), book
    current.close()


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("chat/completions", r'{"model": "m", "messages": [{"role": "user", "content": "a \ud800"}]}', "messages: holds half"),
        ("completions", r'{"model": "m", "prompt": "\udfff"}', "prompt: holds half"),
        ("completions", r'{"model": "\ud800", "prompt": "a"}', "model: holds half"),
        ("completions", r'{"model": "m", "prompt": "a", "metadata": {"\ud800": 1}}', "metadata: holds half"),
        ("completions", '{"model": "m", "prompt": "a", "logprobs": 0, "stream": true}', "logprobs: not streamed where a content filter"),
        ("feedback", r'{"id": "\ud800"}', "id: holds half"),
        ("feedback", r'{"id": "a", "\ud800": 1}', "the name of a field holds half"),
        ("moderations", r'{"input": ["a", "\ud800"]}', "input: holds half"),
        (
            "completions",
            r'{"model": "m", "prompt": [1, 1000000000000000000000]}',
            "prompt: token 1000000000000000000000 is none of the model's",
        ),
        *(
            (
                "completions",
                f'{{"model": "m", "prompt": {prompt}}}',
                "prompt: must be a text, or a list of at least one token id of 0 or more",
            )
            for prompt in ("[]", "[-1]", '["a", "b"]', "[true]", "3")
        ),
        *(
            ("moderations", f'{{"input": {given}}}', "input: must be a text, or a list of at least one text")
            for given in ("[]", "[1]", "{}")
        ),
    ],
)
def test_what_is_no_text_is_refused_by_its_field(served: tuple[TestClient, Book], path: str, body: str, said: str) -> None:
    refused = served[0].post(f"/v1/{path}", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 400
    assert said in refused.json()["error"]["message"]


def test_body_that_is_too_long_is_refused_whether_or_not_it_says_so(
    served: tuple[TestClient, Book], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.serving.app.LARGEST_BODY", 1 << 20)
    client = TestClient(application(Serving(Current("m", None), None, Metrics())))
    body = b'{"model": "m", "prompt": "' + b"a" * (1 << 20) + b'"}'
    for content in (body, iter([body[:1000], body[1000:]])):
        answer = client.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["message"]) == (413, "the request is larger than 1 MiB")
    assert client.post("/v1/moderations", content=body[:-2] + b'", "input": "a"}').status_code == 413
    assert client.get("/v1/models").status_code == 200


def test_nothing_that_is_kept_holds_nul(served: tuple[TestClient, Book]) -> None:
    client, book = served
    asked = {"model": "m", "prompt": "the\0 king \U0001f600", "max_tokens": 2, "user": "an\0n", "store": True}
    answer = client.post("/v1/completions", json=asked).json()
    said = {"id": f"{answer['id']}\0", "user": "ann\0", "comment": "g\0ood", "better": "\0"}
    assert client.post("/v1/feedback", json=said).status_code == 200
    (kept,) = book.agreed()
    assert (kept.entry.user, kept.entry.prompt, kept.opinions[0].comment, kept.opinions[0].better) == (
        "ann",
        "the king \U0001f600",
        "good",
        "",
    )
