"""What the quality rules keep and refuse in each language, and which near copies are found there.

``python -m bench.languages DIRECTORY``, where ``pip install --no-deps --target DIRECTORY kolibri==0.19.5
wagtail==8.0.1`` put the translations of two applications (and of Django). Their whole sentences make good
documents, their labels menus; of every good document a bad one is made by shuffling its characters and one by
repeating its first sentences. Documents of all other languages are the fourth kind of bad ones. Rules and
thresholds are those of ``configs/data/web.toml`` with one accepted language.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from bench.program import program
from bench.real_text import WEB
from modelyard.data.filters import c4, duplicates, gopher, language, quality, words
from modelyard.data.filters.c4 import C4Config
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.data.filters.gopher import GopherConfig
from modelyard.data.filters.language import LanguageConfig
from modelyard.data.filters.languages import LANGUAGES, ends_sentence, line_words
from modelyard.data.filters.lines import layout
from modelyard.data.filters.quality import QualityConfig

LOCALES = {"no": "nb", "zh": "zh_Hans"}
"""Names of catalogues that are not the language's code."""
_MESSAGE = re.compile(r'^msgid (?:".*"\n)+(?:msgid_plural (?:".*"\n)+)?msgstr(?:\[0\])? ((?:".*"(?:\n|$))+)', re.MULTILINE)
_PLACE = re.compile(r"%\(\w+\)[sd]|%[sd]|[{}]|<[^>]*>")
_WORDS = 120
"""Least words of a document."""
GOPHER, C4 = GopherConfig.model_validate(WEB["gopher"]["text"]), C4Config.model_validate(WEB["c4"]["text"])
QUALITY, COPIES = QualityConfig.model_validate(WEB["quality"]["text"]), DuplicatesConfig.model_validate(WEB["duplicates"])


class Material(NamedTuple):
    """Texts of one language."""

    good: list[str]
    """Sentences in a row."""
    menus: list[str]
    """Labels, one a line."""


def messages(directory: Path, code: str) -> Iterator[str]:
    """Translated messages of a language's catalogues: .po files, or JSON of keys and messages."""
    country = re.compile(rf"{LOCALES.get(code, code)}(_[A-Z]{{2}})?")
    for path in sorted(directory.glob("**/locale/*/LC_MESSAGES/*")):
        if path.suffix not in (".po", ".json") or not country.fullmatch(path.parts[-3]):
            continue
        content = path.read_text("utf-8")
        if path.suffix == ".json":
            found = list(json.loads(content).values())
        else:
            found = ["".join(re.findall(r'"(.*)"', target)) for target in _MESSAGE.findall(content)]
        for text in found:
            text = text.replace("\\n", " ").replace('\\"', '"').strip()
            if text and not _PLACE.search(text) and "\\" not in text and "Content-Type" not in text:
                yield text


def problems(code: str) -> list[str]:
    """Word problems of MGSM and GSM8K, where ``MODELYARD_DATA`` has them."""
    folder = Path(os.environ.get("MODELYARD_DATA", "data"))
    found = []
    for path in sorted(folder.glob("gsm8k/test.jsonl*" if code == "en" else f"mgsm/samples_{code}.jsonl*")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found += [json.loads(line)["question"] for line in content.decode().splitlines()]
    return found[:250]


def material(directory: Path, code: str) -> Material:
    """Good documents and menus of a language."""
    every = list(dict.fromkeys(messages(directory, code)))
    sentences = [text for text in every if ends_sentence(text) and line_words(text) >= 5]
    labels = [text for text in every if not text.endswith((".", "。", "।")) and line_words(text) <= 4]
    return Material([*_documents(sentences, 3), *_documents(problems(code), 1)], _documents(labels, 1))


def _documents(parts: list[str], line: int) -> list[str]:
    """Parts put together until a document has enough words, ``line`` of them a line."""
    found, document = [], list[str]()
    for part in parts:
        document.append(part)
        if sum(map(line_words, document)) >= _WORDS:
            found.append("\n".join(" ".join(document[at : at + line]) for at in range(0, len(document), line)))
            document = []
    return found


def refusal(text: str, code: str) -> str:
    """The reason that a document of web text is refused for where one language is accepted, or nothing."""
    config = LanguageConfig(accepted=[code], confidence=0.6, min_letters=30)
    if refused := language.identify(text, config).refusal:
        return refused.reason
    block = words.characters([text])
    found, lines = words.words(block, apostrophes=True, unspaced=True), layout(block)
    [first] = quality.judge([text], block, found, lines, "text", QUALITY, code)
    [second] = gopher.judge(block, found, lines, GOPHER, code)
    third = c4.cut(text, C4).refusal
    return next((refused.reason for refused in (first, second, third) if refused), "")


def shuffled(text: str, rng: random.Random) -> str:
    """The text with its characters in another order."""
    characters = list(text)
    rng.shuffle(characters)
    return "".join(characters)


def boilerplate(text: str) -> str:
    """The first line of a text again and again."""
    return "\n".join([text.split("\n")[0]] * 6)


def changed(text: str, share: float, rng: random.Random) -> str:
    """The text with a share of its letters replaced by others of it."""
    letters = [at for at, char in enumerate(text) if char.isalpha()]
    characters = list(text)
    for at in rng.sample(letters, max(1, round(share * len(letters)))):
        characters[at] = text[rng.choice(letters)]
    return "".join(characters)


def near_copies(documents: list[str], share: float, rng: random.Random) -> int:
    """How many changed copies of documents are found."""
    every = [*documents, *(changed(text, share, rng) for text in documents)]
    keys = [duplicates.exact_key(text) for text in every]
    copies = duplicates.find(keys, duplicates.signatures(every, COPIES), COPIES)
    return sum(copy is not None and copy.original == at for at, copy in enumerate(copies[len(documents) :]))


def main(
    directory: Annotated[Path, typer.Argument()],
    languages: list[str] = [*LANGUAGES],
    with_reasons: Annotated[bool, typer.Option("--reasons", help="Say why good documents are refused and what bad ones are kept.")] = False,
) -> None:
    """Measure and print a Markdown table."""
    rng = random.Random(0)
    every = {code: material(directory, code) for code in sorted(languages)}
    every = {code: texts for code, texts in every.items() if len(texts.good) >= 5}
    print("| | kept | shuffled | boilerplate | menus | other languages | copies at 0.2% | 0.5% | 1% |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for code, texts in every.items():
        others = [text for other, found in every.items() if other != code for text in found.good[:8]]
        reasons = Counter(refusal(text, code) for text in texts.good)
        bad = [[shuffled(t, rng) for t in texts.good], [boilerplate(t) for t in texts.good], texts.menus, others]
        refused = [sum(bool(refusal(text, code)) for text in group) for group in bad]
        cells = [f"{reasons['']} of {len(texts.good)}", *(f"{n} of {len(group)}" for n, group in zip(refused, bad, strict=True))]
        cells += [f"{near_copies(texts.good, share, rng)} of {len(texts.good)}" for share in (0.002, 0.005, 0.01)]
        print(f"| {code} | {' | '.join(cells)} |", flush=True)
        if with_reasons:
            print("   refused:", {reason: n for reason, n in reasons.items() if reason})


if __name__ == "__main__":
    sys.exit(program(main))
