"""Every run of a line as an MLflow run, with a child for each of its stages; every artifact as one run,
wherever it is used again.

An artifact's run has its params, metrics and curves, the data it was made from as dataset inputs, tags that
name it, figures, and a link to the store. It is found again by its fingerprint: work that was cut off goes on
in the run it had, and where a later line finds the artifact, a child without content links to that run. The
store is the truth and this its picture: while the server is away training goes on, points wait in memory, and
an artifact that could not be recorded is recorded by the next run that finds it. Left out: autologging (it
would write what the artifacts already say).
"""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from modelyard.adapters.mlflow.curves import LiveRun, log_history, log_metrics
from modelyard.adapters.mlflow.datasets import DATASETS, data_of, dataset_input
from modelyard.adapters.mlflow.server import client, experiment_id, system_metrics, tolerated, wait_for_answer
from modelyard.complaint import complaint, without_password
from modelyard.config import canonical_json
from modelyard.printable import markdown
from modelyard.store.manifest import Artifact, Spec

PARENT = "mlflow.parentRunId"
"""The tag by which MLflow nests runs."""
SEALED_AT = "%Y-%m-%dT%H:%M:%SZ"
CLOCKS = 60.0
"""Seconds that a clock may have been set between two records."""
LOCAL_PAGES = "http://127.0.0.1:5000"
"""Where ``make ui`` shows an SQLite file."""


class Tracker:
    """Writes artifacts into one experiment."""

    def __init__(self, uri: str, experiment: str) -> None:
        """Raises ServerError when nobody has answered at ``uri`` for ``START_SECONDS``."""
        if uri.startswith("http"):
            wait_for_answer(uri)
        self.uri, self.client = uri, client(uri)
        self.experiment = experiment_id(self.client, uri, experiment)
        self.parent: str | None = None

    @contextmanager
    def line_run(self, name: str, config: Mapping[str, Any]) -> Iterator[None]:
        """A run for one run of a line, with its config as params; the stages inside become its children.
        FAILED where the line does not promote.
        """
        with tolerated("the run of the line is not shown"):
            begun = self.client.create_run(self.experiment, run_name=name, tags={"line": name})
            self.parent = str(begun.info.run_id)
            self._log_params(self.parent, config)
        try:
            yield
        except BaseException as error:
            self._end_line(error)
            raise
        self._end_line(None)

    def _end_line(self, error: BaseException | None) -> None:
        run_id, self.parent = self.parent, None
        with tolerated("the end of the line is not shown"):
            if run_id and error:
                self.client.set_tag(run_id, "error", f"{type(error).__name__}: {complaint(error)}"[:500])
            if run_id:
                self.client.set_terminated(run_id, "FAILED" if error else "FINISHED")

    def find(self, fingerprint: str) -> str | None:
        """Run id of the artifact with this fingerprint, finished or not."""
        runs = self.client.search_runs([self.experiment], f"tags.fingerprint = '{fingerprint}'", max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def page(self, fingerprint: str) -> str:
        """URL of the run of the artifact with this fingerprint; empty where there is none or the server is away."""
        with tolerated("no link to the run"):
            if run_id := self.find(fingerprint):
                server = without_password(self.uri).rstrip("/") if self.uri.startswith("http") else LOCAL_PAGES
                return f"{server}/#/experiments/{self.experiment}/runs/{run_id}"
        return ""

    def is_complete(self, run_id: str) -> bool:
        """Whether the run's artifact was finished and logged."""
        return "artifact" in self.client.get_run(run_id).data.tags

    @contextmanager
    def live(self, spec: Spec, flops_share: float = 0.0) -> Iterator[LiveRun]:
        """The run of an artifact that is being made; ``flops_share`` as in :class:`LiveRun`.

        Give its ``report`` to the stage; an error inside marks the run FAILED and goes on up. A server that is away stops nothing.
        """
        run_id = None
        with tolerated(f"{spec.name}: no curves"):
            run_id = self.find(spec.fingerprint) or self._create(spec)
            self.client.update_run(run_id, status="RUNNING")
            if self.parent:
                self.client.set_tag(run_id, PARENT, self.parent)
        run = LiveRun(self.client, run_id, flops_share=flops_share)
        try:
            with system_metrics(self.uri, run_id):
                yield run
        except BaseException as error:
            with tolerated(f"{spec.name}: its failure is not shown"):
                run.flush()
                if run_id:
                    self.client.set_tag(run_id, "error", f"{type(error).__name__}: {complaint(error)}"[:500])
                    self.client.set_terminated(run_id, "FAILED")
            raise
        run.flush()

    def record(self, artifact: Artifact, link: str, fetch: Callable[[Artifact], Path]) -> None:
        """:meth:`log` with the pages and curves that the artifact itself holds, unless that is done; ``fetch`` brings its directory.

        A server that is away is a warning: the artifact is finished, and the next run that finds it records it.
        """
        with tolerated(f"{artifact.ref} is in the store, but not recorded"):
            found = self.find(artifact.fingerprint)
            if not found or not self.is_complete(found):
                directory = fetch(artifact)
                pages = {page.name: page for page in sorted(directory.glob("*.html"))}
                found = self.log(artifact, link, files=pages, history=directory / "history.jsonl")
            if self.parent:
                self._show_in_line(self.parent, artifact, link, found)

    def _show_in_line(self, parent: str, artifact: Artifact, link: str, run_id: str) -> None:
        """The artifact's metrics and data on the line's run; a child that links to the artifact's own run
        where that is another line's.
        """
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, 0) for key, value in artifact.metrics.items()]
        log_metrics(self.client, parent, metrics)
        if artifact.name in DATASETS:
            data = dataset_input(artifact.ref, link.removesuffix(artifact.ref), "training")
            self.client.log_inputs(parent, [data])
        if self.client.get_run(run_id).data.tags.get(PARENT) == parent:
            return
        tags = {PARENT: parent, "stage": artifact.name, "version": artifact.version, "found": run_id}
        built_by = f"[the run that built it]({self.page(artifact.fingerprint)})"
        tags["mlflow.note.content"] = f"{artifact.ref} was found in the store: {built_by}"
        name = f"{artifact.name}-{artifact.version[:8]} (cached)"
        child = self.client.create_run(self.experiment, run_name=name, tags=tags)
        self.client.set_terminated(child.info.run_id, "FINISHED")

    def log(self, artifact: Artifact, link: str, files: Mapping[str, Path] = {}, history: Path | None = None) -> str:
        """Complete the artifact's run (or make it): metrics, manifest, link, ``files`` (folder/name -> file).

        Does nothing the second time.
        """
        found = self.find(artifact.fingerprint)
        if found and self.is_complete(found):
            return found
        run_id = found or self._create(artifact)
        if history is not None and history.is_file():
            log_history(self.client, run_id, history)
        now = int(time.time() * 1000)
        log_metrics(
            self.client, run_id, [Metric(key, value, now, 0) for key, value in {**artifact.metrics, "seconds": artifact.seconds}.items()]
        )
        self.client.log_dict(run_id, artifact.model_dump(mode="json"), "artifact.json")
        if data := data_of(artifact, link):
            self.client.log_inputs(run_id, data)
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
                tags=[RunTag("sealed", forecast.fingerprint), RunTag("sealed_at", time.strftime(SEALED_AT, time.gmtime()))],
            )
        return run_id

    def sealed_late(self, forecast: Artifact, base: Artifact) -> str:
        """Why ``forecast`` was not sealed here before the run of ``base`` began, whatever manifests say; "" where it was or nobody knows."""
        sealed, trained = (self.find(made.fingerprint) for made in (forecast, base))
        at = self.client.get_run(sealed).data.tags.get("sealed_at") if sealed else None
        if at is None or trained is None:
            return ""
        late = calendar.timegm(time.strptime(at, SEALED_AT)) - self.client.get_run(trained).info.start_time / 1000
        return f"{forecast.ref} was sealed {late:.0f} s after the run of {base.ref} began, by MLflow's record" if late > CLOCKS else ""

    def decision(self, run_id: str, verdict: str, reasons: Sequence[str]) -> None:
        """Show a decision on its run: a tag (also of the line's run), a note with the reasons, and the status
        FAILED unless it is PROMOTE.
        """
        for shown in filter(None, (run_id, self.parent)):
            self.client.set_tag(shown, "decision", verdict)
        self.client.set_tag(run_id, "mlflow.note.content", f"**{verdict}**\n\n" + "\n".join(f"- {markdown(reason)}" for reason in reasons))
        self.client.set_terminated(run_id, "FINISHED" if verdict == "PROMOTE" else "FAILED")

    def _create(self, made: Spec | Artifact) -> str:
        parents = {role: parent if isinstance(parent, str) else parent.ref for role, parent in made.parents.items()}
        tags = {"fingerprint": made.fingerprint, "version": made.version, "stage": made.name, "parents": canonical_json(parents)}
        tags |= {f"parent.{role}": ref for role, ref in parents.items()}
        if self.parent:
            tags[PARENT] = self.parent
        run = self.client.create_run(self.experiment, run_name=f"{made.name}-{made.version[:8]}", tags=tags)
        config = made.config if isinstance(made.config, dict) else made.config.model_dump(mode="json")
        self._log_params(run.info.run_id, config)
        return str(run.info.run_id)

    def _log_params(self, run_id: str, config: Mapping[str, Any]) -> None:
        params = [Param(key, value) for key, value in flatten(config).items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(run_id, params=params[start : start + 100])


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested config -> dotted keys and printed values: ``{"a": {"b": 1}, "c": [{"d": 2}]}`` -> ``{"a.b": "1", "c.0.d": "2"}``."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            flat |= flatten({str(number): item for number, item in enumerate(value)}, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat
