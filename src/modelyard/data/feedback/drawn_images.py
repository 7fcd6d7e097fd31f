"""Pictures whose answers are known because they are drawn here or come with their labels: bar charts, and scikit-learn's handwritten digits.

A chart has three to six bars of different colours and different whole heights from 1 to 9, above lines at every unit (a darker one at 5), so that
every question has one answer, in the manner of FigureQA (Kahou et al. 2018). The digits are the test set of UCI's "Optical recognition of
handwritten digits" (8 x 8, 16 levels) that scikit-learn ships. Left out: axes with text, charts of other kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw

COLOURS = {
    "red": (214, 39, 40), "green": (44, 160, 44), "blue": (31, 119, 180), "orange": (255, 127, 14), "purple": (148, 103, 189), "black": (30, 30, 30),
}  # fmt: skip
HIGHEST = 9
FEWEST = 3
DIGIT = "which digit is this?"


class Drawing(NamedTuple):
    """A picture [h, w, 3] with questions and answers."""

    pixels: NDArray[np.uint8]
    asked: tuple[tuple[str, str], ...]


def charts(number: int, seed: int, size: int) -> Iterator[Drawing]:
    """Bar charts of ``size`` x ``size`` pixels, the same for a seed."""
    for place in range(number):
        generator = np.random.default_rng([seed, place])
        count = int(generator.integers(FEWEST, len(COLOURS) + 1))
        names = [list(COLOURS)[i] for i in generator.permutation(len(COLOURS))[:count]]
        heights = [int(height) for height in generator.permutation(HIGHEST)[:count] + 1]
        asked = [(f"how high is the {name} bar?", str(height)) for name, height in zip(names, heights, strict=True)]
        asked += [
            ("how many bars are there?", str(count)),
            ("which bar is the highest?", names[heights.index(max(heights))]),
            ("which bar is the lowest?", names[heights.index(min(heights))]),
        ]
        yield Drawing(chart(names, heights, size), tuple(asked))


def chart(names: list[str], heights: list[int], size: int) -> NDArray[np.uint8]:
    """Bars from left to right."""
    canvas = Pillow.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(canvas)
    unit, left = (size - 4) / HIGHEST, 2
    ground = size - 3
    for level in range(HIGHEST + 1):
        y = round(ground - level * unit)
        draw.line((left, y, size - 1, y), fill=(110, 110, 110) if level in (0, 5) else (215, 215, 215))
    width = (size - 2 * left) / len(names)
    for place, (name, height) in enumerate(zip(names, heights, strict=True)):
        box = (round(left + (place + 0.15) * width), round(ground - height * unit), round(left + (place + 0.85) * width), ground)
        draw.rectangle(box, fill=COLOURS[name])
    return np.asarray(canvas)


def digits(size: int) -> Iterator[Drawing]:
    """scikit-learn's digits, dark on light, ``size`` x ``size`` pixels."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    for levels, label in zip(loaded.images, loaded.target, strict=True):
        grey = (255 - levels * 255 / 16).round().astype(np.uint8)
        large = Pillow.fromarray(grey).resize((size, size), Pillow.Resampling.BICUBIC).convert("RGB")
        yield Drawing(np.asarray(large), ((DIGIT, str(int(label))),))
