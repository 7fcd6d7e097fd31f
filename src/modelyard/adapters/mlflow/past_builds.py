"""What MLflow remembers of a pipeline's earlier builds: how long each stage took, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.adapters.mlflow.server import client, tolerated
from modelyard.adapters.mlflow.tracker import flatten

NEWEST = 1000
"""Runs that are looked at."""


class PastBuild(NamedTuple):
    """The newest finished build of a stage."""

    seconds: float
    """Wall time."""
    settings: Mapping[str, str]
    """Dotted key -> value, as the artifact's config had them."""

    def changed(self, config: Mapping[str, Any]) -> list[str]:
        """Dotted keys of both whose values differ, sorted."""
        now = flatten(config)
        return sorted(key for key in now.keys() & self.settings.keys() if now[key] != self.settings[key])


def past_builds(uri: str, experiment: str) -> dict[str, PastBuild]:
    """Stage -> its newest finished build in ``experiment``; none where there is no record. A server that is away is a warning."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return {}
    found: dict[str, PastBuild] = {}
    with tolerated("the times of earlier builds are not known"):
        server = client(uri)
        if (named := server.get_experiment_by_name(experiment)) is None:
            return {}
        runs = server.search_runs(
            [named.experiment_id], "attributes.status = 'FINISHED'", max_results=NEWEST, order_by=["attributes.start_time DESC"]
        )
        for run in runs:
            stage, seconds = run.data.tags.get("stage"), run.data.tags.get("seconds")
            if stage and seconds:
                found.setdefault(stage, PastBuild(float(seconds), dict(run.data.params)))
    return found
