"""Pictures with questions and answers from packages, as demonstrations in chat, and the ones held out from them as benchmarks.

``easy_vqa`` is the package of that name (Zhou 2019): its own test set becomes the benchmark ``easy_vqa``, whatever is trained on comes from its
training set. ``emoji`` is the font OpenMoji drawn with Pillow and the names of Unicode's CLDR in the package emoji; a share of the pictures is kept
for the benchmark ``emoji_captions``, and a picture that nearly copies one of those is not trained on. ``digits`` and ``charts``
(:mod:`modelyard.data.feedback.drawn_images`) keep a share for benchmarks of their names. Splits go by picture, so validation asks about none that
training shows. Left out: emoji of several code points, names in other languages.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont
from pydantic import Field

from modelyard.config import Config
from modelyard.data.corpus.document import DataError
from modelyard.data.corpus.splits import fraction
from modelyard.data.feedback.drawn_images import charts, digits
from modelyard.data.sources.fetch import fetch, member, members
from modelyard.data.sources.image_packages import EASY_VQA, EMOJI_NAMES, OPENMOJI
from modelyard.formats import images, json_file
from modelyard.formats.feedback import Demonstration, ImagePart, Message, TextPart
from modelyard.formats.images import Image, ImageError, NearCopies, cleaned

FONT = "glyf_colr0.ttf"
VARIANT = "\ufe0f"
"""Asks for the coloured form of a character."""
FULLY_QUALIFIED = 2
"""Status of an emoji that stands in Unicode's list as it is."""
DIGITS_LICENCE = "CC-BY-4.0"
"""Of UCI's data, which scikit-learn ships."""
NAME_IT = "what is this emoji called?"
NAME_IT_TOO = (
    "name this emoji.",
    "which emoji is this?",
    "what does this emoji show?",
    "say what this picture shows.",
    "describe this emoji.",
)
"""Other ways to ask the same in training: of every picture there is one name, and a few looks at it teach little."""


class ImageSet(Config):
    """Pictures of one package."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    """Source and category of the demonstrations."""
    package: Literal["easy_vqa", "emoji", "digits", "charts"]
    """Which."""
    seed: int
    """Of the splits."""
    held_out: float = Field(gt=0, lt=1)
    """Share of the pictures that are for validation alone."""
    benchmark: float = Field(default=0.2, gt=0, lt=1)
    """Share of the pictures that are kept for the benchmark; easy-VQA has a test set of its own."""
    size: int = Field(default=64, ge=8, le=1024)
    """Side of a picture, in pixels; easy-VQA's are 64."""
    number: int = Field(default=1000, ge=10)
    """How many charts are drawn."""

    @property
    def benchmark_name(self) -> str:
        """What the benchmark of its held-out pictures is called."""
        return "emoji_captions" if self.package == "emoji" else self.package

    @property
    def declared(self) -> list[dict[str, str]]:
        """What it is read from: name, package, version, hash and licence of each."""
        pinned = {"easy_vqa": (EASY_VQA,), "emoji": (OPENMOJI, EMOJI_NAMES)}.get(self.package, ())
        rows = [one.model_dump(include={"name", "package", "version", "sha256", "licence"}) for one in pinned]
        if self.package == "digits":
            rows.append(
                {"name": self.name, "package": "scikit-learn", "version": version("scikit-learn"), "sha256": "", "licence": DIGITS_LICENCE}
            )
        if self.package == "charts":
            rows.append({"name": self.name, "package": "Pillow", "version": version("Pillow"), "sha256": "", "licence": "CC0-1.0"})
        return rows


class Pair(NamedTuple):
    """A question about a picture, and its answer."""

    image: Image
    question: str
    answer: str


class Made(NamedTuple):
    """What a set gives."""

    demonstrations: list[Demonstration]
    images: dict[str, Image]
    benchmark: str
    """Name of the benchmark."""
    asked: list[Pair]
    """Its items."""
    dropped: list[tuple[str, str]]
    """(what, reason) of what is left out."""


def made(table: ImageSet, cache: Path) -> Made:
    """Demonstrations and benchmark of a set; its packages are fetched into ``cache``. Raises DataError."""
    dropped: list[tuple[str, str]] = []
    if table.package == "easy_vqa":
        archive = fetch(EASY_VQA, cache)
        train, asked = (list(_easy_vqa(archive, part)) for part in ("train", "test"))
    else:
        drawn, dropped = _emoji(table, cache) if table.package == "emoji" else (list(_labelled(table)), [])
        asked = [pair for pair in drawn if _share(table, pair) < table.benchmark]
        train = [pair for pair in drawn if _share(table, pair) >= table.benchmark]
    copies = NearCopies(pair.image for pair in asked)
    near = {name for name, pair in {pair.image.id: pair for pair in train}.items() if copies.of(pair.image)}
    dropped += [(f"{table.name}/{name[:16]}", "near_copy_of_benchmark") for name in sorted(near)]
    kept = [pair for pair in train if pair.image.id not in near]
    if table.package == "emoji":
        kept = [pair._replace(question=question) for pair in kept for question in (NAME_IT, *NAME_IT_TOO)]
    shown = [_demonstration(table, number, pair) for number, pair in enumerate(kept)]
    if {one.split for one in shown} != {"train", "validation"}:
        raise DataError(f"feedback.images: {table.name}: too few pictures for training and validation")
    return Made(shown, {pair.image.id: pair.image for pair in (*kept, *asked)}, table.benchmark_name, asked, dropped)


def write_benchmark(out: Path, set_: Made) -> None:
    """The held-out items, which the benchmarks stage reads with the artifact's images."""
    path = out / "benchmarks" / f"{set_.benchmark}.jsonl"
    path.parent.mkdir(exist_ok=True)
    rows = [
        {"id": f"{set_.benchmark}/{number}", "image": pair.image.id, "question": pair.question, "answer": pair.answer}
        for number, pair in enumerate(set_.asked)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def _share(table: ImageSet, pair: Pair) -> float:
    return fraction(f"{table.seed}:benchmark:{pair.image.id}")


def _demonstration(table: ImageSet, number: int, pair: Pair) -> Demonstration:
    held_out = fraction(f"{table.seed}:images:{pair.image.id}") < table.held_out
    content = (ImagePart(image=pair.image.id), TextPart(text=f"\n{pair.question}"))
    return Demonstration(
        id=f"{table.name}-{number}",
        split="validation" if held_out else "train",
        source=table.name,
        category=table.name,
        prompt=(Message(role="user", content=content),),
        completion=pair.answer,
    )


def _easy_vqa(archive: Path, part: str) -> Iterator[Pair]:
    """The questions of one part, each with its picture."""
    folder = f"easy_vqa/data/{part}/"
    files = {name: data for name, data in members(archive) if name.startswith(folder)}
    shown: dict[str, Image] = {}
    for question, answer, number in json_file.parse(files[f"{folder}questions.json"], f"{archive}: {folder}questions.json"):
        name = f"{folder}images/{number}.png"
        if name not in shown:
            try:
                shown[name] = cleaned(files[name], EASY_VQA.package, EASY_VQA.licence)
            except (ImageError, KeyError) as error:
                raise DataError(f"{archive}: {name}: {error}") from None
        yield Pair(shown[name], question, answer)


def _labelled(table: ImageSet) -> Iterator[Pair]:
    """Charts or digits, each picture with its questions."""
    drawings = charts(table.number, table.seed, table.size) if table.package == "charts" else digits(table.size)
    for drawing in drawings:
        image = images.of_pixels(drawing.pixels, table.package, "CC0-1.0" if table.package == "charts" else DIGITS_LICENCE)
        for question, answer in drawing.asked:
            yield Pair(image, question, answer)


def _emoji(table: ImageSet, cache: Path) -> tuple[list[Pair], list[tuple[str, str]]]:
    """Every emoji of one code point that the font draws, each picture once, and what is left out."""
    names = json_file.parse(member(EMOJI_NAMES, fetch(EMOJI_NAMES, cache), "unicode_codes/emoji.json"), "emoji.json")
    font = ImageFont.truetype(io.BytesIO(member(OPENMOJI, fetch(OPENMOJI, cache), f"/{FONT}")), round(table.size * 0.75))
    absent = _drawn("\U0010fffd", font, table.size)
    found: dict[str, Pair] = {}
    dropped = []
    for text, entry in names.items():
        bare, caption = text.replace(VARIANT, ""), entry["en"].strip(":").replace("_", " ").lower()
        if len(bare) != 1 or entry["status"] != FULLY_QUALIFIED:
            continue
        pixels = _drawn(bare, font, table.size)
        if np.array_equal(pixels, absent) or bool((pixels == 255).all()):
            dropped.append((f"{table.name}/{caption}", "not_in_font"))
            continue
        image = images.of_pixels(pixels, OPENMOJI.package, OPENMOJI.licence)
        if image.id in found:
            dropped.append((f"{table.name}/{caption}", "same_picture"))
            continue
        found[image.id] = Pair(image, NAME_IT, caption)
    return list(found.values()), dropped


def _drawn(text: str, font: FreeTypeFont, size: int) -> NDArray[np.uint8]:
    """An emoji [size, size, 3] on white, in the middle."""
    canvas = Pillow.new("RGB", (size, size), "white")
    ImageDraw.Draw(canvas).text((size / 2, size / 2), text, font=font, embedded_color=True, anchor="mm")
    return np.asarray(canvas)
