"""Where images stand in a prompt: a character of its own in texts, and the images between the texts around it for a model.

MMMU's questions say ``<image 2>`` where an image stands; all others stand where the prompt says ``{image}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from modelyard.formats.feedback import ImagePart, Part, TextPart

IMAGE = "\ufffc"
"""Where an image stands in a text: Unicode's object replacement character, which texts of files may not hold."""
SHOWN_IMAGE = "<image>"
"""The same to people."""
PLACE = "image"
"""Name of the prompt's field where images stand."""
NUMBERED = re.compile(r"<image (\d{1,2})>")


def placed(names: Sequence[str], fields: Mapping[str, str], images: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """A prompt's fields, ``names`` in their order, with places for images, and the images in the order in which they then stand there."""
    order: list[str] = []
    named = {int(number) - 1 for text in fields.values() for number in NUMBERED.findall(text)}

    def put(match: re.Match[str]) -> str:
        number = int(match[1]) - 1
        if not 0 <= number < len(images):
            return match[0]
        order.append(images[number])
        return IMAGE

    made = {}
    for name in names:
        if name in fields:
            made[name] = NUMBERED.sub(put, fields[name])
        else:
            others = [image for number, image in enumerate(images) if number not in named]
            order += others
            made[name] = IMAGE * len(others)
    return made, tuple(order)


def interleaved(text: str, images: Sequence[str]) -> str | tuple[Part, ...]:
    """A text with images at its places for them (:data:`IMAGE`). Raises ValueError where they are not as many."""
    first, *others = text.split(IMAGE)
    if len(others) != len(images):
        raise ValueError(f"{len(images)} images for {len(others)} places: {text[:80]!r}")
    if not images:
        return text
    parts: list[Part] = [TextPart(text=first)]
    for image, after in zip(images, others, strict=True):
        parts += [ImagePart(image=image), TextPart(text=after)]
    return tuple(part for part in parts if isinstance(part, ImagePart) or part.text)
