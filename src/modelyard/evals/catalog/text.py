"""Reading on: LAMBADA's last words (Paperno et al. 2016), and the loss on a text of one's own.

LAMBADA as lm-evaluation-harness asks it: right when the word's tokens are the greedy continuation, perplexity of the word beside it. Left out:
cloze prompts with blanks (GPT-3's few-shot form).
"""

from __future__ import annotations

from pathlib import Path

from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark, Item
from modelyard.evals.catalog.rows import find, jsonl, refuse_shots, taken
from modelyard.formats.json_file import text_of

PIECE = 2000
"""Characters of a text scored together."""


def lambada(data: Path, shots: int | None) -> Benchmark:
    """The last word of a passage."""
    shown = ""
    if shots:
        source = find(data, "lambada/fewshot.jsonl")
        own = taken(jsonl(source, "sample"), shots, source)
        shown = "".join(f"{row['sample'][0]['content']} {row['sample'][1]['content']}\n\n" for row in own)
    rows = jsonl(find(data, "lambada/samples.jsonl"), "input", "ideal")
    items = tuple(
        Item(id=f"lambada/{line}", fields={"context": row["input"][-1]["content"]}, target=row["ideal"]) for line, row in enumerate(rows)
    )
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


BENCHMARKS = {"lambada": lambada, "perplexity": perplexity}
