"""Traces of served answers in an MLflow experiment, one an answer, its phases as spans (:mod:`modelyard.serving.traces`).

A thread of its own writes them, many in one request. While the server is away they wait, the oldest give way to new ones, and that is
said once: an answer never waits for a trace and never fails by one. A trace's id follows from its answer's receipt, so writing it again
after an interruption changes nothing, and who takes back consent is forgotten without a search. Left out: MLflow's own tracing
functions, which write in the thread that answers, warn at every trace and know one server a process.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Span, SpanType, TraceInfo, TraceLocation, TraceState
from mlflow.tracing.client import TracingClient
from mlflow.tracing.constant import SpanAttributeKey, TraceMetadataKey, TraceTagKey

from modelyard.adapters.mlflow.server import LONGEST, client, experiment_id
from modelyard.complaint import complaint
from modelyard.serving.traces import ANSWER_FILTER, DECODING, PROMPT_FILTER, AnswerTrace

MOST_WAITING = 2000
"""Traces that wait while the server is away."""
AT_ONCE = 50
"""Traces that are written together."""
AGAIN_SECONDS = 5.0
"""Between two tries at a server that is away."""
LAST_SECONDS = 10.0
"""How long a server that goes waits for its last traces."""
MOST_DELETED = 100
"""Traces that MLflow deletes in one request."""
NAME = "answer"
MARK = "modelyard.traces"
"""Tag of the experiments that hold traces of served answers."""
PREVIEW = 1000
"""Characters of a text in MLflow's table of traces."""
TYPES = {PROMPT_FILTER: SpanType.GUARDRAIL, ANSWER_FILTER: SpanType.GUARDRAIL, DECODING: SpanType.LLM}


class Traces:
    """One experiment's writer; a :class:`modelyard.serving.traces.Tracer`."""

    def __init__(self, uri: str, experiment: str, say: Callable[[str], None]) -> None:
        """``experiment`` is made where there is none, when the first trace is written."""
        self.uri, self.experiment, self.say = uri, experiment, say
        self._waiting: deque[AnswerTrace] = deque()
        self._unwanted: deque[str] = deque()
        self._dropped, self._closing, self._said = 0, False, ""
        self._place = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def send(self, trace: AnswerTrace) -> None:
        """Keep a trace; the oldest that waits gives way where too many do."""
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(trace)
            self._changed.notify()

    def forget(self, receipts: Sequence[str]) -> None:
        """Remove what was written of these answers, and what waits to be."""
        with self._changed:
            self._waiting = deque(one for one in self._waiting if one.receipt not in receipts)
            self._unwanted.extend(receipts)
            self._changed.notify()

    def close(self) -> None:
        """Write what waits, for as long as ``LAST_SECONDS``; says how many traces were lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(LAST_SECONDS)
        with self._changed:
            lost = self._dropped + len(self._waiting)
        if lost:
            self.say(f"MLflow: {lost} traces of answers were not written")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._unwanted or self._closing):
                    self._changed.wait()
                if not (self._waiting or self._unwanted):
                    return
                traces = [self._waiting[n] for n in range(min(AT_ONCE, len(self._waiting)))]
                unwanted = list(self._unwanted)
            failed = self._tried(traces, unwanted)
            if failed and failed != self._said:
                self.say(f"MLflow: traces of answers wait ({failed})")
            elif self._said and not failed:
                self.say("MLflow: traces of answers are written again")
            self._said = failed
            with self._changed:
                if failed and self._closing:
                    return
                if failed:
                    self._changed.wait_for(lambda: self._closing, AGAIN_SECONDS)
                else:
                    self._done(traces, unwanted)

    def _tried(self, traces: Sequence[AnswerTrace], unwanted: Sequence[str]) -> str:
        """Write and remove; why that failed, "" where it did not."""
        try:
            server = client(self.uri)
            self._place = self._place or marked(server, experiment_id(server, self.uri, self.experiment, {}))
            if traces:
                write(TracingClient(self.uri), self._place, traces)
            delete(server, self._place, unwanted)
        except Exception as error:  # MLflow, its store and its HTTP client raise a dozen types; whoever asks is answered all the same
            return complaint(error)[:LONGEST]
        return ""

    def _done(self, traces: Sequence[AnswerTrace], unwanted: Sequence[str]) -> None:
        """Take from the queues what was written and removed; what was dropped or unwanted meanwhile is not there any more."""
        written = {one.receipt for one in traces}
        while self._waiting and self._waiting[0].receipt in written:
            self._waiting.popleft()
        for _ in unwanted:
            self._unwanted.popleft()


def withdraw(uri: str, receipts: Sequence[str]) -> int:
    """Remove the traces of these answers from every experiment that has any; how many there were."""
    server, removed = client(uri), 0
    for experiment in server.search_experiments(filter_string=f"tags.`{MARK}` = 'true'"):
        removed += delete(server, experiment.experiment_id, receipts)
    return removed


def marked(server: MlflowClient, experiment: str) -> str:
    """The experiment, once it says that it holds traces."""
    server.set_experiment_tag(experiment, MARK, "true")
    return experiment


def delete(server: MlflowClient, experiment: str, receipts: Sequence[str]) -> int:
    """Remove the traces of these answers from an experiment; how many there were."""
    ids = [trace_id(receipt) for receipt in receipts]
    return sum(
        int(server.delete_traces(experiment, trace_ids=ids[start : start + MOST_DELETED])) for start in range(0, len(ids), MOST_DELETED)
    )


def write(server: TracingClient, experiment: str, traces: Sequence[AnswerTrace]) -> None:
    """Write traces, their spans in one request. Raises what MLflow raises."""
    server.log_spans(experiment, [span for trace in traces for span in spans(trace)])
    for trace in traces:
        server.start_trace(info(trace, experiment))


def trace_id(receipt: str) -> str:
    """MLflow's id of an answer's trace."""
    return f"tr-{hashlib.sha256(receipt.encode()).hexdigest()[:32]}"


def info(trace: AnswerTrace, experiment: str) -> TraceInfo:
    """What MLflow's table of traces shows."""
    known = {TraceMetadataKey.TOKEN_USAGE: json.dumps(usage(trace))}
    begun = int(trace.begun * 1000)
    return TraceInfo(
        trace_id=trace_id(trace.receipt),
        trace_location=TraceLocation.from_experiment_id(experiment),
        request_time=begun,
        execution_duration=int(trace.ended * 1000) - begun,
        state=TraceState.ERROR if trace.failed else TraceState.OK,
        request_preview=preview(trace.texts.prompt) if trace.texts else None,
        response_preview=preview(trace.texts.reply) if trace.texts else None,
        client_request_id=trace.receipt,
        trace_metadata=known,
        tags={TraceTagKey.TRACE_NAME: NAME, **{key: str(value) for key, value in trace.attributes.items() if isinstance(value, str)}},
    )


def spans(trace: AnswerTrace) -> list[Span]:
    """The answer and its phases."""
    said: dict[str, Any] = {}
    if trace.texts:
        said = {SpanAttributeKey.INPUTS: trace.texts.prompt, SpanAttributeKey.OUTPUTS: trace.texts.reply}
    attributes = {**trace.attributes, **said, SpanAttributeKey.SPAN_TYPE: SpanType.CHAT_MODEL, SpanAttributeKey.CHAT_USAGE: usage(trace)}
    found = [span(trace, 0, NAME, trace.begun, trace.ended, attributes)]
    for number, phase in enumerate(trace.phases, 1):
        known = {**phase.attributes, SpanAttributeKey.SPAN_TYPE: TYPES.get(phase.name, SpanType.TASK)}
        found.append(span(trace, number, phase.name, phase.begun, phase.ended, known))
    return found


def span(trace: AnswerTrace, number: int, name: str, begun: float, ended: float, attributes: Mapping[str, Any]) -> Span:
    """A span of the trace's ``number``; 0 is the whole answer, the parent of the rest. MLflow keeps attributes as JSON texts."""
    own = trace_id(trace.receipt)

    def id_of(place: int) -> str:
        return hashlib.sha256(f"{trace.receipt}/{place}".encode()).hexdigest()[:16]

    known = {**attributes, SpanAttributeKey.REQUEST_ID: own}
    return Span.from_dict(
        {
            "trace_id": own,
            "span_id": id_of(number),
            "parent_span_id": id_of(0) if number else None,
            "name": name,
            "start_time_unix_nano": int(begun * 1e9),
            "end_time_unix_nano": int(ended * 1e9),
            "attributes": {key: json.dumps(value, ensure_ascii=False) for key, value in known.items()},
            "status": {"code": "ERROR" if trace.failed and not number else "OK", "message": ""},
        }
    )


def usage(trace: AnswerTrace) -> dict[str, int]:
    """Tokens by MLflow's names."""
    total = trace.prompt_tokens + trace.new_tokens
    return {"input_tokens": trace.prompt_tokens, "output_tokens": trace.new_tokens, "total_tokens": total}


def preview(said: Any) -> str:
    """The beginning of what was said."""
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    return text[:PREVIEW]
