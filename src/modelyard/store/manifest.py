"""What ``artifact.json`` says of an artifact, and what is believed of it.

The fingerprint hashes what defines an artifact (name, config literals, parents' fingerprints, the code that makes it) and never where it ran; the
version is its first 16 hex digits. What a manifest says is not trusted: names that would lead out of the store or of the artifact's directory are
refused, and so is a manifest whose fingerprint does not follow from its config, its code and its parents. Every manifest holds the sha256 of its
parents' manifests, and those of their files: one that was edited afterwards is convicted by whatever was made of it, and the last of a release by
the registry.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import field_validator, model_validator

from modelyard.config import Config, digest
from modelyard.store.file_hash import sha256_file

MANIFEST = "artifact.json"
FORMAT = 2
"""Of manifests, and part of every fingerprint: from 2 on they hold the hashes of their parents' manifests."""
PARTS = "parts.json"
"""File of an artifact that was put together of others while it was built: ``name/version`` of each -> :attr:`Artifact.content`."""
SOURCES = "sources.json"
"""File of a corpus: what it was made of."""
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
        return hashlib.sha256(written(self)).hexdigest()

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


def parted(artifact: Artifact, role: str, parent: Artifact) -> str:
    """Why ``parent`` is not what ``artifact`` was made of; "" where it is, or where a manifest of format 1 does not say."""
    record = (artifact.parent_records or {}).get(role)
    return "" if record in (None, parent.record) else other_than(artifact, role, parent)


def other_than(artifact: Artifact, role: str, parent: Artifact) -> str:
    """The complaint about ``parent``, which ``artifact`` was made of as something else."""
    return (
        f"{artifact.ref} was made of another {parent.ref} ({role}) than the store has now: edited since, or built again with another result"
    )


def written(artifact: Artifact) -> bytes:
    """The manifest as it stands in a store; what an earlier version did not write stays out of it."""
    return artifact.model_dump_json(indent=1, exclude_unset=True).encode()


def flaws(artifact: Artifact, directory: Path) -> Iterator[str]:
    """What is wrong with the files of ``artifact`` in ``directory``, file by file; nothing when they are the recorded ones."""
    if not directory.is_dir():
        yield "its directory is missing"
        return
    yield from filter(None, (flaw(artifact, relative, directory) for relative in artifact.files))
    yield from (f"file {name} is none of its files; remove it" for name in foreign(artifact, directory))


def flaw(artifact: Artifact, name: str, directory: Path) -> str | None:
    """What is wrong with one file of ``artifact`` in ``directory``; None when it is the recorded one."""
    file, record = directory / name, artifact.files[name]
    if not file.is_file():
        return f"file {name} is missing"
    if file.stat().st_size != record.size or sha256_file(file) != record.sha256:
        return f"file {name} is damaged (its sha256 is not the recorded one)"
    return None


def foreign(artifact: Artifact, directory: Path) -> list[str]:
    """Sorted names of what is in ``directory`` though the manifest does not name it."""
    there = {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_symlink() or not file.is_dir()}
    return sorted(there - {MANIFEST, *artifact.files})
