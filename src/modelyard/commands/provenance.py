"""Questions about released models, answered from registry and store; and taking a version back.

The registry is ``MLFLOW_TRACKING_URI`` (the local SQLite file by default). The store is the one that the command names, else this
directory's: where a version says that it was released from another, that is said and not followed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from modelyard.adapters.mlflow.conviction import remembered
from modelyard.adapters.mlflow.pages import every
from modelyard.adapters.mlflow.registry import ROLLED_BACK, Registry, RegistryError
from modelyard.adapters.mlflow.server import answering, tracking_uri
from modelyard.adapters.mlflow.tracker import flatten
from modelyard.commands.command import say
from modelyard.commands.outputs import write
from modelyard.complaint import first_error, without_password
from modelyard.execution import ExecutionConfig
from modelyard.exit_codes import DONE, FAILED
from modelyard.release.decision import FILE
from modelyard.store import lineage
from modelyard.store.artifacts import Store
from modelyard.store.manifest import ArtifactError

SCRATCH = ExecutionConfig().scratch
DECISION, EXPORT = "decision_artifact", "export"
"""Tags of a registered version: its artifacts in the store."""
EVERY_VERSION = (DECISION, EXPORT, "decision", "policy", "results")
"""Tags that every version has which a release registered."""


def show_lineage(model: str, against: str | None, url: str | None, out: Path | None) -> int:
    """Print what a version is made of; FAILED where a part of it is not in the store any more, or not what it was."""
    with answering(tracking_uri()):
        name, version = registered(model)
        registry = Registry(tracking_uri(), name)
        *roots, verdict, weights = (registry.tag(version, key) for key in (DECISION, EXPORT, "decision", "policy"))
        other = previous_of(registry, version, against)
        before = [registry.tag(other, key) for key in (DECISION, EXPORT)] if other else []
    store = store_of(registry, version, url)
    found = lineage.walk(store, roots)
    problems = [*found.problems, *remembered(version, found)]
    gates = read_gates(store, found, roots[0], problems)
    changed = lineage.changes(lineage.walk(store, before), found) if other else []
    tags = version.tags
    say(f"{name} version {version.version}: {verdict}, weights {weights}, compared with {tags.get('opponent', 'none')}")
    print_artifacts(found)
    say("\ngates")
    for gate in gates:
        aside = f" (overridden by {gate.override.name}: {gate.override.reason})" if gate.override else ""
        say(f"  {gate.name}: {'set aside' if gate.set_aside else gate.verdict}{aside}, {gate.reason}")
    say(f"\nagainst version {other.version}" if other else "\nno version before it to compare with")
    for line in changed or (["nothing differs"] if other else []):
        say(f"  {line}")
    for line in problems:
        say(f"\nnot what was released: {line}")
    if out:
        whole = {
            "model": name,
            "version": str(version.version),
            "tags": dict(tags),
            "artifacts": {ref: made.model_dump(mode="json") for ref, made in found.artifacts.items()},
            "parts": list(found.parts),
            "sources": found.sources,
            "missing": found.missing,
            "problems": problems,
            "gates": [gate.model_dump(mode="json", exclude_unset=True) for gate in gates],
            "against": str(other.version) if other else None,
            "changes": changed,
        }
        write(out, json.dumps(whole, indent=1, ensure_ascii=False))
    return FAILED if found.missing or problems else DONE


def print_artifacts(found: lineage.Lineage) -> None:
    """Every artifact with its parents, config and sources."""
    for ref, made in found.artifacts.items():
        say(f"\n{ref}  code {made.code}  {made.seconds:.1f} s{f'  by {made.builder}' if made.builder else ''}")
        for role, parent in made.parents.items():
            say(f"  made of {role}: {parent}")
        say(f"  config: {' '.join(f'{key}={value}' for key, value in flatten(made.config).items()) or 'none'}")
        for source in found.sources.get(ref, []):
            say(f"  source {source['name']}: {lineage.described(source)}")
    for ref in found.missing:
        say(f"\n{ref}  not in the store any more")


def store_of(registry: Registry, version: Any, url: str | None) -> Store:
    """The store that the command names, else this directory's. Raises ArtifactError where the version was released from another."""
    store = Store(url or ExecutionConfig().store, SCRATCH)
    decision = registry.tag(version, DECISION)
    if store.known(decision) is None and url is None:
        where = without_password(version.tags.get("store", "another store"))
        raise ArtifactError(f"{decision} is not in {store.storage.url}; it was released from {where}: --store names the store to read")
    return store


def show_invalidated(source: str, url: str | None, out: Path | None) -> None:
    """Print what a change of ``source`` would make necessary to build again."""
    store = Store(url or ExecutionConfig().store, SCRATCH)
    found = lineage.invalidated(store, source)
    with answering(tracking_uri()):
        versions = released_with({made.ref for made in found})
    for made in found:
        say(f"{made.ref}  {made.seconds:.1f} s")
    say(f"{len(found)} artifacts, {sum(made.seconds for made in found):.0f} s to build again")
    for line in versions:
        say(f"released: {line}")
    if out:
        write(out, json.dumps({"artifacts": [made.ref for made in found], "released": versions}, indent=1))


def roll_back(model: str, version: str, name: str, reason: str) -> None:
    """Take a version out of production and print which aliases moved."""
    with answering(tracking_uri()):
        registry = Registry(tracking_uri(), model)
        moved = registry.rollback(version, name, reason)
        before = registry.numbered(version).tags.get(ROLLED_BACK)
    for move in moved:
        say(f"alias {move.alias} of {model}: version {move.before or 'none'} -> {move.after or 'none'}")
    if not moved:
        say(f"version {version} of {model} {f'was rolled back {before}' if before else 'does not serve'}; nothing to do")


def registered(model: str) -> tuple[str, Any]:
    """Name and MLflow version of ``NAME``, ``NAME@ALIAS`` or ``NAME/VERSION``, with MLflow's ``models:/`` before it or without. Raises
    RegistryError when there is none."""
    name, slash, number = model.removeprefix("models:/").partition("/")
    name, _, alias = name.partition("@")
    registry = Registry(tracking_uri(), name)
    version = registry.numbered(number) if slash else registry.alias(alias or "production")
    if version is None:
        raise RegistryError(f"{model}: no such version in {without_password(tracking_uri())}")
    return name, version


def previous_of(registry: Registry, version: Any, against: str | None) -> Any:
    """The version to compare with: the one named, or the one whose place ``version`` took."""
    if against:
        found = registry.numbered(against)
        if found is None:
            raise RegistryError(f"{registry.name}: no version {against}")
        return found
    number = registry.version_of(version.tags.get("opponent", ""))
    return registry.numbered(number) if number else None


class Person(BaseModel):
    """Who set a gate aside."""

    model_config = ConfigDict(extra="allow")

    name: str
    reason: str


class Gate(BaseModel):
    """A gate as any version of Modelyard wrote it."""

    model_config = ConfigDict(extra="allow")

    name: str
    verdict: str
    reason: str
    override: Person | None = None
    set_aside: bool = False


class Decided(BaseModel):
    """What lineage reads of ``decision.json``."""

    gates: tuple[Gate, ...]


def read_gates(store: Store, found: lineage.Lineage, decision: str, problems: list[str]) -> Sequence[Gate]:
    """Gates of a decision artifact; none when it is gone, or when its file is not the recorded one or no decision, which is added to
    ``problems``."""
    if decision not in found.artifacts:
        return []
    try:
        return Decided.model_validate_json(store.read(found.artifacts[decision], FILE)).gates
    except ValidationError as error:
        problems.append(f"{decision}/{FILE}: {first_error(error)}")
    except ArtifactError as error:
        problems.append(str(error))
    return []


def released_with(refs: set[str]) -> list[str]:
    """Registered versions whose weights are among ``refs``, with their aliases."""
    client = Registry(tracking_uri(), "").client
    aliases: dict[tuple[str, str], list[str]] = {}
    for model in every(client.search_registered_models):
        for alias, number in model.aliases.items():
            aliases.setdefault((model.name, str(number)), []).append(alias)
    return [
        f"{found.name} version {found.version} {' '.join(aliases.get((found.name, str(found.version)), []))}".rstrip()
        for found in every(client.search_model_versions)
        if found.tags.get("policy") in refs
    ]
