"""The number that a worked solution ends in, written as people write numbers.

Thousands may be set apart by commas, points, spaces or apostrophes, in threes or in India's twos; digits may be of any
script; currencies, units and scales (``million``, ``\u4e07``) stand beside them. One point before exactly three digits is
1.45 in English and 1450 in German: it is left as written, and the scorer reads it in the benchmark's language
(:func:`same_number`, :func:`same_number_grouped`). A comma before three digits is a thousand everywhere. A power
(``10^3``, ``5 \u00d7 10^3``, ``1e3``) is what it comes to. Left out: numbers in words, times of the day.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from modelyard.judges.replies.phrases import ASIAN, OR, OTHERS, ROMANCE, ROMANCE_IS
from modelyard.judges.replies.spelling import bold, boxed, plain

CURRENCY = r"(?:[A-Z]{0,2}[$\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd\u0e3f]|USD|EUR|GBP|INR|Rs\.?)"
TOKEN = re.compile(
    rf"(?<![A-Za-z\d^])(?<!\d[.,])(?<!\^[-{{(])(?<!\^[{{(]-)(?P<sign>-?)(?:{CURRENCY}\s?(?P<after>-?))?"
    r"(?P<digits>\d{1,3}(?:[ '\u2019]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)*|(?<![.\d])\.\d+)"
    r"(?P<power>\s*(?:[\u00d7x\u00b7]\s*10\s?)?\^\s?[{(]?(?P<exponent>-?\d+)?[})]?(?P<tower>\s?\^)?"
    r"|[eE](?P<tens>[-+]?\d+)(?![A-Za-z\d])|\s?[)}]\s?\^)?"
)
"""A number in :func:`plain <modelyard.judges.replies.spelling.plain>` text: no part of a word, of a range, of another number or an exponent."""
LONGEST_POWER = 27
"""Digits of a power that is evaluated."""
SCALE = re.compile(r"\s?(?:thousand|million|billion|mio|mrd)\b|(?-i:k)\b|(?P<asian>[\u5343\u4e07\u842c\u4ebf\u5104])", re.I)
SCALES = {
    "k": 3,
    "thousand": 3,
    "million": 6,
    "mio": 6,
    "billion": 9,
    "mrd": 9,
    "\u5343": 3,
    "\u4e07": 4,
    "\u842c": 4,
    "\u4ebf": 8,
    "\u5104": 8,
}
SCALED = re.compile(r"\d[\u5343\u4e07\u842c\u4ebf\u5104]")
"""What stands before the rest of a number: ``7\u4e075000``."""
FRACTION = re.compile(r"(?P<sign>-?)\$?(?:(?P<whole>\d+)\s+)?(?P<top>\d+)\s?[/\u2044]\s?(?P<bottom>[1-9]\d*)(?![\d/]|\.\d)")
UNIT = r"[\s(){}]*(?:[A-Za-z%]+[\s(){}]*)?"
SUM = re.compile(rf"{UNIT}(?:[-+/\u00d7\u00f7\u00b7x^]\s*[({{$\u20ac\u00a3]*[\d.,]+{UNIT})+=\s*")
"""From a number to the equals sign of the sum that it begins: operators, numbers and their units."""
EITHER = re.compile(rf"\s*(?:{OR})\s*", re.I)
SAYS = re.compile(
    r"(?:\banswer(?:\s+(?:to|for)\s[^.\n]{1,80}?)?\s+(?:is|would\s+be)|\bAntwort\s+(?:ist|lautet)|\bJibu\s+ni"
    rf"|\b(?:{ROMANCE})\s+(?:{ROMANCE_IS})\b|\b(?:\u0111\u00e1p\s+\u00e1n|c\u00e2u\s+tr\u1ea3\s+l\u1eddi)(?:\s+\u0111\u00fang)?\s+l\u00e0"
    r"|\b\u043e\u0442\u0432\u0435\u0442\s*[-\u2014\u2013]|\u7b54\u6848\s*(?:\u662f|\u4e3a|\u70ba)|\u7b54\u3048\u306f"
    r"|\u0989\u09a4\u09cd\u09a4\u09b0\s+\u09b9\u09b2"
    r"|\u0c38\u0c2e\u0c3e\u0c27\u0c3e\u0c28\u0c02(?=\s+\d)|\u0e04\u0e4d\u0e32\u0e15\u0e2d\u0e1a\u0e04\u0e37\u0e2d)\s*:?\s*",
    re.I,
)
"""A sentence that gives the answer, in English, in the languages of MGSM and in others."""
LABELS = re.compile(
    rf"(?:\banswer|\bAntwort|\b(?:{ROMANCE})|{ASIAN}|{OTHERS})\s*[:=]\s*"
    r"(?=-?[A-Z]{0,2}[$\u20ac\u00a3\u00a5\u20b9]?-?\s?\.?\d)",
    re.I,
)
"""``Answer:`` and the number at once; what follows the colon may else be the working."""
SENTENCE_END = re.compile(r"[.!?](?!\d)|[\u3002\u0964\n]")
MARKED = re.compile(rf"####\s*(?=-?{CURRENCY}?\s?-?[\d.,]*\d(?![.):]\s))")
"""GSM8K's mark and a number at once; a heading (``#### Step 2``, ``#### 2. Add``) is none."""
EMPHASIS = re.compile(rf"(?:^|:\s+|[=\u2248]\s*)((?!\d+[.):](?:\s|$)|\S*\d-\d)-?(?:{CURRENCY}\s?)?-?\.?\d[^:=]*(?:=.*)?)$")
GROUPED = re.compile(r"-?[1-9]\d{0,2}\.\d{3}")


def final_number(output: str) -> str:
    r"""The number that a reply settles on, as digits with at most a point; "" when there is none, or when it says one or another.

    In this order: after the first ``####``, in the last ``\boxed{}``, in the last sentence or after the last label that
    gives the answer, the only number in bold, and else the last number of all.
    """
    text = plain(output)
    if (marked := MARKED.search(text)) and (number := stated(text[marked.end() :].split("\n")[0])) is not None:
        return number
    if (inside := boxed(text)) is not None and (number := stated(inside)) is not None:
        return number
    text = text.replace("\\boxed{", "")
    if said := [*SAYS.finditer(text), *LABELS.finditer(text)]:
        after = text[max(match.end() for match in said) :]
        if end := SENTENCE_END.search(after):
            after = after[: end.start()]
        if (number := stated(after)) is not None:
            return number
    if (number := emphasised(output)) is not None:
        return number
    begun = [match for match in TOKEN.finditer(text) if not SCALED.fullmatch(text[max(0, match.start() - 2) : match.start()])]
    values = [value for match in begun if (value := amount(text, match)) is not None]
    return values[-1] if values else ""


def emphasised(output: str) -> str | None:
    """The number that bold phrases begin with, or end in after ``=`` or a colon; None where there is none, or more than one.

    A list's marks (``**1. Add**``) and headings (``**Step 1**``) are no numbers of an answer.
    """
    found = {number for phrase in bold(output) if (text := EMPHASIS.search(plain(phrase))) and (number := stated(text[1])) is not None}
    return found.pop() if len(found) == 1 else None


def stated(phrase: str) -> str | None:
    """The number of a phrase that gives the answer: its first, or what its sum comes to; "" for one or another, None for none."""
    match = next((match for match in TOKEN.finditer(phrase) if amount(phrase, match) is not None), None)
    if match is None:
        return None
    while (through := SUM.match(phrase, match.end())) and (result := TOKEN.match(phrase, through.end())):
        match = result
    if (either := EITHER.match(phrase, match.end())) and either.group().strip() and TOKEN.match(phrase, either.end()):
        return ""
    if fraction := FRACTION.match(phrase, match.start()):
        return of_fraction(fraction)
    return amount(phrase, match)


def of_fraction(match: re.Match[str]) -> str:
    """``2 1/2`` -> ``2.5``; ``1/3``, which no decimal equals, as ``1/3``."""
    value = Fraction(int(match["whole"] or 0)) + Fraction(int(match["top"]), int(match["bottom"]))
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    spelled = shortest(Decimal(value.numerator) / Decimal(value.denominator)) if rest == 1 else str(value)
    return f"{match['sign']}{spelled}"


def amount(text: str, match: re.Match[str]) -> str | None:
    """The number of a match with the scales that follow it (``7\u4e075000`` is 75000); None where its digits are no number."""
    digits = read(match["digits"])
    if digits is not None and match["power"]:
        digits = raised(digits, match)
    if digits is None:
        return None
    sign = "-" if "-" in (match["sign"], match["after"]) else ""
    scale = SCALE.match(text, match.end())
    if scale is None:
        return sign + digits
    total = Decimal(digits).scaleb(SCALES[scale.group().strip().lower()])
    rest = TOKEN.match(text, scale.end()) if scale["asian"] else None
    more = amount(text, rest) if rest and not rest["sign"] else None
    return sign + shortest(total + Decimal(more or 0))


def raised(digits: str, match: re.Match[str]) -> str | None:
    """What a power comes to; None where the exponent is no number or the power is too long to be an answer."""
    exponent = match["exponent"] or match["tens"]
    if exponent is None or match["tower"] or len(digits) > LONGEST_POWER or abs(int(exponent)) > LONGEST_POWER:
        return None
    if match["tens"] or "10" in match["power"].partition("^")[0] or digits == "10":
        return shortest(Decimal(1 if digits == "10" and match["power"].lstrip()[0] == "^" else digits).scaleb(int(exponent)))
    if int(exponent) < 0 or len(digits) * int(exponent) > LONGEST_POWER:
        return None
    return shortest(Decimal(digits) ** int(exponent))


def read(digits: str) -> str | None:
    """Digits and separators as one number: ``1,234.50`` and ``1.234,50`` -> ``1234.5``; None for a list or a date."""
    bare = re.sub(r"[ '\u2019]", "", digits)
    if bare != digits:
        return shortest(Decimal(bare.replace(",", ".")))
    points, commas = bare.count("."), bare.count(",")
    if points and commas:
        decimal, group = (".", ",") if bare.rfind(".") > bare.rfind(",") else (",", ".")
        whole, _, part = bare.rpartition(decimal)
        return shortest(Decimal(f"{whole.replace(group, '')}.{part}")) if in_groups(whole, group) else None
    if commas and in_groups(bare, ","):
        return shortest(Decimal(bare.replace(",", "")))
    if points > 1:
        return shortest(Decimal(bare.replace(".", ""))) if in_groups(bare, ".") else None
    if commas > 1:
        return None
    return bare if GROUPED.fullmatch(bare) else shortest(Decimal(bare.replace(",", ".")))


def in_groups(digits: str, separator: str) -> bool:
    """Whether the separator sets thousands apart: threes, or India's twos before the last three."""
    three = rf"[1-9]\d{{0,2}}(?:{re.escape(separator)}\d{{3}})+"
    return bool(re.fullmatch(rf"{three}|[1-9]\d?(?:,\d\d)+,\d{{3}}", digits))


def shortest(value: Decimal) -> str:
    """Without trailing zeros and exponent; ``-0`` is ``0``."""
    return format(value.normalize() + 0, "f")


def same_number(parsed: str, target: str) -> float:
    """1.0 when both are the same number, points before decimals (English, Chinese, Japanese, Swahili, Thai, Hindi)."""
    return float(bool(parsed) and canonical(parsed) == canonical(target.replace(",", "")))


def same_number_grouped(parsed: str, target: str) -> float:
    """:func:`same_number` where a point before three digits sets thousands apart (German, Spanish, French, Russian)."""
    return same_number(parsed.replace(".", "") if GROUPED.fullmatch(parsed) else parsed, target)


def canonical(number: str) -> str:
    """``70.000`` -> ``70``; what is no decimal number (a fraction) as it is."""
    bare = number.strip().replace("$", "")
    return shortest(Decimal(bare)) if re.fullmatch(r"-?\d*\.?\d+|-?\d+\.", bare) else bare
