"""Whether a release, a card or a store is what was recorded: everything that does not hold, a line each.

A registered version remembers the hashes of its decision's and its export's manifests. The decision's manifest holds those of its
parents, they those of theirs and of their files, so whoever edits a store afterwards contradicts the registry, and whoever edits both
contradicts a signature. Left out: judging again, which a registration does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from pydantic import TypeAdapter, ValidationError

from modelyard.adapters import signing
from modelyard.adapters.mlflow.packaging import CODE, WEIGHTS, tree_hashes
from modelyard.adapters.mlflow.pages import every
from modelyard.adapters.mlflow.registry import Registry
from modelyard.complaint import first_error
from modelyard.release.card import model_card
from modelyard.store import lineage
from modelyard.store.artifacts import Store
from modelyard.store.file_hash import sha256_file
from modelyard.store.manifest import MANIFEST, Artifact, ArtifactError

REMEMBERED = {"decision_manifest": "decision_artifact", "export_manifest": "export"}
"""Tag with a manifest's hash -> tag with the artifact."""
SIGNED = {"decision": "decision_artifact", "export": "export"}
"""What is signed -> tag with the artifact."""


def of_release(registry: Registry, version: Any, store: Store, trusted: signing.Trusted | None) -> list[str]:
    """What does not hold of a registered version; its signature is looked at where ``trusted`` says whose.

    Raises RegistryError where the version was registered by hand.
    """
    roots = {tag: registry.tag(version, tag) for tag in REMEMBERED.values()}
    found = lineage.walk(store, list(roots.values()))
    problems = [*found.problems, *(f"{ref} is not in the store any more" for ref in found.missing)]
    problems += remembered(version, found)
    kept = [made for ref, made in {**found.artifacts, **found.parts}.items() if ref not in found.missing]
    problems += [why for made in kept for why in store.flaws(made)]
    decided, exported = (found.artifacts.get(roots[tag]) for tag in ("decision_artifact", "export"))
    if exported:
        problems += packaged(registry, version, exported)
    if trusted and decided and exported:
        problems += signed(version, store, {"decision": decided, "export": exported}, trusted)
    return list(dict.fromkeys(problems))  # a damaged list of parts or sources is read on the way, too


def remembered(version: Any, found: lineage.Lineage) -> list[str]:
    """Where the store holds another decision or export than the registry remembers, a line each."""
    lines = []
    for tag, artifact in REMEMBERED.items():
        made, known = found.artifacts.get(version.tags[artifact]), version.tags.get(tag)
        if known is None:
            lines.append(f"version {version.version} was registered by an earlier version of Modelyard: it remembers no {tag}")
        elif made and made.manifest != known:
            lines.append(f"{made.ref}: its manifest is not the one that the registry remembers ({tag} {known[:12]})")
    return lines


def packaged(registry: Registry, version: Any, exported: Artifact) -> list[str]:
    """Where the model that the registry serves holds other weights than the export, or other code than was packaged, a line each."""
    with TemporaryDirectory(prefix="modelyard-verify-") as directory:
        source = registry.client.get_model_version_download_uri(registry.name, str(version.version))
        served = Path(mlflow.artifacts.download_artifacts(source, dst_path=directory, tracking_uri=registry.client.tracking_uri))
        weights = served / WEIGHTS if (served / WEIGHTS).is_dir() else served
        hashes, served_hashes = tree_hashes(weights), tree_hashes(served)
    wanted = {name: record.sha256 for name, record in exported.files.items()}
    other = [name for name in sorted({*hashes, *wanted} - {MANIFEST}) if hashes.get(name) != wanted.get(name)]
    lines = [f"version {version.version}: {other[0]} of the packaged model is not that of {exported.ref}"] if other else []
    code = {name: sha256 for name, sha256 in served_hashes.items() if not name.startswith(f"{WEIGHTS}/")}
    return [*lines, *(packaged_code(registry, version, code) if weights != served else [])]


def packaged_code(registry: Registry, version: Any, code: Mapping[str, str]) -> list[str]:
    """Where the files beside the packaged weights (path -> sha256) are not those that were registered, a line."""
    listed = registry.client.get_logged_model(registry.tag(version, "model_id")).tags.get(CODE)
    if listed is None:
        return [f"version {version.version} was registered by an earlier version of Modelyard: nobody recorded its code ({CODE})"]
    try:
        wanted = TypeAdapter(dict[str, str]).validate_json(listed)
    except ValidationError as error:
        return [f"version {version.version}: what the registry says of its code ({CODE}) cannot be read: {first_error(error)}"]
    other = [name for name in sorted({*code, *wanted}) if code.get(name) != wanted.get(name)]
    return [f"version {version.version}: {other[0]} of the packaged model is not the code that was registered"] if other else []


def signed(version: Any, store: Store, made: dict[str, Artifact], trusted: signing.Trusted) -> list[str]:
    """Why the release's signature does not hold, a line each."""
    ref = version.tags.get(signing.NAME)
    if not ref:
        return [f"version {version.version} is not signed"]
    try:
        signature = store.get(ref)
    except ArtifactError as error:
        return [str(error)]
    return signing.check(store, signature, made, trusted)


def of_card(registry: Registry, version: Any, card: Path, store: Store, trusted: signing.Trusted) -> list[str]:
    """Why a page is not the card of a release that ``trusted`` signed, a line each."""
    try:
        made = {role: store.get(registry.tag(version, tag)) for role, tag in SIGNED.items()}
    except ArtifactError as error:
        return [str(error)]
    decided = made["decision"]
    page = decided.files.get(model_card.FILE)
    other = [] if page and page.sha256 == sha256_file(card) else [f"{card} is not the card of {decided.ref}"]
    return [*other, *signed(version, store, made, trusted)]


def of_store(store: Store, trusted: signing.Trusted | None = None) -> Iterator[str]:
    """What does not hold of a store: manifests, the links between them and to what was pruned, artifacts that others are made of, files, and
    signatures where ``trusted`` says whose.
    """
    known: dict[str, Artifact | None] = {}
    """None: its manifest cannot be read, which is said, or it is not in the store."""
    for ref in store.refs():
        if store.storage.exists(f"{ref}/{MANIFEST}"):
            yield from _take(store, ref, known)
    for made in [made for made in known.values() if made]:
        unread: list[str] = []
        parts = lineage.parts_of(store, made, unread)
        for ref in sorted({*made.parents.values(), *parts} - known.keys()):
            yield from _take(store, ref, known)
        yield from lineage.broken_links(made, {ref: there for ref, there in known.items() if there}, parts)
        why = store.flaws(made)
        yield from why
        yield from (one for one in unread if one not in why)
    if trusted:
        yield from signatures(store, {ref: made for ref, made in known.items() if made}, trusted)


def signatures(store: Store, known: Mapping[str, Artifact], trusted: signing.Trusted) -> Iterator[str]:
    """Why ``trusted`` vouches for nothing in a store, or not for a release that is signed in it; of several who signed one, any will do.

    Which releases must be signed only the registry knows.
    """
    releases: dict[tuple[str, ...], list[Artifact]] = {}
    for made in known.values():
        if made.name == signing.NAME:
            releases.setdefault(tuple(made.parents.get(role, "") for role in signing.SIGNED), []).append(made)
    if not releases:
        yield "nothing in the store is signed"
    for refs, signers in releases.items():
        if gone := [ref for ref in refs if ref not in known]:
            yield f"{signers[0].ref} signs {gone[0] or 'nothing'}, which cannot be read"
            continue
        parents = {role: known[ref] for role, ref in zip(signing.SIGNED, refs, strict=True)}
        yield from min((signing.check(store, one, parents, trusted) for one in signers), key=len)


def _take(store: Store, ref: str, known: dict[str, Artifact | None]) -> list[str]:
    """Put an artifact, or what was kept of it when it was pruned, into ``known``; why it cannot be."""
    known[ref] = None
    try:
        known[ref] = store.known(ref)
    except ArtifactError as error:
        return [str(error)]
    return [] if known[ref] else [f"{ref} is not in the store any more, and others were made of it"]


def released_with_card(registry: Registry, card: Path) -> list[Any]:
    """The registered versions of any name (MLflow's ModelVersions) whose card is this very file."""
    sha256 = sha256_file(card)
    return [one for one in every(registry.client.search_model_versions) if one.tags.get("card") == sha256]
