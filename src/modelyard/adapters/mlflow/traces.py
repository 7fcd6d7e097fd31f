"""Traces of served answers in an MLflow experiment, one an answer, its phases as spans (:mod:`modelyard.serving.traces`).

A thread of its own writes them, many in one request. While the server is away they wait, the oldest give way to new ones, and that is
said once: an answer never waits for a trace and never fails by one. A trace that MLflow refuses while it takes others is dropped. A
trace's id follows from its answer's receipt, so writing it again after an interruption changes nothing, and who takes back consent is
forgotten without a search: first, whatever becomes of what is to be written, and by a later server where this one could not. Left out:
MLflow's own tracing functions, which write in the thread that answers, warn at every trace and know one server a process.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.tracing.client import TracingClient

from modelyard.adapters.mlflow.pages import every
from modelyard.adapters.mlflow.server import LONGEST, client, experiment_id
from modelyard.adapters.mlflow.trace_spans import info, spans, trace_id
from modelyard.complaint import complaint
from modelyard.serving.book import Book
from modelyard.serving.traces import AnswerTrace

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
MARK = "modelyard.traces"
"""Tag of the experiments that hold traces of served answers."""


WRITING, REMOVING = ("traces of answers", "written"), ("removals of traces", "made")
"""What the thread does, and what is said of it."""


class Written(NamedTuple):
    """What became of traces that were to be written."""

    accepted: Sequence[AnswerTrace]
    refused: Sequence[AnswerTrace]
    """Dropped, for good."""
    cause: str
    """Why some were refused, or wait; "" where all were accepted."""


class Traces:
    """One experiment's writer; a :class:`modelyard.serving.traces.Tracer`."""

    def __init__(self, uri: str, experiment: str, say: Callable[[str], None], book: Book | None = None) -> None:
        """``experiment`` is made where there is none, when the first trace is written. ``book`` remembers which traces are still to be removed."""
        self.uri, self.experiment, self.say, self.book = uri, experiment, say, book
        self._waiting: deque[AnswerTrace] = deque()
        self._unwanted: deque[str] = deque(book.withdrawn() if book else ())
        self._lost, self._closing = 0, False
        self._said: dict[tuple[str, str], str] = {}
        self._place = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def send(self, trace: AnswerTrace) -> None:
        """Keep a trace; the oldest that waits gives way where too many do."""
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self._lost += 1
            self._waiting.append(trace)
            self._changed.notify()

    def forget(self, receipts: Sequence[str]) -> None:
        """Remove what was written of these answers, and what waits to be."""
        with self._changed:
            self._waiting = deque(one for one in self._waiting if one.receipt not in receipts)
            self._unwanted.extend(receipts)
            self._changed.notify()

    def close(self) -> None:
        """Do what waits, for as long as ``LAST_SECONDS``; says how many traces were lost, and how many should have been removed."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(LAST_SECONDS)
        with self._changed:
            lost, unwanted = self._lost + len(self._waiting), len(self._unwanted)
        if lost:
            self.say(f"MLflow: {lost} traces of answers were not written")
        if unwanted:
            self.say(
                f"MLflow: {unwanted} traces of answers were not removed; the next server with --traces does it, or modelyard feedback --withdraw"
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._unwanted or self._closing):
                    self._changed.wait()
                if not (self._waiting or self._unwanted):
                    return
                traces = [self._waiting[n] for n in range(min(AT_ONCE, len(self._waiting)))]
                unwanted = list(self._unwanted)
            removed = bool(unwanted) and self._remove(unwanted)
            written = bool(traces) and self._write(traces)
            if removed or written:
                continue
            with self._changed:
                if self._closing:
                    return
                self._changed.wait_for(lambda: self._closing, AGAIN_SECONDS)

    def _remove(self, unwanted: Sequence[str]) -> bool:
        """Remove the traces of these answers; whether that is done."""
        failed = ""
        try:
            withdraw(self.uri, unwanted)
            if self.book:
                self.book.removed(unwanted)
        except Exception as error:  # MLflow, its store, its HTTP client and the book's database raise a dozen types; the thread goes on
            failed = cause_of(error)
        self._tell(REMOVING, failed)
        if not failed:
            with self._changed:
                for _ in unwanted:
                    self._unwanted.popleft()
        return not failed

    def _write(self, traces: Sequence[AnswerTrace]) -> bool:
        """Write traces, or drop what is refused; whether any wait no more."""
        done = self._written(traces)
        waiting = len(done.accepted) + len(done.refused) < len(traces)
        self._tell(WRITING, done.cause if waiting else "")
        if done.refused:
            self.say(f"MLflow: {len(done.refused)} traces of answers are refused and dropped ({done.cause})")
        settled = {one.receipt for one in (*done.accepted, *done.refused)}
        with self._changed:
            self._lost += len(done.refused)
            self._waiting = deque(one for one in self._waiting if one.receipt not in settled)
        return bool(settled)

    def _written(self, traces: Sequence[AnswerTrace]) -> Written:
        """All in one request; where that fails and the server answers, one by one."""
        try:
            server = client(self.uri)
            self._place = self._place or marked(server, experiment_id(server, self.uri, self.experiment, {}))
            write(TracingClient(self.uri), self._place, traces)
        except Exception as error:  # as in _remove
            if len(traces) == 1 or not self._place:
                return Written((), (), cause_of(error))
            return write_each(self.uri, self._place, traces, cause_of(error))
        return Written(traces, (), "")

    def _tell(self, what: tuple[str, str], failed: str) -> None:
        """Say that something waits, once for each cause, and when it goes on."""
        before, self._said[what] = self._said.get(what, ""), failed
        named, done = what
        if failed and failed != before:
            self.say(f"MLflow: {named} wait ({failed})")
        elif before and not failed:
            self.say(f"MLflow: {named} are {done} again")


def withdraw(uri: str, receipts: Sequence[str]) -> int:
    """Remove the traces of these answers from every experiment that has any; how many there were."""
    server, removed = client(uri), 0
    for experiment in every(server.search_experiments, filter_string=f"tags.`{MARK}` = 'true'"):
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


def write_each(uri: str, experiment: str, traces: Sequence[AnswerTrace], failed: str) -> Written:
    """Write one by one traces that ``failed`` together. Refused are those that a server refuses which answers and takes others of them: one that
    takes none may be in trouble itself, and they wait.
    """
    accepted, refused = list[AnswerTrace](), list[AnswerTrace]()
    for trace in traces:
        if not answers(uri, experiment):
            return Written(accepted, (), failed)
        try:
            write(TracingClient(uri), experiment, [trace])
            accepted.append(trace)
        except Exception as error:  # as in Traces
            failed = cause_of(error)
            refused.append(trace)
    settled = accepted and answers(uri, experiment)
    return Written(accepted, refused if settled else (), failed)


def answers(uri: str, experiment: str) -> bool:
    """Whether MLflow answers a question about the experiment."""
    try:
        client(uri).get_experiment(experiment)
    except Exception:  # as in Traces
        return False
    return True


def cause_of(error: Exception) -> str:
    """What went wrong, as it is shown."""
    return complaint(error)[:LONGEST]
