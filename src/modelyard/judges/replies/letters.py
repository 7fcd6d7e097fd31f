"""The letter that a reply settles on among lettered options, and the phrase that follows ``the answer is``.

A reply that opens with one option and then says that the answer is another means the other. One that names no option, or several, has no
letter: GPT-Fathom (arXiv:2309.16583, section 3.3) counts it wrong. Left out: options named by their text.
"""

from __future__ import annotations

import re

from modelyard.judges.replies.phrases import AND, ASIAN, ASIAN_IS, OR, OTHERS, ROMANCE, ROMANCE_IS
from modelyard.judges.replies.spelling import boxed, plain

NAME = (
    r"(?!['\u2019](?!(?:d|t)[\u0131iu\u00fc]r\b)|[A-Za-z\d+#]|-\w|\s*=\s*\w|\s(?:major|minor|sharp|flat|cells?|lymphocytes?|string|waves?|orbital)\b"
    r"|\.\s?(?-i:coli|elegans|difficile|diff|botulinum|tetani|albicans|perfringens|subtilis|anthracis|cereus|pertussis|pylori|influenzae|sapiens"
    r"|erectus|neanderthalensis|melanogaster|tuberculosis|leprae|musculus|monocytogenes|pneumoniae|faecalis|lamblia|histolytica)\b)"
)
"""What makes a letter part of a name: ``B12``, ``D-Day``, ``C major``, ``E. coli``, ``E = mc``; Turkish writes ``B'dir`` for ``it is B``."""
BARE = (
    rf"(?:[B-HJ-M]{NAME}|[AI](?=\s*(?:$|[.,;:!?)\]/&\n\u3002\u3001]|-\s|(?:because|since|as|for)\b|{AND}|{OR}"
    r"|['\u2019](?:d|t)[\u0131iu\u00fc]r\b|[^\x00-\x7f])))"
)
"""A letter that stands for an option: ``A cat`` and ``I think`` are none."""
OPTION = rf"(?:[(\[{{]\s*(?P<held>[A-Ma-m])\s*[)\]}}]|[\"'\u201c\u2018\u201e\u00ab\u300c\u300e]?(?P<bare>{BARE}))"
"""A letter in brackets or by itself."""
QUOTED = re.compile(
    r"[\"'\u201c\u201d\u2018\u2019\u201e\u00ab\u300c\u300e]\s*(?P<inside>[A-M]|[(\[]\s*[A-Ma-m]\s*[)\]])\s*(?P<stop>[.\u3002]?)"
    r"[\"'\u201c\u201d\u2018\u2019\u00bb\u300d\u300f]"
)
"""An option between quotation marks."""
HELD, ALONE = r"[(\[{]\s*(?P<held>[A-Ma-m])\s*[)\]}]", rf"(?P<bare>[A-M]){NAME}"
KIND = r"(?:(?:option|choice|letter|opci\u00f3n|op\u00e7\u00e3o|opzione|lettre|letra|lettera|\u9009\u9879|\u9078\u9805)\s*)"
CONNECTED = rf"(?:,|/|&|\b(?:else|possibly|perhaps|maybe|probably|likely|even|also)\b|{OR}|{AND}|\u3001)\s*"
NEXT = re.compile(
    rf"[)\]\"'\u201d\u2019]?\s*(?:(?:[.;!?]\s*(?=(?:{OR})))?(?:{CONNECTED})+(?-i:(?:la|le|el|il|a|die)\s+)?{KIND}?{OPTION}"
    rf"|[;?]\s*{OPTION.replace('held', 'held2').replace('bare', 'bare2')}(?=\s*(?:\?|$))|(?P<held3>(?<=[)\]])\s*(?-i:[(\[][A-M][)\]])))",
    re.I,
)
"""A second option beside the first: ``B oder C``, ``B. Or maybe C``, ``B? C?``, ``(A) (B)``."""
LEADING = re.compile(
    rf"\s*{OPTION}(?=\s*(?:$|\n|\.(?![a-z])|[):,;!?\u3002\u3001\]]|-\s|[^\x00-\x7f]|(?:because|since|and|or)\b)|(?<=[)\]}}]))"
)
IS = (
    r"(?:\s*(?:(?:is|are|would\s+be|should\s+be|must\s+be|has\s+to\s+be|ist|lautet|est|es|\u00e9|\u00e8)\b|[-:=\u2014\u2013]))*"
    r"\s*(?:(?:clearly|obviously|definitely|certainly|surely|indeed|simply|therefore|thus|hence|(?:most\s+)?likely|probably)\s+)?"
    rf"{KIND}?:?\s*"
)
ARTICLE = rf"(?:\s*(?:{ROMANCE_IS})\s+(?-i:la|le|a)\b)?"
"""Before a letter in Romance languages; in English ``a C major chord`` names no option."""
ANSWERS = re.compile(
    rf"(?:<answer>\s*|\"answer\"\s*:\s*\"?|(?:\banswer(?:\s+(?:to|for)\s[^.,:;?!\n]{{1,60}}?)?(?=\s*(?:is|:|=|[-\u2013\u2014]\s|would|should|must|has\s+to|[(\[]))|\bans(?=\.?\s*[:=(])\.?"
    rf"|\bAntwort|\b(?:{ROMANCE}){ARTICLE}){IS}"
    rf"|(?:{ASIAN}|\u7b54|\u6b63[\u786e\u78ba]\u7684?[\u9009\u9078][\u9879\u9805])\s*(?:\u5e94\u8be5|\u61c9\u8a72|\u5e94|\u61c9)?"
    rf"\s*(?:{ASIAN_IS}|\u9009|\u9078|:)?\s*:?\s*|[\u9009\u9078](?:[\u62e9\u64c7]|[\u9879\u9805])?\s*:?\s*"
    rf"|(?:{OTHERS}|\u0938\u0939\u0940\s+\u0935\u093f\u0915\u0932\u094d\u092a)\s*[-:=\u2014\u2013]*\s*){OPTION}",
    re.I,
)
"""A sentence that gives the answer, in the languages of :mod:`phrases <modelyard.judges.replies.phrases>`, English and German."""
SAID = r"option|choice|answer|letter|that|so|then|thus|hence|therefore|and|but|while|whereas|because|since|think|believe|say|only"
RIGHT = re.compile(
    rf"(?:^|[.,;:!?\n(\u2014\u2013-]|\b(?:{SAID})\b)\s*[\"'\u201c\u2018]?(?:{HELD}|\b{ALONE})[\"'\u201d\u2019]?"
    r"\s+(?:is|would\s+be|must\s+be)\s+(?:the\s+)?"
    rf"(?:right|correct|best|answer)(?=\s*(?:$|[.,;:!)\n]|(?:answer|choice|option|one|here|because|since|as|and|but|while)\b))",
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
    r"(?:\bit(?:['\u2019]s|\s+(?:is|must\s+be|has\s+to\s+be|should\s+be))"
    r"|\bI(?:['\u2019](?:d|ll|m)|\s+(?:would|will|am))?\s+(?:choose|pick|select|take|say|guess|(?:go(?:ing)?|went)\s+with|opt\s+for)"
    rf"|\b(?:hence|therefore|thus|so)(?:,?\s+it(?:['\u2019]s|\s+is))?[,:]?)\s+(?:option\s+|choice\s+|letter\s+)?{OPTION}"
    rf"(?=\s*(?:$|\.(?!\s?(?-i:[a-z]))|[,;:!)\n]|(?:because|since|as|or|and)\b))",
    re.I,
)
"""What a reply settles on in other words: ``It's C.``, ``I would go with (C)``, ``Hence (D).``"""
BRACKETS = str.maketrans("\u3010\u3011\u3014\u3015", "[][]")
CLAUSE = re.compile(r"[.,;:!?\n]")
SUPPOSED = re.compile(r"\b(?:if|unless|whether|supposing|suppose|assuming|assume|neither|nor|both|either)\b|\b[A-M]\s+and\s*$", re.I)
"""What stands before an option, in the same clause, that is not said to be right, or not alone."""
NAMES = re.compile(rf"\b(?:(?:choice|option)\s*(?:is|:)?|letter\s*(?:is|:))\s*{OPTION}", re.I)
MARKED = re.compile(
    r"\s*(?:(?:[-*>\u2022]|1[.)])\s+(?=\(?[A-M]\b)(?!.*\n\s*(?:[-*>\u2022]|2[.)])\s+\(?[A-M]\b)|(?P<small>[b-m])[.)]?\s*$)", re.S
)
"""What stands before the one option of a list or a quotation; or all of a reply, which is a small letter other than the article."""
LAST_LINE = re.compile(rf"\n\s*{OPTION}[.\u3002]?\s*$")
NEXT_QUESTION = re.compile(r"\n\s*(?:Question|Q)\b")
"""Where a model goes on with a question of its own, whose answer is none to the one that was asked."""
STATED = re.compile(r"the answer is\s*:?\s*(.+?)(?:\.(?:\s|$)|\n|$)", re.I)


def letter(output: str) -> str:
    r"""The one option that a reply names: ``B``, ``**(B)**``, ``\boxed{B}``, ``answer is (B)``, ``\u7b54\u6848\uff1aB``; "" for none or several."""
    text = plain(output).strip()
    if (inside := boxed(text)) is not None:
        return of_box(inside.strip())
    text = QUOTED.sub(r"\g<inside>\g<stop>", text.replace("$", "").translate(BRACKETS))
    if marked := MARKED.match(text):
        text = marked["small"].upper() if marked["small"] else text[marked.end() :]
    if (match := LEADING.match(text)) and not (match["held"] and WRONG.match(text, match.end())):
        said = named_by(ANSWERS, NEXT_QUESTION.split(text)[0])
        rejected = said and named(match) not in {named(one) for one in said}
        return only(said if rejected else [match], text)
    for patterns in ((ANSWERS,), (NAMES,), (LAST_LINE,), (RIGHT, SETTLED)):
        if found := [one for pattern in patterns for one in named_by(pattern, text)]:
            return only(found, text)
    return ""


def of_box(inside: str) -> str:
    """The letter of a box, before the text of its option or without it: ``B. Paris``, ``(B) 12``, ``b``."""
    if re.fullmatch(r"[a-m]", inside):
        return inside.upper()
    alone = re.fullmatch(rf"{KIND}?{OPTION}", inside, re.I) or LEADING.match(inside)
    return only([alone], inside) if alone and proper(alone) else ""


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
