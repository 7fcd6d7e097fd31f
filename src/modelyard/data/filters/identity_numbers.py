"""National identity numbers: forms they are written in, and python-stdnum's check digits to decide.

A form with separators or letters of its own is looked for in every text. A bare run of digits, or one that looks like
something else, is looked for where the text is of that country, as one in ten or eleven of any such runs has a right
check digit. Left out: numbers without a check (passports, driving licences) and the numbers of companies.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from typing import NamedTuple

_FOURS = r"(?<!\d )\d{4} \d{4} \d{4}(?! \d)"
"""Twelve digits in groups that are not part of a card's sixteen."""
FORMS: tuple[tuple[str, str], ...] = (
    ("us.ssn", r"\d{3}-\d{2}-\d{4}"),
    ("kr.rrn", r"\d{6}-\d{7}"),
    ("cn.ric", r"\d{17}[\dXx]"),
    ("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
    ("es.dni", r"\d{8}-?[A-Z]"),
    ("es.nie", r"[XYZ]-?\d{7}-?[A-Z]"),
    ("it.codicefiscale", r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]"),
    ("mx.curp", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d"),
    ("fr.nir", r"[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}"),
    ("pl.pesel", r"\d{11}"),
    ("de.idnr", r"\d{2} \d{3} \d{3} \d{3}"),
    ("se.personnummer", r"\d{6}[-+]\d{4}"),
    ("fi.hetu", r"\d{6}[-+A]\d{3}[0-9A-Y]"),
    ("be.nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"),
    ("ch.ssn", r"756\.\d{4}\.\d{4}\.\d{2}"),
    ("cz.rc", r"\d{6}/\d{4}"),
    ("cl.rut", r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]"),
    ("th.pin", r"\d-\d{4}-\d{5}-\d{2}-\d"),
    ("in_.aadhaar", _FOURS),
    ("ca.sin", r"\d{3}[- ]\d{3}[- ]\d{3}"),
    ("iban", r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?"),
)
"""(module of python-stdnum, form) in any text."""
REGIONAL: tuple[tuple[str, str, str], ...] = (
    ("AR", "ar.cuit", r"\d{2}-\d{8}-\d"),
    ("BG", "bg.egn", r"\d{10}"),
    ("BR", "br.cpf", r"\d{11}"),
    ("CZ", "cz.rc", r"\d{10}"),
    ("DE", "de.idnr", r"\d{11}"),
    ("DK", "dk.cpr", r"\d{6}-\d{4}"),
    ("EE", "ee.ik", r"\d{11}"),
    ("GB", "gb.nhs", r"\d{3} \d{3} \d{4}"),
    ("GR", "gr.amka", r"\d{11}"),
    ("HR", "hr.oib", r"\d{11}"),
    ("IL", "il.idnr", r"\d{9}"),
    ("IN", "in_.aadhaar", r"\d{4}-\d{4}-\d{4}|\d{12}"),
    ("JP", "jp.in_", r"\d{12}|\d{4}-\d{4}-\d{4}|" + _FOURS),
    ("KR", "kr.rrn", r"\d{13}"),
    ("LT", "lt.asmens", r"\d{11}"),
    ("NL", "nl.bsn", r"\d{9}"),
    ("NO", "no.fodselsnummer", r"\d{6} ?\d{5}"),
    ("RO", "ro.cnp", r"\d{13}"),
    ("RU", "ru.inn", r"\d{12}"),
    ("TH", "th.pin", r"\d{13}"),
    ("TR", "tr.tckimlik", r"\d{11}"),
    ("UA", "ua.rntrc", r"\d{10}"),
    ("ZA", "za.idnr", r"\d{13}"),
)
"""(country, module, form) in texts of that country."""
_MINUTE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d")
"""A date and time of day in twelve digits, which is not read as a person's number."""


class Form(NamedTuple):
    """One country's number as it is written."""

    module: str
    pattern: re.Pattern[str]


class Forms(NamedTuple):
    """What is looked for in texts of some countries."""

    any: re.Pattern[str]
    """The forms as one alternation, not bounded by what stands beside."""
    each: tuple[Form, ...]


@cache
def forms(regions: tuple[str, ...]) -> Forms:
    """The forms of every text and those of some countries."""
    named = [*FORMS, *((module, form) for country, module, form in REGIONAL if country in regions)]
    return Forms(
        re.compile(r"(?<![\w.-])(?:" + "|".join(form for _, form in named) + r")(?![\w-]|\.\d)", re.ASCII),
        tuple(Form(module, re.compile(form, re.ASCII)) for module, form in named),
    )


def is_identity(text: str, regions: tuple[str, ...]) -> bool:
    """Whether a match of :func:`forms` is a number that its country could have given.

    Forms overlap (a Canadian number looks like the start of a German one), so every form is asked.
    """
    if _MINUTE.fullmatch(text):
        return False
    return any(form.pattern.fullmatch(text) and checks(form.module, text) for form in forms(regions).each)


def checks(name: str, text: str) -> bool:
    """Whether python-stdnum's module ``name`` takes the number for one that exists."""
    try:
        return bool(import_module(f"stdnum.{name}").is_valid(text))
    except LookupError:  # python-stdnum 2.2's cn.ric, for a place that its table has without counties
        return False
