"""Every artifact as an MLflow run: params, metrics and their curves while it is made, tags that name it, figures, and a link to the store.

One run an artifact, found again by its fingerprint: a cached artifact adds nothing, and work that was cut off goes on in the run it had.
The URI comes from ``MLFLOW_TRACKING_URI``; without it an SQLite file under ``.modelyard`` serves, with files beside it. Left out:
autologging (it would write what the artifacts already say) and system metrics.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from modelyard.adapters.home import home
from modelyard.artifacts import Artifact, Spec
from modelyard.config import canonical_json

FLUSH_SECONDS = 2.0
BATCH = 500
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the experiment's page on its runs; MLflow's default is a page of traces, which a line of trainings does not have."""


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI`` or the SQLite file in the home directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home()}/mlflow.db"


def client(uri: str) -> MlflowClient:
    """A client for ``uri``; the directory of a new SQLite file is made."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).absolute().parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment_id(server: MlflowClient, uri: str, name: str) -> str:
    """The experiment called ``name``, made when it does not exist. On SQLite its files lie in ``mlartifacts`` beside the database."""
    if found := server.get_experiment_by_name(name):
        return str(found.experiment_id)
    location = None
    if uri.startswith("sqlite:///"):
        location = (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()
    return str(server.create_experiment(name, artifact_location=location, tags=KIND))


class Tracker:
    """Writes artifacts into one experiment."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.client = client(uri)
        self.experiment = experiment_id(self.client, uri, experiment)

    def find(self, fingerprint: str) -> str | None:
        """Run id of the artifact with this fingerprint, finished or not."""
        runs = self.client.search_runs([self.experiment], f"tags.fingerprint = '{fingerprint}'", max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def is_complete(self, run_id: str) -> bool:
        """Whether the run's artifact was finished and logged."""
        return "artifact" in self.client.get_run(run_id).data.tags

    @contextmanager
    def live(self, spec: Spec) -> Iterator[LiveRun]:
        """The run of an artifact that is being made.

        Give its ``report`` to the stage; an error inside marks the run FAILED and goes on up.
        """
        run_id = self.find(spec.fingerprint) or self._create(spec)
        self.client.update_run(run_id, status="RUNNING")
        run = LiveRun(self.client, run_id)
        try:
            yield run
        except BaseException as error:
            run.flush()
            self.client.set_tag(run_id, "error", f"{type(error).__name__}: {error}"[:500])
            self.client.set_terminated(run_id, "FAILED")
            raise
        run.flush()

    def log(self, artifact: Artifact, link: str, files: Mapping[str, Path] = {}, history: Path | None = None) -> str:
        """Complete the artifact's run (or make it): metrics, manifest, link, ``files`` (folder/name -> file).

        Does nothing the second time.
        """
        found = self.find(artifact.fingerprint)
        if found and self.is_complete(found):
            return found
        run_id = found or self._create(artifact)
        if history is not None and history.is_file() and not self.client.get_run(run_id).data.metrics:
            log_history(self.client, run_id, history)
        now = int(time.time() * 1000)
        log_metrics(
            self.client, run_id, [Metric(key, value, now, 0) for key, value in {**artifact.metrics, "seconds": artifact.seconds}.items()]
        )
        self.client.log_dict(run_id, artifact.model_dump(mode="json"), "artifact.json")
        for name, path in files.items():
            folder, _, _ = name.rpartition("/")
            self.client.log_artifact(run_id, str(path), folder or None)
        tags = {"store": link, "seconds": f"{artifact.seconds:.1f}", "artifact": artifact.ref}
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        self.client.set_terminated(run_id, "FINISHED")
        return run_id

    def seal(self, forecast: Artifact, link: str, content: Mapping[str, Any]) -> str:
        """Log a forecast before what it predicts is made; its numbers can be read in MLflow ever after."""
        run_id = self.log(forecast, link)
        if "sealed" not in self.client.get_run(run_id).data.tags:
            self.client.log_dict(run_id, dict(content), "forecast.json")
            self.client.log_batch(
                run_id,
                tags=[RunTag("sealed", forecast.fingerprint), RunTag("sealed_at", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))],
            )
        return run_id

    def decision(self, run_id: str, verdict: str, reasons: Sequence[str]) -> None:
        """Show a decision on its run: a tag, a note with the reasons, and the status FAILED unless it is PROMOTE."""
        self.client.set_tag(run_id, "decision", verdict)
        self.client.set_tag(run_id, "mlflow.note.content", f"**{verdict}**\n\n" + "\n".join(f"- {reason}" for reason in reasons))
        self.client.set_terminated(run_id, "FINISHED" if verdict == "PROMOTE" else "FAILED")

    def _create(self, made: Spec | Artifact) -> str:
        parents = {role: parent if isinstance(parent, str) else parent.ref for role, parent in made.parents.items()}
        tags = {"fingerprint": made.fingerprint, "version": made.version, "stage": made.name, "parents": canonical_json(parents)}
        tags |= {f"parent.{role}": ref for role, ref in parents.items()}
        run = self.client.create_run(self.experiment, run_name=f"{made.name}-{made.version[:8]}", tags=tags)
        config = made.config if isinstance(made.config, dict) else made.config.model_dump(mode="json")
        params = [Param(key, value) for key, value in flatten(config).items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(run.info.run_id, params=params[start : start + 100])
        return str(run.info.run_id)


class LiveRun:
    """Receives a stage's progress (it is a :class:`modelyard.progress.Report` through ``report``) and writes it in batches."""

    def __init__(self, server: MlflowClient, run_id: str, clock: Callable[[], float] = time.time) -> None:
        self.client, self.run_id, self.clock = server, run_id, clock
        self.pending: list[Metric] = []
        self.flushed = clock()

    def report(self, done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        """Take one progress event."""
        now = self.clock()
        self.pending += [Metric(key, float(value), int(now * 1000), done) for key, value in metrics.items()]
        if now - self.flushed > FLUSH_SECONDS or len(self.pending) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        log_metrics(self.client, self.run_id, self.pending)
        self.pending, self.flushed = [], self.clock()


def log_metrics(server: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    """Write metrics in batches that the server accepts."""
    for start in range(0, len(metrics), BATCH):
        server.log_batch(run_id, metrics=list(metrics[start : start + BATCH]))


def log_history(server: MlflowClient, run_id: str, history: Path) -> None:
    """Curves of a ``history.jsonl``: one line a logged step."""
    now = int(time.time() * 1000)
    curves = []
    for line in history.read_text("utf-8").splitlines():
        row = json.loads(line)
        curves += [
            Metric(key, float(value), now, int(row["step"]))
            for key, value in row.items()
            if key != "step" and isinstance(value, int | float)
        ]
    log_metrics(server, run_id, curves)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested config -> dotted keys and printed values: ``{"a": {"b": 1}}`` -> ``{"a.b": "1"}``."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat
