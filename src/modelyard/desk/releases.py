"""What releasers look at: every decision of a store with its gates and card, what changed against production, and the signature under one.

The signature is the artifact that the form in Prefect makes too (:mod:`modelyard.release.signature`); the next run of the release takes
it. The release's own code is imported when somebody looks, so that a desk of labelers starts at once. Left out: who serves now, which
the registry knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from modelyard.complaint import complaint
from modelyard.store.artifacts import Store
from modelyard.store.manifest import MANIFEST, Artifact

if TYPE_CHECKING:
    from modelyard.release.gates.gate import Decision
    from modelyard.release.sign_off import SignOff

MOST_FLIPPED = 200


class Flipped(NamedTuple):
    """An item that production and the candidate answer with different scores."""

    benchmark: str
    item: str
    prompt: str
    before: str
    after: str
    was: float
    now: float


class Candidate(NamedTuple):
    """A decided version."""

    version: str
    line: str
    decided_at: float | None
    policy: str
    decision: Decision
    signed: SignOff | None
    """The signature under it."""
    signed_version: str
    """Of the signature's artifact."""


class Candidates(NamedTuple):
    """The decisions of a store."""

    read: list[Candidate]
    """The newest first."""
    unreadable: list[str]
    """What could not be read, a line each."""


class Releases:
    """The decisions of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def candidates(self) -> Candidates:
        """Every decision, the newest first."""
        found, unreadable = list[Candidate](), list[str]()
        for ref in self.store.refs():
            if not ref.startswith("decision/") or not self.store.storage.exists(f"{ref}/{MANIFEST}"):
                continue
            try:
                found.append(self._candidate(self.store.get(ref)))
            except (ValueError, KeyError) as error:
                unreadable.append(f"{ref}: {complaint(error)}")
        return Candidates(sorted(found, key=lambda one: one.decided_at or 0.0, reverse=True), unreadable)

    def candidate(self, version: str) -> Candidate:
        """One decision. Raises ValueError where there is none."""
        return self._candidate(self._decided(version))

    def card(self, version: str) -> str:
        """The page that describes a candidate, with the signature where there is one. Raises ValueError."""
        from modelyard.release.card.model_card import FILE

        decided = self._decided(version)
        return self.store.read(self._signed(decided) or decided, FILE).decode()

    def flipped(self, version: str) -> list[Flipped]:
        """Items whose score differs from production's, losses first; none for a first release. Raises ValueError."""
        from modelyard.formats.results import read_results

        parents = self._decided(version).parents
        if "baseline" not in parents:
            return []
        now, before = (read_results(self.store.fetch(self.store.get(parents[role]))).of("policy") for role in ("results", "baseline"))
        found = [one for name in now if name in before for one in _flipped(name, before[name], now[name])]
        found.sort(key=lambda one: (one.now - one.was, one.benchmark, one.item))
        return found[:MOST_FLIPPED]

    def records(self, version: str, benchmark: str) -> Sequence[Mapping[str, Any]]:
        """What the candidate answered to a benchmark; empty where it was not asked. Raises ValueError."""
        from modelyard.formats.results import read_results

        results = self.store.get(self._decided(version).parents["results"])
        return read_results(self.store.fetch(results)).of("policy").get(benchmark, ())

    def sign(self, version: str, answer: SignOff) -> str:
        """Keep a signature under a decision; its artifact. Raises ValueError where it is blocked, or was signed before."""
        from modelyard.release import signature

        decided = self._decided(version)
        if self._candidate(decided).decision.verdict == "BLOCK":
            raise ValueError("A decision that blocks is nobody's to sign.")
        built = signature.keep(self.store, str(decided.config["line"]), decided, answer)
        if built.cached:
            raise ValueError("This decision was signed before.")
        return built.artifact.ref

    def _decided(self, version: str) -> Artifact:
        found = self.store.find("decision", version) if version.isalnum() else None
        if found is None:
            raise ValueError("There is no such decision in the store.")
        return found

    def _signed(self, decided: Artifact) -> Artifact | None:
        from modelyard.release import signature

        found = signature.spec(self.store, str(decided.config["line"]), decided)
        return self.store.find(found.name, found.version)

    def _candidate(self, decided: Artifact) -> Candidate:
        from modelyard.release.decision import read_decision
        from modelyard.release.sign_off import read_answer

        signed = self._signed(decided)
        shown = self.store.fetch(signed or decided)
        answer = read_answer(shown) if signed else None
        said = read_decision(shown)
        line, policy = str(decided.config["line"]), decided.parents.get("policy", "")
        return Candidate(decided.version, line, decided.finished, policy, said, answer, signed.version if signed else "")


def _flipped(name: str, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[Flipped]:
    """Items that both were asked and of which one scored otherwise; of several samples the first that differs."""
    old: dict[tuple[str, int], Mapping[str, Any]] = {(row["item"], int(row.get("sample", 0))): row for row in before}
    found: dict[str, Flipped] = {}
    for row in now:
        was = old.get((row["item"], int(row.get("sample", 0))))
        if was is not None and was["score"] != row["score"] and was.get("prompt_sha256") == row.get("prompt_sha256"):
            said = (str(row.get("prompt", "")), str(was.get("output", "")), str(row.get("output", "")))
            found.setdefault(row["item"], Flipped(name, row["item"], *said, float(was["score"]), float(row["score"])))
    return list(found.values())
