"""A trace of a served answer as MLflow keeps it: its row in the table of traces, and a span for the answer and for each of its phases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Span, SpanType, TraceInfo, TraceLocation, TraceState
from mlflow.tracing.constant import SpanAttributeKey, TraceMetadataKey, TraceTagKey

from modelyard.serving.traces import ANSWER_FILTER, DECODING, PROMPT_FILTER, AnswerTrace

NAME = "answer"
PREVIEW = 1000
"""Characters of a text in MLflow's table of traces."""
TYPES = {PROMPT_FILTER: SpanType.GUARDRAIL, ANSWER_FILTER: SpanType.GUARDRAIL, DECODING: SpanType.LLM}


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
