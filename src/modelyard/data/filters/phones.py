"""Phone numbers in a run of digits: libphonenumber's plans and groupings decide, asked where a number could be one.

libphonenumber takes its time, and most runs of digits are dates, decimals, pages of journals. Those forms are left out, and so is a run in whose
digits no number stands that a plan of the region has; its answer would be the same, later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_DECIMAL = r"-?\d+\.\d+"
_LONG_DECIMAL = r"-?\d+\.\d{5,}"
_NO_PHONE = re.compile(
    rf"{_DECIMAL}(?: {{2,}}{_DECIMAL})*|{_LONG_DECIMAL}(?: ?[-+/] ?{_LONG_DECIMAL})*(?: ?[-+/] ?\d{{1,3}})?"
    r"|\d{4}[-/.]\d\d?[-/.]\d\d?(?: \d\d)?|\d\d?[-/.]\d\d?[-/.]\d{4}|\d{4} ?- ?\d{4}|\d{1,8}|\d{12,}"
    rf"|10\.\d{{4,}}/[\d./-]*|(?:{_OCTET}\.){{3}}{_OCTET}/\d\d?|(?=.*\d{{3}})(?:{_OCTET}\.){{3}}{_OCTET}",
    re.ASCII,
)
"""Decimals, columns and sums of them, dates with or without an hour, spans of years, bare numbers of another length than a phone's, DOIs and IP
addresses (but for four groups of two digits, a form of phones): what most runs are."""
_LEAST_DIGITS = 7
_INTERNATIONAL = re.compile(r"(?<![\w.+/-])\+(?:[ ().+/-]*\d){7}", re.ASCII)
_KINDS = ("fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip", "pager", "uan", "voicemail")
"""Whose patterns make a number valid."""
_BESIDE = (re.compile(r"[\w.+/-]\Z", re.ASCII), re.compile(r"[\w/]|[.-]\d", re.ASCII))
"""What stands before and after a longer number, a path or a name."""
_TWO_SENTENCES = re.compile(r"\.\s|\)\.")
_NO_DIGITS = re.compile(r"\D")


def places(text: str, run: str, digits: int, region: str) -> Iterator[tuple[int, int]]:
    """(start, end) of numbers that the region's plan (a ``+`` names its own) has and groups as written.

    Args:
        text: a run of digits and separators with what stands beside it, digits and separators in ASCII.
        run: the run.
        digits: how many it has.
        region: ISO 3166 country.
    """
    if digits < _LEAST_DIGITS:
        return
    international = _INTERNATIONAL.search(text) is not None
    if international or (not _NO_PHONE.fullmatch(run) and _holds_one(_NO_DIGITS.sub("", text), region)):
        yield from _found(text, region, international)


def _holds_one(digits: str, region: str) -> bool:
    """Whether a number of a plan of the region's country code stands in digits, or one that is called from there abroad may."""
    plans = _plans(region)
    return plans is None or plans.search(digits) is not None


@cache
def _plans(region: str) -> re.Pattern[str] | None:
    """What national numbers look like and the prefix for calls abroad, of all regions of the country code; None where a plan adds digits
    that nobody wrote."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, country_code_for_region

    patterns: set[str] = set()
    for one in COUNTRY_CODE_TO_REGION_CODE[country_code_for_region(region)]:
        metadata = PhoneMetadata.metadata_for_region(one)
        if metadata is None or (metadata.national_prefix_transform_rule and one == region):
            return None
        kinds = [getattr(metadata, kind) for kind in _KINDS]
        patterns |= {kind.national_number_pattern for kind in kinds if kind is not None and kind.national_number_pattern}
        patterns |= {metadata.international_prefix} if metadata.international_prefix else set()
    return re.compile("|".join(f"(?:{pattern})" for pattern in sorted(patterns)))


def _found(text: str, region: str, international: bool) -> Iterator[tuple[int, int]]:
    from phonenumbers import Leniency, PhoneNumberMatcher

    leniency = Leniency.VALID if international else Leniency.STRICT_GROUPING
    for match in PhoneNumberMatcher(text, region, leniency=leniency):
        raw, start = match.raw_string, match.start
        if raw.count("(") > raw.count(")"):  # of a call, ``f(-2147483646)``
            raw, start = raw[1:], start + 1
        beside = _BESIDE[0].search(text, 0, start) or _BESIDE[1].match(text, match.end)
        if beside or raw[0] == "-" or _TWO_SENTENCES.search(raw):
            continue
        if raw[0] in "+(0" or not raw.replace(" ", "").isdigit() or _is_mobile(match.number):
            yield start, match.end


def _is_mobile(number: PhoneNumber) -> bool:
    """Whether the plan has the number for mobile phones alone, which people write as bare digits."""
    from phonenumbers import PhoneNumberType, number_type

    return number_type(number) == PhoneNumberType.MOBILE
