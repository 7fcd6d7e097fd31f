"""What a server sent, to text: transfer coding and content coding undone (RFC 9110, 9112), the charset found as browsers do.

Archives keep the headers and often not the coding they speak of, so a body that is plainly not coded is taken as it is. The
charset is the one of a byte order mark, else the declared one (header, then ``<meta>``), else the detected one; a single-byte
one loses against a body that is valid UTF-8 (WHATWG Encoding, and what pages do). Left out: multipart bodies.
"""

from __future__ import annotations

import codecs
import io
import re
import zlib
from typing import Any

import ftfy.bad_codecs

_CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,16})[ \t]*(;[^\r\n]*)?\r?\n")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_META = re.compile(rb"""<meta[^>]{1,400}?charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_MARKUP = re.compile(
    rb"(?>\s*)(?><\?xml.*?\?>\s*)?(?><!--.*?-->\s*)*+"
    rb"<(!doctype html|html|head|body|title|meta|script|style|div|table|p|a|h1|br|b|font|iframe)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
_WIDER = {
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
    "cp1252": "sloppy-windows-1252",
}
"""Python's codec -> the one that holds every character that pages with that label use (WHATWG Encoding, section 4.2)."""
_SHORT_CODES = ("gb18030", "cp932", "cp949", "big5hkscs", "euc_jp")
"""A few characters in one of these may be valid UTF-8 by chance."""
_BY_CHANCE = 8
"""So many characters are not: each of two bytes has a chance of about one in ten."""

ftfy.bad_codecs.ok()  # registers the sloppy codecs


class CodingError(ValueError):
    """A body that cannot be decoded."""


def uncoded(body: bytes, transfer: str, content: str, longest: int) -> bytes:
    """The body without its codings.

    Args:
        body: as it was sent.
        transfer: the header ``Transfer-Encoding``.
        content: the header ``Content-Encoding``.
        longest: bytes; no more than one byte over it is unpacked.

    Raises:
        CodingError: it is damaged, or coded in a way that is not known.
    """
    codings = [name.strip().lower() for name in f"{content},{transfer}".split(",") if name.strip()]
    for coding in reversed(codings):  # applied in the order of the header, the transfer coding last
        if coding == "chunked":
            body = _unchunked(body)
        elif coding in _PACKED:
            try:
                body = _PACKED[coding](body, longest)
            except (OSError, EOFError, zlib.error) as error:
                if not is_markup(body):
                    raise CodingError(f"damaged {coding} body") from error
        elif b"\0" in body[:1000] and coding != "identity" and not _codec(coding):  # some write the charset there
            raise CodingError(f"unknown coding {coding[:40]!r}")
    return body


def _unchunked(body: bytes) -> bytes:
    """The chunks put together; a body that does not begin with a chunk as it is."""
    parts: list[bytes] = []
    at = 0
    while match := _CHUNK.match(body, at):
        size = int(match[1], 16)
        if size == 0:
            return b"".join(parts)
        part = body[match.end() : match.end() + size]
        if len(part) < size:
            raise CodingError("a chunk is cut off")
        parts.append(part)
        at = match.end() + size
        at += 2 if body[at : at + 2] == b"\r\n" else body[at : at + 1] == b"\n"
    if parts:
        raise CodingError("no last chunk")
    return body


def _gunzipped(body: bytes, longest: int) -> bytes:
    found, rest = b"", body
    while rest and len(found) <= longest:
        unpack = zlib.decompressobj(wbits=31)
        found += unpack.decompress(rest, longest + 1 - len(found))
        if not unpack.eof and len(found) <= longest:
            raise EOFError("cut off")
        rest = unpack.unused_data if unpack.unused_data.startswith(b"\x1f\x8b") else b""
    return found


def _inflated(body: bytes, longest: int) -> bytes:
    """Deflate is sent with zlib's frame, as the standard says, and without, as some servers do."""
    for bits in (15, -15):
        unpack = zlib.decompressobj(wbits=bits)
        try:
            found = unpack.decompress(body, longest + 1)
        except zlib.error:
            continue
        if unpack.eof or len(found) > longest:
            return found
    raise EOFError("cut off")


def _brotli(body: bytes, longest: int) -> bytes:
    from fastwarc.stream_io import BrotliReader

    return _all_of(BrotliReader(io.BytesIO(body)), longest)


def _zstd(body: bytes, longest: int) -> bytes:
    from fastwarc.stream_io import ZstdReader

    return _all_of(ZstdReader(io.BytesIO(body)), longest)


def _all_of(reader: Any, longest: int) -> bytes:
    found = b""
    while len(found) <= longest and (part := reader.read(longest + 1 - len(found))):
        found += part
    return found


_PACKED = {"gzip": _gunzipped, "x-gzip": _gunzipped, "deflate": _inflated, "br": _brotli, "zstd": _zstd}


def is_markup(body: bytes) -> bool:
    """Whether a body begins as an HTML page does."""
    head = body[:4096].removeprefix(codecs.BOM_UTF8)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head = head[2:].replace(b"\0", b"")
    return bool(_MARKUP.match(head))


def text_of(body: bytes, content_type: str) -> str:
    """The text of a page; U+FFFD stands for bytes that its charset does not have.

    Args:
        body: the page without codings.
        content_type: its header, whatever is in it.
    """
    from resiliparse.parse.encoding import detect_encoding

    for mark, codec in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if body.startswith(mark):
            return body[len(mark) :].decode(codec, errors="replace")
    labels = _CHARSET.findall(content_type)[:1] + [label.decode("ascii", "replace") for label in _META.findall(body[:4096])[:1]]
    declared = [name for name in map(_codec, labels) if name]
    for name in declared:
        if (name == "iso2022_jp" and b"\x1b" in body) or (name.startswith("utf-16") and b"\0" in body[:1000]):
            return body.decode(name, errors="replace")
    text = _decoded(body, "utf-8")
    if text is not None and (not declared or declared[0] not in _SHORT_CODES or not 0 < _beyond_ascii(text) < _BY_CHANCE):
        return text
    likely = [name for name in declared if not name.startswith("utf-16")] + [_codec(str(detect_encoding(body))) or "utf-8"]
    found = (_decoded(body, name) for name in likely)
    return next((text for text in found if text is not None), body.decode(likely[0], errors="replace"))


def _decoded(body: bytes, codec: str) -> str | None:
    try:
        return body.decode(codec)
    except UnicodeDecodeError:
        return None


def _beyond_ascii(text: str) -> int:
    """Characters that are not ASCII."""
    return 0 if text.isascii() else len(text) - len(text.encode("ascii", errors="ignore"))


def _codec(label: str) -> str | None:
    """Python's codec for a label, None for one that browsers do not know."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    name = map_encoding_to_html5(label, False)
    return _WIDER.get(name, name) if name else None
