"""Reading on: LAMBADA's last words (Paperno et al. 2016), and the loss on a text of one's own.

LAMBADA as lm-evaluation-harness asks it: right when the word's tokens are the greedy continuation, perplexity of the word beside it; or with the
word generated and compared (``lambada_word``), as a chat model is asked. Left out: cloze prompts with blanks (GPT-3's few-shot form).
"""

from __future__ import annotations

from pathlib import Path

from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark
from modelyard.evals.catalog.rows import find, jsonl, load, refuse_shots, taken, text
from modelyard.evals.item import Item
from modelyard.formats.json_file import Line, text_of
from modelyard.model.asked import Decoding

COMPLETE = "Complete the passage with its last word.\n\n"
PIECE = 2000
"""Characters of a text scored together."""


def lambada(data: Path, shots: int | None) -> Benchmark:
    """The last word of a passage."""
    shown = ""
    if shots:
        source = find(data, "lambada/fewshot.jsonl")
        own = taken(jsonl(source, "sample"), shots, source)
        shown = "".join(f"{row['sample'][0]['content']} {row['sample'][1]['content']}\n\n" for row in own)
    passages = [passage(line) for line in load(data, "lambada/samples.jsonl", "lambada/**/test*")]
    items = tuple(Item(id=f"lambada/{place}", fields={"context": context}, target=word) for place, (context, word) in enumerate(passages))
    return Benchmark(
        name="lambada",
        items=items,
        prompt="{context}",
        decoding=NOTHING_DRAWN,
        parser="whole",
        scorer="acc",
        metrics=("acc", "word_perplexity"),
        method="last_word",
        prefaces={"": shown},
    )


def lambada_word(data: Path, shots: int | None) -> Benchmark:
    """The last word as the model writes it, after an instruction that a chat model needs."""
    made = lambada(data, shots)
    change = {
        "name": "lambada_word",
        "method": "generate",
        "decoding": Decoding(max_new_tokens=8, temperature=0.0, samples=1, seed=0),
        "parser": "first_word",
        "scorer": "last_word",
        "metrics": ("last_word", "parsed"),
        "prefaces": {"": COMPLETE + made.prefaces[""]},
    }
    return made.model_copy(update=change)


def passage(line: Line) -> tuple[str, str]:
    """What is read, and its last word; the Hub's rows are the whole text. Raises ValueError naming the line."""
    row = line.fields
    if "text" in row:
        context, _, word = text(line, "text").rpartition(" ")
        return context, word
    if not isinstance(row.get("input"), list) or not row["input"] or "ideal" not in row:
        raise ValueError(f"{line.where}: no {'input' if 'ideal' in row else 'ideal'!r}")
    return str(row["input"][-1]["content"]), text(line, "ideal")


def perplexity(data: Path, shots: int | None) -> Benchmark:
    """Loss on ``text/*.txt``, or on tinyshakespeare where there is none, cut at line ends into pieces of about 2,000 characters."""
    refuse_shots("perplexity", shots)
    files = sorted([*(data / "text").glob("*.txt"), *(data / "text").glob("*.txt.gz")]) or [find(data, "tinyshakespeare/input.txt")]
    items: list[Item] = []
    for file in files:
        piece = ""
        for line in [*text_of(file).splitlines(keepends=True), ""]:
            if piece.strip() and (not line or len(piece) + len(line) > PIECE):
                items.append(Item(id=f"{file.name}/{len(items)}", fields={"text": piece}, target="", group=file.name))
                piece = ""
            piece += line
    return Benchmark(
        name="perplexity",
        items=tuple(items),
        prompt="{text}",
        decoding=NOTHING_DRAWN,
        parser="whole",
        scorer="log_likelihood",
        metrics=("perplexity", "bits_per_byte"),
        method="loss",
    )


BENCHMARKS = {"lambada": lambada, "lambada_word": lambada_word, "perplexity": perplexity}
