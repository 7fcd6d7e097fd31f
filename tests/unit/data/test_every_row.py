# ruff: noqa: RUF001
"""Every reader, on rows good and bad: what goes in comes out as a text or is set aside with a reason, packed or not, whatever the name."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib

import brotli
import hypothesis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import strategies as st

from modelyard.data.sources.any_corpus import AnyCorpus
from modelyard.data.sources.json_rows import lines, values
from modelyard.data.sources.record import Record, TextField
from modelyard.data.sources.record_files import read

LONGEST = 3000
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(str.strip)
BAD = st.sampled_from(["long", "none", "missing", "bytes", "surrogate"])
ROWS = st.lists(st.one_of(TEXT, TEXT, BAD.map(lambda kind: (kind,))), max_size=12)
PACKED = st.sampled_from([bytes, gzip.compress, zstandard.compress, bz2.compress, lzma.compress])
SETTINGS = hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])


def _came_out(path, form, name="text"):
    """Texts in order, None for a row that was set aside."""
    found = list(read(path, form, TextField(name), LONGEST))
    assert all(isinstance(row, Record) or row.reason.startswith("read/") for row in found)
    return [row.text if isinstance(row, Record) else None for row in found]


def _wanted(rows):
    return [row if isinstance(row, str) else None for row in rows]


def _json(row, number):
    if isinstance(row, str):
        return json.dumps({"text": row, "n": [{"a": "]}"}, number]}, ensure_ascii=number % 2 == 0).encode()
    bad = {"long": b'{"text": "' + b"x" * LONGEST + b'"}', "none": b'{"text": null}', "missing": b"{}", "bytes": b'{"text": "\xff"}'}
    return bad.get(row[0], b'{"text": "\\ud800"}')


@SETTINGS
@hypothesis.given(ROWS, PACKED, st.sampled_from(["lines", "array", "indented", "objects"]), st.sampled_from(["json", "jsonl"]))
def test_json_of_any_layout(tmp_path, rows, pack, layout, form):
    encoded = [_json(row, number) for number, row in enumerate(rows)]
    if layout == "lines":
        data = b"\n".join(encoded)
    elif layout == "objects":
        data = b"\n".join(row.replace(b"{", b"{\n ", 1) for row in encoded)
    else:
        data = b"[\n" * (layout == "indented") + b"[" * (layout == "array") + b", \n".join(encoded) + b"\n]"
    hypothesis.assume(layout != "array" or form == "json" or len(rows) > 1)  # a line that is an array is one row of .jsonl
    path = tmp_path / "rows.data"
    path.write_bytes(pack(data))
    assert _came_out(path, form) == _wanted(rows)


@SETTINGS
@hypothesis.given(
    st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\\\", b"\n", b" ", b",", b"a", b"bcd"]), max_size=30), st.data()
)
def test_json_and_lines_are_cut_the_same_wherever_the_pieces_end(parts, data):
    whole = b"".join(parts)
    ends = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    pieces = [whole[begin:end] for begin, end in zip([0, *ends], [*ends, len(whole)], strict=True)]
    for longest in (4, 100):
        assert list(values(pieces, longest)) == list(values([whole], longest))
        assert list(lines(pieces, longest)) == list(lines([whole], longest))
    assert b"\n".join(lines(pieces, 100)) == whole.removesuffix(b"\n")


PLAIN = st.text("abcdefgh éß日本", min_size=1, max_size=60).filter(str.strip)


@SETTINGS
@hypothesis.given(
    st.lists(PLAIN, min_size=2, max_size=40, unique=True),
    st.data(),
    st.sampled_from(["array", "indented", "objects"]),
    st.sampled_from([3000, 400]),
)
def test_json_that_is_damaged_loses_the_damaged_row_only_and_says_so(tmp_path, texts, data, layout, longest):
    """Whatever brace, bracket or quote of one row is missing or there twice; also where the rest is more than a row may have."""
    rows = [
        json.dumps({"text": text, "n": [{"a": "b"}, number]}, indent=2 if layout != "array" else None) for number, text in enumerate(texts)
    ]
    number = data.draw(st.integers(layout == "objects", len(rows) - 1))  # without an array the first row tells that rows are no lines
    row = rows[number]
    at = data.draw(st.sampled_from([at for at, sign in enumerate(row) if sign in '{}[]"']))
    rows[number] = row[:at] + row[at] * data.draw(st.sampled_from([0, 2])) + row[at + 1 :]
    hypothesis.assume(not _is_json(rows[number]))
    whole = "\n".join(rows) if layout == "objects" else f"[{', '.join(rows)}]"
    (tmp_path / "rows.json").write_bytes(whole.encode())
    found = list(read(tmp_path / "rows.json", "json", TextField("text"), longest))
    kept = [row.text for row in found if isinstance(row, Record)]
    assert [text for text in kept if text != texts[number]] == [text for text in texts if text != texts[number]]
    assert any(not isinstance(row, Record) for row in found)


def _is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_rows_found_inside_a_damaged_one_are_named_as_its_parts(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('[\n{"text": "one"},\n{"text": "two"},\n{"text": "cut", "x": {\n,{"text": "three"},\n{"text": "four"}]\n')
    corpus = AnyCorpus([file], "text", 1.0)
    assert list(corpus.texts()) == ["one", "two", "three", "four"]
    assert [corpus.name(number) for number in range(4)] == [f"{file}:{place}" for place in ("1", "2", "3, part 2", "3, part 3")]


@SETTINGS
@hypothesis.given(ROWS, PACKED, st.sampled_from(["csv", "tsv"]))
def test_csv(tmp_path, rows, pack, form):
    sink = io.StringIO()
    quoting = csv.QUOTE_ALL if form == "tsv" else csv.QUOTE_MINIMAL
    rows = [row.replace("\r", "-") if isinstance(row, str) and form == "csv" else row for row in rows]  # ends a line where it is not quoted
    writer = csv.writer(sink, delimiter="," if form == "csv" else "\t", lineterminator="\n", quoting=quoting)
    writer.writerow(["n", "text"])
    for number, row in enumerate(rows):
        bad = {"long": [number, ("x,y\n" if number % 2 else "x ") * LONGEST], "none": [number], "missing": [number, "a", "b"]}
        writer.writerow([number, row] if isinstance(row, str) else bad.get(row[0], [number, "\udcff"]))
    path = tmp_path / "rows.data"
    path.write_bytes(pack(sink.getvalue().encode("utf-8", "surrogateescape")))
    assert _came_out(path, form) == _wanted(rows)


@SETTINGS
@hypothesis.given(ROWS, st.sampled_from(["string", "binary", "struct", "dictionary"]), st.sampled_from([3, 1000]))
def test_parquet_of_any_type(tmp_path, rows, layout, group):
    bad = {"long": b"x" * (LONGEST + 1), "none": None, "missing": None}
    cells = [row.encode() if isinstance(row, str) else bad.get(row[0], b"\xff") for row in rows]
    column = pa.array(cells, pa.binary())
    if layout == "dictionary":
        column = column.dictionary_encode()
    elif layout != "binary":
        column = pa.Array.from_buffers(pa.string(), len(column), column.buffers())  # strings that nobody checked
    dates = pa.array([1 << 60] * len(rows), pa.timestamp("us"))
    names = ["date", "text"]
    if layout == "struct":
        column, names = pa.StructArray.from_arrays([column, dates], ["text", "date"]), ["date", "meta"]
    pq.write_table(pa.table([dates, column], names=names), tmp_path / "rows.parquet", row_group_size=group)
    assert _came_out(tmp_path / "rows.parquet", "parquet", "meta.text" if layout == "struct" else "text") == _wanted(rows)


@SETTINGS
@hypothesis.given(ROWS, PACKED)
def test_paragraphs(tmp_path, rows, pack):
    rows = [" ".join(row.split()) if isinstance(row, str) else row for row in rows]
    rows = [row for row in rows if row and row not in (("none",), ("missing",))]
    bad = {"long": b"x" * LONGEST + b"\ny", "bytes": b"fine\n\xff", "surrogate": b"\xed\xa0\x80"}
    (tmp_path / "rows.txt").write_bytes(pack(b"\n \n\n".join(row.encode() if isinstance(row, str) else bad[row[0]] for row in rows)))
    assert _came_out(tmp_path / "rows.txt", "text") == _wanted(rows)


@SETTINGS
@hypothesis.given(st.one_of(st.text(max_size=200), st.sampled_from([b"caf\xe9", b"\xed\xa0\x80", b"x" * (LONGEST + 1)])), PACKED)
def test_whole_files(tmp_path, content, pack):
    (tmp_path / "a.md").write_bytes(pack(content.encode("utf-8", "replace") if isinstance(content, str) else content))
    wanted = content.encode("utf-8", "replace").decode("utf-8-sig") if isinstance(content, str) else None
    assert _came_out(tmp_path / "a.md", "file") == [wanted]


def _record(kind, headers, body):
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-1234567890ab>\r\n{headers}"
    return f"{head}WARC-Date: 2024-01-01T00:00:00Z\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n"


def _chunked(body):
    parts = [body[at : at + 50] for at in range(0, len(body), 50)]
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _raw_deflate(body):
    packed = zlib.compressobj(wbits=-15)
    return packed.compress(body) + packed.flush()


CODINGS = {
    "": bytes,
    "Content-Encoding: gzip": gzip.compress,
    "Content-Encoding: x-gzip ": gzip.compress,
    "content-encoding: deflate": zlib.compress,
    "Content-Encoding: deflate": _raw_deflate,
    "Content-Encoding: br": brotli.compress,
    "Content-Encoding: zstd": zstandard.compress,
    "Transfer-Encoding: chunked": _chunked,
    "Content-Encoding: GZIP\r\nTransfer-Encoding: Chunked": lambda body: _chunked(gzip.compress(body)),
    "Content-Encoding: gzip\r\nTransfer-Encoding:  chunked": bytes,  # headers kept, body unpacked
    "Content-Encoding: UTF-8": bytes,
}
WRITTEN = {
    "utf-8": "Grüße aus 東京 und anderswo her",
    "shift_jis": "日本語で書かれた少し長い文章です。",
    "iso-8859-1": "Ein schöner Tag für größere Übungen",
    "windows-1251": "Привет всем, кто читает эту страницу",
    "gbk": "你好，世界！这是一个用中文写的网页。",
    "euc-kr": "안녕하세요 여러분 이 글은 한국어입니다",
    "iso-2022-jp": "これは電子メールの文字です。",
    "utf-16": "Wide characters, größer",
}
UNKNOWN = ["utf-4", "x-none", "none", "hex", "windows-31j-foo", '""', "utf-8-sig-8", "rot13"]


@st.composite
def _page(draw):
    """A record and its text."""
    charset, text = draw(st.sampled_from(sorted(WRITTEN.items())))
    declared = draw(st.sampled_from(["header", "meta", "unknown header, meta"])) if charset != "utf-16" else "header"
    meta = f"<meta charset={charset}>" if "meta" in declared else ""
    body = f"<!DOCTYPE html><html><head>{meta}<title>t</title></head><body><main><p>{text}</p></main></body></html>".encode(charset)
    label = charset if declared == "header" else draw(st.sampled_from(UNKNOWN)) if "unknown" in declared else ""
    media = draw(
        st.sampled_from(["text/html", "TEXT/HTML", "application/xhtml+xml", *(["application/octet-stream", ""] if not label else [])])
    )
    kind = f"Content-Type: {media}" + (f"; charset={label}" if label else "") + "\r\n" if media else ""
    if draw(st.booleans()):
        return _record("resource", f"WARC-Target-URI: file:///a\r\n{kind}", body), text
    coding = draw(st.sampled_from(sorted(CODINGS)))
    head = f"HTTP/1.1 200 OK\r\n{kind}{coding}\r\n".encode() + b"\r\n" * bool(coding)
    return _record("response", HTTP, head + CODINGS[coding](body)), text


HTTP = "WARC-Target-URI: http://example.org/\r\nContent-Type: application/http; msgtype=response\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
HTML = b"<html><body><p>" + b"word " * 40 + b"</p></body></html>"
REFUSED = {
    "read/http_status": _record("response", HTTP, b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n" + HTML),
    "read/not_html": _record("response", HTTP, b"HTTP/1.1 200 OK\r\nContent-Type: Image/PNG\r\n\r\n\x89PNG"),
    "read/content_encoding": _record("response", HTTP, OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(HTML)[:-12]),
    "read/page_too_long": _record("response", HTTP, OK + b"Content-Encoding: br\r\n\r\n" + brotli.compress(HTML * 100_000)),
    "read/revisit": _record("revisit", HTTP, b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "read/segmented": _record("continuation", "WARC-Segment-Number: 2\r\n", b"more"),
    "read/invalid_http": _record("response", HTTP, b""),
}
ELSE = {
    "binary": _record("response", HTTP, OK + b"\r\n%PDF-1.4 \0\0"),
    "untold": _record("resource", "Content-Type: application/octet-stream\r\n", bytes(range(200))),
    "chunk cut off": _record("response", HTTP, OK + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(HTML)[:-40]),
    "chunk without end": _record("response", HTTP, OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nword\r\nffff"),
    "unknown coding": _record("response", HTTP, OK + b"Content-Encoding: lzw\r\n\r\n\0\1\2"),
}
NO_PAGES = [_record("warcinfo", "", b"software: x\r\n"), _record("request", HTTP, b"GET / HTTP/1.1\r\n\r\n")]


@SETTINGS
@hypothesis.given(
    st.lists(st.one_of(_page(), st.sampled_from([(r, None) for r in [*REFUSED.values(), *ELSE.values()]])), min_size=1, max_size=8), PACKED
)
def test_web_archives(tmp_path, records, pack):
    (tmp_path / "a.warc").write_bytes(pack(b"".join([*NO_PAGES, *(record for record, _ in records)])))
    assert [text and text.strip() for text in _came_out(tmp_path / "a.warc", "warc")] == [text for _, text in records]


@SETTINGS
@hypothesis.given(ROWS.filter(len), PACKED)
def test_plain_text_archives(tmp_path, rows, pack):
    """WET: conversions whose body is the text; one without a text type, too long, or announced and not there is set aside."""
    head = "WARC-Target-URI: http://example.org/\r\nContent-Type: text/plain\r\n"
    rows = [f"{row} and more".replace("\0", "-") if isinstance(row, str) else row for row in rows]
    bad = {
        "long": _record("conversion", head, b"word " * LONGEST),
        "none": _record("continuation", "WARC-Segment-Number: 2\r\n", b"more"),
        "missing": _record("conversion", "WARC-Target-URI: http://example.org/\r\nContent-Type: image/png\r\n", b"\x89PNG"),
        "bytes": _record("conversion", head, b"\0\1\2\0"),
        "surrogate": _record("revisit", head, b"text"),
    }
    records = [_record("conversion", head, row.encode()) if isinstance(row, str) else bad[row[0]] for row in rows]
    (tmp_path / "a.wet").write_bytes(pack(b"".join([NO_PAGES[0], *records])))
    assert _came_out(tmp_path / "a.wet", "wet") == _wanted(rows)


@pytest.mark.parametrize("reason", sorted(REFUSED))
def test_web_records_are_refused_by_reason(tmp_path, reason):
    (tmp_path / "a.warc").write_bytes(REFUSED[reason])
    [row] = read(tmp_path / "a.warc", "warc", TextField("text"), LONGEST)
    assert row.reason == reason


def test_plain_text_of_an_archive_is_taken_as_it_is(tmp_path):
    plain = "<p>Grüße &amp; more\n"
    archive = _record("conversion", "Content-Type: text/plain\r\n", plain.encode())
    archive += _record("response", HTTP, b"HTTP/1.1 200 OK\r\nContent-Type: Text/Plain; charset=latin-1\r\n\r\n" + plain.encode("latin-1"))
    for name in ("a.warc", "a.wet"):
        (tmp_path / name).write_bytes(archive)
        assert _came_out(tmp_path / name, name[2:]) == [plain, plain]
