"""The MLflow model registry: which version is candidate, which serves as production, and which it replaced.

A version is one set of policy weights (its tag ``fingerprint``); registering it again updates its tags and makes no second one.
``candidate`` moves to whatever was judged last, ``production`` only on PROMOTE, and ``previous`` keeps the version it replaced. The check
that production is still what the decision compared with and the moves that follow happen under one lock: of two releases that race, one
wins and the other is told so. A promoted version remembers its opponent and the opponent's scores, so a second run of the same line asks
the same question and finds the same decision. Left out: stages (MLflow dropped them for aliases).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from modelyard.adapters import signing
from modelyard.adapters.mlflow import succession
from modelyard.adapters.mlflow.packaging import log_release
from modelyard.adapters.mlflow.pages import every
from modelyard.adapters.mlflow.registry_lock import locked
from modelyard.adapters.mlflow.server import client
from modelyard.release.visible import visible
from modelyard.stats.estimate import Estimate

NONE = "none"
CLASSIFIER = "content_classifier"
"""Tag: the content classifier's artifact that the version is served with."""
OPPONENT_CLASSIFIER = "opponent_classifier"
"""Tag: the content classifier that it was compared with when it was promoted."""
UNLESS_NEW = (CLASSIFIER, signing.NAME)
"""Tags that go with the decision they were of: what is decided anew may be without."""
HELD = "held_"
"""Before the tags of a decision that held the version while it served."""
ROLLED_BACK = "rolled_back"
"""Tag: who took the version out of production, and why."""
VERSIONS = "mlflow.modelVersions"
"""Tag by which MLflow's page of a logged model shows the versions made from it."""
LONGEST = 5000
"""Characters that MLflow keeps of a tag."""
LogModel = Callable[[MlflowClient, Path, str, Mapping[str, Estimate]], str]
"""(server, directory, run id, evaluation) -> id of the logged model."""


class RegistryError(ValueError):
    """A registration that must not happen."""


class Opponent(NamedTuple):
    """What a candidate is compared with."""

    policy: str
    """``policy/version`` of its weights."""
    scores: str
    """Artifact with its per-item records: ``results/version``, or ``baseline/version`` where it was measured again."""
    version: str | None
    """Number in the registry; None when that version is gone."""


class Candidate(NamedTuple):
    """A judged model."""

    fingerprint: str
    """Of the policy artifact."""
    policy: str
    """``policy/version``."""
    results: str
    """``results/version`` of its evaluation."""
    opponent: Opponent | None
    """What the decision compared it with; None when nothing was in production."""
    verdict: str
    """PROMOTE, HOLD or BLOCK."""
    tags: Mapping[str, str]
    """More to remember: refs of decision, card and export, reasons, forecast error."""


class Move(NamedTuple):
    """An alias that changed."""

    alias: str
    before: str | None
    after: str | None


class Registered(NamedTuple):
    """Version number and the aliases that moved."""

    version: str
    moved: tuple[Move, ...]


class Registry:
    """One registered model."""

    def __init__(self, uri: str, name: str) -> None:
        self.client, self.name = client(uri), name

    def opponent(self, policy: str) -> Opponent | None:
        """What the candidate ``policy/version`` is compared with: production, or what production was compared with when it is production."""
        serving = self.alias("production")
        if serving is None:
            return None
        tags = serving.tags
        if (serves := self.tag(serving, "policy")) != policy:
            return Opponent(serves, self.tag(serving, "results"), str(serving.version))
        if tags.get("opponent", NONE) == NONE:
            return None
        return Opponent(tags["opponent"], self.tag(serving, "opponent_scores"), self.version_of(tags["opponent"]))

    def classifier(self, policy: str, own: str) -> str:
        """Content classifier (``name/version``) that serves, or, where the policy serves with ``own`` already, of what it replaced; "" for none."""
        serving = self.alias("production")
        if serving is None:
            return ""
        tags = serving.tags
        if (tags.get("policy"), tags.get(CLASSIFIER, "")) != (policy, own):
            return str(tags.get(CLASSIFIER, ""))
        return "" if (replaced := tags.get(OPPONENT_CLASSIFIER, NONE)) == NONE else str(replaced)

    def is_first(self, policy: str) -> bool:
        """Whether the policy ``policy/version`` serves and was promoted when nothing did."""
        serving = self.alias("production")
        return serving is not None and serving.tags.get("policy") == policy and serving.tags.get("opponent") == NONE

    def serves(self, policy: str, tags: Mapping[str, str]) -> bool:
        """Whether the policy ``policy/version`` is candidate and production, promoted with these very tags."""
        serving, newest = self.alias("production"), self.alias("candidate")
        if serving is None or newest is None or serving.version != newest.version:
            return False
        wanted = {"policy": policy, "decision": "PROMOTE", **tags}
        return all(serving.tags.get(key) == value[:LONGEST] for key, value in wanted.items())

    def tag(self, version: Any, key: str) -> str:
        """A tag that every version has which a release registered. Raises RegistryError naming the version without it."""
        if key not in version.tags:
            raise RegistryError(f"{self.name} version {version.version} has no tag {key}: it was registered by hand, not by a release")
        return str(version.tags[key])

    def released(self, policy: str) -> dict[str, str]:
        """Number -> results of every version that was in production before the one with this policy, as :func:`succession.before` has them."""
        found = list(every(self.client.search_model_versions, f"name = '{self.name}'"))
        line = succession.before(policy, found, self.alias("production"), ROLLED_BACK)
        return {str(one.version): self.tag(one, "results") for one in line}

    def register(
        self,
        candidate: Candidate,
        export: Path,
        run_id: str,
        evaluation: Mapping[str, Estimate] = {},
        log: LogModel = log_release,
    ) -> Registered:
        """Make (or find) the candidate's version from a Hugging Face directory and move the aliases.

        Where there is none yet, ``log`` logs the directory as a model of the run ``run_id``, together with
        its ``evaluation``.

        Raises:
            RegistryError: production moved since the decision was made, or ``export`` is no model.
            LockLostError: this process stood still for so long that another release went ahead.
        """
        if not (export / "config.json").is_file():
            raise RegistryError(f"{export}: not a Hugging Face model directory (no config.json)")
        model = ""
        if self.version_of(candidate.policy) is None:  # large and slow, so outside the lock
            model = log(self.client, export, run_id, evaluation)
        self._ensure_model()
        with locked(self.client, self.name) as still_mine:
            self._require_unmoved(candidate)
            version = self.version_of(candidate.policy) or self._create(candidate, model, run_id)
            serving = self.alias("production")
            promoted = candidate.verdict == "PROMOTE" and (serving is None or str(serving.version) != version)
            if promoted and (taken_back := self.numbered(version).tags.get(ROLLED_BACK)):
                raise RegistryError(f"{self.name}: version {version} was rolled back {taken_back}; it is not promoted again")
            self._remember(candidate, version, serving, promoted)
            moves = [self.point("candidate", version, still_mine)]
            if promoted:
                if serving is not None:
                    moves.append(self.point("previous", str(serving.version), still_mine))
                moves.append(self.point("production", version, still_mine))
        return Registered(version, tuple(move for move in moves if move))

    def rollback(self, version: str, name: str, reason: str) -> tuple[Move, ...]:
        """Put back what ``version`` replaced; ``name`` decided it for ``reason``. Doing it again moves nothing.

        Where it replaced nothing that still stands, nothing serves afterwards. The version keeps a tag ``rolled_back`` with the first who
        decided it, and no later run of its line promotes it again.

        Raises:
            RegistryError: there is no such version, or name or reason is not visible text.
        """
        said = f"by {_visible('name', name)}: {_visible('reason', reason)}"
        taken_back = self.numbered(version)
        if taken_back is None:
            raise RegistryError(f"{self.name}: no version {version}")
        target = self._standing_before(taken_back)
        with locked(self.client, self.name) as still_mine:
            serving = self.alias("production")
            if serving is None or str(serving.version) not in (version, target):
                return ()
            still_mine()
            if ROLLED_BACK not in self.numbered(version).tags:
                self.client.set_model_version_tag(self.name, version, ROLLED_BACK, said)
            moves = [self._move("production", target, still_mine)]
            before = self._standing_before(self.numbered(target)) if target else None
            moves.append(self._move("previous", before, still_mine))
        return tuple(move for move in moves if move)

    def _standing_before(self, version: Any) -> str | None:
        """Number of the version that ``version`` replaced, or that one, and so on: the first that was not rolled back itself."""
        seen = set[str]()
        number = self.version_of(version.tags.get("opponent", NONE))
        while number is not None and number not in seen and ROLLED_BACK in (tags := self.numbered(number).tags):
            seen.add(number)
            number = self.version_of(tags.get("opponent", NONE))
        return None if number in seen else number

    def numbered(self, version: str) -> Any:
        """The version with a number (MLflow's ModelVersion), or None."""
        try:
            return self.client.get_model_version(self.name, version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def alias(self, alias: str) -> Any:
        """The version under an alias (MLflow's ModelVersion), or None."""
        try:
            return self.client.get_model_version_by_alias(self.name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def version_of(self, policy: str) -> str | None:
        """Number of the version with the weights ``policy/version``, or None."""
        found = self.client.search_model_versions(f"name = '{self.name}' and tags.policy = '{policy}'")
        return str(found[0].version) if found else None

    def point(self, alias: str, version: str, still_mine: Callable[[], None]) -> Move | None:
        """Move an alias, under the lock; None when it is there already."""
        before = self.alias(alias)
        if before is not None and str(before.version) == version:
            return None
        still_mine()
        self.client.set_registered_model_alias(self.name, alias, version)
        return Move(alias, str(before.version) if before else None, version)

    def _move(self, alias: str, version: str | None, still_mine: Callable[[], None]) -> Move | None:
        """Move an alias, or remove it where no version is left for it."""
        if version is not None:
            return self.point(alias, version, still_mine)
        before = self.alias(alias)
        if before is None:
            return None
        still_mine()
        self.client.delete_registered_model_alias(self.name, alias)
        return Move(alias, str(before.version), None)

    def _require_unmoved(self, candidate: Candidate) -> None:
        now, then = self.opponent(candidate.policy), candidate.opponent
        if (now and now.policy) != (then and then.policy):
            raise RegistryError(
                f"{self.name}: production changed since the decision, which compared {candidate.policy} with "
                f"{then.policy if then else 'nothing'}: now it is {now.policy if now else 'nothing'}; run the line again"
            )

    def _remember(self, candidate: Candidate, version: str, serving: Any, promoted: bool) -> None:
        """What the release was. Where its version serves and is not promoted now, what it is served with and by which decision stays, and the
        new verdict stands beside it.
        """
        tags = {"results": candidate.results, "decision": candidate.verdict, **candidate.tags}
        there = self.numbered(version).tags
        if serving is not None and str(serving.version) == version and candidate.verdict != "PROMOTE":
            held = {f"{HELD}{key}": value for key, value in tags.items()}
            self._tag(version, held)
            self._forget(version, [key for key in there if key.startswith(HELD) and key not in held])
            return
        if candidate.verdict == "PROMOTE":
            tags[OPPONENT_CLASSIFIER] = self.classifier(candidate.policy, candidate.tags.get(CLASSIFIER, "")) or NONE
        if promoted:
            against = candidate.opponent
            tags |= {"opponent": against.policy if against else NONE, "opponent_scores": against.scores if against else NONE}
        self._tag(version, tags)
        self._forget(version, [key for key in there if key.startswith(HELD) or (key in UNLESS_NEW and key not in tags)])

    def _tag(self, version: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, version, key, value[:LONGEST])

    def _forget(self, version: str, keys: Iterable[str]) -> None:
        for key in keys:
            self.client.delete_model_version_tag(self.name, version, key)

    def _ensure_model(self) -> None:
        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _create(self, candidate: Candidate, model: str, run_id: str) -> str:
        """A version made from the logged model, each of which names the other, as ``mlflow.register_model``
        has it.
        """
        tags = {"fingerprint": candidate.fingerprint, "policy": candidate.policy, "results": candidate.results}
        tags["model_id"] = model
        source = self.client.get_logged_model(model).artifact_location
        version = self.client.create_model_version(self.name, source, run_id, tags, model_id=model).version
        self.client.set_logged_model_tags(model, {VERSIONS: json.dumps([{"name": self.name, "version": version}])})
        return str(version)


def _visible(what: str, text: str) -> str:
    try:
        return visible(text)
    except ValueError as error:
        raise RegistryError(f"a rollback needs a name and a reason; {what}: {error}") from None
