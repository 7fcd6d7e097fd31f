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
HELD, ALONE = r"[(\[{]\s*(?P<held>[A-Ma-m])\s*[)\]}]", r"(?P<bare>[A-M])(?![A-Za-z'\u2019])"
CONNECTED = r"(?:,|/|&|\b(?:or|and|else|possibly|perhaps|maybe|probably|likely|even|also)\b|\u6216\u8005?|\u548c|\u307e\u305f\u306f|\u304b|\u3001)\s*"
NEXT = re.compile(rf"[)\]\"'\u201d\u2019]?\s*(?:{CONNECTED})+(?:\boption\s+)?{OPTION}", re.I)
"""A second option beside the first."""
LEADING = re.compile(
    rf"\s*{OPTION}(?=\s*(?:$|\n|\.(?![a-z])|[):,;!?\u3002\u3001\]]|-\s|[^\x00-\x7f]|(?:because|since|and|or)\b)|(?<=[)\]}}]))"
)
IS = (
    r"(?:\s*(?:(?:is|are|would\s+be|should\s+be|must\s+be|ist|lautet|est|es|\u00e9|\u00e8)\b|[-:=\u2014\u2013]))*"
    r"\s*(?:(?:option|choice|letter|opci\u00f3n|lettre|letra)\s*)?:?\s*"
)
ARTICLE = r"(?:\s*(?:est|es|\u00e9|\u00e8)\s+(?-i:la|le|a)\b)?"
"""Before a letter in Romance languages; in English ``a C major chord`` names no option."""
ANSWERS = re.compile(
    rf"(?:\banswer(?=\s*(?:is|:|=|would|should|must|[(\[]))|\bAntwort"
    rf"|(?:\br\u00e9ponse(?:\s+(?:correcte|exacte|finale))?|\brespuesta(?:\s+(?:correcta|final))?|\bresposta(?:\s+(?:correta|certa|final))?"
    rf"|\brisposta(?:\s+(?:corretta|esatta|finale))?){ARTICLE}){IS}{OPTION}"
    rf"|(?:\u7b54\u6848|\u6b63\u786e\u9009\u9879|\u7b54\u3048|\u6b63\u89e3|\uc815\ub2f5|\ub2f5)\s*(?:\u5e94\u8be5|\u5e94)?\s*"
    rf"(?:\u662f|\u4e3a|\u9009|\u306f|\uc740|:)?\s*:?\s*{OPTION.replace('held', 'held2').replace('bare', 'bare2')}"
    rf"|\u9009(?:\u62e9|\u9879)?\s*:?\s*{OPTION.replace('held', 'held3').replace('bare', 'bare3')}"
    rf"|(?:\b\u043e\u0442\u0432\u0435\u0442|\bJibu(?:\s+sahihi)?(?:\s+ni)?|\u0989\u09a4\u09cd\u09a4\u09b0(?:\s+\u09b9\u09b2\u09cb?)?"
    rf"|\u0c38\u0c2e\u0c3e\u0c27\u0c3e\u0c28\u0c02|\u0e04\u0e4d\u0e32\u0e15\u0e2d\u0e1a(?:\u0e04\u0e37\u0e2d)?"
    rf"|(?:\u0627\u0644\u0625\u062c\u0627\u0628\u0629|\u0627\u0644\u062c\u0648\u0627\u0628)(?:\s+\u0627\u0644\u0635\u062d\u064a\u062d\u0629?)?"
    rf"(?:\s+\u0647[\u064a\u0648])?)\s*[-:=\u2014\u2013]*\s*{OPTION.replace('held', 'held4').replace('bare', 'bare4')}",
    re.I,
)
"""A sentence that gives the answer: English, German, French, Spanish, Portuguese, Italian, Chinese, Japanese, Korean, Russian, Swahili, Bengali,
Telugu, Thai and Arabic."""
SAID = r"option|choice|answer|letter|that|so|then|thus|hence|therefore|and|but|while|whereas|because|since|think|believe|say|only"
RIGHT = re.compile(
    rf"(?:^|[.,;:!?\n(\u2014\u2013-]|\b(?:{SAID})\b)\s*[\"'\u201c\u2018]?(?:{HELD}|\b{ALONE})[\"'\u201d\u2019]?\s+(?:is|would\s+be|must\s+be)\s+(?:the\s+)?"
    rf"(?:right|correct|best)(?=\s*(?:$|[.,;:!)\n]|(?:answer|choice|option|one|here|because|since|as|and|but|while)\b))",
    re.I,
)
"""A sentence, or one after the words above, that says that an option is right: ``Vitamin D is best`` names none."""
WRONG = re.compile(
    r"[\"'\u201d\u2019]?\s*(?:(?:is\s+not|isn['\u2019]t)\s+(?:the\s+)?(?:right|correct|true|best|valid|answer|it\b(?!\s*\?))"
    r"|(?:is|looks|seems)\s+(?:clearly\s+|also\s+)?(?:wrong|incorrect|false))\b",
    re.I,
)
"""What follows an option that is turned down; ``is not affected`` may be what the option says."""
SETTLED = re.compile(
    rf"(?:\bit(?:['\u2019]s|\s+is)|\bI(?:['\u2019](?:d|ll|m)|\s+(?:would|will|am))?\s+(?:choose|pick|select|take|say|guess|(?:go(?:ing)?|went)\s+with|opt\s+for)"
    rf"|\b(?:hence|therefore|thus|so)(?:,?\s+it(?:['\u2019]s|\s+is))?[,:]?)\s+(?:option\s+|choice\s+|letter\s+)?{OPTION}"
    rf"(?=\s*(?:$|\.(?!\s?(?-i:[a-z]))|[,;:!)\n]|(?:because|since|as|or|and)\b))",
    re.I,
)
"""What a reply settles on in other words: ``It's C.``, ``I would go with (C)``, ``Hence (D).``"""
CLAUSE = re.compile(r"[.,;:!?\n]")
SUPPOSED = re.compile(r"\b(?:if|unless|whether|supposing|suppose|assuming|assume|neither|nor|both|either)\b|\b[A-M]\s+and\s*$", re.I)
"""What stands before an option, in the same clause, that is not said to be right, or not alone."""
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
    if (match := LEADING.match(text)) and not (match["held"] and WRONG.match(text, match.end())):
        said = named_by(ANSWERS, NEXT_QUESTION.split(text)[0])
        rejected = said and named(match) not in {named(one) for one in said}
        return only(said if rejected else [match], text)
    for patterns in ((ANSWERS,), (NAMES,), (LAST_LINE,), (RIGHT, SETTLED)):
        if found := [one for pattern in patterns for one in named_by(pattern, text)]:
            return only(found, text)
    return ""


def named_by(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """Every place that names an option in these words and neither turns it down nor only supposes it; what is called the answer stays so."""
    found = [match for match in pattern.finditer(text) if proper(match)]
    if pattern is ANSWERS:
        return found
    loose = pattern in (RIGHT, SETTLED)
    return [one for one in found if not WRONG.match(text, one.end()) and not (loose and supposed(one, text))]


def supposed(match: re.Match[str], text: str) -> bool:
    """Whether the clause before an option says ``if``, or names another beside it."""
    place = max(match.start("held"), match.start("bare"))
    return bool(SUPPOSED.search(CLAUSE.split(text[:place])[-1]))


def only(found: list[re.Match[str]], text: str) -> str:
    """The letter that all matches name; "" where they differ or one of them goes on to a second option."""
    letters = {named(match) for match in found}
    several = any((more := NEXT.match(text, match.end())) and proper(more) and not WRONG.match(text, more.end()) for match in found)
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
