"""Every served answer leaves one trace in MLflow, with its phases and without what was said unless its user agreed."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowTracingException

from modelyard.adapters.mlflow import traces as mlflow_traces
from modelyard.adapters.mlflow.traces import Traces, trace_id
from modelyard.commands.app import main
from modelyard.serving.book import Book, Entry, Opinion
from modelyard.serving.traces import AnswerTrace, Texts, Timeline
from tests.unit.serving.running import Server
from tests.unit.serving.test_content_filter import flagging

pytestmark = pytest.mark.integration

SECRET = "Which of these is red? Mail ada@example.org"
PHASES = ["answer", "prompt filter", "waiting", "decoding", "answer filter"]


def stored(client: MlflowClient, least: int) -> dict[str, Any]:
    """Receipt -> trace, as soon as there are so many; MLflow has a trace's spans a moment before it has its receipt, and refuses to show one
    that is being written."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        with suppress(MlflowTracingException):
            if experiment := client.get_experiment_by_name("said"):
                every = client.search_traces([experiment.experiment_id])
                found = {one.info.client_request_id: one for one in every if one.info.client_request_id}
                if len(found) >= least:
                    return found
        time.sleep(0.1)
    raise AssertionError("no traces")


def database(tmp_path: Path) -> bytes:
    """All that MLflow has on disk."""
    return b"".join(file.read_bytes() for file in sorted(tmp_path.glob("mlflow.db*")))


def test_answer_leaves_a_trace_with_its_phases_and_its_texts_only_for_a_user_who_agreed_until_they_withdraw(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, book = f"sqlite:///{tmp_path}/mlflow.db", f"sqlite:///{tmp_path}/book.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    client.create_registered_model("m")
    client.create_model_version("m", str(models[0]))
    client.set_registered_model_alias("m", "production", "1")
    flagging(harm="vile").save(tmp_path)
    options = ("--classifier", str(tmp_path), "--book", book, "--traces", "said")
    server = Server("models:/m@production", *options, directory=tmp_path)
    asked = {"model": "m", "max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": SECRET}]}

    whole = server.client.chat.completions.create(**asked, user="ann")
    with pytest.raises(openai.BadRequestError, match="content filter"):
        server.client.chat.completions.create(**{**asked, "messages": [{"role": "user", "content": "vile"}]})
    trace = stored(client, 1)[whole.id]
    spans = {span.name: span for span in trace.data.spans}
    assert list(spans) == PHASES
    root = spans.pop("answer")
    assert {span.parent_id for span in spans.values()} == {root.span_id}
    known = {key: value for key, value in root.attributes.items() if not key.startswith("mlflow.")}
    assert known.pop("first_text_seconds") > 0
    assert known == {
        "receipt": whole.id,
        "model": "m@production",
        "version": "1",
        "weights": whole.system_fingerprint,
        "finish": whole.choices[0].finish_reason,
        "prompt_tokens": whole.usage.prompt_tokens,
        "new_tokens": whole.usage.completion_tokens,
    }
    assert trace.info.token_usage == {
        "input_tokens": whole.usage.prompt_tokens,
        "output_tokens": whole.usage.completion_tokens,
        "total_tokens": whole.usage.total_tokens,
    }
    ends = [instant for span in spans.values() for instant in (span.start_time_ns, span.end_time_ns)]
    assert root.start_time_ns <= min(ends) <= max(ends) <= root.end_time_ns
    assert spans["prompt filter"].end_time_ns <= spans["waiting"].start_time_ns
    assert spans["waiting"].end_time_ns == spans["decoding"].start_time_ns < spans["decoding"].end_time_ns
    assert b"these is red" not in database(tmp_path)

    kept = [chunk.id for chunk in server.client.chat.completions.create(**asked, user="bob", store=True, stream=True)][-1]
    regretted = server.client.chat.completions.create(**asked, user="bob", store=True).id
    found = stored(client, 3)
    assert found[kept].data.spans[0].inputs == [{"role": "user", "content": "Which of these is red? Mail [EMAIL]"}]
    assert found[kept].data.spans[0].outputs == whole.choices[0].message.content
    assert b"ada@example" not in database(tmp_path)
    assert httpx.post(f"{server.url}/feedback", json={"id": regretted, "user": "bob", "consent": False}).status_code == 200
    assert server.end() == (0, "")
    assert set(stored(client, 2)) == {whole.id, kept}

    assert main(["feedback", "--book", book, "--withdraw", "bob", "--store", f"file://{tmp_path}/store"]) == 0
    assert "1 traces removed from MLflow" in capsys.readouterr().out
    assert set(stored(client, 1)) == {whole.id}
    assert main(["feedback", "--book", book, "--withdraw", "bob"]) == 0


def answered(receipt: str, reply: str = "") -> AnswerTrace:
    timeline = Timeline()
    instant = timeline.begun
    phases = timeline.phases(instant, instant, None, instant)
    now = timeline.at(instant)
    return AnswerTrace(receipt, now, now, phases, 1, 1, False, {"receipt": receipt}, Texts(reply, reply) if reply else None)


def test_traces_wait_while_the_server_is_away_and_an_answer_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, lines = f"sqlite:///{tmp_path}/mlflow.db", list[str]()
    client = MlflowClient(uri)
    client.search_experiments()
    real, away, tries, sent = mlflow_traces.client, [True], list[str](), threading.Event()

    def asked(at: str) -> MlflowClient:
        tries.append(at)
        if len(tries) == 2:
            sent.wait(200)  # what it was about to write when all were sent is not what it writes
        if len(tries) <= 2 or away[0]:
            raise ConnectionError("nobody answers")
        return real(at)

    monkeypatch.setattr(mlflow_traces, "client", asked)
    monkeypatch.setattr(mlflow_traces, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(mlflow_traces, "MOST_WAITING", 8)
    writer = Traces(uri, "said", lambda line: None if "removals" in line else lines.append(line))  # which may fall into the outage or not
    writer.send(answered("r0", "words"))
    while not lines:
        time.sleep(0.01)
    for number in range(1, 10):
        writer.send(answered(f"r{number}", "words"))
    writer.forget(["r4"])
    away[0] = False
    sent.set()
    assert set(stored(client, 7)) == {"r2", "r3", "r5", "r6", "r7", "r8", "r9"}
    while len(lines) < 2:
        time.sleep(0.01)
    away[0] = True
    writer.send(answered("late"))
    writer.close()
    assert lines == [
        "MLflow: traces of answers wait (nobody answers)",
        "MLflow: traces of answers are written again",
        "MLflow: traces of answers wait (nobody answers)",
        "MLflow: 3 traces of answers were not written",
    ]
    assert trace_id("r2") in {one.info.trace_id for one in stored(client, 7).values()}


def test_trace_that_mlflow_refuses_holds_up_no_other_and_no_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, lines = f"sqlite:///{tmp_path}/mlflow.db", list[str]()
    monkeypatch.setattr(mlflow_traces, "AGAIN_SECONDS", 0.05)
    writer, client = Traces(uri, "said", lines.append), MlflowClient(uri)
    writer.send(answered("regretted", "words"))
    stored(client, 1)
    writer.send(answered("bad", "\ud800"))
    while not lines:
        time.sleep(0.01)
    writer.forget(["regretted"])
    while "regretted" in stored(client, 0):
        time.sleep(0.01)
    writer.send(answered("good", "words"))
    assert set(stored(client, 1)) == {"good"}
    writer.close()
    refused = "'utf-8' codec can't encode character"
    assert [line.partition(refused)[0] for line in lines] == [
        "MLflow: traces of answers wait (",
        "MLflow: traces of answers are written again",
        "MLflow: 1 traces of answers are refused and dropped (",
        "MLflow: 1 traces of answers were not written",
    ]


def test_removal_that_the_server_could_not_make_is_said_and_made_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, lines, book = f"sqlite:///{tmp_path}/mlflow.db", list[str](), Book(f"sqlite:///{tmp_path}/book.db")
    book.note(Entry("a", "ann", "m", "fp", "Which?", "words", "stop", consent=True))
    writer, client = Traces(uri, "said", lines.append, book), MlflowClient(uri)
    writer.send(answered("a", "words"))
    stored(client, 1)

    def nobody(_: str) -> MlflowClient:
        raise ConnectionError("nobody answers")

    with monkeypatch.context() as away:
        away.setattr(mlflow_traces, "client", nobody)
        book.hear("a", Opinion(None, False, "", ""), "ann", False)
        writer.forget(["a"])
        writer.close()
    assert lines == [
        "MLflow: removals of traces wait (nobody answers)",
        "MLflow: 1 traces of answers were not removed; the next server with --traces does it, or modelyard feedback --withdraw",
    ]

    Traces(uri, "of another line", lines.append, book).close()
    assert stored(client, 0) == {}
    assert book.withdrawn() == []
    assert len(lines) == 2
