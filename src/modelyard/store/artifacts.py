"""Artifacts: the one currency between stages.

An artifact is a directory ``{name}/{version}/`` in the store with ``artifact.json`` beside its files. Its fingerprint hashes what defines it
(name, config literals, parents' fingerprints, the code that makes it) and never where it ran; the version is the fingerprint's first 16 hex
digits, so "is it built already?" is one look-up and that look-up is how a run resumes. Files arrive first and ``artifact.json`` last, in one
atomic write: a reader never sees half an artifact, and a crash leaves nothing that looks finished. Who builds holds a claim in the store
(:mod:`modelyard.store.claims`), so of two runs anywhere that want the same artifact one builds it and the
other takes what it made. What a manifest says is not trusted: names that would lead out of the store or of
the artifact's directory are refused, and so is a manifest whose fingerprint does not follow from its config, its
code and its parents. Every manifest holds the sha256 of its parents' manifests, and those of their files: one that
was edited afterwards is convicted by whatever was made of it, and the last of a release by the registry. What is
built while another artifact is (a corpus's shards) is no parent of it and stands in its ``parts.json``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError, field_validator, model_validator

from modelyard.config import Config, canonical_json, digest, first_error
from modelyard.store.claims import Claim, take
from modelyard.store.file_hash import sha256_file
from modelyard.store.local_lock import alone
from modelyard.store.outage import StorageRefusedError
from modelyard.store.storage import Storage

MANIFEST = "artifact.json"
FORMAT = 2
"""Of manifests, and part of every fingerprint: from 2 on they hold the hashes of their parents' manifests."""
PARTS = "parts.json"
"""File of an artifact that was put together of others while it was built: ``name/version`` of each -> :attr:`Artifact.content`."""
SOURCES = "sources.json"
"""File of a corpus: what it was made of."""
USED, PRUNED = ".used", ".pruned"
"""Folders of a store: when a run last took an artifact; manifests and provenance of those whose files were pruned."""
CIRCUMSTANCES = {"seconds", "started", "finished", "builder"}
"""Of a manifest: what differs when the same is built again."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class ArtifactError(ValueError):
    """An artifact that is missing, damaged or not what was asked for."""


class FileRecord(Config):
    """Identity of one file of an artifact."""

    sha256: str
    """Hash of the file's bytes, hex."""
    size: int
    """Bytes."""


class ParentRecord(Config):
    """Identity of a parent when the artifact was made of it."""

    fingerprint: str
    """Its fingerprint."""
    manifest: str
    """sha256 of its ``artifact.json`` without the times and the maker of its build, hex: one built again to the same bytes is the same."""


class Artifact(Config):
    """What ``artifact.json`` says: identity, provenance, metrics and files of one finished artifact."""

    name: str
    """What it is: corpus, tokens, forecast, base, sft, reward, policy, results, decision..."""
    version: str
    """First 16 hex digits of the fingerprint."""
    fingerprint: str
    """sha256 of name, config, parents and code."""
    parents: dict[str, str]
    """Role -> ``name/version`` of every artifact it was made from."""
    config: dict[str, Any]
    """The resolved config literals that define it."""
    code: str
    """Hash of the code that made it (``code_identity.code_version``)."""
    metrics: dict[str, float]
    """``stage/group/name`` -> value."""
    files: dict[str, FileRecord]
    """Relative path -> record."""
    seconds: float
    """Wall time of the build."""
    started: float | None = None
    """When work on it began (before any restart), seconds since 1970, never before its parents were committed, whatever the clock says; None
    where that was not recorded."""
    finished: float | None = None
    """When it was committed, seconds since 1970."""
    builder: str | None = None
    """User and machine of the process that built it, ``user@host``; None where that was not recorded."""
    parent_records: dict[str, ParentRecord] | None = None
    """Role -> what the parent was; None in a manifest of format 1, whose parents cannot be checked."""

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for path in files:
            if "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
                raise ValueError(f"file {path!r} is no plain relative path")
        return files

    @model_validator(mode="after")
    def _follows_from_what_it_says(self) -> Artifact:
        if self.version != self.fingerprint[:16]:
            raise ValueError(f"version {self.version} does not belong to its fingerprint {self.fingerprint[:16]}")
        if self.parent_records is None:
            return self
        named = {role: ref.rpartition("/")[2] for role, ref in self.parents.items()}
        if named != {role: record.fingerprint[:16] for role, record in self.parent_records.items()}:
            raise ValueError("parents and parent_records name other artifacts")
        made_of = {role: record.fingerprint for role, record in self.parent_records.items()}
        if fingerprint(self.name, self.config, made_of, self.code) != self.fingerprint:
            raise ValueError("its fingerprint does not follow from its name, config, parents and code")
        return self

    @property
    def ref(self) -> str:
        """``name/version``, the artifact's key in the store."""
        return f"{self.name}/{self.version}"

    @property
    def manifest(self) -> str:
        """sha256 (hex) of its ``artifact.json``."""
        return hashlib.sha256(_written(self)).hexdigest()

    @property
    def record(self) -> ParentRecord:
        """What an artifact that is made of this one remembers of it."""
        lasting = self.model_dump_json(exclude_unset=True, exclude=CIRCUMSTANCES)
        return ParentRecord(fingerprint=self.fingerprint, manifest=hashlib.sha256(lasting.encode()).hexdigest())

    @property
    def content(self) -> str:
        """sha256 (hex) of the fingerprint and of what the files hold: the same whenever and wherever it was made."""
        return digest({"fingerprint": self.fingerprint, "files": {path: record.sha256 for path, record in self.files.items()}})


def fingerprint(name: str, config: object, parents: Mapping[str, str], code: str) -> str:
    """sha256 (hex) over name, config literals, role -> parent's fingerprint, and code version."""
    return digest({"format": FORMAT, "name": name, "config": config, "parents": parents, "code": code})


class Spec(NamedTuple):
    """What defines an artifact before it is built."""

    name: str
    config: Config
    parents: Mapping[str, Artifact]
    code: str

    @property
    def fingerprint(self) -> str:
        """sha256 over name, config, parents' fingerprints and code version."""
        return fingerprint(self.name, self.config, {role: one.fingerprint for role, one in self.parents.items()}, self.code)

    @property
    def version(self) -> str:
        """First 16 hex digits of the fingerprint."""
        return self.fingerprint[:16]


class Built(NamedTuple):
    """An artifact and whether it was found rather than made."""

    artifact: Artifact
    cached: bool


class Store:
    """Finds, commits and fetches artifacts."""

    def __init__(self, url: str, scratch: str) -> None:
        self.storage = Storage(url)
        self.scratch = Path(scratch).absolute()
        there = next(place for place in (self.scratch, *self.scratch.parents) if place.exists())
        if not there.is_dir():
            raise StorageRefusedError(f"execution.scratch {self.scratch}: {there} is no directory")

    def find(self, name: str, version: str) -> Artifact | None:
        """The finished artifact, or None.

        Raises:
            ArtifactError: its manifest is unreadable or another's, or ``name`` or ``version`` is no plain name.
            StorageError: the store could not be asked.
        """
        return self._manifest("", name, version)

    def pruned(self, name: str, version: str) -> Artifact | None:
        """What :mod:`modelyard.store.pruning` kept of an artifact: its manifest. Raises as :meth:`find` does."""
        return self._manifest(f"{PRUNED}/", name, version)

    def _manifest(self, folder: str, name: str, version: str) -> Artifact | None:
        if not (NAME.fullmatch(name) and NAME.fullmatch(version)):
            raise ArtifactError(f"artifact {name}/{version}: expected NAME/VERSION of letters, digits, '_', '-' and '.'")
        try:
            text = self.storage.read(f"{folder}{name}/{version}/{MANIFEST}")
        except FileNotFoundError:
            return None
        where = f"{self.storage.path(folder + name)}/{version}/{MANIFEST}"
        try:
            artifact = Artifact.model_validate_json(text)
        except (ValidationError, UnicodeDecodeError) as error:
            why = first_error(error) if isinstance(error, ValidationError) else "no UTF-8"
            raise ArtifactError(f"{where}: damaged manifest ({why[:200]}); delete {name}/{version} to build it again") from None
        if artifact.ref != f"{name}/{version}":
            raise ArtifactError(f"{where}: is the manifest of {artifact.ref}")
        return artifact

    def get(self, ref: str) -> Artifact:
        """The artifact at ``name/version``; raises ArtifactError when there is none."""
        name, _, version = ref.partition("/")
        artifact = self.find(name, version)
        if artifact is None:
            raise ArtifactError(f"artifact {ref}: not in store {self.storage.root}")
        return artifact

    def refs(self) -> Iterator[str]:
        """``name/version`` of everything in the store, finished or not."""
        for name in filter(NAME.fullmatch, self.storage.names("")):
            for version in filter(NAME.fullmatch, self.storage.names(name)):
                yield f"{name}/{version}"

    def built(self, spec: Spec) -> Artifact | None:
        """The finished artifact of ``spec``, or None; that a run takes it is noted in the store.

        Raises:
            ArtifactError: it was made of other parents than these.
        """
        artifact = self.find(spec.name, spec.version)
        reasons = [parted(artifact, role, parent) for role, parent in spec.parents.items()] if artifact else []
        for reason in filter(None, reasons):
            raise ArtifactError(f"{reason}; delete {spec.name}/{spec.version} to build it again")
        if artifact:
            with contextlib.suppress(StorageRefusedError):  # a store that one may only read
                self.storage.write(f"{USED}/{artifact.ref}", repr(time.time()).encode())
        return artifact

    def read(self, artifact: Artifact, file: str) -> bytes:
        """One file of the artifact. Raises ArtifactError where it is not the recorded one."""
        record = artifact.files.get(file)
        try:
            data = self._bytes(artifact, file) if record else b""
        except FileNotFoundError:
            raise ArtifactError(f"artifact {artifact.ref}: file {file} is missing") from None
        if record is None or hashlib.sha256(data).hexdigest() != record.sha256:
            why = "is damaged (its sha256 is not the recorded one)" if record else "is none of its files"
            raise ArtifactError(f"artifact {artifact.ref}: file {file} {why}")
        return data

    def _bytes(self, artifact: Artifact, file: str) -> bytes:
        """A file as it is, or as it was kept when the artifact was pruned. Raises FileNotFoundError."""
        try:
            return self.storage.read(f"{artifact.ref}/{file}")
        except FileNotFoundError:
            return self.storage.read(f"{PRUNED}/{artifact.ref}/{file}")

    def fetch(self, artifact: Artifact) -> Path:
        """A local directory with the artifact's files and its manifest, verified against the recorded sizes and hashes.

        Raises:
            ArtifactError: a file is missing, damaged, or there though the manifest does not name it.
        """
        if self.storage.is_local:
            directory = Path(self.storage.path(artifact.ref))
            problem = _damage(artifact, directory)
        else:
            directory = self.scratch / "cache" / artifact.ref
            with alone(directory):
                if _damage(artifact, directory) is None and _read(directory / MANIFEST) == _written(artifact):
                    return directory
                partial = directory.with_name(f"{directory.name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                try:
                    self.storage.get_files(artifact.ref, artifact.files, partial)
                except FileNotFoundError as error:
                    raise ArtifactError(f"artifact {artifact.ref}: a file is missing ({error})") from error
                problem = _damage(artifact, partial)
                if problem is None:
                    shutil.rmtree(directory, ignore_errors=True)
                    partial.mkdir(parents=True, exist_ok=True)
                    (partial / MANIFEST).write_bytes(_written(artifact))
                    partial.rename(directory)
        if problem:
            raise ArtifactError(f"artifact {artifact.ref}: {problem}")
        return directory

    def workspace(self, spec: Spec) -> Path:
        """Where unfinished work on ``spec`` lives; the same directory after a crash, so checkpoints are found again."""
        return self.scratch / f"{spec.name}-{spec.version}"

    def build(self, spec: Spec, produce: Callable[[Path, Path], Mapping[str, float]]) -> Built:
        """Return the artifact of ``spec``, making it with ``produce(out, checkpoints) -> metrics`` when it does not exist yet.

        While another run on any machine makes it, this one waits, and takes it then; a builder that died is followed by who waits.
        """
        if found := self.built(spec):
            return Built(found, cached=True)
        workspace = self.workspace(spec)
        with alone(workspace):
            claim = take(self.storage, f"{spec.name}-{spec.version}", lambda: self.find(spec.name, spec.version) is not None)
            if claim is None:
                return Built(self.get(f"{spec.name}/{spec.version}"), cached=True)
            with claim:
                return self._build(spec, workspace, produce, claim)

    def _build(self, spec: Spec, workspace: Path, produce: Callable[[Path, Path], Mapping[str, float]], claim: Claim) -> Built:
        """Make the artifact under ``claim``."""
        out = workspace / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        begun = workspace / "begun"
        if not begun.exists():
            begun.write_text(repr(_now(after=[parent.finished or 0.0 for parent in spec.parents.values()])))
        started = time.monotonic()
        metrics = produce(out, workspace / "checkpoints")
        files = {
            file.relative_to(out).as_posix(): FileRecord(sha256=sha256_file(file), size=file.stat().st_size)
            for file in sorted(out.rglob("*"))
            if file.is_file()
        }
        work_began = float(begun.read_text())
        artifact = Artifact(
            name=spec.name,
            version=spec.version,
            fingerprint=spec.fingerprint,
            parents={role: parent.ref for role, parent in spec.parents.items()},
            config=json.loads(canonical_json(spec.config)),
            code=spec.code,
            metrics=dict(metrics),
            files=files,
            seconds=time.monotonic() - started,
            started=work_began,
            finished=_now(after=[work_began]),
            builder=f"{claim.owner['user']}@{claim.owner['host']}",
            parent_records={role: parent.record for role, parent in spec.parents.items()},
        )
        cached = not claim.keep()
        if cached:  # it was lost on the way (this process stood still), and who took it has finished first
            artifact = self.get(artifact.ref)
        else:
            self.storage.put(out, artifact.ref)
            self.storage.write(f"{artifact.ref}/{MANIFEST}", _written(artifact))
        shutil.rmtree(workspace, ignore_errors=True)
        return Built(artifact, cached)


def _now(after: Sequence[float]) -> float:
    """Seconds since 1970, but never before what is known to lie behind: clocks are set back, and another machine's may be ahead."""
    return max([time.time(), *after])


def parted(artifact: Artifact, role: str, parent: Artifact) -> str:
    """Why ``parent`` is not what ``artifact`` was made of; "" where it is, or where a manifest of format 1 does not say."""
    record = (artifact.parent_records or {}).get(role)
    return "" if record in (None, parent.record) else other_than(artifact, role, parent)


def other_than(artifact: Artifact, role: str, parent: Artifact) -> str:
    """The complaint about ``parent``, which ``artifact`` was made of as something else."""
    return (
        f"{artifact.ref} was made of another {parent.ref} ({role}) than the store has now: edited since, or built again with another result"
    )


def _written(artifact: Artifact) -> bytes:
    """The manifest as it stands in a store; what an earlier version did not write stays out of it."""
    return artifact.model_dump_json(indent=1, exclude_unset=True).encode()


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def _damage(artifact: Artifact, directory: Path) -> str | None:
    """What is wrong with the files of ``artifact`` in ``directory``; None when they are the recorded ones."""
    if not directory.is_dir():
        return "its directory is missing"
    for relative, record in artifact.files.items():
        file = directory / relative
        if not file.is_file():
            return f"file {relative} is missing"
        if file.stat().st_size != record.size or sha256_file(file) != record.sha256:
            return f"file {relative} is damaged (its sha256 is not the recorded one)"
    there = {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_symlink() or not file.is_dir()}
    if foreign := sorted(there - {MANIFEST, *artifact.files}):
        return f"file {foreign[0]} is none of its files; remove it"
    return None
