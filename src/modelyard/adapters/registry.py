"""The MLflow model registry: which version is candidate, which serves as production, and which it replaced.

A version is one set of policy weights (its tag ``fingerprint``); registering it again updates its tags and makes no second one.
``candidate`` moves to whatever was judged last, ``production`` only on PROMOTE, and ``previous`` keeps the version it replaced. The
version promoted remembers in its tag ``baseline`` what it was compared with, so a second run of the same line asks the same question and
finds the same decision. Left out: rollback, serving, signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.exceptions import MlflowException, RestException

from modelyard.adapters.mlflow_tracker import client

NONE = "none"


class RegistryError(RuntimeError):
    """A registration that must not happen."""


class Production(NamedTuple):
    """What serves now."""

    version: str
    """Number in the registry."""
    fingerprint: str
    """Of the policy artifact."""
    results: str
    """``results/version`` of its evaluation."""
    baseline: str | None
    """``results/version`` it was compared with when promoted; None for a first release."""


class Candidate(NamedTuple):
    """A judged model."""

    fingerprint: str
    """Of the policy artifact."""
    results: str
    """``results/version`` of its evaluation."""
    baseline: str | None
    """``results/version`` the decision compared it with; None when there was nothing to compare with."""
    verdict: str
    """PROMOTE, HOLD or BLOCK."""
    tags: Mapping[str, str]
    """More to remember: refs of policy, decision, card and export, reasons, forecast error."""


class Move(NamedTuple):
    """An alias that changed."""

    alias: str
    before: str | None
    after: str


class Registered(NamedTuple):
    """Version number and the aliases that moved."""

    version: str
    moved: tuple[Move, ...]


class Registry:
    """One registered model."""

    def __init__(self, uri: str, name: str) -> None:
        self.client, self.name = client(uri), name

    def production(self) -> Production | None:
        """The version under alias ``production``, or None before the first release."""
        version = self._alias("production")
        if version is None:
            return None
        tags = version.tags
        baseline = tags.get("baseline", NONE)
        return Production(str(version.version), tags["fingerprint"], tags["results"], None if baseline == NONE else baseline)

    def baseline_for(self, fingerprint: str) -> str | None:
        """``results/version`` to compare a candidate with: production's, or production's own baseline when it is the candidate itself."""
        current = self.production()
        if current is None:
            return None
        return current.baseline if current.fingerprint == fingerprint else current.results

    def register(self, candidate: Candidate, export: Path, run_id: str) -> Registered:
        """Make (or find) the candidate's version from a Hugging Face directory, logged with the run ``run_id``, and move the aliases.

        Raises:
            RegistryError: production moved since the decision was made.
        """
        baseline = self.baseline_for(candidate.fingerprint)
        if baseline != candidate.baseline:
            raise RegistryError(
                f"{self.name}: production changed since the decision: compared with {candidate.baseline}, now it is {baseline}"
            )
        self._ensure_model()
        version = self._find(candidate.fingerprint) or self._create(candidate, export, run_id)
        current = self.production()
        tags = {"results": candidate.results, "decision": candidate.verdict, **candidate.tags}
        serves = current is not None and current.version == version
        if candidate.verdict == "PROMOTE" and not serves:
            tags["baseline"] = candidate.baseline or NONE
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, version, key, value[:5000])
        moves = [self._point("candidate", version)]
        if candidate.verdict == "PROMOTE" and not serves:
            if current is not None:
                moves.append(self._point("previous", current.version))
            moves.append(self._point("production", version))
        return Registered(version, tuple(move for move in moves if move))

    def _alias(self, alias: str) -> Any:
        try:
            return self.client.get_model_version_by_alias(self.name, alias)
        except (MlflowException, RestException) as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def _point(self, alias: str, version: str) -> Move | None:
        before = self._alias(alias)
        if before is not None and str(before.version) == version:
            return None
        self.client.set_registered_model_alias(self.name, alias, version)
        return Move(alias, str(before.version) if before else None, version)

    def _ensure_model(self) -> None:
        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _find(self, fingerprint: str) -> str | None:
        found = self.client.search_model_versions(f"name = '{self.name}' and tags.fingerprint = '{fingerprint}'")
        return str(found[0].version) if found else None

    def _create(self, candidate: Candidate, export: Path, run_id: str) -> str:
        if not (export / "config.json").is_file():
            raise RegistryError(f"{export}: not a Hugging Face model directory (no config.json)")
        self.client.log_artifacts(run_id, str(export), "model")
        source = f"{self.client.get_run(run_id).info.artifact_uri}/model"
        tags = {"fingerprint": candidate.fingerprint, "results": candidate.results, "decision": candidate.verdict}
        return str(self.client.create_model_version(self.name, source=source, run_id=run_id, tags=tags).version)
