"""Contamination of a line's benchmarks, public and own ones among them, by the text that it trains on: a stage of the line.

The procedure is the GPT-4 Technical Report's (:mod:`modelyard.data.contamination.overlap`), as written and by
content, with GPT-3's 13-grams as a second opinion beside them. Unlike the report, the sets that fine-tuning, preference and
reinforcement learning use are checked as well. Items about images are found by their images (:mod:`modelyard.data.contamination.images`) and, in
what has no images, by their words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path

from pyarrow import dataset

from modelyard.data.contamination import images
from modelyard.data.contamination.overlap import ContaminationConfig, Overlap, check
from modelyard.formats import instructions
from modelyard.formats.contamination import Checked, Hit, Searched, write_holding, write_report
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    THUMBS,
    Comparison,
    Demonstration,
    PromptRecord,
    Thumb,
    prompt_text,
    records,
)
from modelyard.formats.flags import flags_of
from modelyard.formats.questions import read_questions
from modelyard.progress import Report
from modelyard.stats.estimate import proportion

PRETRAIN = "pretrain"
"""The training set that is the corpus."""
INSTRUCTIONS = "instructions"
"""Demonstrations that a teacher wrote."""


def run(config: ContaminationConfig, inputs: Mapping[str, Path], out: Path, report: Report) -> dict[str, float]:
    """Check every benchmark of ``inputs["benchmarks"]`` against every set that anything is trained on, of ``corpus``, ``feedback`` and (where
    the line has it) ``instructions``; writes :mod:`modelyard.formats.contamination`'s report, which names the sets searched."""
    benchmarks = read_questions(inputs["benchmarks"])
    texts = [[row.text for row in rows] for rows in benchmarks.values()]
    pictured = {name: [row for row in rows if row.images] for name, rows in benchmarks.items()}
    about_images = {row.id for rows in pictured.values() for row in rows}
    shown = images.shown(inputs["feedback"]) if about_images else images.Shown({}, frozenset())
    seen = {name: images.hits(rows, inputs["benchmarks"], inputs["feedback"], shown.first) for name, rows in pictured.items() if rows}
    hits: dict[str, dict[str, list[Hit]]] = {name: {"written": [], "content": [], "ngram": []} for name in benchmarks}
    searched: dict[str, dict[str, Searched]] = {name: {} for name in benchmarks}
    holding = set[str]()
    sets = _training_sets(inputs["corpus"], inputs["feedback"])
    if "instructions" in inputs:
        sets[INSTRUCTIONS] = [(one.id, one.text) for one in instructions.read(inputs["instructions"])]
    for done, (training, documents) in enumerate(sets.items(), 1):
        ids: list[str] = []
        overlaps = check(texts, _read(documents, ids), config)
        for (name, rows), found in zip(benchmarks.items(), overlaps, strict=True):
            matches = hits_of(found, training, [row.id for row in rows], ids)
            if pictured[name]:
                matches = {rule: [hit for hit in some if not _of_other_images(hit, about_images, shown)] for rule, some in matches.items()}
            if copies := seen.get(name, {}).get(training):
                matches |= {rule: [*matches[rule], *copies] for rule in ("written", "content")}
            for rule, some in matches.items():
                hits[name][rule] += some
            holding |= {ids[document] for document in found.content.documents} if training == PRETRAIN else set()
            searched[name][training] = Searched(documents=len(ids), **{rule: len(some) for rule, some in matches.items()})
        report(done, len(sets), unit="set")
    checked = {
        name: Checked(
            n=len(rows),
            written=_items(hits[name]["written"]),
            content=_items(hits[name]["content"]),
            sets=searched[name],
            hits={rule: tuple(some) for rule, some in hits[name].items()},
        )
        for name, rows in benchmarks.items()
    }
    write_report(out, checked)
    write_holding(out, holding)
    return {**metrics(checked), "contamination/holding/documents": float(len(holding))}


def _of_other_images(hit: Hit, about_images: Set[str], shown: images.Shown) -> bool:
    """Whether an item about an image was found by words that a record says of an image of its own."""
    return hit.item in about_images and hit.document in shown.records


def hits_of(found: Overlap, training: str, items: list[str], documents: list[str]) -> dict[str, list[Hit]]:
    """Rule -> the items of one benchmark found in one training set, by the names of items and documents."""
    places = {
        "written": [(m.item, m.document, m.substring) for m in found.written.matches],
        "content": [(m.item, m.document, m.substring) for m in found.content.matches],
        "ngram": [(m.item, m.document, m.ngram) for m in found.ngrams],
    }
    return {
        rule: [Hit(item=items[item], set=training, document=documents[document], found=text) for item, document, text in some]
        for rule, some in places.items()
    }


def metrics(checked: Mapping[str, Checked]) -> dict[str, float]:
    """``contamination/{benchmark}/share`` as written and ``.../content_share``, with intervals; ``contamination/items/...`` over all."""
    result: dict[str, float] = {}
    everything = {"items": checked.values(), **{name: [one] for name, one in checked.items()}}
    for name, some in everything.items():
        if n := sum(one.n for one in some):
            result |= proportion(sum(len(one.written) for one in some), n).flat(f"contamination/{name}/share")
            result |= proportion(sum(len(one.content) for one in some), n).flat(f"contamination/{name}/content_share")
    for name, one in checked.items():
        result[f"contamination/{name}/ngram_items"] = len(_items(one.hits["ngram"]))
    return result


def _items(hits: Sequence[Hit]) -> tuple[str, ...]:
    return tuple(sorted({hit.item for hit in hits}))


def _read(documents: Iterable[tuple[str, str]], ids: list[str]) -> Iterator[str]:
    """The texts as they are wanted, since a corpus is larger than memory; their ids are added to ``ids``."""
    for name, text in documents:
        ids.append(name)
        yield text


def _training_sets(corpus: Path, feedback: Path) -> dict[str, Iterable[tuple[str, str]]]:
    """Set -> (document id, text), every text of a set once. Flags are searched among the comparisons of their split, which they become."""
    demonstrations = [one for one in records(feedback / DEMONSTRATIONS, Demonstration) if one.split == "train"]
    comparisons = list(records(feedback / COMPARISONS, Comparison))
    thumbs = [one for one in records(feedback / THUMBS, Thumb) if one.split == "train"]
    prompts = [one for one in records(feedback / PROMPTS, PromptRecord) if one.split == "train"]
    said = [(one.split, one.id, prompt_text(one.prompt) + text) for one in comparisons for text in one.completions]
    for flag in flags_of(feedback):
        said += [(flag.split, flag.id, prompt_text(flag.prompt) + text) for text in (flag.completion, flag.correction) if text]
    compared = {split: [(name, text) for side, name, text in said if side == split] for split in ("reward", "gold")}
    return {
        PRETRAIN: _trained(corpus / "documents"),
        "demonstrations": [(one.id, prompt_text(one.prompt) + one.completion) for one in demonstrations],
        **{
            f"{split}_comparisons": [(name, text) for text, name in {text: name for name, text in rows}.items()]
            for split, rows in compared.items()
        },
        "thumbs": [(one.id, prompt_text(one.prompt) + one.completion) for one in thumbs],
        "prompts": [(one.id, prompt_text(one.prompt)) for one in prompts],
    }


def _trained(documents: Path) -> Iterator[tuple[str, str]]:
    """(id, text) of the corpus's training documents, in the order of the files."""
    wanted = dataset.field("split") == "train"
    for batch in dataset.dataset(documents, format="parquet").to_batches(columns=["id", "text"], filter=wanted):
        yield from zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True)
