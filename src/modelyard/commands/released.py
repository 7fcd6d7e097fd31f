"""``python -m modelyard.commands.released COMMAND``: questions about released models, and taking one back.

    lineage NAME[@ALIAS|/VERSION]        back to every source, config, code version, parent and gate; and what changed since the version before
    invalidates SOURCE                   what a change of a source (or of an artifact) would make necessary to build again
    rollback NAME VERSION                production goes back to what VERSION replaced; needs --name and --reason

The registry is ``MLFLOW_TRACKING_URI`` (the local SQLite file by default), the store the one that the version was released from.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelyard.adapters.mlflow.registry import Registry, RegistryError
from modelyard.adapters.mlflow.server import tracking_uri, without_password
from modelyard.adapters.mlflow.tracker import flatten
from modelyard.execution import ExecutionConfig
from modelyard.store import lineage
from modelyard.store.artifacts import Store

SCRATCH = ExecutionConfig().scratch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what was asked, 2 with one line when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m modelyard.commands.released",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("lineage", help="what a released version is made of")
    one.add_argument("model", help="NAME, NAME@ALIAS or NAME/VERSION (default alias: production)")
    one.add_argument("--against", help="VERSION to compare with (default: the one it replaced)")
    two = commands.add_parser("invalidates", help="what a change of a source would invalidate")
    two.add_argument("source", help="name, package, path or sha256 of a source, or NAME/VERSION of an artifact")
    for each in (one, two):
        each.add_argument("--store", help="URL of the artifact store")
        each.add_argument("--json", type=Path, help="where the whole answer goes")
    three = commands.add_parser("rollback", help="take a version out of production")
    three.add_argument("model", help="NAME")
    three.add_argument("version", help="the version that shall no longer serve")
    three.add_argument("--name", required=True, help="who decides")
    three.add_argument("--reason", required=True, help="why")
    options = parser.parse_args(arguments)
    try:
        return {"lineage": show_lineage, "invalidates": show_invalidated, "rollback": roll_back}[options.command](options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{options.command}: {error}\n")
        return 2


def show_lineage(options: argparse.Namespace) -> int:
    """The command ``lineage``."""
    name, version = registered(options.model)
    tags = version.tags
    store = Store(options.store or tags.get("store") or ExecutionConfig().store, SCRATCH)
    found = lineage.walk(store, [tags["decision_artifact"], tags["export"]])
    gates = read_gates(store, tags["decision_artifact"])
    other = previous_of(Registry(tracking_uri(), name), version, options.against)
    changed = lineage.changes(lineage.walk(store, [other.tags["decision_artifact"], other.tags["export"]]), found) if other else []
    say(f"{name} version {version.version}: {tags['decision']}, weights {tags['policy']}, compared with {tags.get('opponent', 'none')}")
    for ref, made in found.artifacts.items():
        say(f"\n{ref}  code {made.code}  {made.seconds:.1f} s")
        for role, parent in made.parents.items():
            say(f"  made of {role}: {parent}")
        say(f"  config: {' '.join(f'{key}={value}' for key, value in flatten(made.config).items()) or 'none'}")
        for source in found.sources.get(ref, []):
            say(f"  source {source['name']}: {lineage.described(source)}")
    for ref in found.missing:
        say(f"\n{ref}  not in the store any more")
    say("\ngates")
    for gate in gates:
        aside = f" (overridden by {gate['override']['name']}: {gate['override']['reason']})" if gate.get("override") else ""
        say(f"  {gate['name']}: {gate['verdict']}{aside}, {gate['reason']}")
    say(f"\nagainst version {other.version}" if other else "\nno version before it to compare with")
    for line in changed or (["nothing differs"] if other else []):
        say(f"  {line}")
    if options.json:
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
        options.json.write_text(json.dumps(whole, indent=1, ensure_ascii=False), "utf-8")
    return 1 if found.missing else 0


def show_invalidated(options: argparse.Namespace) -> int:
    """The command ``invalidates``."""
    store = Store(options.store or ExecutionConfig().store, SCRATCH)
    found = lineage.invalidated(store, options.source)
    versions = released_with({made.ref for made in found})
    for made in found:
        say(f"{made.ref}  {made.seconds:.1f} s")
    say(f"{len(found)} artifacts, {sum(made.seconds for made in found):.0f} s to build again")
    for line in versions:
        say(f"released: {line}")
    if options.json:
        options.json.write_text(json.dumps({"artifacts": [made.ref for made in found], "released": versions}, indent=1), "utf-8")
    return 0


def roll_back(options: argparse.Namespace) -> int:
    """The command ``rollback``."""
    moved = Registry(tracking_uri(), options.model).rollback(options.version, options.name, options.reason)
    for move in moved:
        say(f"alias {move.alias} of {options.model}: version {move.before or 'none'} -> {move.after or 'none'}")
    if not moved:
        say(f"version {options.version} of {options.model} does not serve; nothing to do")
    return 0


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


def say(line: str) -> None:
    """One line on standard output."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
