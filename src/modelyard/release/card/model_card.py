"""The model card: one self-contained HTML page (Mitchell et al. 2019), made of the artifacts' own files.

Figures are inline SVG, nothing is fetched, and it reads on a phone. Overrides and signatures stand with the gates. The
page beside it (:mod:`modelyard.release.card.evolution`) shows the releases that led to this version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard import printable
from modelyard.formats import rewards
from modelyard.formats.contamination import FILE as REPORT
from modelyard.formats.contamination import Report, read_report
from modelyard.formats.results import Results, ends_with_feedme, ends_with_sft
from modelyard.model import model_directory
from modelyard.release.card.card_template import TEMPLATE
from modelyard.release.card.content_classifier import classifier
from modelyard.release.card.feedback import feedback
from modelyard.release.card.instructions import taught
from modelyard.release.card.judged_shares import judged_shares
from modelyard.release.card.lost_rows import lost_rows
from modelyard.release.card.objections import objections
from modelyard.release.card.plots import plots, seesaws
from modelyard.release.card.seen import seen
from modelyard.release.gates.gate import MODELS, Decision
from modelyard.stats.estimate import Estimate
from modelyard.store.manifest import MANIFEST, SOURCES

FILE = "card.html"
FEW = 100_000_000
"""Parameters of a model that is too small to know much."""
ALIGNED = {
    "ppo": "PPO",
    "grpo": "GRPO",
    "rloo": "RLOO",
    "opd": "on-policy distillation from a teacher",
    "dpo": "DPO",
    "kwise_dpo": "K-wise DPO",
    "ipo": "IPO",
    "kto": "KTO",
}
"""``policy.algorithm`` -> how the page names it."""


def build(name: str, inputs: Mapping[str, Path], decision: Decision, results: Results) -> str:
    """The page. ``inputs`` are the decision stage's."""
    directory = inputs["results"]
    report = read_report(inputs["contamination"]) if (inputs["contamination"] / REPORT).is_file() else {}
    models = [model for model in MODELS if model in results.weights]
    return printable.page(TEMPLATE).render(
        title=name,
        name=name,
        parameters=shortened(model_directory.read(inputs["policy"]).model.parameters()),
        aligned=aligned(inputs),
        distilled=bool(sources_of("policy", inputs)),
        ends_with_sft=ends_with_sft(inputs),
        decision=decision,
        objections=objections(decision, results, inputs),
        facts=facts(inputs, results),
        limits=limits(inputs, results),
        figures=[*plots(inputs, results), *seesaws(decision, inputs)],
        models=models,
        metrics=[(label(key), [cell(results, model, key) for model in models]) for key in measured(results)],
        classes=classes(results),
        judged_shares=judged_shares(results),
        rules=rule_rows(inputs),
        feedback=feedback(inputs),
        taught=taught(inputs),
        lost=lost_rows(inputs),
        seen=seen(directory),
        classifier=classifier(inputs),
        samples=json.loads((directory / "samples.json").read_text("utf-8")),
        contamination=contamination_rows(report, results),
        sources=[row for role in ("corpus", "feedback", "instructions", "policy") for row in sources_of(role, inputs)],
    )


def aligned(inputs: Mapping[str, Path]) -> str:
    """By which algorithm the released model was trained, as its manifest says; "" where it says none."""
    if ends_with_feedme(inputs):
        return "FeedME"
    algorithm = (read_json(inputs["policy"] / MANIFEST) or {}).get("config", {}).get("algorithm", "")
    return ALIGNED.get(algorithm, algorithm)


def abuse_judge(corpus: Path) -> str:
    """What the corpus's model of abuse learned from, and its average precision where it was measured."""
    report = read_json(corpus / "abuse.json") or {}
    measured = report.get("average_precision/any")
    figure = f", average precision {Estimate(**measured)} on held-out labels" if measured else ", not measured on labels"
    return f"{report['origin']}{figure}" if report else "the corpus's model of abuse, of which nothing is recorded"


def limits(inputs: Mapping[str, Path], results: Results) -> list[str]:
    """What the figures do not say, as far as it follows from how they were made."""
    size = model_directory.read(inputs["policy"]).model.parameters()
    said = ["What it says may be untrue however it sounds: nothing above measures truth but the benchmarks that ask for facts."]
    if size < FEW:
        said = [f"A model of {shortened(size)} parameters writes the style of its training text and knows hardly any facts."]
    if "toxicity" in results.benchmarks:
        said.append(f"Toxicity is a proxy, judged by {abuse_judge(inputs['corpus'])}.")
    if "gold" in inputs:
        said.append("Preference is a proxy too: the score of one reward model that the policy never saw, not of people who use it.")
    return said


def facts(inputs: Mapping[str, Path], results: Results) -> list[tuple[str, str]]:
    """What the weights are and where they come from."""
    model, rewarded = model_directory.read(inputs["policy"]).model, rewards.read(inputs["policy"]).ids
    shape = f"{model.style}, {model.layers} layers x {model.hidden}, {model.heads} heads, context {model.seq_len}"
    parents = [
        (f"{role} artifact", path.parent.name + "/" + path.name)
        for role, path in inputs.items()
        if role in (*MODELS, "results", "forecast")
    ]
    return [
        ("Architecture", shape),
        ("Toxicity is judged by", abuse_judge(inputs["corpus"])),
        ("Vocabulary", f"{model.vocab_size} byte-level BPE tokens"),
        ("Weights", results.weights.get("policy", "unknown")),
        *parents,
        *(("Teacher", f"{row['name']} {row['sha256']}; licence: {row['licence']}") for row in sources_of("policy", inputs)),
        *([("Verified rewards", ", ".join(f"{name} {identity}" for name, identity in rewarded.items()))] if rewarded else []),
        ("Benchmarks", ", ".join(f"{name} {measured.id}" for name, measured in results.benchmarks.items())),
    ]


def cell(results: Results, model: str, key: str) -> tuple[str, str]:
    """A metric's value, and its interval and n; an en dash where the model has none."""
    found = results.metrics.get(f"evals/{model}/{key}")
    return (f"{found.value:.3f}", f"[{found.low:.3f}, {found.high:.3f}] n={found.n}") if found else ("\u2013", "")


def measured(results: Results) -> list[str]:
    """``benchmark/metric`` of everything that any model has, but for parts of a benchmark and a rubric's classes."""
    keys = dict.fromkeys(key.split("/", 2)[2] for key in results.metrics)
    return [key for key in keys if not key.endswith(("_clean", "_contaminated")) and "/class_" not in key]


def label(key: str) -> str:
    """``last_word/acc`` for people."""
    benchmark, _, metric = key.partition("/")
    return f"{benchmark.replace('_', ' ')}: {metric.replace('_', ' ')}"


def classes(results: Results) -> tuple[list[str], list[tuple[str, str, list[tuple[str, str]]]]]:
    """A rubric's classes, and for each group of prompts and each model the share of replies in every class; empty where
    nobody judged."""
    keys = [key.split("/")[2:] for key in results.metrics if key.startswith("evals/policy/") and "/class_" in key]
    grouped = [(benchmark, name, *group) for benchmark, name, *group in keys if group]
    names = list(dict.fromkeys(name for _, name, *_ in grouped))
    places = list(dict.fromkeys((benchmark, group) for benchmark, _, group in grouped))
    rows = [
        (f"{benchmark}, {group}".replace("_", " "), model, [cell(results, model, f"{benchmark}/{name}/{group}") for name in names])
        for benchmark, group in places
        for model in MODELS
        if model in results.weights
    ]
    return [name.removeprefix("class_") for name in names], rows


def rule_rows(inputs: Mapping[str, Path]) -> list[tuple[str, ...]]:
    """Rubric, prompts, what is wanted of them, weight, and how far the judge agrees with people; empty for a line without rules."""
    book = read_json(inputs["rbrm"] / "rules.json") if "rbrm" in inputs else None
    if book is None:
        return []
    agreement = {one["rubric"].rsplit("-", 1)[0]: one for one in book["agreement"]}
    rows: list[tuple[str, ...]] = []
    for rule in book["rules"]:
        rubric = f"{rule['rubric']['name']}-v{rule['rubric']['version']}"
        judged = agreement.get(rubric)
        kappa = f"{judged['kappa']:.2f} [{judged['kappa_low']:.2f}, {judged['kappa_high']:.2f}] n={judged['n']}" if judged else "\u2013"
        rows.append((rubric, ", ".join(rule["categories"]), rule["stance"], f"{rule['weight']:.2f}", kappa))
    return rows


def contamination_rows(report: Report, results: Results) -> list[tuple[str, ...]]:
    """Benchmark, items, contaminated as written and by content, and the policy's score on all, clean and contaminated items."""

    def found(items: tuple[str, ...], share: float) -> str:
        return f"{len(items)} ({share:.1%})"

    rows = []
    for name, entry in report.items():
        first = results.benchmarks[name].metrics[0] if name in results.benchmarks else ""
        scores = [results.metrics.get(f"evals/policy/{name}/{first}{part}") for part in ("", "_clean", "_contaminated")]
        shown = [f"{score.value:.3f}" if score else "\u2013" for score in scores]
        rows.append((name, str(entry.n), found(entry.written, entry.written_share), found(entry.content, entry.content_share), *shown))
    return rows


def shortened(count: int) -> str:
    """A large number for people, such as 1.05M."""
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"


def sources_of(role: str, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """What an artifact says of where it came from; of a policy its teacher, where it has one."""
    return (read_json(inputs[role] / SOURCES) if role in inputs else None) or []


def read_json(path: Path) -> Any:
    """Content of a JSON file, None when there is none: the card is written for a blocked release too."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else None
