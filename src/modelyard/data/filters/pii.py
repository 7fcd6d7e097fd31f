"""Personal data, redacted by typed tokens: mail and IP addresses, phone, card and national identity numbers.

A regular expression finds candidates, a checksum or a numbering plan decides: Luhn for cards, python-stdnum's validators for identity numbers,
libphonenumber's plans for phones, the registered public ranges for IP addresses. What only looks like a number stays. Left out: names, postal
addresses, and numbers without a checksum or a typical form (a bare nine-digit number is rarely a tax number).
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Literal, NamedTuple

from modelyard.config import Config

PiiKind = Literal["email", "ip", "card", "national_id", "phone"]

_EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b")
_IP4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IP6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|:)(?::?[0-9A-Fa-f]{1,4})*(?![\w:])")
_CARD = re.compile(r"(?<![\w.-])(?:[2-6]\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,7}|3[47]\d{2}[ -]?\d{6}[ -]?\d{5})(?![\w-]|\.\d)")
_PHONE = re.compile(
    r"(?<![\w.+/-])(?:\+\d[\d ().-]{6,18}\d|\(\d{2,5}\)[ .-]?\d[\d .-]{5,12}\d|\d{2,4}[-.]\d{3,4}[-.]\d{3,4})(?![\w/]|[.-]\d)"
)
_NATIONAL: tuple[tuple[str, str], ...] = (
    ("us.ssn", r"\d{3}-\d{2}-\d{4}"),
    ("kr.rrn", r"\d{6}-\d{7}"),
    ("cn.ric", r"\d{17}[\dXx]"),
    ("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
    ("es.dni", r"\d{8}-?[A-Z]"),
    ("es.nie", r"[XYZ]-?\d{7}-?[A-Z]"),
    ("it.codicefiscale", r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]"),
    ("fr.nir", r"[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}"),
    ("pl.pesel", r"\d{11}"),
    ("de.idnr", r"\d{2} \d{3} \d{3} \d{3}"),
    ("se.personnummer", r"\d{6}[-+]\d{4}"),
    ("in_.aadhaar", r"\d{4} \d{4} \d{4}"),
    ("ca.sin", r"\d{3}[- ]\d{3}[- ]\d{3}"),
    ("iban", r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?"),
)
"""(module of python-stdnum, form in which the number is usually written)."""
_NATIONAL_ANY = re.compile(r"(?<![\w.-])(?:" + "|".join(f"({form})" for _, form in _NATIONAL) + r")(?![\w-]|\.\d)")
_DIGITS = re.compile(r"\d[\d ().:-]{4,}|[A-Z]{6}\d\d[A-Z]")
"""Without a match nothing numeric needs to be looked for."""


class PiiConfig(Config):
    """What is redacted."""

    kinds: list[PiiKind]
    """Kinds of personal data."""
    region: str
    """Country (ISO 3166, two letters) whose plan a phone number without country code follows."""


class Redacted(NamedTuple):
    """A text without personal data."""

    text: str
    found: dict[str, int]
    """Kind -> how many were redacted."""


def redact(text: str, config: PiiConfig) -> Redacted:
    """Replace what the config names by ``[EMAIL]``, ``[IP]``, ``[CARD]``, ``[NATIONAL_ID]`` and ``[PHONE]``."""
    found: Counter[str] = Counter()
    digits = _DIGITS.search(text) is not None
    steps: tuple[tuple[PiiKind, bool, re.Pattern[str], Callable[[re.Match[str]], bool]], ...] = (
        ("email", "@" in text, _EMAIL, lambda _: True),
        ("ip", digits, _IP4, _is_public),
        ("ip", "::" in text or text.count(":") > 3, _IP6, _is_public),
        ("card", digits, _CARD, _is_card),
        ("national_id", digits, _NATIONAL_ANY, _is_national),
        ("phone", digits, _PHONE, lambda match: _is_phone(match.group(), config.region)),
    )
    for kind, possible, pattern, valid in steps:
        if possible and kind in config.kinds:
            text = pattern.sub(_replacer(kind, valid, found), text)
    return Redacted(text, dict(found))


def _replacer(kind: PiiKind, valid: Callable[[re.Match[str]], bool], found: Counter[str]) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        if not valid(match):
            return match.group()
        found[kind] += 1
        return f"[{kind.upper()}]"

    return replace


def _is_public(match: re.Match[str]) -> bool:
    try:
        return ipaddress.ip_address(match.group()).is_global
    except ValueError:
        return False


def _is_card(match: re.Match[str]) -> bool:
    from stdnum import luhn

    number = re.sub(r"\D", "", match.group())
    return 13 <= len(number) <= 19 and len(set(number)) > 1 and bool(luhn.is_valid(number))


def _is_national(match: re.Match[str]) -> bool:
    # forms overlap (a Canadian number looks like the start of a German one), so every form is asked, not the first that matched
    text = match.group()
    return any(re.fullmatch(form, text) and checks(name, text) for name, form in _NATIONAL)


def checks(name: str, text: str) -> bool:
    """Whether python-stdnum's module ``name`` takes the number for one that exists."""
    try:
        return bool(import_module(f"stdnum.{name}").is_valid(text))
    except LookupError:  # python-stdnum 2.2's cn.ric, for a place that its table has without counties
        return False


def _is_phone(text: str, region: str) -> bool:
    import phonenumbers

    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(text, region)))
    except phonenumbers.NumberParseException:
        return False
