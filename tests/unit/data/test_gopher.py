"""Gopher's rules measured in batches, against a plain reference that counts words, lines and n-grams one document at a time."""

import collections
import random
import re
import tomllib
from pathlib import Path

import pytest
import regex

from modelyard.data.filters import gopher, words
from modelyard.data.filters.gopher import GopherConfig
from modelyard.data.filters.lines import layout

CONFIG = GopherConfig.model_validate(
    tomllib.loads((Path(__file__).parents[3] / "configs/data/web.toml").read_text())["corpus"]["filters"]["gopher"]["text"]
)
ALONE = regex.compile(r"[[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}]&&[\p{L}\p{M}\p{N}]]", regex.V1)
WORD = regex.compile(
    rf"{ALONE.pattern}|(?:(?!{ALONE.pattern})[\p{{L}}\p{{M}}\p{{N}}])+(?:['\u2019](?:(?!{ALONE.pattern})[\p{{L}}\p{{M}}\p{{N}}])+)*",
    regex.V1,
)
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}


def _reference(text):
    found = WORD.findall(text)
    folded, sizes = [word.casefold() for word in found], [len(word) for word in found]
    thai = [bool(ALONE.fullmatch(word)) and "\u0e00" <= word < "\u0f00" for word in found]
    ideographic = [bool(ALONE.fullmatch(word)) and not other for word, other in zip(found, thai, strict=True)]
    words_in = len(found) - sum(ideographic) / 2 - sum(thai) * 3 / 4
    step = 2 if 2 * sum(ideographic) > len(found) else 4 if 2 * sum(thai) > len(found) else 1
    count, units, letters = max(1, words_in), max(1, len(found)), max(1, sum(sizes))
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    values = {
        "word_count": words_in,
        "word_length": letters / count,
        "hashes": text.count("#") / count,
        "ellipses": (text.count("…") + len(re.findall(r"(?<!\.)\.\.\.", text))) / count,
        "bullet_lines": sum(line[0] in "\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013-*" for line in lines)
        / max(1, len(lines)),
        "ellipsis_lines": sum(line.endswith(("...", "…")) for line in lines) / max(1, len(lines)),
        "letter_words": sum(bool(regex.search(r"[\p{L}\p{M}]", word)) for word in found) / units,
        "stop_words": len(STOP_WORDS & set(folded)),
    }
    values["duplicate_lines"], values["duplicate_line_characters"] = _repeated(lines)
    values["duplicate_paragraphs"], values["duplicate_paragraph_characters"] = _repeated(paragraphs)
    for n in (2, 3, 4):
        grams = collections.Counter(tuple(folded[i : i + n * step]) for i in range(len(folded) - n * step + 1))
        top = max((times * sum(map(len, gram)) for gram, times in grams.items() if times > 1), default=0)
        values[f"top_{n}_gram"] = min(1, top / letters)
    for n in range(5, 11):
        seen, covered = set(), set()
        for start in range(len(folded) - n * step + 1):
            gram = tuple(folded[start : start + n * step])
            if gram in seen:
                covered.update(range(start, start + n * step))
            seen.add(gram)
        values[f"duplicate_{n}_grams"] = sum(sizes[index] for index in covered) / letters
    return values


def _repeated(parts):
    seen, count, characters = set(), 0, 0
    for part in map(str.casefold, parts):
        if part in seen:
            count, characters = count + 1, characters + len(part)
        seen.add(part)
    return count / max(1, len(parts)), characters / max(1, sum(map(len, parts)))


def _texts():
    rng = random.Random(0)
    vocabulary = [
        "the",
        "be",
        "to",
        "of",
        "film",
        "Ünïcode",
        "don\u2019t",
        "it's",
        "42",
        "x2",
        "हिन्दी",
        "#tag",
        "…",
        "...",
        "....",
        "•",
        "-",
        "a_b",
        "_",
    ]
    separators = [" "] * 12 + ["\n"] * 3 + ["\n\n", "\n \n", "  "]
    texts = ["", "   ", "\n", "one", "a b c d e f " * 40, "…\n\n• it\n• it\n* the be to 'of' don\u2019t\n...\nwell....\nx..."]
    for size in (3, 8, 19):
        texts += [
            "".join(rng.choice(vocabulary[:size]) + rng.choice(separators) for _ in range(rng.choice([5, 60, 300]))) for _ in range(40)
        ]
    for alphabet in ("港は東カーを。 \n", "ท่าเรือ \n", "港は東カーท่าเรือ the of 42 \n"):
        texts += ["".join(rng.choice(alphabet) for _ in range(size)) for size in (6, 40, 200, 200)]
    return texts


@pytest.mark.parametrize("block", [50, 1 << 17])
def test_gopher_every_measurement_equals_the_reference(monkeypatch, block):
    monkeypatch.setattr(words, "_BLOCK", block)
    texts = _texts()
    measured = collections.defaultdict(list)
    for _, part in words.blocks(texts):
        found = words.words(part, apostrophes=True, unspaced=True)
        for rule in gopher.measure(part, found, layout(part), CONFIG, "en"):
            measured[rule.name] += rule.values.tolist()
    for index, text in enumerate(texts):
        expected = _reference(text)
        assert {name: values[index] for name, values in measured.items()} == pytest.approx(expected, abs=1e-9), repr(text[:100])


def test_gopher_refuses_by_the_first_broken_rule_and_keeps_prose():
    rng = random.Random(1)
    nouns = [f"{a}{b}" for a in ("tree", "river", "stone", "cloud", "road") for b in ("side", "bank", "house", "light", "maker", "field")]
    prose = "\n\n".join(
        " ".join(["The", rng.choice(nouns), "of", "the", rng.choice(nouns), "and", *rng.choices(nouns, k=12)]) + "." for _ in range(8)
    )
    texts = [
        prose,
        "too short",
        prose.replace(".", "#" * 20),
        "\n".join(f"- {line}" for line in prose.split("\n\n")),
        (prose[:300] + "\n\n") * 9,
    ]
    reasons = [refusal and refusal.reason for refusal in gopher.refuse(texts, CONFIG)]
    assert reasons == [None, "gopher/word_count", "gopher/hashes", "gopher/bullet_lines", "gopher/duplicate_lines"]
