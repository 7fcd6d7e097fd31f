"""Unicode repair and normalisation: every text passes here first and is changed, not refused, unless nothing is left.

Prose: ftfy mends mojibake and HTML entities, then NFC; control characters go, line ends become ``\\n``, trailing blanks and
long runs of blank lines shrink. Characters keep their width, and quotation marks of Chinese, Japanese and Korean text their form: they are
that text's punctuation. Entities and curly quotes stay where one stands in quotes, because such a text speaks of them. Code: line ends only,
for ``&amp;`` in a string literal is code. ftfy is slow and changes few texts, so text is first asked whether it could; the answers are ftfy's.
"""

from __future__ import annotations

import re
import unicodedata

import ftfy
from ftfy.badness import is_bad
from ftfy.chardata import CONTROL_CHARS, HTML_ENTITY_RE, LIGATURES
from ftfy.fixes import uncurl_quotes

from modelyard.data.corpus.document import Kind, Refusal

_CONTROL = bytes([*range(0x00, 0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
_TRAILING = re.compile(r"(?<![ \t])[ \t]+\n")
"""The look-behind keeps a line of a million blanks from being tried a million times."""
_BLANK_LINES = re.compile(r"\n{4,}")
_QUOTED = re.compile(r"""["'`](?:&#?[0-9A-Za-z]{1,24};|[\u2018-\u201f])""")
_EAST_ASIAN = re.compile(r"[\u1100-\u11ff\u3000-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
_CONFIG = ftfy.TextFixerConfig(normalization="NFC", fix_character_width=False, explain=False)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
"""As ftfy cuts a text; other line ends are characters of a line."""
_MAY_CHANGE = re.compile(
    "[" + "".join(re.escape(chr(code)) for code in [*CONTROL_CHARS, *LIGATURES]) + r"\x80-\x9f\u2028\u2029\ud800-\udfff]"
)
"""What ftfy's smaller repairs look for."""


def normalise(text: str, kind: Kind = "text") -> str:
    """The text as the corpus keeps it."""
    if kind == "code":
        return _with_line_ends(text.removeprefix("\ufeff")).strip("\n").rstrip()
    return _tidied(_mended(text))


def _tidied(text: str) -> str:
    """White space and control characters as the corpus keeps them."""
    text = _without_controls(_with_line_ends(text).replace("\u00a0", " "))
    if " \n" in text or "\t\n" in text:
        text = _TRAILING.sub("\n", text)
    if "\n\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n\n", text)
    return text.strip("\n").rstrip()


def _without_controls(text: str) -> str:
    """The text without C0's control characters, each of which is one byte of UTF-8."""
    encoded = text.encode("utf-8", "surrogatepass")
    left = encoded.translate(None, _CONTROL)
    return text if len(left) == len(encoded) else left.decode("utf-8", "surrogatepass")


def refuse(text: str) -> Refusal | None:
    """Refuses a text that normalisation left empty or that holds characters lost before it came here."""
    if not text.strip():
        return Refusal("normalise/empty", "")
    if (lost := text.count("\ufffd")) > 0:
        return Refusal("normalise/undecodable", f"{lost} lost characters")
    return None


def _with_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _mended(text: str) -> str:
    """What :func:`ftfy.fix_text` gives. It takes a text line by line, and leaves entities alone from the first ``<`` on."""
    if text.isascii() and "&" not in text and "\x1b" not in text:
        return text
    config = _config(text)
    mended = []
    escapes = "&" in text or "\x1b" in text
    for line in _LINE.findall(text):
        if line.isascii() and not (escapes and ("&" in line or "\x1b" in line)):
            mended.append(line)
        else:
            mended.append(_simply(line, config) or ftfy.fix_text(line, config))
        if "<" in line:
            config = config._replace(unescape_html=False)
    return "".join(mended)


def _config(text: str) -> ftfy.TextFixerConfig:
    """What may be mended in a text."""
    speaks_of_them = bool(_QUOTED.search(text))
    return _CONFIG._replace(
        unescape_html=False if speaks_of_them else "auto",
        uncurl_quotes=not speaks_of_them and not _EAST_ASIAN.search(text),
    )


def _simply(line: str, config: ftfy.TextFixerConfig) -> str | None:
    """The line as ftfy mends it where at most quotes change; None where more might."""
    entities = config.unescape_html and "<" not in line and HTML_ENTITY_RE.search(line)
    if len(line) > config.max_decode_length or entities or _MAY_CHANGE.search(line) or is_bad(line):
        return None
    mended = uncurl_quotes(line) if config.uncurl_quotes else line
    if (mended != line and is_bad(mended)) or not unicodedata.is_normalized("NFC", mended):
        return None
    return mended
