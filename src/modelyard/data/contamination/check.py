"""Contamination of a line's benchmarks, public and own ones among them, by the text that it trains on: a stage of the line.

The procedure is the GPT-4 Technical Report's (:mod:`modelyard.data.contamination.overlap`), with GPT-3's
13-grams as a second opinion beside it. Unlike the report, the sets that fine-tuning, preference and
reinforcement learning use are checked as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from modelyard.data.contamination.overlap import ContaminationConfig, check
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    Comparison,
    Demonstration,
    PromptRecord,
    prompt_text,
    records,
)
from modelyard.formats.questions import read_questions
from modelyard.progress import Report
from modelyard.stats.estimate import proportion


def run(config: ContaminationConfig, inputs: Mapping[str, Path], out: Path, report: Report) -> dict[str, float]:
    """Check every benchmark of ``inputs["benchmarks"]`` against every set that anything is trained on, of ``corpus`` and
    ``feedback``; the report names the sets searched."""
    benchmarks = read_questions(inputs["benchmarks"])
    texts = [[row.text for row in rows] for rows in benchmarks.values()]
    result: dict[str, Any] = {name: {"n": len(rows), "sets": {}, "hits": [], "second_opinion": []} for name, rows in benchmarks.items()}
    sets = _training_sets(inputs["corpus"], inputs["feedback"])
    for done, (training, documents) in enumerate(sets.items(), 1):
        for (name, rows), found in zip(benchmarks.items(), check(texts, (text for _, text in documents), config), strict=True):
            entry = result[name]
            entry["sets"][training] = {"documents": len(documents), "contaminated": len(found.matches), "ngram": len(found.ngrams)}
            entry["hits"] += [
                {"item": rows[m.item].id, "set": training, "document": documents[m.document][0], "substring": m.substring}
                for m in found.matches
            ]
            entry["second_opinion"] += [
                {"item": rows[m.item].id, "set": training, "document": documents[m.document][0], "ngram": m.ngram} for m in found.ngrams
            ]
        report(done, len(sets), unit="set")
    contaminated = {name: sorted({hit["item"] for hit in value["hits"]}) for name, value in result.items()}
    metrics: dict[str, float] = {}
    for name, value in result.items():
        value["contaminated"] = len(contaminated[name])
        share = proportion(len(contaminated[name]), value["n"]) if value["n"] else None
        value["share"] = share.value if share else 0.0
        metrics |= share.flat(f"contamination/{name}/share") if share else {}
        metrics[f"contamination/{name}/ngram_items"] = len({hit["item"] for hit in value["second_opinion"]})
    met, items = sum(map(len, contaminated.values())), sum(map(len, benchmarks.values()))
    metrics = {**(proportion(met, items).flat("contamination/items/share") if items else {}), **metrics}
    _write_json(out / "report.json", result)
    _write_json(out / "contaminated.json", contaminated)
    return metrics


def _training_sets(corpus: Path, feedback: Path) -> dict[str, list[tuple[str, str]]]:
    """Set -> (document id, text), every text of a set once."""
    documents = pq.read_table(corpus / "documents", filters=[("split", "==", "train")], columns=["id", "text"])
    demonstrations = [one for one in records(feedback / DEMONSTRATIONS, Demonstration) if one.split == "train"]
    comparisons = list(records(feedback / COMPARISONS, Comparison))
    prompts = [one for one in records(feedback / PROMPTS, PromptRecord) if one.split == "train"]
    compared = {
        split: [(one.id, prompt_text(one.prompt) + text) for one in comparisons if one.split == split for text in one.completions]
        for split in ("reward", "gold")
    }
    return {
        "pretrain": _pairs(documents),
        "demonstrations": [(one.id, prompt_text(one.prompt) + one.completion) for one in demonstrations],
        **{
            f"{split}_comparisons": [(name, text) for text, name in {text: name for name, text in rows}.items()]
            for split, rows in compared.items()
        },
        "prompts": [(one.id, prompt_text(one.prompt)) for one in prompts],
    }


def _pairs(table: Any) -> list[tuple[str, str]]:
    return list(zip(table.column("id").to_pylist(), table.column("text").to_pylist(), strict=True))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
