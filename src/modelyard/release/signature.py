"""The artifact of a signature: what it is made of, and keeping one. The form in Prefect and the desk's page keep the same artifact, so
whichever is first counts, and the next run of the release finds it."""

from __future__ import annotations

from modelyard.release import sign_off
from modelyard.store.artifacts import Built, Store
from modelyard.store.code_identity import code_version
from modelyard.store.manifest import Artifact, Spec


def spec(store: Store, line: str, decided: Artifact) -> Spec:
    """The signature under a decision of ``line``."""
    evidence = {role: store.get(ref) for role, ref in decided.parents.items()}
    config = sign_off.SignOffConfig(line=line)
    return Spec(sign_off.NAME, config, {**evidence, "decision": decided}, code_version("modelyard.release.sign_off"))


def kept(store: Store, line: str, decided: Artifact) -> sign_off.SignOff | None:
    """What was signed under a decision, by whichever way; None where nobody has."""
    found = store.built(spec(store, line, decided))
    return sign_off.read_answer(store.fetch(found)) if found else None


def keep(store: Store, line: str, decided: Artifact, answer: sign_off.SignOff) -> Built:
    """Keep the signature with the decision and a card that shows it; one given before stays."""
    signed = spec(store, line, decided)
    config = sign_off.SignOffConfig(line=line)
    inputs = {role: store.fetch(parent) for role, parent in signed.parents.items()}
    return store.build(signed, lambda out, _: sign_off.run(config, answer, inputs, out))
