"""What of a store and of a scratch directory nobody needs any more, and its removal with the lineage kept.

Needed is what somebody names (releases, decisions), the exports of the models behind it, what a run took or made in the last days, and all that
those were made of. What a decision released stays for whichever registry serves it, not only for the one that is asked. A run
notes in the store that it takes an artifact (:meth:`Store.built`), so that also what it found is recent. Of an artifact that goes, the
manifest and the files that say what it was made of stay under ``.pruned``: lineage reads them as before, and whoever was made of
it is still held to its hashes. An artifact that is wanted again is built again. Left out: downloads of sources, which a run may be reading.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from modelyard.store import lineage
from modelyard.store.artifacts import PRUNED, USED, Store
from modelyard.store.claims import FOLDER as CLAIMS
from modelyard.store.claims import take_unclaimed
from modelyard.store.local_lock import LockedError, alone, lock_of
from modelyard.store.manifest import MANIFEST, PARTS, SOURCES, Artifact, ArtifactError

EXPORT = "export"
"""Artifact of the files that a registered version was packaged of; no decision is made of it."""
DAY = 24 * 3600.0
WORKSPACE = re.compile(r"(?P<name>.+)-(?P<version>[0-9a-f]{16})")
"""Name of a directory of unfinished work."""


class Piece(NamedTuple):
    """Something that can go."""

    where: str
    """``name/version`` of an artifact, or the path of a directory in scratch."""
    size: int
    """Bytes."""
    why: str


class Plan(NamedTuple):
    """What a prune would do."""

    artifacts: tuple[Piece, ...]
    """Finished artifacts that nothing needs."""
    unfinished: tuple[Piece, ...]
    """Files of artifacts in the store whose upload was cut off."""
    scratch: tuple[Piece, ...]
    """Unfinished work and copies on this machine."""
    kept: dict[str, int]
    """Why artifacts stay -> how many."""
    problems: tuple[str, ...]
    """Manifests that cannot be read; such artifacts stay."""
    before: float
    """What was used after that, seconds since 1970, stays, also where it was used after the plan was made."""

    @property
    def size(self) -> int:
        """Bytes that it frees."""
        return sum(piece.size for piece in (*self.artifacts, *self.unfinished, *self.scratch))


def plan(store: Store, needed: Iterable[str], days: float, now: float) -> Plan:
    """What can go.

    Args:
        store: with its scratch directory.
        needed: ``name/version`` of artifacts that stay with all that they were made of.
        days: what was used in so many days stays likewise.
        now: seconds since 1970; what was used later than that (a clock was set back) counts as used now.
    """
    problems: list[str] = []
    known, unfinished = _everything(store, problems)
    named = _closure(store, (ref for ref in needed if ref in known), known, problems)
    named |= _exports(known, named)
    last = {ref: last_used(store, made) for ref, made in known.items()}
    before = now - days * DAY
    recent = _closure(store, (ref for ref, used in last.items() if used > before), known, problems)
    going = [ref for ref in known if ref not in named | recent]
    artifacts = [Piece(ref, _bytes(known[ref]), f"last used {(now - last[ref]) / DAY:.0f} days ago") for ref in sorted(going)]
    kept = {"needed by a release or a decision": len(named), f"used in the last {days:g} days": len(recent - named)}
    uploads = [Piece(ref, store.storage.size(ref), "its upload was cut off") for ref in unfinished]
    left = sorted(_scratch(store, {*going}, {*known}, before))
    return Plan(tuple(artifacts), tuple(uploads), tuple(left), kept, tuple(problems), before)


def carry_out(store: Store, planned: Plan) -> None:
    """Remove what is planned, but for what a run has begun to build, finished or taken since."""
    for piece in planned.artifacts:
        with _alone(store, piece.where) as is_free:
            made = store.find(*piece.where.split("/")) if is_free else None
            if made and last_used(store, made) <= planned.before:
                _remove(store, made, planned.before)
    for piece in planned.unfinished:
        with _alone(store, piece.where) as is_free:
            if is_free and not store.storage.exists(f"{piece.where}/{MANIFEST}"):
                store.storage.remove(piece.where)
    for piece in planned.scratch:
        with contextlib.suppress(LockedError), alone(Path(piece.where), wait=False):
            shutil.rmtree(piece.where, ignore_errors=True)


@contextlib.contextmanager
def _alone(store: Store, ref: str) -> Iterator[bool]:
    """Keep builders of an artifact waiting; False where there is one."""
    claim = take_unclaimed(store.storage, ref.replace("/", "-"))
    with claim or contextlib.nullcontext():
        yield claim is not None


def _remove(store: Store, made: Artifact, before: float) -> None:
    """Remove an artifact that nobody has taken since ``before``. The kept manifest is written first and the artifact's own goes before its
    files, so that nobody ever finds half an artifact, wherever this is cut off. A run that has noted meanwhile that it takes the
    artifact gets its manifest back; one that notes it later finds none."""
    for file in (SOURCES, PARTS):
        if file in made.files:
            store.storage.write(f"{PRUNED}/{made.ref}/{file}", store.read(made, file))
    manifest = store.storage.read(f"{made.ref}/{MANIFEST}")
    store.storage.write(f"{PRUNED}/{made.ref}/{MANIFEST}", manifest)
    store.storage.remove(f"{made.ref}/{MANIFEST}")
    if last_used(store, made) > before:
        store.storage.write(f"{made.ref}/{MANIFEST}", manifest)
        store.storage.remove(f"{PRUNED}/{made.ref}")
        return
    for key in (made.ref, f"{USED}/{made.ref}"):
        store.storage.remove(key)


def last_used(store: Store, made: Artifact) -> float:
    """When a run last took the artifact or finished it, seconds since 1970; 0 where nobody noted either."""
    try:
        noted = float(store.storage.read(f"{USED}/{made.ref}"))
    except (FileNotFoundError, ValueError):
        noted = 0.0
    return max(noted, made.finished or 0.0)


def _everything(store: Store, problems: list[str]) -> tuple[dict[str, Artifact], list[str]]:
    """Every finished artifact, and what has files but no manifest and no builder."""
    known: dict[str, Artifact] = {}
    unfinished = []
    names = store.storage.names(CLAIMS)
    building = {
        name for name in names if store.storage.names(f"{CLAIMS}/{name}")
    }  # asked first: who finishes meanwhile has a manifest then
    for ref in store.refs():
        try:
            if made := store.find(*ref.split("/")):
                known[ref] = made
            elif ref.replace("/", "-") not in building:
                unfinished.append(ref)
        except ArtifactError as error:
            problems.append(str(error))
    return known, unfinished


def _closure(store: Store, roots: Iterable[str], known: dict[str, Artifact], problems: list[str]) -> set[str]:
    """``roots`` and all that they were made of or compared with, as far as it is there."""
    reached: set[str] = set()
    queue = list(roots)
    while queue:
        ref = queue.pop()
        if ref in reached or ref not in known:
            continue
        reached.add(ref)
        queue += [*known[ref].parents.values(), *lineage.parts_of(store, known[ref], problems)]
    return reached


def _exports(known: dict[str, Artifact], kept: set[str]) -> set[str]:
    """The exports of models that stay: a registry that was not asked may serve them."""
    return {ref for ref, made in known.items() if made.name == EXPORT and made.parents and {*made.parents.values()} <= kept}


def _scratch(store: Store, going: set[str], known: set[str], before: float) -> Iterator[Piece]:
    """Directories in scratch that nobody works on: of finished artifacts, and untouched since ``before``."""
    for directory in store.scratch.iterdir() if store.scratch.is_dir() else ():
        if (match := WORKSPACE.fullmatch(directory.name)) and directory.is_dir():
            finished = f"{match['name']}/{match['version']}" in known
            if not _is_locked(directory) and (finished or _touched(directory) < before):
                yield Piece(str(directory), _on_disk(directory), "finished" if finished else "unfinished and left alone")
    for directory in (store.scratch / "cache").glob("*/*"):
        ref = f"{directory.parent.name}/{directory.name}"
        if directory.is_dir() and ref in going:
            yield Piece(str(directory), _on_disk(directory), f"copy of {ref}")
    for directory in (store.scratch / "ray").glob("*"):
        if directory.is_dir() and _touched(directory) < before:
            yield Piece(str(directory), _on_disk(directory), "what Ray Train kept of a stage")


def _is_locked(directory: Path) -> bool:
    if not lock_of(directory).exists():
        return False
    try:
        with alone(directory, wait=False):
            return False
    except LockedError:
        return True


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in (directory, *directory.rglob("*")) if not path.is_symlink())


def _touched(directory: Path) -> float:
    """When anything in it was last written, seconds since 1970."""
    times = []
    for path in _files(directory):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times, default=0.0)


def _on_disk(directory: Path) -> int:
    size = 0
    for path in _files(directory):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size if path.is_file() else 0
    return size


def _bytes(made: Artifact) -> int:
    return sum(record.size for record in made.files.values())
