"""What an artifact was made of, what a change of a source would make invalid, and what differs between two releases.

Everything is read from the manifests in the store (``artifact.json``), the corpus's ``sources.json`` and ``parts.json``, and nothing else.
What is read is checked: files against their manifest, manifests against those of what was made of them; what does not
hold is among the ``problems``. What a candidate was compared with (``baseline``, ``version_1``...) is no part of it and
is not followed. Left out: columns and rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from modelyard.complaint import first_error
from modelyard.store.artifacts import Store
from modelyard.store.manifest import MANIFEST, PARTS, SOURCES, Artifact, ArtifactError, other_than, parted

NOT_FOLLOWED = re.compile(r"baseline|version_\d+")


class Lineage(NamedTuple):
    """Artifacts and the sources below them."""

    artifacts: dict[str, Artifact]
    """``name/version`` -> artifact, parents after what was made of them."""
    parts: dict[str, Artifact]
    """Artifacts that one of them was put together of (a corpus: its shards), and what those were made of."""
    sources: dict[str, list[dict[str, Any]]]
    """Corpus -> its source files and packages with version, hash and licence."""
    missing: tuple[str, ...]
    """Parents that are no longer in the store; those whose files were pruned are among the artifacts all the same, one whose manifest is
    damaged is among the problems."""
    problems: tuple[str, ...] = ()
    """What is not as it was recorded, a line each."""

    def named(self) -> dict[str, Artifact]:
        """Artifact name -> artifact: a line has one of each."""
        return {artifact.name: artifact for artifact in reversed(self.artifacts.values())}


def walk(store: Store, roots: Sequence[str]) -> Lineage:
    """Everything that ``roots`` (``name/version``) were made of, themselves included."""
    missing: list[str] = []
    problems: list[str] = []
    artifacts = _reached(store, roots, missing, problems)
    put_together = {ref: parts_of(store, made, problems) for ref, made in artifacts.items()}
    parts = _reached(store, [part for some in put_together.values() for part in some], missing, problems)
    known = {**artifacts, **parts}
    problems += [why for ref, made in known.items() for why in broken_links(made, known, put_together.get(ref, {}))]
    sources: dict[str, list[dict[str, Any]]] = {}
    for ref, made in artifacts.items():
        try:
            sources |= {ref: sources_of(store, made)} if SOURCES in made.files else {}
        except ArtifactError as error:
            problems.append(str(error))
    return Lineage(artifacts, parts, sources, tuple(missing), tuple(problems))


def _reached(store: Store, roots: Iterable[str], missing: list[str], problems: list[str]) -> dict[str, Artifact]:
    """``roots`` and all that they were made of by their parents; what is not there, or cannot be read, is added to the lists."""
    artifacts: dict[str, Artifact] = {}
    queue, asked = list(roots), set[str]()
    while queue:
        ref = queue.pop(0)
        if ref in asked or ref in missing:
            continue
        asked.add(ref)
        try:
            made = store.find(*ref.split("/", 1)) if "/" in ref else None
            known = made or (store.pruned(*ref.split("/", 1)) if "/" in ref else None)
        except ArtifactError as error:
            if (why := str(error)) not in problems:
                problems.append(why)
            continue
        if made is None:
            missing.append(ref)
        if known is None:
            continue
        artifacts[ref] = known
        queue += _followed(known)
    return artifacts


def broken_links(made: Artifact, known: Mapping[str, Artifact], parts: Mapping[str, str]) -> list[str]:
    """The parents and ``parts`` (:func:`parts_of`) among ``known`` that are not what ``made`` was made of, a line each; a manifest that
    names no hashes of its parents."""
    if made.parent_records is None:
        return [f"{made.ref} was made by an earlier version, which did not record its parents' hashes"] if made.parents else []
    links = [parted(made, role, known[ref]) for role, ref in made.parents.items() if ref in known]
    links += [other_than(made, "part", known[ref]) for ref, content in parts.items() if ref in known and known[ref].content != content]
    return [why for why in links if why]


def parts_of(store: Store, made: Artifact, problems: list[str]) -> dict[str, str]:
    """``name/version`` -> content of what ``made`` was put together of; a list that cannot be read is added to ``problems``."""
    if PARTS not in made.files:
        return {}
    try:
        return TypeAdapter(dict[str, str]).validate_json(store.read(made, PARTS))
    except ArtifactError as error:
        problems.append(str(error))
    except ValidationError as error:
        problems.append(f"{made.ref}/{PARTS}: {first_error(error)}")
    return {}


def parent_of(made: Artifact, role: str) -> str:
    """``name/version`` of a parent. Raises ArtifactError where ``made`` has none in this role."""
    if role not in made.parents:
        raise ArtifactError(f"{made.ref} was made of no {role}")
    return made.parents[role]


class Source(BaseModel):
    """What every row of ``sources.json`` has."""

    model_config = ConfigDict(extra="allow")

    name: str


_SOURCES = TypeAdapter(list[Source])


def sources_of(store: Store, corpus: Artifact) -> list[dict[str, Any]]:
    """Rows of a corpus's ``sources.json``. Raises ArtifactError where it is not the recorded file, or none of sources."""
    return source_rows(store.read(corpus, SOURCES), f"{corpus.ref}/{SOURCES}")


def source_rows(text: bytes, where: str) -> list[dict[str, Any]]:
    """The rows that the file holds. Raises ArtifactError beginning with ``where``."""
    try:
        return [row.model_dump() for row in _SOURCES.validate_json(text)]
    except ValidationError as error:
        raise ArtifactError(f"{where}: {first_error(error)}") from None


def changes(old: Lineage, new: Lineage) -> list[str]:
    """What differs, one line each, from the sources up: sources, config literals, code, artifacts that are new or gone."""
    before, after = old.named(), new.named()
    lines = source_changes(old, new)
    for name in dict.fromkeys([*after, *before]):
        if name not in before or name not in after:
            lines.append(f"{name}: only in the {'new' if name in after else 'old'} version")
            continue
        one, other = before[name], after[name]
        if one.fingerprint == other.fingerprint:
            continue
        literal = dict(literal_changes(one.config, other.config))
        lines += [f"{name}: {key} {was} -> {now}" for key, (was, now) in literal.items()]
        if one.code != other.code:
            lines.append(f"{name}: code {one.code} -> {other.code}")
        if not literal and one.code == other.code:
            lines.append(f"{name}: rebuilt, only its inputs changed")
    return lines


def source_changes(old: Lineage, new: Lineage) -> list[str]:
    """Sources that came, went or have other content."""
    before, after = ({row["name"]: row for rows in side.sources.values() for row in rows} for side in (old, new))
    return [
        f"source {name}: {described(before.get(name))} -> {described(after.get(name))}"
        for name in sorted(set(before) | set(after))
        if before.get(name) != after.get(name)
    ]


def described(source: Mapping[str, Any] | None) -> str:
    """A source in a few words: package and version or file, hash, licence."""
    if source is None:
        return "none"
    what = " ".join(str(source[key]) for key in ("package", "version", "dist", "path", "url") if source.get(key))
    digest = f" sha256 {source['sha256']}" if source.get("sha256") else ""
    return f"{what}{digest} ({source.get('licence', 'licence unknown')})"


def literal_changes(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """Dotted key -> (old, new) of every literal that differs between two configs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from literal_changes(old.get(key), new.get(key), f"{prefix}{key}.")
    elif old != new:
        yield prefix.rstrip("."), (json.dumps(old), json.dumps(new))


def invalidated(store: Store, source: str) -> list[Artifact]:
    """Every finished artifact that would have to be made again if ``source`` changed, in the order they would be made.

    Args:
        store: where to look; all of it is searched.
        source: name, package, path or sha256 of a source, or ``name/version`` of an artifact.

    Raises:
        ValueError: nothing in the store was made of it.
    """
    everything = {artifact.ref: artifact for artifact in all_artifacts(store)}
    touched = {ref for ref, artifact in everything.items() if ref == source or _reads(store, artifact, source)}
    if not touched:
        raise ValueError(f"{source}: no corpus in {store.storage.root} has such a source, and no artifact is called so")
    made_of = {ref: [*_followed(made), *parts_of(store, made, [])] for ref, made in everything.items()}
    growing = True
    while growing:
        more = {ref for ref in everything if ref not in touched and touched & set(made_of[ref])}
        touched |= more
        growing = bool(more)
    return [everything[ref] for ref in _in_order(touched - {source}, made_of)]


def all_artifacts(store: Store) -> Iterator[Artifact]:
    """Every finished artifact of the store."""
    for ref in store.refs():
        if store.storage.exists(f"{ref}/{MANIFEST}"):
            yield store.get(ref)


def _followed(artifact: Artifact) -> list[str]:
    return [parent for role, parent in artifact.parents.items() if not NOT_FOLLOWED.fullmatch(role)]


def _reads(store: Store, artifact: Artifact, source: str) -> bool:
    if SOURCES not in artifact.files:
        return False
    return any(source in (row.get(key) for key in ("name", "package", "path", "sha256")) for row in sources_of(store, artifact))


def _in_order(wanted: set[str], made_of: Mapping[str, Sequence[str]]) -> list[str]:
    """Parents and parts before what is made of them."""
    ordered: list[str] = []

    def visit(ref: str) -> None:
        if ref in ordered or ref not in wanted:
            return
        for parent in made_of[ref]:
            visit(parent)
        ordered.append(ref)

    for ref in sorted(wanted):
        visit(ref)
    return ordered
