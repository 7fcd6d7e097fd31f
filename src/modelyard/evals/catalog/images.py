"""Sets with images: easy-VQA's questions, and captions of emoji that nobody showed in training, retrieved among several.

easy-VQA (Zhou 2019) asks for shape, colour and presence of one shape on a plain ground; every reply is drawn and compared with the one right
answer of 13. Its own test images are asked about; without seeing, the likeliest answer to each question is right 67% of the time.
``emoji_captions`` (``emoji_captions_de`` and so on; ``emoji_noto``: other drawings of emoji) is retrieval, as image-text models are measured
(Karpathy and Fei-Fei 2015): the caption of the image among those of :data:`AMONG` - 1 other images, so that chance is 1 in :data:`AMONG`; the one
whose log p the image raises most, since how likely captions are by themselves says nothing of the image (GPT-3's normalisation,
arXiv:2005.14165, section 2.4, with the image as the context). ``digits`` and ``charts`` are one-word questions about the pictures that a line
keeps of them. All are asked in chat, as SFT teaches. Read are the rows that a line's feedback carries (``benchmarks/{name}.jsonl`` with images of
the same artifact), or the files of the package ``easy-vqa``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark
from modelyard.evals.catalog.rows import MissingDataError, own_file, refuse_shots
from modelyard.evals.image_places import IMAGE
from modelyard.evals.item import Item
from modelyard.evals.recorder import sha256_text
from modelyard.formats import json_file
from modelyard.formats.images import Image, ImageError, cleaned
from modelyard.formats.json_file import Line
from modelyard.formats.stored_images import ImageFiles
from modelyard.model.asked import Decoding

AMONG = 8
"""Captions of which one is right."""
LANGUAGES = ("de", "es", "fr", "it", "ja", "ko", "pt", "zh")
"""Beside English."""
ASKED = "{image}\n{question}"
WORD = Decoding(max_new_tokens=8, temperature=0.0, samples=1, seed=0, stops=("\n",))
EMOJI = ("emoji_captions", "emoji_noto", *(f"emoji_{kind}_{language}" for kind in ("captions", "noto") for language in LANGUAGES))
"""Captions of emoji in English, in the style that is trained on and in another; and the same in other languages."""
PACKAGE = "easy_vqa/data/test"
"""Where the package easy-vqa has its test set."""


def easy_vqa(data: Path, shots: int | None) -> Benchmark:
    """The test questions, one word each."""
    refuse_shots("easy_vqa", shots)
    items, pictures = carried(data, "easy_vqa") if own_file(data, "benchmarks/easy_vqa.jsonl") else packaged(data)
    return _words("easy_vqa", items, pictures)


def words(data: Path, shots: int | None, *, name: str) -> Benchmark:
    """Questions of a line's own pictures, one word each."""
    refuse_shots(name, shots)
    return _words(name, *carried(data, name))


def _words(name: str, items: tuple[Item, ...], pictures: dict[str, Image]) -> Benchmark:
    return Benchmark(
        name=name,
        items=items,
        prompt=ASKED,
        decoding=WORD,
        parser="first_word",
        scorer="exact",
        metrics=("exact", "parsed"),
        chat=True,
        pictures=pictures,
    )


def captions(data: Path, shots: int | None, *, name: str) -> Benchmark:
    """The right caption among those of other images."""
    refuse_shots(name, shots)
    items, pictures = carried(data, name)
    if len({item.target for item in items}) < AMONG:
        raise ValueError(f"{data}: {name} has fewer than {AMONG} different captions to choose among")
    return Benchmark(
        name=name,
        items=tuple(among(items, item) for item in items),
        prompt=ASKED,
        decoding=NOTHING_DRAWN,
        parser="whole",
        scorer="acc_gain",
        metrics=("acc_gain", "acc", "acc_norm", "calibration_error"),
        method="choices",
        chat=True,
        delimiter="",
        pictures=pictures,
    )


def among(items: Sequence[Item], item: Item) -> Item:
    """The item with the captions of others of its group (a language) to choose among, in an order drawn by its id."""
    generator = np.random.default_rng(int(sha256_text(item.id)[:16], 16))
    others = sorted({one.target for one in items if one.group == item.group} - {item.target})
    if len(others) < AMONG - 1:
        raise ValueError(f"{item.id}: group {item.group!r} has {len(others)} other captions, and {AMONG - 1} are needed")
    choices = [item.target, *(others[place] for place in generator.choice(len(others), AMONG - 1, replace=False))]
    choices = [choices[place] for place in generator.permutation(AMONG)]
    return item.model_copy(update={"choices": tuple(choices), "right": (choices.index(item.target),)})


Found = tuple[tuple[Item, ...], dict[str, Image]]
"""Items, and their images."""


def carried(data: Path, name: str) -> Found:
    """The items that a line's artifact carries. Raises MissingDataError without the file, ValueError for a row that is none."""
    path = own_file(data, f"benchmarks/{name}.jsonl")
    if path is None:
        raise MissingDataError(f"missing data: no benchmarks/{name}.jsonl in {data}")
    files = ImageFiles(data)
    pictures: dict[str, Image] = {}
    items: list[Item] = []
    for where, row in json_file.lines(path):
        if lacking := [key for key in ("id", "image", "question", "answer") if not isinstance(row.get(key), str)]:
            raise ValueError(f"{where}: no {lacking[0]!r}")
        if row["image"] not in pictures:
            pictures[row["image"]] = files.row(row["image"])
        items.append(asked(row, row["image"]))
    if not items:
        raise ValueError(f"{path}: no items")
    return tuple(items), pictures


def packaged(data: Path) -> Found:
    """The test set as the package easy-vqa holds it: ``[question, answer, number of the image]``."""
    path = data / PACKAGE / "questions.json"
    if not path.is_file():
        raise MissingDataError(f"missing data: no benchmarks/easy_vqa.jsonl and no {PACKAGE}/questions.json (package easy-vqa) in {data}")
    shown: dict[int, Image] = {}
    items: list[Item] = []
    for line in numbered(path):
        question, answer, number = (line.fields[key] for key in ("question", "answer", "number"))
        if number not in shown:
            try:
                shown[number] = cleaned((path.parent / "images" / f"{number}.png").read_bytes(), "easy-vqa", "MIT")
            except (OSError, ImageError) as error:
                raise ValueError(f"{line.where}: image {number}: {error}") from None
        items.append(asked({"id": f"easy_vqa/{len(items)}", "question": question, "answer": answer}, shown[number].id))
    return tuple(items), {one.id: one for one in shown.values()}


def numbered(path: Path) -> list[Line]:
    """The package's rows. Raises ValueError naming the file and the row that is none."""
    rows = json_file.parse(json_file.text_of(path), str(path))
    lines = []
    for place, row in enumerate(rows if isinstance(rows, list) else [rows]):
        if not (
            isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and isinstance(row[1], str) and isinstance(row[2], int)
        ):
            raise ValueError(f"{path}: row {place}: not a question, an answer and the number of an image")
        lines.append(Line(f"{path}: row {place}", dict(zip(("question", "answer", "number"), row, strict=True))))
    return lines


def asked(row: dict[str, Any], image: str) -> Item:
    """A row's item about one image."""
    return Item(
        id=row["id"],
        fields={"image": IMAGE, "question": row["question"].replace(IMAGE, "")},
        target=row["answer"],
        group=str(row.get("group") or ""),
        question=row["question"],
        images=(image,),
    )


BENCHMARKS: dict[str, Callable[[Path, int | None], Benchmark]] = {
    "easy_vqa": easy_vqa,
    **{name: partial(captions, name=name) for name in EMOJI},
    "digits": partial(words, name="digits"),
    "charts": partial(words, name="charts"),
}
