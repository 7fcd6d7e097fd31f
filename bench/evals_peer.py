"""lm-evaluation-harness's own requests, replies and verdicts of a task, item by item, beside records of ours.

What surrounds them in its ``simple_evaluate`` (its tables, its log) is not run, so it is not timed against it either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from modelyard.formats.records import Record


class Verdict(NamedTuple):
    """What a program says of one item."""

    scores: dict[str, float]
    """Of each of its metrics, and of each of its filters where it has several."""
    choice: tuple[int, int] | None
    """The likeliest option, by sum and by characters; of a last word whether it is greedy, twice; None of a reply."""
    reply: str


def peer_verdicts(model: Any, tasks: Sequence[Any]) -> list[Verdict]:
    """Every item of every task, in order."""
    return [verdict for task in tasks for verdict in (generated if task.OUTPUT_TYPE == "generate_until" else scored)(model, task)]


def scored(model: Any, task: Any) -> list[Verdict]:
    """Items of likelihoods."""
    replies: dict[int, list[tuple[int, Any]]] = {}
    for request, reply in zip(task.instances, model.loglikelihood(task.instances, disable_tqdm=True), strict=True):
        replies.setdefault(request.doc_id, []).append((request.idx, reply))
    found = []
    for number, doc in enumerate(task.eval_docs):
        said = [reply for _, reply in sorted(replies[number], key=lambda pair: pair[0])]
        verdict = task.process_results(doc, said if len(said) > 1 else [said[0]])
        scores = {key: float(value) for key, value in verdict.items() if key in ("acc", "acc_norm")}
        found.append(Verdict(scores, choice_of(task, doc, said), ""))
    return found


def choice_of(task: Any, doc: dict[str, Any], said: Sequence[tuple[float, bool]]) -> tuple[int, int]:
    """The options that the likelihoods choose."""
    if len(said) == 1:
        return int(said[0][1]), int(said[0][1])
    totals = [float(total) for total, _ in said]
    options = task.doc_to_choice(doc)
    by_length = [total / len(text) for total, text in zip(totals, options, strict=True)]
    return totals.index(max(totals)), by_length.index(max(by_length))


def generated(model: Any, task: Any) -> list[Verdict]:
    """Items of replies, by every filter of the task."""
    for one in task.instances:
        one.resps, one.filtered_resps = [], {}
    said = model.generate_until(task.instances, disable_tqdm=True)
    for request, reply in zip(task.instances, said, strict=True):
        request.resps.append(reply)
    task.apply_filters()
    docs = list(task.eval_docs)
    found = []
    for request, reply in zip(task.instances, said, strict=True):
        scores: dict[str, float] = {}
        for name, filtered in request.filtered_resps.items():
            verdict = task.process_results(docs[request.doc_id], [filtered])
            scores |= {f"{metric} ({name})": float(value) for metric, value in verdict.items()}
        found.append(Verdict(scores, None, reply))
    return found


def our_verdict(record: Record, written: bool) -> Verdict:
    """A record of ours in the same words; ``written``: it is of a reply."""
    if written:
        return Verdict({"score": float(record.score)}, None, record.output)
    if record.choice < 0:
        hit = int(bool(record.score))
        return Verdict({"acc": float(hit)}, (hit, hit), "")
    scores: dict[str, float] = {key: record.values[key] for key in ("acc", "acc_norm") if key in record.values}
    return Verdict(scores, (record.choice, record.choice_normalised), "")


def same_reply(a: Verdict, b: Verdict) -> bool:
    """Whether one reply begins the other: the programs end at stops of their own."""
    one, other = a.reply.strip(), b.reply.strip()
    return one.startswith(other) or other.startswith(one)
