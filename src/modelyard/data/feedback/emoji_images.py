"""Emoji drawn from a font, with their names in several languages.

The names are those of Unicode's CLDR in the package emoji. OpenMoji's drawings are in colour; Noto's, in black, are another style of the same things,
by which a model shows whether it knows them or only one artist's pictures. Left out: emoji of several code points.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from modelyard.data.corpus.document import DataError
from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import fetch, member
from modelyard.data.sources.image_packages import EMOJI_NAMES, NOTO_EMOJI, OPENMOJI
from modelyard.formats import images, json_file
from modelyard.formats.images import Image

Style = Literal["openmoji", "noto"]
ENGLISH = "en"
FONTS = {"openmoji": (OPENMOJI, "/glyf_colr0.ttf"), "noto": (NOTO_EMOJI, "/NotoEmoji[wght].ttf")}
VARIANT = "\ufe0f"
"""Asks for the coloured form of a character."""
FULLY_QUALIFIED = 2
"""Status of an emoji that stands in Unicode's list as it is."""
ABSENT = "\U0010fffd"
"""A character that no font draws: what is drawn for it stands for everything absent."""
QUESTIONS: dict[str, tuple[str, ...]] = {
    ENGLISH: (
        "what is this emoji called?",
        "name this emoji.",
        "which emoji is this?",
        "what does this emoji show?",
        "say what this picture shows.",
        "describe this emoji.",
    ),
    "de": ("wie heißt dieses Emoji?",),
    "es": ("¿cómo se llama este emoji?",),
    "fr": ("comment s'appelle cet emoji ?",),
    "it": ("come si chiama questa emoji?",),
    "ja": ("この絵文字は何と呼ばれますか",),
    "ko": ("이 이모지의 이름은 무엇인가요?",),
    "pt": ("como se chama este emoji?",),
    "zh": ("这个表情符号叫什么",),
}
"""Language -> ways to ask for a name. The first is a benchmark's; in training every picture is asked about in one of them."""


class Emoji(NamedTuple):
    """One picture and what it is called."""

    image: Image
    names: dict[str, str]
    """Language -> name, in lower case."""


def font_of(style: str) -> Source:
    """The package with the style's font."""
    return FONTS[style][0]


def emoji(style: str, languages: Sequence[str], size: int, cache: Path) -> tuple[list[Emoji], list[tuple[str, str]]]:
    """Every emoji of one code point that the style's font draws, ``size`` pixels a side, each picture once; and (name, reason) of what is left out.

    Raises:
        DataError: a package cannot be fetched, is not the pinned one, or lacks a file or names.
    """
    package, file = FONTS[style]
    named = _names(languages, cache)
    font = ImageFont.truetype(io.BytesIO(member(package, fetch(package, cache), file)), round(size * 0.75))
    absent = _drawn(ABSENT, font, size, style)
    found: dict[str, Emoji] = {}
    dropped = []
    for text, names in named.items():
        pixels = _drawn(text, font, size, style)
        caption = names[languages[0]]
        if np.array_equal(pixels, absent) or bool((pixels == 255).all()):
            dropped.append((caption, "not_in_font"))
            continue
        image = images.of_pixels(pixels, package.package, package.licence)
        if image.id in found:
            dropped.append((caption, "same_picture"))
            continue
        found[image.id] = Emoji(image, names)
    return list(found.values()), dropped


def _names(languages: Sequence[str], cache: Path) -> dict[str, dict[str, str]]:
    """Character -> its name in each language, of those that have one in all of them."""
    archive = fetch(EMOJI_NAMES, cache)
    listed = json_file.parse(member(EMOJI_NAMES, archive, "unicode_codes/emoji.json"), "emoji.json")
    tables = {
        language: {text: entry[ENGLISH] for text, entry in listed.items()}
        if language == ENGLISH
        else json_file.parse(member(EMOJI_NAMES, archive, f"unicode_codes/emoji_{language}.json"), f"emoji_{language}.json")
        for language in languages
    }
    found = {}
    for text, entry in listed.items():
        bare = text.replace(VARIANT, "")
        if len(bare) == 1 and entry["status"] == FULLY_QUALIFIED and all(text in table for table in tables.values()):
            found[bare] = {language: table[text].strip(":").replace("_", " ").lower() for language, table in tables.items()}
    if not found:
        raise DataError(f"source {EMOJI_NAMES.name}: no emoji has a name in {', '.join(languages)}")
    return found


def _drawn(text: str, font: FreeTypeFont, size: int, style: str) -> NDArray[np.uint8]:
    """An emoji [size, size, 3] on white, in the middle."""
    canvas = Pillow.new("RGB", (size, size), "white")
    ink = "black" if style == "noto" else None
    ImageDraw.Draw(canvas).text((size / 2, size / 2), text, fill=ink, font=font, embedded_color=True, anchor="mm")
    return np.asarray(canvas)
