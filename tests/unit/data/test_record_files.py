"""Readers of every form: what they give, what they set aside and why, and that truncated files give what comes before the cut."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from modelyard.data.corpus.document import DataError
from modelyard.data.sources.http_body import is_markup
from modelyard.data.sources.left_out import parted
from modelyard.data.sources.record import Broken, Record, Tally, TextField
from modelyard.data.sources.record_files import bare_name, form_of, read

TEXT = TextField("text")
LINES = b"".join(json.dumps({"text": f"row {n} says é " * 20, "id": n}).encode() + b"\n" for n in range(3000))


def _zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def _warc(*records):
    parts = []
    for kind, headers, body in records:
        head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-1234567890ab>\r\n{headers}"
        head += f"WARC-Date: 2024-01-01T00:00:00Z\r\nContent-Length: {len(body)}\r\n\r\n"
        parts.append(gzip.compress(head.encode() + body + b"\r\n\r\n"))
    return b"".join(parts)


def _read(path, **more):
    found = list(read(path, form_of(path.name), TEXT, **more))
    return [row for row in found if isinstance(row, Record)], [(row.place, row.reason) for row in found if isinstance(row, Broken)]


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.jsonl", LINES), ("a.jsonl.gz", gzip.compress(LINES[:9000]) + gzip.compress(LINES[9000:])), ("a.jsonl.zst", _zstd(LINES))],
)
def test_json_lines_plain_and_compressed_give_every_row(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    records, broken = _read(tmp_path / name)
    assert broken == []
    assert [record.row["id"] for record in records] == list(range(3000))
    assert records[-1].place == "line 3000"


@pytest.mark.parametrize(("name", "data"), [("t.jsonl.gz", gzip.compress(LINES)[:-3000]), ("t.jsonl.zst", _zstd(LINES)[:-1000])])
def test_truncated_file_gives_the_rows_before_the_cut_and_says_so(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    records, broken = _read(tmp_path / name)
    assert len(records) > 1500
    assert [record.row["id"] for record in records] == list(range(len(records)))
    assert broken == [(f"line {len(records) + 1}", "read/truncated_file")]


def test_json_lines_broken_rows_are_set_aside_by_reason(tmp_path):
    rows = [
        b'{"text": "fine"}',
        b'{"text": "caf\xe9"}',
        b"",
        b"[1]",
        b'{"x": 1}',
        rb'{"text": "\ud800"}',
        b'{"text":"' + b"x" * 3_000_000 + b'"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*rows, b'{"text": "also fine"}', b'{"text": "cut']))
    records, broken = _read(tmp_path / "a.jsonl", longest=1 << 20)
    assert [(record.place, record.text) for record in records] == [("line 1", "fine"), ("line 8", "also fine")]
    assert broken == [
        ("line 2", "read/invalid_utf8"),
        ("line 4", "read/no_text"),
        ("line 5", "read/no_text"),
        ("line 6", "read/lone_surrogate"),
        ("line 7", "read/line_too_long"),
        ("line 9", "read/invalid_json"),
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "field 'text' holds a number, no text"),
        (True, "field 'text' holds a truth value, no text"),
        (["a"], "field 'text' holds a list, no text"),
        ({"en": "a"}, "field 'text' holds an object, no text"),
        (None, "no text in field 'text' (there are id, text)"),
    ],
)
def test_row_whose_field_holds_something_else_says_what(tmp_path, value, said):
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": 1, "text": value}))
    [row] = read(tmp_path / "a.jsonl", "jsonl", TextField("text"))
    assert row.detail == said


def test_parquet_json_and_text_files(tmp_path):
    pq.write_table(pa.table({"text": ["one", None, "three"]}), tmp_path / "a.parquet")
    records, broken = _read(tmp_path / "a.parquet")
    assert ([record.text for record in records], broken) == (["one", "three"], [("row 2", "read/no_text")])
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    assert _read(tmp_path / "b.parquet") == ([], [("", "read/damaged_file")])
    (tmp_path / "c.json").write_text(json.dumps([{"text": "a"}, {"text": "b"}], indent=2))
    assert [record.text for record in _read(tmp_path / "c.json")[0]] == ["a", "b"]
    (tmp_path / "d.txt").write_text("first\nline\n\n\nsecond\n")
    assert [record.text for record in _read(tmp_path / "d.txt")[0]] == ["first\nline\n\n\nsecond\n"]
    assert [(r.place, r.text) for r in read(tmp_path / "d.txt", "text", TEXT)] == [("line 1", "first\nline"), ("line 5", "second")]


def test_web_archives_give_main_text_and_set_other_responses_aside(tmp_path):
    html = "<html><body><nav><ul><li><a href='/'>Home</a></li></ul></nav><main><p>Hello café world.</p></main></body></html>".encode(
        "latin-1"
    )
    target = "WARC-Target-URI: http://example.org/{}\r\nContent-Type: application/http; msgtype=response\r\n"
    archive = _warc(
        ("warcinfo", "", b"software: x\r\n"),
        ("response", target.format("a"), b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=latin-1\r\n\r\n" + html),
        ("response", target.format("b"), b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\nno"),
        ("response", target.format("c"), b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\nPNG"),
    )
    (tmp_path / "a.warc.gz").write_bytes(archive)
    [page], broken = _read(tmp_path / "a.warc.gz")
    assert page.text.strip() == "Hello café world."
    assert page.row["url"] == "http://example.org/a"
    assert [reason for _, reason in broken] == ["read/http_status", "read/not_html"]
    tally = Tally("here", 0.0)
    assert len(list(tally.take(read(tmp_path / "a.warc.gz", "warc", TEXT)))) == 1
    tally.check()  # redirects and images speak against no archive
    (tmp_path / "a.warc.wet.gz").write_bytes(
        _warc(("warcinfo", "", b"x: y\r\n"), ("conversion", "Content-Type: text/plain\r\n", "héllo".encode()))
    )
    assert [record.text for record in _read(tmp_path / "a.warc.wet.gz")[0]] == ["héllo"]
    (tmp_path / "t.warc.gz").write_bytes(archive[:-50])
    records, broken = _read(tmp_path / "t.warc.gz")
    assert len(records) == 1
    assert "read/damaged_file" in [reason for _, reason in broken]


def test_tally_refuses_above_the_share_and_names_the_first():
    rows = [Record("line 1", "a", {})] * 99 + [Broken("line 100", "read/invalid_json", "not valid JSON", "")]
    tally = Tally("file x", 0.01)
    assert len(list(tally.take(iter(rows)))) == 99
    tally.check()
    tally.limit = 0.005
    with pytest.raises(DataError, match=r"^file x: line 100: not valid JSON; 1 of 100 rows are unreadable, at most 0\.50% may be$"):
        tally.check()


def test_bare_name_drops_known_suffixes_only():
    names = ["crawl.1.warc.wet.gz", "crawl.2.warc.wet", "v1.2.json.zst", "a.jsonl", "notes.2024.txt", "x.warc", "A.JSONLINES.XZ", "b.Csv"]
    assert [bare_name(name) for name in names] == ["crawl.1", "crawl.2", "v1.2", "a", "notes.2024.txt", "x", "A", "b"]
    assert [form_of(name) for name in names] == ["wet", "wet", "json", "jsonl", "file", "warc", "jsonl", "csv"]


def test_json_lines_named_json_are_read_to_the_end_however_long_the_file(tmp_path):
    (tmp_path / "c4-train.00000-of-00001.json.gz").write_bytes(gzip.compress(LINES))
    records, broken = _read(tmp_path / "c4-train.00000-of-00001.json.gz", longest=2000)
    assert ([record.row["id"] for record in records], broken) == (list(range(3000)), [])


def test_zstd_of_the_longest_window_and_several_frames_is_read(tmp_path):
    long = zstandard.ZstdCompressionParameters.from_level(1, window_log=31, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=long).compressobj()
    frame = packed.compress(LINES) + packed.flush()
    assert zstandard.get_frame_parameters(frame).window_size == 1 << 31
    skipped = (0x184D2A50).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"abc"
    (tmp_path / "a.jsonl").write_bytes(skipped + frame + _zstd(LINES))
    records, broken = _read(tmp_path / "a.jsonl")
    assert ([record.row["id"] for record in records], broken) == (list(range(3000)) * 2, [])


def test_a_cell_and_lines_of_many_megabytes_are_set_aside_and_the_rest_is_read(tmp_path):
    pq.write_table(pa.table({"text": ["a", "x" * 20_000_000, "b"]}), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_bytes(b'[{"text": "a"}, {"text": "' + b"x" * 20_000_000 + b'"}, {"text": "b"}]')
    (tmp_path / "a.csv").write_bytes(b'text\na\n"' + b"x,\n" * 3_000_000 + b'"\nb\n')
    for name, reason in (("a.parquet", "cell"), ("a.json", "row"), ("a.csv", "line")):
        records, [(_, why)] = _read(tmp_path / name, longest=1 << 20)
        assert ([record.text for record in records], why) == (["a", "b"], f"read/{reason}_too_long")
    assert len(_read(tmp_path / "a.json")[0][1].text) == 20_000_000


SPARK = ["in/part-0.snappy.parquet", "in/_SUCCESS", "in/.part-0.crc", "in/_temporary/0/part-1.parquet", "in/year=2024/part-2.parquet"]
HUB = ["README.md", ".gitattributes", "LICENSE", "dataset_infos.json", "data/train.jsonl", "data/README.txt", "notes.txt", "_own.jsonl"]


def test_left_out_are_markers_and_what_describes_rows_and_nothing_that_is_named():
    data, left_out = parted([f"/data/{name}" for name in SPARK], "/data/in")
    assert (data, left_out) == ([f"/data/{SPARK[0]}", f"/data/{SPARK[4]}"], [f"/data/{name}" for name in SPARK[1:4]])
    data, left_out = parted([f"s3://bucket/set/{name}" for name in HUB], "s3://bucket/set")
    assert data == [f"s3://bucket/set/{name}" for name in ("data/train.jsonl", "notes.txt", "_own.jsonl")]
    assert len(left_out) == 5
    documentation = ["/docs/README.md", "/docs/guide.md", "/docs/LICENSE"]
    assert parted(documentation, "/docs/*").left_out == []
    assert parted(["/docs/README.md"], "docs/README.md").data == ["/docs/README.md"]
    assert parted(["/x/.hidden/set/a.jsonl"], "/x/.hidden/set").left_out == []


def test_page_is_known_behind_any_number_of_comments():
    before = b'\xef\xbb\xbf <?xml version="1.0"?>\n' + b"<!-- a > b --> " * 200
    assert is_markup(before + b"<HTML>")
    assert not is_markup(before + b"<main>")
