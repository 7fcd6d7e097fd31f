"""Rows of CSV and TSV files (RFC 4180: quotes double inside quotes, a quoted field may hold line ends); the first row names the fields.

Read strictly: a row with another number of fields than the header, or with text behind a closing quote, is set aside with its
reason and not guessed at. Left out: other separators than comma and tab; a quote that opens in a line over the limit and closes in another.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from modelyard.data.corpus.document import one_line
from modelyard.data.sources.compressed import UNREADABLE
from modelyard.data.sources.json_rows import lines
from modelyard.data.sources.record import Broken, Record, TextField

_NO_QUOTE = re.compile(rb'[^"]+')


def rows(pieces: Iterable[bytes], field: TextField, longest: int, separator: str) -> Iterator[Record | Broken]:
    """Rows in order; the place is the first line of a row.

    Args:
        pieces: the content.
        field: where a row's text stands.
        longest: bytes; a longer row is set aside.
        separator: between two fields.
    """
    source = _Lines(lines(pieces, longest), longest)
    csv.field_size_limit(max(csv.field_size_limit(), 2 * longest))  # _Lines keeps rows below it
    reader = csv.reader(source, delimiter=separator, strict=True)
    header: list[str] = []
    while True:
        source.size, source.too_long = 0, False
        place = f"line {source.number + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Broken(place, "read/invalid_csv", f"not valid CSV: {one_line(error)}", "")
            continue
        except UNREADABLE as error:
            yield Broken(place, "read/truncated_file", f"cut off or damaged: {one_line(error)}", "")
            return
        if source.too_long:
            yield Broken(place, "read/line_too_long", f"{source.size} bytes", "")
        elif not header:
            header = row
        elif row:
            yield _record(place, header, row, field)


def _record(place: str, header: list[str], row: list[str], field: TextField) -> Record | Broken:
    whole = ", ".join(row)
    if not whole.isascii():
        try:
            whole.encode("utf-8")
        except UnicodeEncodeError:
            return Broken(place, "read/invalid_utf8", "invalid UTF-8", repr(whole[:2000]))
    if len(row) != len(header):
        return Broken(place, "read/invalid_csv", f"not valid CSV: {len(row)} fields under {len(header)} names", whole[:2000])
    return field.record(place, dict(zip(header, row, strict=True)), whole[:2000])


class _Lines:
    """Lines as ``csv`` wants them; of a row that grows too long only its quotes, which tell where it ends."""

    def __init__(self, found: Iterator[bytes | int], longest: int) -> None:
        self._found, self._longest = found, longest
        self.number = self.size = 0
        self.too_long = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._found)
        self.number += 1
        self.size += 1 + (line if isinstance(line, int) else len(line))
        if isinstance(line, int) or self.size > self._longest:
            self.too_long = True
            return "" if isinstance(line, int) else _NO_QUOTE.sub(b"", line).decode()
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        return line.decode("utf-8", errors="surrogateescape") + "\n"
