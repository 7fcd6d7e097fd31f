"""What the later stages take from the corpus beside documents: demonstrations, PPO prompts and the benchmark files.

Prompts are deduplicated (InstructGPT, appendix A.3: on long common prefixes; here on the whole opening), and no opening
of the benchmark begins a text that anything is trained on. Last-word items follow LAMBADA (Paperno et al. 2016):
predict the final word of a passage never trained on. Held-out texts are whole documents of the validation split: what one
model's loss a byte is compared with another's on, whatever their tokenizers.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from modelyard.config import Config
from modelyard.data.corpus.splits import fraction
from modelyard.data.sources.dialogs import turns

Row = dict[str, Any]
_LAST = re.compile(r"^(?P<context>.*\s)(?P<word>[A-Za-z]{3,})[.!?'\")]*$", re.DOTALL)


class ExportsConfig(Config):
    """Sizes of the exported sets."""

    opening_words: int
    """Words of a review that make a prompt."""
    completion_words: int
    """Fewest words that must follow an opening."""
    openings: int
    """Most items of the openings benchmark."""
    last_word: int
    """Most items of the last-word benchmark."""
    last_word_context: int
    """Fewest words of a last-word context."""
    held_out_text: int
    """Most documents of the held-out text benchmark."""
    review_demonstrations: int
    """Most review completions among the demonstrations."""


class Exports(NamedTuple):
    """Rows of the exported files."""

    demonstrations: list[Row]
    prompts: list[Row]
    openings: list[Row]
    last_word: list[Row]
    held_out_text: list[Row]


def build(rows: list[Row], config: ExportsConfig, seed: int) -> Exports:
    """Exports from the kept rows; each row has id, kind, split (of :mod:`modelyard.data.corpus.splits`) and text."""
    movies = _shuffled([row for row in rows if row["id"].startswith("movie-")], seed)
    trained = {folded(opening(row["text"], config.opening_words)) for row in rows if row["split"] in ("train", "reward", "gold")}
    return Exports(
        demonstrations=_demonstrations(rows, movies, config),
        prompts=_prompts([row for row in movies if row["split"] == "reward"], config),
        openings=_openings([row for row in movies if row["split"] == "test"], trained, config),
        last_word=_last_word(_shuffled([row for row in rows if row["split"] in ("validation", "test")], seed), config),
        held_out_text=_held_out_text(_shuffled([row for row in rows if row["split"] == "validation"], seed), config),
    )


def folded(text: str) -> str:
    """Letters and digits only, in lower case: how two openings are compared."""
    return "".join(c for c in text.lower() if c.isalnum())


def opening(text: str, words: int) -> str:
    """The first ``words`` words, as written."""
    match = re.match(rf"(?:\S+\s+){{{words - 1}}}\S+", text)
    return match.group(0) if match else text


def _shuffled(rows: list[Row], seed: int) -> list[Row]:
    return sorted(rows, key=lambda row: (fraction(f"{seed}:export:{row['id']}"), row["id"]))


def _long_enough(row: Row, config: ExportsConfig) -> bool:
    return len(row["text"].split()) >= config.opening_words + config.completion_words


def _prompts(movies: list[Row], config: ExportsConfig) -> list[Row]:
    prompts = {opening(row["text"], config.opening_words): row["id"] for row in reversed(movies) if _long_enough(row, config)}
    return [{"id": name, "prompt": prompt} for prompt, name in sorted(prompts.items(), key=lambda item: item[1])]


def _openings(movies: list[Row], trained: set[str], config: ExportsConfig) -> list[Row]:
    found: dict[str, Row] = {}
    for row in movies:
        prompt = opening(row["text"], config.opening_words)
        if _long_enough(row, config) and folded(prompt) not in trained and prompt not in found:
            found[prompt] = {"id": row["id"], "prompt": prompt, "text": row["text"]}
    return list(found.values())[: config.openings]


def _last_word(rows: list[Row], config: ExportsConfig) -> list[Row]:
    found = []
    for row in rows:
        if row["kind"] != "review":
            continue
        match = _LAST.match(row["text"])
        if match and len(match["context"].split()) >= config.last_word_context:
            found.append({"id": row["id"], "context": match["context"].rstrip(), "word": match["word"]})
    return found[: config.last_word]


def _held_out_text(rows: list[Row], config: ExportsConfig) -> list[Row]:
    return [{"id": row["id"], "text": row["text"]} for row in rows[: config.held_out_text]]


def _demonstrations(rows: list[Row], movies: list[Row], config: ExportsConfig) -> list[Row]:
    reviews = [row for row in movies if _long_enough(row, config) and row["split"] in ("reward", "gold", "validation")]
    found = []
    for row in reviews[: config.review_demonstrations]:
        prompt = opening(row["text"], config.opening_words)
        found.append(_demonstration(row, "review", row["id"], prompt, row["text"][len(prompt) :]))
    for row in rows:
        if row["kind"] == "dialog":
            said = turns(row["text"])
            found += [_demonstration(row, "dialog", f"{row['id']}-{n}", said[n], said[n + 1]) for n in range(0, len(said) - 1, 2)]
    held = {_key(row) for row in found if row["split"] == "validation"}
    return [row for row in found if row["split"] == "validation" or _key(row) not in held]


def _key(row: Row) -> str:
    return " ".join(f"{row['prompt']} {row['completion']}".casefold().split())


def _demonstration(row: Row, kind: str, name: str, prompt: str, completion: str) -> Row:
    split = "validation" if row["split"] == "validation" else "train"
    return {"id": name, "kind": kind, "prompt": prompt, "completion": completion, "split": split}
