"""What model-assisted labelling of harm is worth: planted errors that are found, and chosen texts beside random ones, on labels of people.

``python -m bench.harm_labels --labels FILE.jsonl.gz [--json OUT]``, by words alone (TF-IDF). The training half is the stage's, and every gain is
measured on the other half. Planted: a share of the known labels of categories is flipped, and the cross-scores of the flipped labels rank them;
confident learning's set stands beside cleanlab's, where that is installed. Chosen: from a few labelled texts on, a batch is added again and
again, as ``modelyard harms --next`` chooses it or at random, from the same start. What the files themselves have wrong counts as right. What a
judge is worth that is asked rules is ``bench.harm_judge``'s.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from bench.program import REPORT, program
from modelyard.data.filters.abuse_labels import LabelsConfig
from modelyard.data.harms import gather
from modelyard.formats.harms import HarmText, read_texts
from modelyard.posttrain.content_classifier import cross_scores, next_labels
from modelyard.posttrain.content_classifier.cross_scores import Labelled, Rows, confident, cross_scored, judged
from modelyard.posttrain.content_classifier.next_labels import Shares
from modelyard.posttrain.content_classifier.train import ContentClassifierConfig
from modelyard.progress import silent
from modelyard.stats.estimate import bootstrap_mean
from modelyard.stats.ranking import average_precision

CONFIG = ContentClassifierConfig(seed=0)
ARMS = {"random": Shares(random=1, above=0), "chosen": Shares(), "uncertain": Shares(random=0, above=0)}
"""Who chooses."""
Labels = npt.NDArray[np.int8]


def main(
    labels: Annotated[Path, typer.Option(help="JSON lines with OpenAI's keys.")],
    flipped: Annotated[list[float], typer.Option(help="Shares of the known labels that are flipped.")] = [0.05, 0.1],
    seeds: int = 20,
    start: Annotated[int, typer.Option(help="Texts that are labelled at first.")] = 60,
    batch: Annotated[int, typer.Option(help="Texts of a batch.")] = 30,
    batches: int = 6,
    rare: Annotated[float, typer.Option(help="Share of harmful texts in a second pool, which is thinned to it.")] = 0.1,
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Measure and print."""
    train, test = halves_of(labels)
    result: dict[str, Any] = {"train": len(train), "test": len(test)}
    print(f"{len(train)} texts to learn from, {len(test)} to measure on; {seeds} seeds; mean [95% interval over seeds]")
    for share in flipped:
        result[f"flipped {share:g}"] = shown(f"{share:.0%} flipped", [planted(train, test, share, seed) for seed in range(seeds)])
    chosen = [grown(train, test, start, batch, batches, seed) for seed in range(seeds)]
    result["chosen"] = shown(f"any harm from {start} texts of {len(train)} on, {batch} a batch", chosen)
    chosen = [grown(thinned(train, rare, seed), test, start, batch, batches, seed) for seed in range(seeds)]
    result["chosen, rare"] = shown(f"the same where {rare:.0%} of the texts are harmful", chosen)
    if report:
        report.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def halves_of(labels: Path) -> tuple[list[HarmText], list[HarmText]]:
    """The texts to learn from, and those to measure on, as the stage splits them."""
    declared = LabelsConfig(path=str(labels.resolve()), sha256=hashlib.sha256(labels.read_bytes()).hexdigest(), licence="as given")
    with TemporaryDirectory() as place:
        gather.run(gather.HarmLabelsConfig(files=(declared,)), {}, Path(place), silent, [""])
        texts = read_texts(Path(place))
    return [one for one in texts if one.split == "train"], [one for one in texts if one.split == "test"]


def shown(what: str, rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Every figure over the seeds."""
    found = {key: bootstrap_mean([one[key] for one in rounds], 0) for key in rounds[0]}
    print(what)
    for key, value in found.items():
        print(f"  {key:60} {value.value:7.3f} [{value.low:.3f}, {value.high:.3f}]", flush=True)
    return {key: value.plain() for key, value in found.items()}


def any_precision(known: Labelled, test: Labelled) -> float:
    """Average precision of any harm on the held-out texts, by a classifier of all of ``known``."""
    scored = judged(of_any(known), np.arange(len(known.texts)), [one.text for one in test.texts], None, CONFIG)
    return average_precision(scored.probabilities[:, 0], test.labels[:, 0] == 1)


def of_any(known: Labelled) -> Labelled:
    """Without the categories: each has a head and words of its own, so what is said of any harm is the same."""
    return known._replace(labels=known.labels[:, :1], names=known.names[:1])


def planted(train: Sequence[HarmText], test: Sequence[HarmText], share: float, seed: int) -> dict[str, float]:
    """Flip labels, look for them, and put right what a reviewer of as many labels as were flipped would."""
    clean, held = Labelled.of(train), Labelled.of(test)
    may = clean.labels >= 0
    may[:, 0] = False  # any follows from the categories
    wrong = flips(may, share, seed)
    spoiled = with_labels(clean, np.where(wrong, 1 - clean.labels, clean.labels).astype(np.int8))
    known = spoiled.labels[:, 1:] >= 0
    truth = wrong[:, 1:][known]
    found: dict[str, float] = {"planted": float(truth.sum()), "share of the labels": float(truth.mean())}
    for halves in (1, cross_scores.HALVES):
        p = cross_scored(spoiled, CONFIG, halves)
        doubt = np.where(spoiled.labels == 1, 1 - p, p)[:, 1:]
        found[f"halves drawn {halves}x: average precision of the ranking"] = average_precision(doubt[known], truth)
        first = np.argsort(-doubt[known], kind="stable")[: int(truth.sum())]
        found[f"halves drawn {halves}x: found among as many as were planted"] = float(truth[first].mean())
    own = np.stack([doubted(spoiled, p, n) for n in range(1, p.shape[1])], 1)[known]
    found |= of_set("confident learning", own, truth)
    if find_spec("cleanlab"):
        peers = np.stack([peer(spoiled, p, n) for n in range(1, p.shape[1])], 1)[known]
        found |= of_set("cleanlab, confident_learning", peers, truth)
        found["labels that only one of the two doubts"] = float((peers != own).sum())
    reviewed = np.zeros(doubt[known].shape, bool)
    reviewed[first] = True
    mended = spoiled.labels.copy()
    mended[:, 1:][known] = np.where(reviewed, clean.labels[:, 1:][known], spoiled.labels[:, 1:][known])
    scores = {
        name: any_precision(with_labels(clean, labels), held) for name, labels in (("clean", clean.labels), ("flipped", spoiled.labels))
    }
    scores["after review"] = any_precision(with_labels(clean, mended), held)
    found |= {f"any harm, labels {name}": value for name, value in scores.items()}
    return found | {"any harm, gain of the review": scores["after review"] - scores["flipped"]}


def flips(may: npt.NDArray[np.bool_], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which labels are flipped: ``share`` of those that may be, drawn at random."""
    cells = np.argwhere(may)
    drawn = np.random.default_rng(seed).permutation(len(cells))[: round(share * len(cells))]
    wrong = np.zeros(may.shape, bool)
    wrong[tuple(cells[drawn].T)] = True
    return wrong


def with_labels(known: Labelled, labels: Labels) -> Labelled:
    """The texts with other labels of categories, and what ``any`` is by them."""
    whole = labels.copy()
    whole[:, 0] = (labels[:, 1:] == 1).any(1)
    return known._replace(labels=whole)


def doubted(known: Labelled, probabilities: npt.NDArray[np.float64], column: int) -> npt.NDArray[np.bool_]:
    """[texts] what confident learning doubts of a category."""
    rows, found = np.flatnonzero(known.labels[:, column] >= 0), np.zeros(len(known.texts), bool)
    found[rows] = confident(known.labels[rows, column], probabilities[rows, column])
    return found


def peer(known: Labelled, probabilities: npt.NDArray[np.float64], column: int) -> npt.NDArray[np.bool_]:
    """The same by cleanlab."""
    from cleanlab.filter import find_label_issues

    rows, found = np.flatnonzero(known.labels[:, column] >= 0), np.zeros(len(known.texts), bool)
    p = probabilities[rows, column]
    given = known.labels[rows, column].astype(int)
    found[rows] = find_label_issues(given, np.stack([1 - p, p], 1), filter_by="confident_learning", n_jobs=1)
    return found


def of_set(name: str, found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> dict[str, float]:
    """How many were doubted, how many of them were planted, and how many of the planted that is."""
    hits = float((found & truth).sum())
    return {f"{name}: doubted": float(found.sum()), f"{name}: precision": hits / max(found.sum(), 1), f"{name}: recall": hits / truth.sum()}


def grown(train: Sequence[HarmText], test: Sequence[HarmText], start: int, batch: int, batches: int, seed: int) -> dict[str, float]:
    """Average precision of any harm after each batch, by who chose it, and the harmful texts among what was labelled."""
    pool, held = of_any(Labelled.of(train)), Labelled.of(test)
    order = np.random.default_rng(seed).permutation(len(train))
    labelled: dict[str, Rows] = dict.fromkeys(ARMS, order[:start])
    found: dict[str, float] = {}
    for number in range(batches + 1):
        at = f"{start + number * batch} texts"
        values = {name: any_precision(some(pool, rows), held) for name, rows in labelled.items()}
        found |= {f"{at}, {name}": value for name, value in values.items()}
        found |= {f"{at}, {name} less random": value - values["random"] for name, value in values.items() if number and name != "random"}
        if number < batches:
            labelled = {name: np.concatenate([rows, more(pool, rows, batch, ARMS[name], seed + number)]) for name, rows in labelled.items()}
    return found | {f"harmful among them, {name}": float((pool.labels[rows, 0] == 1).sum()) for name, rows in labelled.items()}


def thinned(texts: Sequence[HarmText], share: float, seed: int) -> list[HarmText]:
    """The harmless texts, and so many harmful ones that they are ``share`` of all, drawn at random."""
    harmful = [one for one in texts if one.harmful]
    kept = round(share / (1 - share) * (len(texts) - len(harmful)))
    drawn = {harmful[n].id for n in np.random.default_rng(seed).permutation(len(harmful))[:kept]}
    return [one for one in texts if not one.harmful or one.id in drawn]


def some(known: Labelled, rows: Rows) -> Labelled:
    """These texts."""
    return known._replace(texts=[known.texts[n] for n in rows], labels=known.labels[rows])


def more(pool: Labelled, kept: Rows, batch: int, shares: Shares, seed: int) -> Rows:
    """The next texts to label."""
    left = np.setdiff1d(np.arange(len(pool.texts)), kept)
    scored = judged(pool, kept, [pool.texts[n].text for n in left], None, CONFIG)
    chosen = next_labels.choose(scored.probabilities[:, 0], float(scored.thresholds[0]), batch, shares, seed)
    return left[[one.place for one in chosen]]


if __name__ == "__main__":
    sys.exit(program(main))
