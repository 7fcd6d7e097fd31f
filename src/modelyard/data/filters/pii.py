"""Personal data, redacted by typed tokens: mail and IP addresses, phone, card and national identity numbers.

A regular expression finds candidates, a checksum or a numbering plan decides: Luhn for cards, python-stdnum's checks
for identity numbers, libphonenumber's plans and groupings for phones, the registered public ranges for IP addresses.
What only looks like a number stays. Numbers are looked for in runs of digits and their separators alone, of any script's
digits, and a letter beside one bounds it unless it is a Latin one: Japanese and Korean write no space there. Left out:
names, postal addresses, and numbers without a checksum or a typical form (a bare nine-digit number is rarely a tax
number).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.filters import addresses, identity_numbers, native, phones
from modelyard.data.filters.code_points import codes_of
from modelyard.data.filters.regions import regions_of

PiiKind = Literal["email", "ip", "card", "national_id", "phone"]

_SEPARATORS = " \u00a0\u202f\u3000().+/\\-\uff08\uff09\uff0e\uff0b\uff0f\uff0d\u2010-\u2015\u2212"
_RUN_ASCII = re.compile(r"\d[\d ().+/-]{4,}\d", re.ASCII)
_RUN = re.compile(rf"\d[\d{_SEPARATORS}]{{4,}}\d")
_LETTERED = re.compile(r"[A-Z](?:[A-Z]\d\d(?: ?[A-Z0-9]{4}){3}|-?\d{7}|[A-Z]{5}\d\d[A-Z]|[A-Z]{3}\d{6}[HM])", re.ASCII)
_LEAST, _BEFORE, _AFTER, _LONGEST = 6, 4, 7, 48
_CARD = re.compile(r"(?<![\w.-])(?:[2-6]\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,7}|3[47]\d{2}[ -]?\d{6}[ -]?\d{5})(?![\w-]|\.\d)", re.ASCII)


class PiiConfig(Config):
    """What is redacted."""

    kinds: list[PiiKind]
    """Kinds of personal data."""
    region: str
    """Country (ISO 3166, two letters) whose plans English texts follow, and texts of languages that no country is known for."""
    regions: dict[str, str] = Field(default_factory=dict)
    """Language (ISO 639-1) -> country, where it is another than :data:`modelyard.data.filters.regions.COUNTRIES` has."""

    @model_validator(mode="after")
    def _known(self) -> PiiConfig:
        from phonenumbers import SUPPORTED_REGIONS

        for key, region in (("region", self.region), *((f"regions.{code}", one) for code, one in self.regions.items())):
            if region not in SUPPORTED_REGIONS:
                raise ValueError(f"{key}: {region!r} is no country of ISO 3166 with a numbering plan, such as US or JP")
        return self


class Redacted(NamedTuple):
    """A text without personal data."""

    text: str
    found: dict[str, int]
    """Kind -> how many were redacted."""


class Span(NamedTuple):
    """One piece of personal data."""

    start: int
    """First character."""
    end: int
    """One after the last."""
    kind: PiiKind


class _Window(NamedTuple):
    """A run of digits with what stands beside it."""

    begin: int
    """Where it starts in the text."""
    text: str
    """Digits, dashes and spaces of any script written in ASCII, character by character."""
    run: str
    """The run itself; "" for a number that begins with letters."""
    digits: int


_ORDER: tuple[PiiKind, ...] = ("email", "ip", "national_id", "card", "phone")
"""Where two kinds overlap the first stands."""


def redact(text: str, config: PiiConfig, language: str = "und") -> Redacted:
    """Replace what the config names by ``[EMAIL]``, ``[IP]``, ``[CARD]``, ``[NATIONAL_ID]`` and ``[PHONE]``.

    ``language`` is the document's (ISO 639-1), ``und`` where it is unknown; see :func:`regions_of`.
    """
    found: Counter[str] = Counter()
    pieces, end = [], 0
    for span in _apart(spans(text, config, language)):
        found[span.kind] += 1
        pieces += [text[end : span.start], f"[{span.kind.upper()}]"]
        end = span.end
    return Redacted("".join([*pieces, text[end:]]), dict(found)) if pieces else Redacted(text, {})


def spans(text: str, config: PiiConfig, language: str = "und") -> list[Span]:
    """Everything found, in no order; kinds may overlap."""
    result: list[Span] = []
    if "email" in config.kinds:
        result += (Span(*place, "email") for place in addresses.emails(text))
    if "ip" in config.kinds:
        result += (Span(*place, "ip") for place in addresses.ip6(text))
    windows = list(_windows(text))
    regions = regions_of(text, language, config.region, config.regions) if windows else ()
    for window in windows:
        for kind in config.kinds:
            places = _places(kind, window, regions)
            found = [Span(window.begin + start, window.begin + end, kind) for start, end in places]
            result += [span for span in found if kind != "ip" or not addresses.is_version(text, span.start, span.end)]
    return result


def _apart(found: list[Span]) -> list[Span]:
    """The spans in order, of two that overlap the one whose kind comes first."""
    kept: list[Span] = []
    for span in sorted(found):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
        elif _ORDER.index(span.kind) < _ORDER.index(kept[-1].kind):
            kept[-1] = span
    return kept


def _windows(text: str) -> Iterator[_Window]:
    """Every run of digits and separators that a rule might want, and every start of a number that begins with letters."""
    ascii_text = text.isascii()
    runs, starts = _candidates(text, ascii_text)
    for start, end, digits in runs:
        if digits < _LEAST and text.count(".", start, end) < 3:
            continue
        begin = max(0, start - _BEFORE)
        plain = text[begin : end + _AFTER] if ascii_text else text[begin : end + _AFTER].translate(_ASCII)
        yield _Window(begin, plain, plain[start - begin : end - begin], digits)
    for start in starts:
        begin = max(0, start - _BEFORE)
        yield _Window(begin, text[begin : start + _LONGEST], "", 0)


def _candidates(text: str, ascii_text: bool) -> tuple[list[list[int]], list[int]]:
    """(start, end and digits of runs, starts of numbers that begin with letters) of a text."""
    if native.available():
        codes = codes_of(text)
        places, end, starts = native.lettered(codes).tolist(), 0, []
        for place in places:
            if place >= end and (match := _LETTERED.match(text, place)):
                end = match.end()
                starts.append(place)
        return native.digit_runs(codes, _classes(), _LEAST).tolist(), starts
    runs = [[*match.span(), sum(map(str.isdecimal, match.group()))] for match in (_RUN_ASCII if ascii_text else _RUN).finditer(text)]
    return runs, [match.start() for match in _LETTERED.finditer(text)]


@cache
def _classes() -> npt.NDArray[np.uint8]:
    """[code points] 1 of a digit, 2 of a separator."""
    classes, every = np.zeros(0x110000, np.uint8), "".join(map(chr, range(0x110000)))
    for value, pattern in ((1, r"\d"), (2, f"[{_SEPARATORS}]")):
        classes[[match.start() for match in re.finditer(pattern, every)]] = value
    return classes


def _places(kind: PiiKind, window: _Window, regions: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """(start, end) of one kind in a window."""
    text, digits = window.text, window.digits
    if kind == "ip" and digits > 3 and text.count(".") > 2:
        yield from addresses.ip4(text)
    elif kind == "card" and digits > 12:
        yield from (match.span() for match in _CARD.finditer(text) if _is_card(match.group()))
    elif kind == "national_id" and (digits > 5 or not digits):
        found = identity_numbers.forms(regions).any.finditer(text)
        yield from (match.span() for match in found if identity_numbers.is_identity(match.group(), regions))
    elif kind == "phone":
        yield from (place for region in regions for place in phones.places(text, window.run, digits, region))


class _Plain(dict[int, int | str]):
    """Translates digits, dashes, spaces and full-width forms to ASCII, one character to one."""

    def __missing__(self, code: int) -> int | str:
        decimal = unicodedata.decimal(chr(code), None)
        self[code] = code if decimal is None else str(decimal)
        return self[code]


_ASCII: Mapping[int, int | str] = _Plain(
    {
        **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
        **dict.fromkeys((*range(0x2010, 0x2016), 0x2212), "-"),
        **dict.fromkeys((0xA0, 0x202F, 0x3000), " "),
    }
)


def _is_card(text: str) -> bool:
    from stdnum import luhn

    number = re.sub(r"\D", "", text)
    if number[0] == "2" and len(number) != 16:  # Mastercard's range alone begins so
        return False
    return 13 <= len(number) <= 19 and len(set(number)) > 1 and bool(luhn.is_valid(number))
