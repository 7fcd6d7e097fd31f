"""The letter that a reply settles on among lettered options, and the phrase that follows ``the answer is``.

A reply that opens with one option and then says that the answer is another means the other. One that names no option, or several, has no
letter: GPT-Fathom (arXiv:2309.16583, section 3.3) counts it wrong. Left out: options named by their text.
"""

from __future__ import annotations

import re

from modelyard.evals.answers.spelling import boxed, plain

BARE = r"(?:[B-HJ-M](?![A-Za-z'\u2019])|[AI](?=\s*(?:$|[.,;:!?)\]/&\n\u3002\u3001]|-\s|(?:because|since|as|and|or|for)\b|[^\x00-\x7f])))"
"""A letter that stands for an option: ``A cat`` and ``I think`` are none."""
OPTION = rf"(?:[(\[{{]\s*(?P<held>[A-Ma-m])\s*[)\]}}]|[\"'\u201c\u2018]?(?P<bare>{BARE}))"
"""A letter in brackets or by itself."""
NEXT = re.compile(
    rf"[)\]\"'\u201d\u2019]?\s*(?:,|/|&|\bor\b|\band\b|\bor\s+else\b|\u6216\u8005?|\u548c|\u307e\u305f\u306f|\u304b|\u3001)\s*"
    rf"(?:\boption\s+)?{OPTION}",
    re.I,
)
"""A second option beside the first."""
LEADING = re.compile(
    rf"\s*{OPTION}(?=\s*(?:$|\n|\.(?![a-z])|[):,;!?\u3002\u3001\]]|-\s|[^\x00-\x7f]|(?:because|since|and|or)\b)|(?<=[)\]}}]))"
)
IS = r"(?:\s*(?:is|are|would\s+be|should\s+be|must\s+be|ist|lautet|est|es|:|=))*\s*(?:(?:option|choice|letter)\s*)?:?\s*"
ANSWERS = re.compile(
    rf"(?:\banswer(?=\s*(?:is|:|=|would|should|must|[(\[]))|\bAntwort|\br\u00e9ponse|\brespuesta){IS}{OPTION}"
    rf"|(?:\u7b54\u6848|\u6b63\u786e\u9009\u9879|\u7b54\u3048|\u6b63\u89e3|\uc815\ub2f5|\ub2f5)\s*(?:\u5e94\u8be5|\u5e94)?\s*"
    rf"(?:\u662f|\u4e3a|\u9009|\u306f|\uc740|:)?\s*:?\s*{OPTION.replace('held', 'held2').replace('bare', 'bare2')}"
    rf"|\u9009(?:\u62e9|\u9879)?\s*:?\s*{OPTION.replace('held', 'held3').replace('bare', 'bare3')}",
    re.I,
)
"""A sentence that gives the answer, in English, German, French, Spanish, Chinese, Japanese and Korean."""
NAMES = re.compile(rf"\b(?:choice|option)\s*(?:is|:)?\s*{OPTION}", re.I)
LAST_LINE = re.compile(rf"\n\s*{OPTION}[.\u3002]?\s*$")
NEXT_QUESTION = re.compile(r"\n\s*(?:Question|Q)\b")
"""Where a model goes on with a question of its own, whose answer is none to the one that was asked."""
STATED = re.compile(r"the answer is\s*:?\s*(.+?)(?:\.(?:\s|$)|\n|$)", re.I)


def letter(output: str) -> str:
    r"""The one option that a reply names: ``B``, ``**(B)**``, ``\boxed{B}``, ``answer is (B)``, ``\u7b54\u6848\uff1aB``; "" for none or several."""
    text = plain(output).strip()
    if (inside := boxed(text)) is not None:
        alone = re.fullmatch(OPTION, inside.strip())
        return named(alone) if alone else ""
    text = text.replace("$", "")
    if match := LEADING.match(text):
        said = [one for one in ANSWERS.finditer(NEXT_QUESTION.split(text)[0]) if proper(one)]
        rejected = said and named(match) not in {named(one) for one in said}
        return only(said if rejected else [match], text)
    for pattern in (ANSWERS, NAMES, LAST_LINE):
        if found := [match for match in pattern.finditer(text) if proper(match)]:
            return only(found, text)
    return ""


def only(found: list[re.Match[str]], text: str) -> str:
    """The letter that all matches name; "" where they differ or one of them goes on to a second option."""
    letters = {named(match) for match in found}
    several = any((more := NEXT.match(text, match.end())) and proper(more) for match in found)
    return letters.pop() if len(letters) == 1 and not several else ""


def named(match: re.Match[str]) -> str:
    """The letter of a match, upper case."""
    return next(value for key, value in match.groupdict().items() if value).upper()


def proper(match: re.Match[str]) -> bool:
    """Whether a bare letter is a capital: patterns ignore case for their words, and ``the answer is a cat`` names no option."""
    return all(value.isupper() for key, value in match.groupdict().items() if value and key.startswith("bare"))


def stated_answer(output: str) -> str:
    """What follows the first ``the answer is``, up to the end of the sentence (BBH's chain-of-thought format); "" without it."""
    match = STATED.search(output.replace("**", ""))
    return match.group(1).strip().removesuffix(".") if match else ""
