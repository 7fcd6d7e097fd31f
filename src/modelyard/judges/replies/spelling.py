"""One spelling for what people write alike, before an answer is looked for: width, digits, minus signs, markup.

Left out: anything that depends on what is looked for (:mod:`numbers <modelyard.judges.replies.numbers>`,
:mod:`letters <modelyard.judges.replies.letters>`).
"""

from __future__ import annotations

import re
import unicodedata

DASHES = "\u2212\u2012\u2013\ufe63"
"""Minus sign, figure dash, en dash and small hyphen: a minus where a number follows and nothing is subtracted from."""
ARABIC = str.maketrans({"\u066b": ".", "\u066c": ","})
"""Arabic decimal and thousands separators."""
LATEX = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=\d)\\[,!;: ](?=\d)"), ""),
    (re.compile(r"\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"(?<![\d*])(\d+)\*\*(?=-?\d)"), r"\1^"),
    (re.compile(r"\\times\b|(?<=[\d)])\s*\*+(?=\s*[\d($])"), " \u00d7 "),
)
MARKUP = re.compile(r"\*+|__+|`+|\\[()\[\]]|</?(?:b|strong|i|em|u|mark)>", re.I)
BOLD = re.compile(r"(?<![A-Za-z\d)*])\*\*(?=\S)([^*\n]+)(?<=\S)\*\*(?![A-Za-z\d*])|<(?:b|strong)>([^<\n]+)</", re.I)
RAISED = re.compile(r"(?<=[\d)}])[\u207b\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
"""An exponent in small digits, which NFKC would write as further digits: 10\u00b3 is not 103."""
VULGAR = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e])")
"""Between a number and a fraction of one character, which NFKC would join: 2½ is not 21/2."""


def plain(text: str) -> str:
    """The text with ASCII digits, punctuation of usual width, ``-`` for minus, and without Markdown and LaTeX dress.

    ``\\boxed{}`` and ``$`` stay: one is an answer's mark (:func:`boxed`), the other a currency.
    """
    text = RAISED.sub(r"^\g<0>", VULGAR.sub(" ", text))
    text = unicodedata.normalize("NFKC", text).translate(ARABIC)
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    for pattern, by in LATEX:
        text = pattern.sub(by, text)
    text = MARKUP.sub("", text)
    return re.sub(rf"(?<![\w)])[{DASHES}](?=[$\u20ac\u00a3]?\d|\.\d)", "-", text)


def bold(text: str) -> list[str]:
    """The phrases in bold, by Markdown or HTML."""
    return [found[1] or found[2] for found in BOLD.finditer(text)]


def boxed(text: str) -> str | None:
    r"""What the last ``\boxed{...}`` or ``\fbox{...}`` holds, braces inside it balanced; None without one."""
    starts = [match.end() for match in re.finditer(r"\\f?box(?:ed)?\s*\{", text)]
    if not starts:
        return None
    depth = 1
    for place in range(starts[-1], len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[starts[-1] : place]
    return text[starts[-1] :]
