"""Curves in an MLflow run, live while a stage works or from the history that its artifact holds."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

from modelyard.adapters.mlflow.server import tolerated

FLUSH_SECONDS = 2.0
AWAY_SECONDS = 30.0
"""How long a server that did not answer is left alone."""
BATCH = 500
PENDING = 100_000
"""Points that are kept for a server that is away; the newest stay."""


class LiveRun:
    """Receives a stage's progress (it is a :class:`modelyard.progress.Report` through ``report``) and writes
    it in batches.

    Beside the stage's own metrics it writes the pace (``system/tokens_per_second``) and, where
    ``flops_share`` (the share of the ranks' peak that one token a second is) is known, ``system/mfu``.
    Neither is part of an artifact. Without a run id it drops what it gets: the server was away when the stage
    began, and the artifact's own history is recorded at the end.
    """

    def __init__(self, server: MlflowClient, run_id: str | None, clock: Callable[[], float] = time.time, flops_share: float = 0.0) -> None:
        self.client, self.run_id, self.clock, self.flops_share = server, run_id, clock, flops_share
        self.pending: list[Metric] = []
        self.paced: tuple[float, int, str] | None = None
        self.next_flush = clock() + FLUSH_SECONDS

    def report(self, done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        """Take one progress event."""
        now = self.clock()
        measured = {**metrics, **self._pace(now, done, unit)}
        self.pending += [Metric(key, float(value), int(now * 1000), done) for key, value in measured.items()]
        if now > self.next_flush or (len(self.pending) >= BATCH and self.next_flush - now <= FLUSH_SECONDS):
            self.flush()

    def _pace(self, now: float, done: int, unit: str) -> dict[str, float]:
        """Units a second since the last look, at most one look every ``FLUSH_SECONDS``."""
        if self.paced is None or self.paced[2] != unit or done < self.paced[1]:
            self.paced = (now, done, unit)
            return {}
        seconds = now - self.paced[0]
        if seconds < FLUSH_SECONDS:
            return {}
        rate = (done - self.paced[1]) / seconds
        self.paced = (now, done, unit)
        mfu = {"system/mfu": rate * self.flops_share} if unit == "token" and self.flops_share else {}
        return {f"system/{unit}s_per_second": rate, **mfu}

    def flush(self) -> None:
        """Write what has gathered; a server that is away is left alone for a while and gets it later."""
        self.next_flush = self.clock() + AWAY_SECONDS
        if self.run_id is None:
            self.pending = []
        with tolerated("points of a curve wait"):
            while self.pending:
                self.client.log_batch(self.run_id, metrics=self.pending[:BATCH])
                self.pending = self.pending[BATCH:]
            self.next_flush = self.clock() + FLUSH_SECONDS
        self.pending = self.pending[-PENDING:]


def log_metrics(server: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    """Write metrics in batches that the server accepts."""
    for start in range(0, len(metrics), BATCH):
        server.log_batch(run_id, metrics=list(metrics[start : start + BATCH]))


def log_history(server: MlflowClient, run_id: str, history: Path) -> None:
    """Curves of a ``history.jsonl``, one line a logged step: the points that each curve of the run lacks, be it all of them or those that a server
    that was away never got.
    """
    curves = read_history(history)
    begun = curves.keys() & server.get_run(run_id).data.metrics.keys()
    shown = {key: {int(point.step): point.value for point in server.get_metric_history(run_id, key)} for key in begun}
    unit = step_of(curves, shown)
    if unit is None:  # better cut off than drawn on another axis
        return
    now = int(time.time() * 1000)
    lacking = [
        Metric(key, value, now, step * unit)
        for key, curve in curves.items()
        for step, value in curve.items()
        if step * unit not in shown.get(key, {})
    ]
    log_metrics(server, run_id, lacking)


def read_history(history: Path) -> dict[str, dict[int, float]]:
    """Key -> step -> value."""
    curves: dict[str, dict[int, float]] = {}
    for line in history.read_text("utf-8").splitlines():
        row = json.loads(line)
        for key, value in row.items():
            if key != "step" and isinstance(value, int | float):
                curves.setdefault(key, {})[int(row["step"])] = float(value)
    return curves


def step_of(curves: Mapping[str, Mapping[int, float]], shown: Mapping[str, Mapping[int, float]]) -> int | None:
    """How far a step of ``curves`` is on the axis of the points that are ``shown``, which a live stage counts in its own unit (tokens): most of
    the values that occur once in their curve say so. 1 where nothing is shown, None where that cannot be told.
    """
    if not any(points.keys() - {0} for points in shown.values()):
        return 1
    ratios = Counter[int]()
    for key, points in shown.items():
        often = Counter(curves[key].values())
        steps = {value: step for step, value in curves[key].items() if step and often[value] == 1}
        matched = [(place, steps[value]) for place, value in points.items() if value in steps]
        ratios.update(place // step for place, step in matched if place and place % step == 0)
    return ratios.most_common(1)[0][0] if ratios else None
