"""Text of others where people read it: a terminal, a page, Markdown. It is shown as it was written and does nothing.

A terminal obeys what begins with ESC, a bidirectional mark shows ``gpj.exe`` as ``exe.jpg``, Markdown loads a remote image. So characters
that are not shown are spelled (``\\u001b``), Markdown's own are escaped, and pages are jinja2's with both, escaped. What is kept
in files stays as it is; names that people choose are refused instead (:mod:`modelyard.release.visible`). Left out: letters that look alike.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any

from modelyard import page_style

if TYPE_CHECKING:
    from jinja2 import Environment, Template

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that a reader does not see and a terminal or a page may obey."""
KEPT = "\n\t"
JOINERS = "\u200c\u200d"
"""ZERO WIDTH NON-JOINER and JOINER: part of the spelling in Persian and in scripts of India, and of some pictures."""
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters and symbols that show nothing."""
_PLAIN = re.compile(r"[\n\t -~]*")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]()#|~!]|:(?=//)|(?<=www)\.|^[-+=]|(?<=^\d)\.|(?<=^\d\d)\.")


def printable(text: str) -> str:
    """``text`` with every character that is not shown spelled out; lines and tabs stay."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(letter if _is_shown(text, place) else _spelled(letter) for place, letter in enumerate(text))


def is_blank(text: str) -> bool:
    """Whether nothing of ``text`` is seen: it is empty, spaces, and characters of no width. Half of a surrogate pair is none: it is broken."""
    unseen = {*HIDDEN} - {"Cs"}
    return all(letter.isspace() or letter in BLANK or unicodedata.category(letter) in unseen for letter in text)


def markdown(text: str) -> str:
    """``text`` in one line that Markdown shows as it is: no link, image, tag or heading comes of it."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", printable(" ".join(text.split())))
    return html.escape(escaped, quote=False)


def page(template: str) -> Template:
    """An HTML page: what is put into it is escaped and printable, unless it is markup of ours. ``nothing_remote`` and
    ``style`` (:mod:`modelyard.page_style`) are for its head, ``sorting`` for its end."""
    return _pages().from_string(template)


@cache
def _pages() -> Environment:
    from jinja2 import Environment
    from markupsafe import Markup

    pages = Environment(autoescape=True, finalize=_finished)
    pages.globals["nothing_remote"] = Markup(page_style.NOTHING_REMOTE)
    pages.globals["style"] = Markup(page_style.css())
    pages.globals["sorting"] = Markup(f"<script>{page_style.SORT}</script>")
    return pages


def _finished(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _is_shown(text: str, place: int) -> bool:
    letter = text[place]
    if letter in JOINERS:
        return not (text[place - 1 : place] + "a").isascii() and not (text[place + 1 : place + 2] + "a").isascii()
    return letter in KEPT or unicodedata.category(letter) not in HIDDEN


def _spelled(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"
