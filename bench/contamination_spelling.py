"""What the contamination check finds of benchmark items that stand in a corpus in another spelling, and what it takes for one.

``MODELYARD_DATA=data python -m bench.contamination_spelling [--megabytes 10] [--items 40]``. Items are questions of GSM8K, MGSM in Japanese, XSTest's
prompts and a Korean set of short questions; each is planted once in a document of the benchmark text, all in one spelling at a time. *As written* is
the GPT-4 report's rule, *by content* what gates and removes. A document is taken wrongly that holds no planted item and would be removed.
"""

from __future__ import annotations

import csv
import gzip
import html
import io
import json
import os
import random
import sys
import textwrap
import unicodedata
from collections.abc import Callable
from pathlib import Path

from bench.program import program
from bench.real_text import texts
from modelyard.data.contamination.overlap import ContaminationConfig, check

CONFIG = ContaminationConfig(seed=0, substrings=3, length=50, ngram=13)
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "wrapped at 30": lambda text: textwrap.fill(text, 30),
    "other punctuation": lambda text: text.replace(".", " - ").replace(",", ";").replace("?", "!").replace("、", " "),
    "Markdown": lambda text: " ".join(f"**{word}**" if number % 3 == 0 else word for number, word in enumerate(text.split(" "))),
    "upper case": str.upper,
    "title case": str.title,
    "full width": lambda text: "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text),
    "NFD": lambda text: unicodedata.normalize("NFD", text),
    "HTML entities": lambda text: "".join(f"&#{ord(char)};" if ord(char) > 127 or char in "aeiou" else html.escape(char) for char in text),
}


def main(megabytes: float = 10.0, items: int = 40) -> None:
    """Measure and print a Markdown table for each set of items."""
    documents = texts(megabytes)
    for name, questions in _sets(items).items():
        letters = sorted(len(text) for text in questions)[len(questions) // 2]
        print(f"\n{name}: {len(questions)} items, half of them under {letters} characters; {len(documents)} documents\n")
        print("| spelling | as written | by content | its documents removed | others removed |\n| --- | --- | --- | --- | --- |")
        for spelling, spelled in SPELLINGS.items():
            print(f"| {spelling} | {' | '.join(_found(documents, questions, spelled))} |", flush=True)


def _found(documents: list[str], items: list[str], spelled: Callable[[str], str]) -> list[str]:
    """Cells of a row."""
    rng = random.Random(0)
    places = rng.sample(range(len(documents)), len(items))
    planted = list(documents)
    for place, item in zip(places, items, strict=True):
        planted[place] += "\n\n" + spelled(item) + "\n"
    [found] = check([items], planted, CONFIG)
    removed = found.content.documents
    counts = len(found.written.matches), len(found.content.matches), len(removed & set(places))
    return [*(f"{count} of {len(items)}" for count in counts), str(len(removed - set(places)))]


def _sets(items: int) -> dict[str, list[str]]:
    """Name -> its first different questions."""
    folder = Path(os.environ.get("MODELYARD_DATA", "data"))
    every = {
        "GSM8K": [row["question"] for row in _json_lines(next(folder.glob("gsm8k/test.jsonl*")))],
        "MGSM, Japanese": [row["question"] for row in _json_lines(next(folder.glob("mgsm/samples_ja.jsonl*")))],
        "XSTest": [row["prompt"] for row in csv.DictReader(io.StringIO(_text(next(folder.glob("xstest/*.csv*")))))],
        "Korean questions": [row["Q"] for row in csv.DictReader(io.StringIO(_text(next(folder.glob("korean_chatbot_qa/*.csv*")))))],
    }
    return {name: list(dict.fromkeys(questions))[:items] for name, questions in every.items()}


def _json_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in _text(path).splitlines()]


def _text(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()


if __name__ == "__main__":
    sys.exit(program(main))
