"""Pages of Common Crawl's archives: HTML responses of a WARC to their text, plain-text conversions of a WET as they are.

Parsing and extraction are fastwarc's and resiliparse's (Bevendorff et al. 2018); main content only, without navigation and footers. Left out:
PDF and other media, robots metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple


class Page(NamedTuple):
    """One archived page."""

    place: str
    """``record`` and its number."""
    data: bytes
    encoding: str
    row: dict[str, Any]
    """``url`` and ``date``."""
    reason: str | None = None
    """Why it cannot be used, ``read/...``."""
    detail: str = ""


def pages(stream: BinaryIO, html: bool, longest: int) -> Iterator[Page]:
    """Pages of an archive, in order.

    Args:
        stream: the archive, decompressed.
        html: responses with HTML bodies (WARC) rather than conversions (WET).
        longest: bytes of a page that is still read.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    wanted = WarcRecordType.response if html else WarcRecordType.conversion
    records: Any = ArchiveIterator(stream, record_types=wanted | WarcRecordType.warcinfo, parse_http=html)
    number = 0
    for number, record in enumerate(records, 1):
        if record.record_type != wanted:
            continue
        place, url = f"record {number}", str(record.headers.get("WARC-Target-URI", ""))
        row = {"url": url, "date": str(record.headers.get("WARC-Date", ""))}
        if html and (problem := _not_html(record)):
            yield Page(place, b"", "utf-8", row, "read/not_html", f"{url}: {problem}")
        elif record.content_length > longest:
            yield Page(place, b"", "utf-8", row, "read/page_too_long", f"{url}: {record.content_length} bytes")
        else:
            body = record.reader.read()
            if len(body) < record.content_length:
                yield Page(place, b"", "utf-8", row, "read/truncated_file", f"{url}: {len(body)} of {record.content_length} bytes")
            else:
                yield Page(place, _plain(body, record.http_charset) if html else body, "utf-8", row)
    if not number:
        raise OSError("no WARC record in it")


def _not_html(record: Any) -> str:
    status, kind = getattr(record.http_headers, "status_code", None), record.http_content_type or ""
    if status != 200:
        return f"HTTP status {status}"
    return "" if "html" in kind else f"content type {kind or 'unknown'}"


def _plain(body: bytes, charset: str | None) -> bytes:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    html = bytes_to_str(body, charset or str(detect_encoding(body)))
    return str(extract_plain_text(html, main_content=True, links=False)).encode("utf-8", errors="replace")
