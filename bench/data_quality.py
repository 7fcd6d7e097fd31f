"""What the data filters find of what was planted in real text: copies, near copies and personal data, with precision and recall.

``python -m bench.data_quality [--megabytes 5] [--each 300]``. Personal data is drawn to be valid (checksums,
numbering plans, public addresses) and set into real sentences, as are numbers that only look like it (broken
checksums, private addresses, versions, dates). A redaction is right when it has the right type and takes the
planted text, no more and no less. The abuse filter is measured on labelled text in
``tests/integration/test_abuse_filter.py``.
"""

from __future__ import annotations

import argparse
import ipaddress
import random
import string
from collections.abc import Callable
from typing import NamedTuple

import phonenumbers
from stdnum import luhn

from bench.real_text import WEB, texts
from modelyard.data.filters import duplicates, pii
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.data.filters.pii import PiiConfig
from modelyard.stats.estimate import proportion

COPIES, PERSONAL = DuplicatesConfig.model_validate(WEB["duplicates"]), PiiConfig.model_validate(WEB["pii"])
Draw = Callable[[random.Random], str]


class Kind(NamedTuple):
    """How one kind of personal data is drawn, and what looks like it."""

    valid: Draw
    alike: Draw


def digits(rng: random.Random, form: str) -> str:
    """``form`` with every # a digit and every @ a capital letter."""
    return "".join(rng.choice(string.digits if c == "#" else string.ascii_uppercase) if c in "#@" else c for c in form)


def card(rng: random.Random) -> str:
    """A card number with its check digit."""
    number = rng.choice(("4", "51", "52", "55", "6011"))
    number += digits(rng, "#" * (15 - len(number)))
    number += luhn.calc_check_digit(number)
    return rng.choice((" ", "-", "")).join(number[i : i + 4] for i in range(0, 16, 4))


NATIONAL = {
    "us.ssn": "###-##-####", "kr.rrn": "######-#######", "br.cpf": "###.###.###-##", "es.dni": "########@", "pl.pesel": "###########",
    "se.personnummer": "######-####", "ca.sin": "###-###-###", "cn.ric": "#################X",
}  # fmt: skip


def national(rng: random.Random, valid: bool = True) -> str:
    """A number in the form of one of eight countries whose check is right, or wrong."""
    name = rng.choice(list(NATIONAL))
    while (number := digits(rng, NATIONAL[name])) and pii.checks(name, number) != valid:
        pass
    return number


def phone(rng: random.Random) -> str:
    """A number of its country's plan, written in the international form (or the United States' own)."""
    region = rng.choice(("US", "GB", "DE", "FR", "JP", "BR", "IN"))
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    assert example is not None
    assert example.national_number is not None
    form = phonenumbers.PhoneNumberFormat.NATIONAL if region == "US" else phonenumbers.PhoneNumberFormat.INTERNATIONAL
    while True:
        number = phonenumbers.PhoneNumber(example.country_code, example.national_number // 10_000 * 10_000 + rng.randrange(10_000))
        if phonenumbers.is_valid_number(number):
            return str(phonenumbers.format_number(number, form))


def address(rng: random.Random, public: bool = True) -> str:
    """An IP address, of which one in five is version 6; or a private one."""
    if not public:
        return digits(rng, rng.choice(("192.168.1.##", "10.0.#.1", "127.0.0.1", "999.#.#.#", "1.#.#")))
    while True:
        found = (
            ipaddress.IPv6Address((0x2001 << 112) + rng.getrandbits(112))
            if rng.random() < 0.2
            else ipaddress.IPv4Address(rng.getrandbits(32))
        )
        if found.is_global:
            return str(found)


def wrong_card(rng: random.Random) -> str:
    """A card number whose last digit is another."""
    number = card(rng)
    return f"{number[:-1]}{(int(number[-1]) + 1 + rng.randrange(9)) % 10}"


KINDS = {
    "email": Kind(
        lambda rng: (
            f"{rng.choice(('jane', 'j.doe', 'a_b', 'info+x'))}{rng.randrange(99)}@{rng.choice(('example.org', 'mail.co.uk', 'x-y.net'))}"
        ),
        lambda rng: rng.choice(("user@localhost", "@decorator", "a @ b.com", "x@y", "git@:path")),
    ),
    "ip": Kind(address, lambda rng: address(rng, public=False)),
    "card": Kind(card, wrong_card),
    "national_id": Kind(national, lambda rng: national(rng, valid=False)),
    "phone": Kind(phone, lambda rng: digits(rng, rng.choice(("20##-0#-1#", "1#:3#:4#", "555-####", "v#.##.#", "0.#####", "##,###")))),
}


def personal(documents: list[str], each: int, rng: random.Random) -> None:
    """Print recall and precision for each kind."""
    sentences = [s.strip() for text in documents for s in text.split(". ") if 40 < len(s) < 200 and pii.redact(s, PERSONAL).found == {}]
    for name, kind in KINDS.items():
        right = wrong = 0
        for valid in (True, False):
            for _ in range(each):
                planted = (kind.valid if valid else kind.alike)(rng)
                words = rng.choice(sentences).split(" ")
                at = rng.randrange(1, len(words) + 1)
                before, after = " ".join(words[:at]), " ".join(words[at:])
                redacted = pii.redact(f"{before} {planted} {after}", PERSONAL)
                hit = valid and redacted.text == f"{before} [{name.upper()}] {after}"
                right += hit
                wrong += sum(redacted.found.values()) - hit
        print(f"{name:14s} recall {shown(right, each)}   precision {shown(right, right + wrong)}")


def copies(documents: list[str], rng: random.Random) -> None:
    """Print recall of exact and near copies, and how many of those found name the document they were made from."""
    chosen = rng.sample(range(len(documents)), len(documents) // 10)
    for name, every in (("exact copies", 0), ("1 word in 100", 100), ("1 word in 40", 40), ("1 word in 20", 20)):
        planted = [changed(documents[index], every, rng) for index in chosen]
        material = [*documents, *planted]
        found = duplicates.find([duplicates.exact_key(t) for t in material], duplicates.signatures(material, COPIES), COPIES)
        hits = sum(copy is not None for copy in found[len(documents) :])
        named = sum(copy is not None and copy.original == index for copy, index in zip(found[len(documents) :], chosen, strict=True))
        print(f"{name:14s} recall {shown(hits, len(chosen))}   names the original {shown(named, max(hits, 1))}")


def changed(text: str, every: int, rng: random.Random) -> str:
    """The text with one word in ``every`` another."""
    pieces = text.split(" ")
    for start in range(0, len(pieces), every) if every else ():
        pieces[min(len(pieces) - 1, start + rng.randrange(every))] = rng.choice(("changed", "other", "another"))
    return " ".join(pieces)


def shown(hits: int, n: int) -> str:
    """A share with its interval."""
    found = proportion(hits, n)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}] of {n}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=float, default=5)
    parser.add_argument("--each", type=int, default=300)
    options = parser.parse_args()
    documents, rng = texts(options.megabytes), random.Random(0)
    copies(documents, rng)
    personal(documents, options.each, rng)


if __name__ == "__main__":
    main()
