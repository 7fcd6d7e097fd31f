"""Pages of web archives: HTML to its text, plain text as it is, from the responses, resources and conversions of a WARC or WET.

Parsing, extraction and detection are fastwarc's and resiliparse's (Bevendorff et al. 2018); main content only, without navigation
and footers. Every record that holds or should hold a page is given or set aside with a reason; requests, metadata and
the archive's own description hold none. Left out: PDF and other media, robots metadata, records cut into segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from modelyard.data.corpus.document import one_line
from modelyard.data.sources.compressed import Stream
from modelyard.data.sources.http_body import CodingError, is_markup, text_of, uncoded
from modelyard.data.sources.record import Broken, Record, sample

_UNTOLD = ("", "application/octet-stream", "application/x-unknown", "unknown/unknown", "*/*", "unknown")
"""Content types that say nothing, so that the body is looked at."""
_NO_PAGE = {
    "revisit": ("read/revisit", "the same as an earlier capture"),
    "continuation": ("read/segmented", "a later part of a page"),
    "unknown": ("read/unknown_record", "a record type that the standard does not have"),
}


class _Counted:
    """The archive's reader asks where it is."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._at = stream, 0

    def read(self, size: int = 1 << 16) -> bytes:
        data = self._stream.read(size)
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at


class _Unusable(NamedTuple):
    reason: str
    detail: str
    sample: str = ""


def pages(stream: Stream, longest: int) -> Iterator[Record | Broken]:
    """Pages of an archive, in order, with ``url`` and ``date``.

    Args:
        stream: the archive, unpacked.
        longest: bytes of a page that is still read.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    none = WarcRecordType.request | WarcRecordType.metadata | WarcRecordType.warcinfo
    counted: Any = _Counted(stream)
    records: Any = ArchiveIterator(counted, parse_http=False)
    number = 0
    for number, record in enumerate(records, 1):
        if record.record_type & none:
            continue
        place, url = f"record {number}", str(record.headers.get("WARC-Target-URI", ""))
        page = _page(record, longest)
        if isinstance(page, str):
            yield Record(place, page, {"url": url, "date": str(record.headers.get("WARC-Date", ""))})
        else:
            yield Broken(place, page.reason, f"{url}: {page.detail}", page.sample)
    if not number:
        raise OSError("no WARC record in it")


def _page(record: Any, longest: int) -> str | _Unusable:
    """The text of a record."""
    if (name := str(record.record_type)) in _NO_PAGE:
        return _Unusable(*_NO_PAGE[name])
    if record.headers.get("WARC-Segment-Number"):
        return _Unusable("read/segmented", "the first part of a page")
    if record.content_length > longest:
        return _Unusable("read/page_too_long", f"{record.content_length} bytes")
    headers: Any = record.headers
    if (headers.get("Content-Type") or "").lower().startswith("application/http"):
        try:
            record.parse_http()
        except (ValueError, OSError) as error:
            return _Unusable("read/invalid_http", one_line(error))
        if (headers := record.http_headers) is None or headers.status_code is None:
            return _Unusable("read/invalid_http", "no HTTP header in it")
        if headers.status_code != 200:
            return _Unusable("read/http_status", f"HTTP status {headers.status_code}")
    kind = headers.get("Content-Type") or ""
    if (named := _media(kind)) not in ("html", "plain", "untold"):
        return _Unusable("read/not_html", f"content type {named}")
    body = record.reader.read()
    if len(body) < record.content_length:
        return _Unusable("read/truncated_file", f"{len(body)} of {record.content_length} bytes")
    if headers is not record.headers:
        try:
            body = uncoded(body, headers.get("Transfer-Encoding") or "", headers.get("Content-Encoding") or "", longest)
        except CodingError as error:
            return _Unusable("read/content_encoding", str(error), sample(body))
    if len(body) > longest:
        return _Unusable("read/page_too_long", f"over {longest} bytes unpacked")
    return _text(body, named, kind)


def _media(content_type: str) -> str:
    """``html``, ``plain`` or ``untold``, else the media type; upper and lower case are the same (RFC 9110, 8.3.1)."""
    media = content_type.split(";")[0].split(",")[0].strip().lower()
    if "html" in media:
        return "html"
    return "plain" if media == "text/plain" else "untold" if media in _UNTOLD else media[:80]


def _text(body: bytes, named: str, content_type: str) -> str | _Unusable:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import detect_mime

    seen = "text/html" if is_markup(body) else str(detect_mime(body))
    if not seen.startswith("text/") and (named == "untold" or seen.startswith(("image/", "audio/", "video/")) or seen == "application/pdf"):
        return _Unusable("read/not_html", f"content type {named}, looks like {seen}")
    text = text_of(body, content_type)
    if "\0" in text[:4096]:
        return _Unusable("read/not_html", f"content type {named}, binary")
    if named == "html" or (named == "untold" and seen == "text/html"):
        return str(extract_plain_text(text, main_content=True, links=False))
    return text
