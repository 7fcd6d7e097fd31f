"""The claims of a registered version, from the store."""

from __future__ import annotations

import tempfile
from pathlib import Path

from modelyard.adapters import prml
from modelyard.commands.command import say
from modelyard.commands.content import decision_of
from modelyard.commands.outputs import require_directory
from modelyard.exit_codes import DONE, FAILED
from modelyard.formats import forecast
from modelyard.formats.results import read_results
from modelyard.release.claims import Claim, of_release
from modelyard.release.limits import LineDecision
from modelyard.store.artifacts import Store
from modelyard.store.lineage import parent_of
from modelyard.store.manifest import Artifact

RESULTS = ("results.json", "weights.json", "benchmarks.json")
"""Of a results artifact: all but the records."""


def write_claims(model: str, out: Path, producer: str, url: str | None) -> int:
    """Write a manifest for each claim and say how to verify it; FAILED where the store lacks an artifact that a claim rests on."""
    prml.library()
    require_directory(out)
    label, store, decided = decision_of(model, url)
    if decided is None:
        return FAILED
    rules = LineDecision.model_validate(decided.config)
    claims = claims_of(store, decided, rules)
    if isinstance(claims, str):
        say(f"{claims}: not in the store any more")
        return FAILED
    for claim in claims:
        written = prml.write(claim, producer, rules.seed, label, out)
        outcome = {None: "not measured", True: "holds", False: "does not hold"}[written.holds]
        say(f"{written.file}  sha256 {written.sha256}  {outcome}")
        if claim.observed is not None:
            say(f"  falsify verify {written.file} --observed {claim.observed!r}")
    return DONE


def claims_of(store: Store, decided: Artifact, rules: LineDecision) -> list[Claim] | str:
    """What the decision was held to; or which artifact is missing."""
    results = store.known(measured_by := parent_of(decided, "results"))
    if results is None:
        return measured_by
    wanted = {"benchmarks": parent_of(results, "benchmarks"), "tokens": parent_of(decided, "tokens")}
    wanted |= {"forecast": decided.parents["forecast"]} if "forecast" in decided.parents else {}
    there = {role: store.known(ref) for role, ref in wanted.items()}
    for role, artifact in there.items():
        if artifact is None:
            return wanted[role]
    kept = {role: artifact for role, artifact in there.items() if artifact is not None}
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for file in RESULTS:
            (directory / file).write_bytes(store.read(results, file))
        measured = read_results(directory)
        sealed = None
        if "forecast" in kept:
            (directory / forecast.FILE).write_bytes(store.read(kept["forecast"], forecast.FILE))
            sealed = (kept["forecast"], forecast.read_forecast(directory))
    return list(of_release(rules, decided, measured, kept["benchmarks"], sealed, kept["tokens"]))
