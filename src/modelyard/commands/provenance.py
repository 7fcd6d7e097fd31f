"""Questions about released models, answered from registry and store; and taking a version back.

The registry is ``MLFLOW_TRACKING_URI`` (the local SQLite file by default), the store the one that the version was released from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from modelyard.adapters.mlflow.registry import Registry, RegistryError
from modelyard.adapters.mlflow.server import tracking_uri, without_password
from modelyard.adapters.mlflow.tracker import flatten
from modelyard.execution import ExecutionConfig
from modelyard.exit_codes import DONE, FAILED
from modelyard.store import lineage
from modelyard.store.artifacts import Store

SCRATCH = ExecutionConfig().scratch


def show_lineage(model: str, against: str | None, url: str | None, out: Path | None) -> int:
    """Print what a version is made of; FAILED where a part of it is not in the store any more."""
    name, version = registered(model)
    tags = version.tags
    store = Store(url or tags.get("store") or ExecutionConfig().store, SCRATCH)
    found = lineage.walk(store, [tags["decision_artifact"], tags["export"]])
    gates = read_gates(store, tags["decision_artifact"])
    other = previous_of(Registry(tracking_uri(), name), version, against)
    changed = lineage.changes(lineage.walk(store, [other.tags["decision_artifact"], other.tags["export"]]), found) if other else []
    typer.echo(
        f"{name} version {version.version}: {tags['decision']}, weights {tags['policy']}, compared with {tags.get('opponent', 'none')}"
    )
    for ref, made in found.artifacts.items():
        typer.echo(f"\n{ref}  code {made.code}  {made.seconds:.1f} s")
        for role, parent in made.parents.items():
            typer.echo(f"  made of {role}: {parent}")
        typer.echo(f"  config: {' '.join(f'{key}={value}' for key, value in flatten(made.config).items()) or 'none'}")
        for source in found.sources.get(ref, []):
            typer.echo(f"  source {source['name']}: {lineage.described(source)}")
    for ref in found.missing:
        typer.echo(f"\n{ref}  not in the store any more")
    typer.echo("\ngates")
    for gate in gates:
        aside = f" (overridden by {gate['override']['name']}: {gate['override']['reason']})" if gate.get("override") else ""
        typer.echo(f"  {gate['name']}: {gate['verdict']}{aside}, {gate['reason']}")
    typer.echo(f"\nagainst version {other.version}" if other else "\nno version before it to compare with")
    for line in changed or (["nothing differs"] if other else []):
        typer.echo(f"  {line}")
    if out:
        whole = {
            "model": name,
            "version": str(version.version),
            "tags": dict(tags),
            "artifacts": {ref: made.model_dump(mode="json") for ref, made in found.artifacts.items()},
            "sources": found.sources,
            "missing": found.missing,
            "gates": gates,
            "against": str(other.version) if other else None,
            "changes": changed,
        }
        out.write_text(json.dumps(whole, indent=1, ensure_ascii=False), "utf-8")
    return FAILED if found.missing else DONE


def show_invalidated(source: str, url: str | None, out: Path | None) -> None:
    """Print what a change of ``source`` would make necessary to build again."""
    store = Store(url or ExecutionConfig().store, SCRATCH)
    found = lineage.invalidated(store, source)
    versions = released_with({made.ref for made in found})
    for made in found:
        typer.echo(f"{made.ref}  {made.seconds:.1f} s")
    typer.echo(f"{len(found)} artifacts, {sum(made.seconds for made in found):.0f} s to build again")
    for line in versions:
        typer.echo(f"released: {line}")
    if out:
        out.write_text(json.dumps({"artifacts": [made.ref for made in found], "released": versions}, indent=1), "utf-8")


def roll_back(model: str, version: str, name: str, reason: str) -> None:
    """Take a version out of production and print which aliases moved."""
    moved = Registry(tracking_uri(), model).rollback(version, name, reason)
    for move in moved:
        typer.echo(f"alias {move.alias} of {model}: version {move.before or 'none'} -> {move.after or 'none'}")
    if not moved:
        typer.echo(f"version {version} of {model} does not serve; nothing to do")


def registered(model: str) -> tuple[str, Any]:
    """Name and MLflow version of ``NAME``, ``NAME@ALIAS`` or ``NAME/VERSION``. Raises RegistryError when there is none."""
    name, slash, number = model.partition("/")
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


def read_gates(store: Store, decision: str) -> list[dict[str, Any]]:
    """Gates of a decision artifact; none when it is gone."""
    if not store.storage.exists(f"{decision}/decision.json"):
        return []
    gates: list[dict[str, Any]] = json.loads(store.storage.read(f"{decision}/decision.json"))["gates"]
    return gates


def released_with(refs: set[str]) -> list[str]:
    """Registered versions whose weights are among ``refs``, with their aliases."""
    client = Registry(tracking_uri(), "").client
    aliases: dict[tuple[str, str], list[str]] = {}
    for model in client.search_registered_models():
        for alias, number in model.aliases.items():
            aliases.setdefault((model.name, str(number)), []).append(alias)
    return [
        f"{found.name} version {found.version} {' '.join(aliases.get((found.name, str(found.version)), []))}".rstrip()
        for found in client.search_model_versions()
        if found.tags.get("policy") in refs
    ]
