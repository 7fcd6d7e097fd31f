"""Sources on S3 (a real server) and on the Hub (the real client, over HTTP) give what the same local files give."""

import gzip
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.data.corpus.document import DataError
from modelyard.data.sources.stream import SourceConfig, rows, shards
from modelyard.store.inputs import local_copy
from modelyard.store.storage import Storage
from tests.integration.hub import hub

pytestmark = pytest.mark.integration


@pytest.fixture
def crawl(tmp_path):
    directory = tmp_path / "crawl"
    directory.mkdir()
    with gzip.open(directory / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps({"text": f"zwölf {number}"}) + "\n" for number in range(50)) + '{"text": "cut')
    pq.write_table(pa.table({"text": ["p", "q"]}), directory / "b.parquet")
    return directory


def _read(path, scratch, sha256=""):
    source = SourceConfig(name="crawl", path=path, format="auto", kind="text", licence="CC0-1.0", sha256=sha256)
    return [
        (row.document.id, row.document.text, row.broken and row.broken.reason, row.place)
        for shard in shards(source, scratch, 1e-6)  # each file a shard
        for row in rows(shard, set())
    ]


def test_source_on_s3_reads_as_the_local_one_and_a_changed_one_is_refused(s3, crawl, tmp_path):
    local = _read(str(crawl), tmp_path)
    assert [row[2] for row in local] == [None] * 50 + ["read/invalid_json"] + [None] * 2
    for file in crawl.iterdir():
        Storage(s3).put_file(file, f"crawl/{file.name}")
    assert _read(f"{s3}/crawl", tmp_path / "scratch") == local
    pattern = f"{s3}/crawl/*.parquet"
    assert _read(pattern, tmp_path / "scratch", hashlib.sha256((crawl / "b.parquet").read_bytes()).hexdigest()) == local[-2:]
    with pytest.raises(DataError, match=r"source crawl: .*\*\.parquet has changed: sha256 "):
        _read(pattern, tmp_path / "scratch", "0" * 64)
    with pytest.raises(DataError, match=r"source crawl: .*/nothing: no such file"):
        _read(f"{s3}/nothing", tmp_path / "scratch")


def test_source_on_the_hub_reads_as_the_local_one(crawl, tmp_path, monkeypatch):
    local = _read(str(crawl), tmp_path)
    with hub(tmp_path, "yard/pages") as endpoint:
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": endpoint, "skip_instance_cache": True})
        assert _read("hf://datasets/yard/pages/crawl", tmp_path / "scratch") == local
        assert _read("hf://datasets/yard/pages/crawl/*.parquet", tmp_path / "scratch") == local[-2:]
        with pytest.raises(DataError, match="source crawl: hf://datasets/yard/pages/absent: no such file"):
            _read("hf://datasets/yard/pages/absent", tmp_path / "scratch")


def test_object_overwritten_under_its_key_gives_the_new_rows(s3, crawl, tmp_path):
    for value in ("old", "new"):  # of one length
        pq.write_table(pa.table({"text": [value]}), crawl / "b.parquet")
        Storage(s3).put_file(crawl / "b.parquet", "pages/b.parquet")
        assert [row[1] for row in _read(f"{s3}/pages/b.parquet", tmp_path / "scratch")] == [value]
    copies = list((tmp_path / "scratch" / "inputs").iterdir())
    _read(f"{s3}/pages/b.parquet", tmp_path / "scratch")
    assert sorted((tmp_path / "scratch" / "inputs").iterdir()) == sorted(copies), "the same version is not fetched again"


def test_file_that_several_want_at_once_is_brought_once_and_whole(s3, tmp_path):
    content, ready = bytes(range(256)) * 80_000, threading.Barrier(6)
    Storage(s3).write("words", content)

    def bring(_: int) -> Path:
        ready.wait()
        return local_copy(f"{s3}/words", tmp_path / "inputs")

    with ThreadPoolExecutor(6) as pool:
        copies = list(pool.map(bring, range(6)))
    assert {copy.read_bytes() for copy in copies} == {content}
    assert list((tmp_path / "inputs").iterdir()) == [copies[0]]
