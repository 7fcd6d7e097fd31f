"""A release judged once more, from its evidence, before the registry hears of it.

What stands in a store is not believed: every artifact below the decision and the export must be what the manifests of its children say,
every file what its manifest says, the decision and its pages what the evidence decides and shows now, a signed decision that decision with the
answer that was kept, and the export what the policy's weights export to. Left out: proof of who wrote the evidence, which a signature gives.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.formats.expectation import Validate
from modelyard.release import decision, export, sign_off
from modelyard.release.card import content_summary
from modelyard.release.gates.gate import Decision
from modelyard.release.limits import LineDecision
from modelyard.store import lineage
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Artifact


class AuditError(ValueError):
    """A release that is not what its evidence says; one line."""


class Audited(NamedTuple):
    """A release that holds."""

    decision: Decision
    """As its evidence decides it."""
    rules: LineDecision
    """The limits that it was held to."""


class Evidence(NamedTuple):
    """What a release rests on, as it lies in the store."""

    unsigned: Artifact
    """The decision before somebody signed it."""
    rules: LineDecision
    inputs: dict[str, Path]
    """Role -> what the decision was made of."""


def evidence(store: Store, decided: Artifact, exported: Artifact) -> Evidence:
    """What ``decided`` (a decision, or a signed one) and ``exported`` rest on; every hash on the way is checked.

    Raises:
        AuditError: something is not what was made of it or is gone; the line names it.
    """
    found = lineage.walk(store, [decided.ref, exported.ref])
    if wrong := [*found.problems, *(f"{ref} is not in the store any more" for ref in found.missing)]:
        raise AuditError(wrong[0])
    unsigned = store.get(decided.parents["decision"]) if decided.name == sign_off.NAME else decided
    inputs = {role: store.fetch(store.get(ref)) for role, ref in unsigned.parents.items()}
    for ref in (unsigned.ref, decided.ref, exported.ref, *exported.parents.values()):
        store.fetch(store.get(ref))
    return Evidence(unsigned, LineDecision.model_validate(unsigned.config), inputs)


def audit(store: Store, decided: Artifact, exported: Artifact, validate: Validate, recount: decision.Recount) -> Audited:
    """Judge again what ``decided`` (a decision, or a signed one) says of ``exported``.

    Raises:
        AuditError: something is not what it should be; the line names it.
    """
    unsigned, rules, inputs = evidence(store, decided, exported)
    again, seen, _ = decision.judge(rules, inputs, validate, recount, rules.unmeasured, rules.lost_classifier)
    require_same(unsigned.ref, decision.read_decision(store.fetch(unsigned)), again)
    if decided is not unsigned:
        if decided.parents != {**unsigned.parents, "decision": unsigned.ref}:
            raise AuditError(f"{decided.ref} signs other evidence than {unsigned.ref} was decided on")
        again = sign_off.with_signature(again, sign_off.read_answer(store.fetch(decided)))
        require_same(decided.ref, decision.read_decision(store.fetch(decided)), again)
    summary = content_summary.build(rules.line, inputs, rules.training_content)
    require_pages(decided, {**decision.pages(rules.line, inputs, again, seen.results), content_summary.FILE: summary})
    require_export(store, decided, exported)
    return Audited(again, rules)


def require_same(ref: str, kept: Decision, again: Decision) -> None:
    """Raise AuditError where a decision is not what it is when it is judged again."""
    if where := first_difference(kept.model_dump(mode="json"), again.model_dump(mode="json")):
        raise AuditError(f"{ref}: {decision.FILE} is not what its evidence decides: {where}; delete {ref} to judge it anew")


def first_difference(kept: Any, again: Any, key: str = "") -> str:
    """Where two trees of JSON differ by more than how another processor rounds a sum; "" where they do not."""
    if isinstance(kept, dict) and isinstance(again, dict) and set(kept) == set(again):
        pairs = [(f"{key}.{name}", kept[name], again[name]) for name in kept]
    elif isinstance(kept, list) and isinstance(again, list) and len(kept) == len(again):
        pairs = [(f"{key}.{number}", one, other) for number, (one, other) in enumerate(zip(kept, again, strict=True))]
    elif isinstance(kept, float) and isinstance(again, float) and math.isclose(kept, again, rel_tol=1e-9, abs_tol=1e-12):
        pairs = []
    else:
        return "" if kept == again else f"{key.lstrip('.')} is {str(kept)[:80]}, judged again {str(again)[:80]}"
    return next((where for name, one, other in pairs if (where := first_difference(one, other, name))), "")


def require_pages(decided: Artifact, pages: Mapping[str, str]) -> None:
    """Raise AuditError where a page of a decision is not the one that its evidence makes: what people read is what was judged."""
    for file, page in pages.items():
        if file not in decided.files or decided.files[file].sha256 != hashlib.sha256(page.encode()).hexdigest():
            raise AuditError(f"{decided.ref}: {file} is not what its evidence shows; delete {decided.ref} to make it anew")


def require_export(store: Store, decided: Artifact, exported: Artifact) -> None:
    """Raise AuditError unless ``exported`` was made of the policy that was judged and holds its very weights."""
    policy, judged_policy = exported.parents.get("policy", ""), decided.parents.get("policy", "")
    if policy != judged_policy:
        raise AuditError(f"{exported.ref} was made of {policy or 'no policy'}, and {decided.ref} judged {judged_policy or 'none'}")
    store.fetch(exported)
    hashes = {name: record.sha256 for name, record in exported.files.items()}
    if name := export.difference(store.fetch(store.get(policy)), hashes):
        raise AuditError(f"{exported.ref}: {name} is not what {policy} exports to; delete {exported.ref} to export it again")
