# ruff: noqa: RUF001
"""What the personal-data filter finds in eight languages of five scripts: recall and precision by kind, on planted data.

``python -m bench.personal_data [--each 200] [--seed 0] [--megabytes 6]``. Personal data is drawn to be valid (check
digits, numbering plans of the language's country, public addresses) and set into sentences as that language sets it:
without a space in Japanese and Chinese, before a particle in Korean. Beside it stand as many numbers and names that only
look like it: wrong check digits, private addresses, versions, dates, files. A redaction is right when it has the right
type and takes the planted text, no more and no less. Documents declare no language. Then the filter's processor time a
megabyte of English text and of code.
"""

from __future__ import annotations

import ipaddress
import random
import string
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType
from stdnum import luhn, verhoeff
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.fr import nir
from stdnum.jp import in_ as my_number
from stdnum.kr import rrn
from stdnum.ru import inn

from bench.program import program
from bench.real_text import WEB, texts
from modelyard.data.filters import pii
from modelyard.data.filters.pii import PiiConfig, PiiKind
from modelyard.data.filters.regions import COUNTRIES
from modelyard.model.network import processor
from modelyard.stats.estimate import proportion

CONFIG = PiiConfig.model_validate(WEB["pii"])
Draw = Callable[[random.Random], str]


class Language(NamedTuple):
    """Sentences around ``{}``, and what its country gives people for a number."""

    sentences: tuple[str, ...]
    version: str
    """Says that what follows is a release."""
    identity: Draw


class Tally(NamedTuple):
    """What came of one kind in one language."""

    right: int
    wrong: int
    planted: int


def digits(rng: random.Random, form: str) -> str:
    """``form`` with every # a digit."""
    return "".join(rng.choice(string.digits) if c == "#" else c for c in form)


def date(rng: random.Random, form: str = "{:02}{:02}{:02}") -> str:
    """Year, month and day of a birthday."""
    return form.format(rng.randrange(1950, 2000) % (10_000 if "4" in form else 100), rng.randrange(1, 13), rng.randrange(1, 29))


def korean(rng: random.Random) -> str:
    """A resident registration number."""
    number = date(rng) + rng.choice("12") + digits(rng, "00###")
    return f"{number[:6]}-{number[6:]}{rrn.calc_check_digit(number)}"


def chinese(rng: random.Random) -> str:
    """A resident identity number of Beijing or Shanghai."""
    number = rng.choice(("110105", "110108", "310101")) + date(rng, "{:04}{:02}{:02}") + digits(rng, "###")
    return number + str(ric.calc_check_digit(number + "0"))


def french(rng: random.Random) -> str:
    """A social security number."""
    number = rng.choice("12") + date(rng, "{:02}{:02}") + "75" + digits(rng, "###0#1")
    number += str(nir.calc_check_digits(number))
    return rng.choice((number, nir.format(number)))


def german(rng: random.Random) -> str:
    """A tax number of a person."""
    while True:
        number = rng.choice("123456789") + digits(rng, "##########")
        if idnr.is_valid(number):
            return rng.choice((number, idnr.format(number)))


def japanese(rng: random.Random) -> str:
    """My Number."""
    number = digits(rng, "###########")
    number += my_number.calc_check_digit(number)
    return rng.choice(("", " ", "-")).join(number[i : i + 4] for i in (0, 4, 8))


def russian(rng: random.Random) -> str:
    """A taxpayer's number."""
    while True:
        number = digits(rng, "77##########")
        if inn.is_valid(number):
            return number


def indian(rng: random.Random) -> str:
    """Aadhaar."""
    number = rng.choice("23456789") + digits(rng, "##########")
    number += verhoeff.calc_check_digit(number)
    return rng.choice(("", " ")).join(number[i : i + 4] for i in (0, 4, 8))


def american(rng: random.Random) -> str:
    """A social security number."""
    return f"{rng.randrange(1, 666):03}-{rng.randrange(1, 100):02}-{rng.randrange(1, 10_000):04}"


LANGUAGES = {
    "en": Language(("You can reach the office through {} until Friday.", "She wrote {} on the back of the form."), "version ", american),
    "de": Language(("Sie erreichen das Büro bis Freitag unter {} ohne Anmeldung.", "Auf der Rückseite stand {} mit Bleistift."), "Version ", german),
    "fr": Language(("Vous pouvez joindre le bureau au {} jusqu'à vendredi.", "Elle avait écrit {} au dos du formulaire."), "version ", french),
    "ru": Language(("До пятницы связаться с бюро можно так: {} или лично.", "На обороте анкеты она написала {} карандашом."), "версия ", russian),
    "hi": Language(("शुक्रवार तक कार्यालय से {} पर संपर्क किया जा सकता है।", "उसने फ़ॉर्म के पीछे {} लिख दिया था।"), "संस्करण ", indian),
    "ja": Language(("金曜日までは{}で事務所に連絡できます。", "用紙の裏に{}と書いてありました。"), "バージョン", japanese),
    "ko": Language(("금요일까지는 {}로 사무실에 연락하세요.", "양식 뒷면에 {}라고 적혀 있었습니다."), "버전 ", korean),
    "zh": Language(("星期五之前请用{}联系办公室。", "表格背面写着{}这几个字。"), "版本", chinese),
}  # fmt: skip


def mail(rng: random.Random) -> str:
    """A mail address."""
    name = rng.choice(("jane", "j.doe", "a_b", "info+x")) + str(rng.randrange(99))
    return f"{name}@{rng.choice(('example.org', 'mail.example.co.uk', 'x-y.net', 'post.example.co.jp'))}"


def no_mail(rng: random.Random) -> str:
    """A name with an at sign."""
    forms = ("user@localhost", "@decorator", "x@y", "git@github.com", "icon@2x.png", "button@3x.webp", "left-pad@1.3.0", "logo@large.svg")
    return rng.choice(forms)


def address(rng: random.Random) -> str:
    """A public IP address, one in five of version 6."""
    while True:
        six = ipaddress.IPv6Address((0x2001 << 112) + rng.getrandbits(112))
        found = six if rng.random() < 0.2 else ipaddress.IPv4Address(rng.getrandbits(32))
        if found.is_global and not found.is_multicast:
            return str(found)


def card(rng: random.Random) -> str:
    """A card number."""
    number = rng.choice(("4", "51", "52", "55", "6011"))
    number += digits(rng, "#" * (15 - len(number)))
    number += luhn.calc_check_digit(number)
    return rng.choice((" ", "-", "")).join(number[i : i + 4] for i in range(0, 16, 4))


def phone(rng: random.Random, region: str) -> str:
    """A number of a country's plan, for mobile phones or not, in its own form or the international one."""
    wanted = rng.choice((PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE))
    example = phonenumbers.example_number_for_type(region, wanted)
    assert example is not None
    assert example.national_number is not None
    while True:
        number = phonenumbers.PhoneNumber(example.country_code, example.national_number // 10_000 * 10_000 + rng.randrange(10_000))
        if phonenumbers.is_valid_number(number):
            form = rng.choice((PhoneNumberFormat.NATIONAL, PhoneNumberFormat.NATIONAL, PhoneNumberFormat.INTERNATIONAL))
            return str(phonenumbers.format_number(number, form))


def changed(number: str, rng: random.Random) -> str:
    """The number with another last digit."""
    return f"{number[:-1]}{(int(number[-1]) + 1 + rng.randrange(8)) % 10}" if number[-1].isdigit() else number[:-1] + "0"


def kinds(code: str) -> dict[PiiKind, tuple[Draw, Draw]]:
    """Kind -> what is drawn, and what only looks like it, in one language."""
    language, region = LANGUAGES[code], COUNTRIES.get(code, CONFIG.region)
    dates = ("20##-0#-1#", "1#.0#.19##", "0#/1#/20##", "1#:3#:4#", "0.#####", "##,###", "978-3-16-14####-0", "19##-20##", "3.14159#####")
    unissued = ("000-##-####", "666-##-####", "9##-##-####")  # of the United States, whose number has no check digit
    return {
        "email": (mail, no_mail),
        "ip": (
            address,
            lambda rng: rng.choice(
                (digits(rng, "192.168.1.##"), digits(rng, "10.0.#.1"), digits(rng, "1.##.1.0"), language.version + digits(rng, "4.#.1#.2#"))
            ),
        ),
        "card": (card, lambda rng: changed(card(rng), rng)),
        "national_id": (
            language.identity,
            lambda rng: digits(rng, rng.choice(unissued)) if code == "en" else changed(language.identity(rng), rng),
        ),
        "phone": (lambda rng: phone(rng, region), lambda rng: digits(rng, rng.choice(dates))),
    }


def measured(each: int, seed: int) -> Iterator[tuple[str, PiiKind, Tally]]:
    """Language, kind and result."""
    for code, language in LANGUAGES.items():
        for kind, (valid, alike) in kinds(code).items():
            rng, right, wrong = random.Random(f"{seed} {code} {kind}"), 0, 0
            for real in [True, False] * each:
                before, after = rng.choice(language.sentences).split("{}")
                redacted = pii.redact(before + (valid if real else alike)(rng) + after, CONFIG)
                hit = real and redacted.text == f"{before}[{kind.upper()}]{after}"
                right += hit
                wrong += sum(redacted.found.values()) - hit
            yield code, kind, Tally(right, wrong, each)


def seconds(documents: list[str]) -> float:
    """Processor seconds a megabyte, the better of two runs."""
    size, best = sum(len(text.encode()) for text in documents) / 1e6, float("inf")
    for _ in range(2):
        started = time.process_time()
        for text in documents:
            pii.redact(text, CONFIG, "en")
        best = min(best, time.process_time() - started)
    return best / size


def main(
    each: int = 200,
    seed: int = 0,
    megabytes: float = 6.0,
) -> None:
    """Measure and print."""
    print("language kind          recall                       precision")
    for code, kind, (right, wrong, planted) in measured(each, seed):
        print(f"{code:8s} {kind:13s} {shown(right, planted):28s} {shown(right, right + wrong)}")
    print(processor.description())
    code_files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    print(f"English text: {1e3 * seconds(texts(megabytes)):.0f} CPU ms/MB")
    print(f"Python code: {1e3 * seconds([path.read_text('utf-8') for path in code_files]):.0f} CPU ms/MB")


def shown(hits: int, n: int) -> str:
    """A share with its interval."""
    found = proportion(hits, max(n, 1))
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    sys.exit(program(main))
