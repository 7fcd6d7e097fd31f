"""The store of artifacts, the one currency between stages.

An artifact is a directory ``{name}/{version}/`` in the store with ``artifact.json`` (:mod:`modelyard.store.manifest`) beside its files. Its version
follows from what defines it, so "is it built already?" is one look-up and that look-up is how a run resumes. Files arrive first and
``artifact.json`` last, in one atomic write: a reader never sees half an artifact, and a crash leaves nothing that looks finished. Who builds holds a
claim in the store (:mod:`modelyard.store.claims`), so of two runs anywhere that want the same artifact one builds it and the other takes what it
made. What is built while another artifact is (a corpus's shards) is no parent of it and stands in its ``parts.json``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from modelyard.complaint import first_error
from modelyard.config import canonical_json
from modelyard.store import local_files
from modelyard.store.claims import Claim, take
from modelyard.store.file_hash import sha256_file
from modelyard.store.local_lock import alone
from modelyard.store.manifest import MANIFEST, NAME, Artifact, ArtifactError, FileRecord, Spec, flaw, flaws, foreign, parted, written
from modelyard.store.outage import StorageError, StorageRefusedError
from modelyard.store.storage import Storage

USED, PRUNED = ".used", ".pruned"
"""Folders of a store: when a run last took an artifact; manifests and provenance of those whose files were pruned."""


class Built(NamedTuple):
    """An artifact and whether it was found rather than made."""

    artifact: Artifact
    cached: bool


CORPORA = "corpora"
"""Folder of the store that holds no artifacts: which corpus each name had last (:mod:`modelyard.data.corpus.drift`)."""


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

    def known(self, ref: str) -> Artifact | None:
        """The artifact at ``name/version``, or what was kept of it when it was pruned; None where there is neither. Raises as :meth:`find` does."""
        name, _, version = ref.partition("/")
        return self.find(name, version) or self.pruned(name, version)

    def require_artifacts(self) -> None:
        """Raise ArtifactError where no finished artifact is in the store: it is another place than was meant."""
        if not any(self.storage.exists(f"{ref}/{MANIFEST}") for ref in self.refs()):
            raise ArtifactError(f"{self.storage.url}: no store: there is no finished artifact in it")

    def refs(self) -> Iterator[str]:
        """``name/version`` of everything in the store, finished or not."""
        for name in (one for one in self.storage.names("") if NAME.fullmatch(one) and one != CORPORA):
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
        if artifact is None:
            return None
        with contextlib.suppress(StorageRefusedError):  # a store that one may only read
            self.storage.write(f"{USED}/{artifact.ref}", repr(time.time()).encode())
        # pruning looks for the note once more when the manifest is gone, so one of the two sees the other
        return self.find(spec.name, spec.version)

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

    def fetch(self, artifact: Artifact, names: Collection[str] | None = None) -> Path:
        """A local directory with the artifact's files and its manifest, verified against the recorded sizes and hashes.

        Args:
            artifact: what to fetch.
            names: the files that are wanted of it (:mod:`modelyard.store.selection`); None: all. Others may be missing from the directory, and
                come when they are asked for. A local store has everything anyway, and all of it is verified.

        Raises:
            ArtifactError: a file is missing, damaged, no file of the artifact, or there though the manifest does not name it.
        """
        if names is not None and (unknown := sorted(set(names) - set(artifact.files))):
            raise ArtifactError(f"artifact {artifact.ref}: file {unknown[0]} is none of its files")
        if self.storage.is_local:
            directory = Path(self.storage.path(artifact.ref))
            if problem := next(flaws(artifact, directory), None):
                raise ArtifactError(f"artifact {artifact.ref}: {problem}{'' if problem.endswith('remove it') else _again(artifact)}")
            return directory
        directory = self.scratch / "cache" / artifact.ref
        with alone(directory):
            self._complete(artifact, directory, artifact.files if names is None else names)
        return directory

    def flaws(self, artifact: Artifact) -> list[str]:
        """Everything that keeps the artifact's files from being the recorded ones, a line each; none where :meth:`fetch` has them all.

        A store that is not local is asked for its files alone: one that no manifest names is not seen there.
        """
        if self.storage.is_local:
            return [f"artifact {artifact.ref}: {why}" for why in flaws(artifact, Path(self.storage.path(artifact.ref)))]
        with contextlib.suppress(ArtifactError):
            self.fetch(artifact)
            return []
        return list(filter(None, (self._flaw(artifact, name) for name in sorted(artifact.files))))

    def _flaw(self, artifact: Artifact, name: str) -> str:
        """Why one file of the artifact cannot be fetched; "" where it can."""
        try:
            self.fetch(artifact, [name])
        except ArtifactError as error:
            return str(error)
        return ""

    def _complete(self, artifact: Artifact, directory: Path, names: Collection[str]) -> None:
        """Bring what is missing of ``names`` into ``directory``, which others may be reading: each file whole and verified, or not at all."""
        partial = directory.with_name(f"{directory.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        missing = [name for name in sorted(names) if flaw(artifact, name, directory)]
        try:
            self.storage.get_files(artifact.ref, missing, partial)
        except FileNotFoundError as error:
            what = f"file {missing[0]}" if len(missing) == 1 else "a file"
            raise ArtifactError(f"artifact {artifact.ref}: {what} is missing ({error}){_again(artifact)}") from error
        if found := next(filter(None, (flaw(artifact, name, partial) for name in missing)), None):
            raise ArtifactError(f"artifact {artifact.ref}: {found}{_again(artifact)}")
        if _read(directory / MANIFEST) != written(artifact):
            (partial / MANIFEST).write_bytes(written(artifact))
            missing.append(MANIFEST)
        for name in foreign(artifact, directory):
            (directory / name).unlink()
        for name in missing:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).replace(directory / name)
        shutil.rmtree(partial)

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
            now = _now(after=[parent.finished or 0.0 for parent in spec.parents.values()])
            local_files.write_aside(str(workspace), str(begun), repr(now).encode(), os.replace)
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
        cached = not self._commit(artifact, out, claim)
        shutil.rmtree(workspace, ignore_errors=True)
        return Built(self.get(artifact.ref) if cached else artifact, cached)

    def _commit(self, artifact: Artifact, out: Path, claim: Claim) -> bool:
        """Bring files and manifest into the store. False where the claim was lost (this process stood still) and who took it has finished first.

        Raises:
            StorageError: who took it has not finished, and the files are no longer here to be brought again.
        """
        while claim.keep():
            if not out.exists():
                raise StorageError(
                    f"artifact {artifact.ref}: another builder took over while its files came into the store; build it again"
                )
            self.storage.put(out, artifact.ref)
            if claim.is_mine():  # else what stands there may be the other's, in part
                self.storage.write(f"{artifact.ref}/{MANIFEST}", written(artifact))
                return True
        return False


def _now(after: Sequence[float]) -> float:
    """Seconds since 1970, but never before what is known to lie behind: clocks are set back, and another machine's may be ahead."""
    return max([time.time(), *after])


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def _again(artifact: Artifact) -> str:
    """What helps an artifact that lost or changed a file: nothing says what was in it."""
    return f"; delete {artifact.ref} and the next run builds it again"
