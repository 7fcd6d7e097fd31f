"""Pictures with questions and answers from packages, as demonstrations in chat, and the ones held out from them as benchmarks.

``easy_vqa`` is the package of that name (Zhou 2019): its own test set becomes the benchmark ``easy_vqa``, whatever is trained on comes from its
training set. ``emoji`` (:mod:`modelyard.data.feedback.emoji_images`) keeps a share of its pictures for the benchmark ``emoji_captions``, and one of
each language beside English; a picture that nearly copies one of those is not trained on. ``digits`` and ``charts``
(:mod:`modelyard.data.feedback.drawn_images`) keep a share for benchmarks of their names. Splits go by picture, so validation asks about none that
training shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from modelyard.closest import did_you_mean
from modelyard.config import Config
from modelyard.data.corpus.document import DataError
from modelyard.data.corpus.splits import fraction
from modelyard.data.feedback.drawn_images import charts, digits
from modelyard.data.feedback.emoji_images import ENGLISH, QUESTIONS, Emoji, Style, emoji, font_of
from modelyard.data.sources.fetch import fetch, members
from modelyard.data.sources.image_packages import EASY_VQA, EMOJI_NAMES
from modelyard.formats import images, json_file
from modelyard.formats.feedback import Demonstration, ImagePart, Message, TextPart
from modelyard.formats.image_copies import NearCopies
from modelyard.formats.images import Image, ImageError, cleaned

DIGITS_LICENCE = "CC-BY-4.0"
"""Of UCI's data, which scikit-learn ships."""


class ImageSet(Config):
    """Pictures of one package."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    """Source and category of the demonstrations."""
    package: Literal["easy_vqa", "emoji", "digits", "charts"]
    """Which."""
    seed: int = Field(ge=0)
    """Of the splits."""
    held_out: float = Field(gt=0, lt=1)
    """Share of the pictures that are for validation alone."""
    benchmark: float = Field(default=0.2, gt=0, le=1)
    """Share of the pictures that are kept for the benchmark, 1: all, none is trained on; easy-VQA has a test set of its own."""
    size: int = Field(default=64, ge=8, le=1024)
    """Side of a picture, in pixels; easy-VQA's are 64."""
    number: int = Field(default=1000, ge=10)
    """How many charts are drawn."""
    style: Style = "openmoji"
    """Whose drawings of emoji: OpenMoji's in colour, or Noto's in black."""
    languages: tuple[str, ...] = (ENGLISH,)
    """Languages of the emoji's names (ISO 639-1)."""

    @model_validator(mode="after")
    def _fits(self) -> ImageSet:
        if unknown := [one for one in self.languages if one not in QUESTIONS]:
            raise ValueError(f"languages: {unknown[0]!r} is none of {', '.join(QUESTIONS)}{did_you_mean(unknown[0], QUESTIONS)}")
        if not self.languages or len(set(self.languages)) < len(self.languages):
            raise ValueError("languages: none, or one twice")
        if self.package != "emoji" and {"style", "languages"} & self.model_fields_set:
            raise ValueError(f"style and languages are of emoji, not of {self.package}")
        if self.package == "easy_vqa" and self.benchmark == 1:
            raise ValueError("benchmark: easy-VQA has a test set of its own, which is all that is kept")
        return self

    def benchmark_name(self, language: str = ENGLISH) -> str:
        """What the benchmark of its held-out pictures is called."""
        if self.package != "emoji":
            return self.package
        name = "emoji_captions" if self.style == "openmoji" else f"emoji_{self.style}"
        return name if language == ENGLISH else f"{name}_{language}"

    @property
    def declared(self) -> list[dict[str, str]]:
        """What it is read from: name, package, version, hash and licence of each."""
        pinned = {"easy_vqa": (EASY_VQA,), "emoji": (font_of(self.style), EMOJI_NAMES)}.get(self.package, ())
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
    asked: dict[str, list[Pair]]
    """Benchmark -> its items."""
    dropped: list[tuple[str, str]]
    """(what, reason) of what is left out."""


def made(table: ImageSet, cache: Path) -> Made:
    """Demonstrations and benchmarks of a set; its packages are fetched into ``cache``. Raises DataError."""
    asked, train, dropped = _split(table, cache)
    copies = NearCopies(pair.image for pairs in asked.values() for pair in pairs)
    near = {name for name, pair in {pair.image.id: pair for pair in train}.items() if copies.of(pair.image)}
    dropped += [(f"{table.name}/{name[:16]}", "near_copy_of_benchmark") for name in sorted(near)]
    kept = [pair for pair in train if pair.image.id not in near]
    shown = [_demonstration(table, number, pair) for number, pair in enumerate(kept)]
    if table.benchmark < 1 and {one.split for one in shown} != {"train", "validation"}:
        raise DataError(f"feedback.images: {table.name}: too few pictures for training and validation")
    every = [*kept, *(pair for pairs in asked.values() for pair in pairs)]
    return Made(shown, {pair.image.id: pair.image for pair in every}, asked, dropped)


def _split(table: ImageSet, cache: Path) -> tuple[dict[str, list[Pair]], list[Pair], list[tuple[str, str]]]:
    """What benchmarks ask, what is trained on, and what is left out."""
    if table.package == "easy_vqa":
        archive = fetch(EASY_VQA, cache)
        return {table.benchmark_name(): list(_easy_vqa(archive, "test"))}, list(_easy_vqa(archive, "train")), []
    if table.package == "emoji":
        drawn, left_out = emoji(table.style, table.languages, table.size, cache)
        held = [one for one in drawn if _share(table, one.image) < table.benchmark]
        asked = {
            table.benchmark_name(language): [Pair(one.image, QUESTIONS[language][0], one.names[language]) for one in held]
            for language in table.languages
        }
        train = [pair for one in drawn if _share(table, one.image) >= table.benchmark for pair in _named(one)]
        return asked, train, [(f"{table.name}/{name}", reason) for name, reason in left_out]
    labelled = list(_labelled(table))
    return (
        {table.benchmark_name(): [pair for pair in labelled if _share(table, pair.image) < table.benchmark]},
        [pair for pair in labelled if _share(table, pair.image) >= table.benchmark],
        [],
    )


def _named(one: Emoji) -> Iterator[Pair]:
    """An emoji's name in each language, asked for in one way: more of them would teach nothing of it and only repeat its name in the loss."""
    for language, name in one.names.items():
        ways = QUESTIONS[language]
        yield Pair(one.image, ways[int(fraction(f"question:{one.image.id}") * len(ways))], name)


def write_benchmarks(out: Path, asked: Mapping[str, list[Pair]]) -> None:
    """The held-out items, which the benchmarks stage reads with the artifact's images."""
    (out / "benchmarks").mkdir(exist_ok=True)
    for name, pairs in asked.items():
        rows = [
            {"id": f"{name}/{number}", "image": pair.image.id, "question": pair.question, "answer": pair.answer}
            for number, pair in enumerate(pairs)
        ]
        path = out / "benchmarks" / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def _share(table: ImageSet, image: Image) -> float:
    return fraction(f"{table.seed}:benchmark:{image.id}")


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
