"""The abuse filter beside its peers on labels that neither saw, on functional tests, on long texts, and its cost.

``python -m bench.abuse --labels FILE.jsonl.gz [--peers DIR] [--json OUT]``. The labels are split by groups of near duplicates; every
learner is trained on one half and measured on the other. Peers: TF-IDF (words and pairs) with logistic regression; the packaged models
alt-profanity-check and tox-block, installed into DIR with what they need and asked in a process of their own; TF-IDF with all packaged
scores as features (their log-odds, standardised). The functional tests and the rest ask the filter trained on all the labels.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from bench.abuse_functional import CLASSES, cases
from bench.program import REPORT, program
from bench.real_text import WEB, texts
from modelyard.data.corpus.trained import train_abuse
from modelyard.data.filters import abuse, abuse_labels
from modelyard.data.filters.abuse import AbuseConfig, AbuseFilter
from modelyard.data.filters.abuse_labels import CATEGORIES, UNKNOWN, Labelled
from modelyard.stats.estimate import proportion
from modelyard.stats.ranking import average_precision_interval

SURE = 0.6
"""Operating point with labels, as ``configs/data/web.toml`` suggests."""
Scores = npt.NDArray[np.float64]
ASK = {
    "alt-profanity-check": "from profanity_check import predict_prob\nscores = [[float(p)] for p in predict_prob(texts)]",
    "tox-block": "from tox_block.prediction import make_predictions\n"
    "found = make_predictions(texts)\nscores = [[float(v) for k, v in found[n].items() if k != 'text'] for n in range(len(texts))]",
}
"""What a peer's process runs: ``texts`` to ``scores``."""


def main(
    labels: Path,
    peers: Path | None = None,
    cache: Path = Path(".modelyard/scratch/sources"),
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Measure and print."""
    named = {
        "path": str(labels.resolve()),
        "sha256": hashlib.sha256(labels.read_bytes()).hexdigest(),
        "licence": "as given",
    }
    plain = AbuseConfig.model_validate(WEB["abuse"])
    taught = AbuseConfig.model_validate({**WEB["abuse"], "labels": named, "sure": SURE})
    assert taught.labels
    rows = abuse_labels.read(taught.labels)
    found = {name: train_abuse(config, cache) for name, config in (("packages", plain), ("labels", taught))}
    result: dict[str, Any] = {"held out": ranking(rows, found, peers)}
    result["functional"] = {name: functional(one.filter) for name, one in found.items()}
    result["surrounded"] = {name: surrounded(one.filter, rows) for name, one in found.items()}
    result["cost"] = {name: cost(one.filter) for name, one in found.items()}
    if report:
        report.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def ranking(rows: Labelled, found: dict[str, abuse.Trained], peers: Path | None) -> dict[str, Any]:
    """Average precision of each learner on the held-out half, overall and by category; operating points of the two filters."""
    half = abuse_labels.first_half(rows.texts)
    held, trained = rows.some(~half), rows.some(half)
    print(f"{len(trained.texts)} texts to train on, {len(held.texts)} held out, {held.harmful.sum()} of them harmful")
    measured = {"this filter, labels": {k.removeprefix("average_precision/"): v for k, v in found["labels"].measured.items()}}
    scores = {"this filter, packages": np.repeat([[found["packages"].filter.probability(t)] for t in held.texts], 9, 1)}
    scores["TF-IDF + LR"] = tfidf(trained, held, None)
    if peers:
        asked = {name: ask(peers, code, rows.texts) for name, code in ASK.items()}
        for name, one in asked.items():
            scores[name] = np.repeat(one[~half].max(1, keepdims=True), 9, 1)
        scores["TF-IDF + LR + both"] = tfidf(trained, held, np.hstack(list(asked.values())), half)
    for name, columns in scores.items():
        measured[name] = {"any": average_precision_interval(columns[:, 0], held.harmful, 0)}
        for number, category in enumerate(CATEGORIES.values()):
            looked = held.labels[:, number] != UNKNOWN
            measured[name][category] = average_precision_interval(columns[looked, number + 1], held.labels[looked, number] == 1, 0)
    refused = np.array([found["packages"].filter.refuse(text) is not None for text in held.texts])
    hits = int((refused & held.harmful).sum())
    measured["this filter, packages"] |= {
        "precision": proportion(hits, max(1, refused.sum())),
        "recall": proportion(hits, held.harmful.sum()),
    }
    for name, values in measured.items():
        for key, value in values.items():
            print(f"{name:24s} {key:18s} {value.value:.3f} [{value.low:.3f}, {value.high:.3f}]")
    return {name: {key: value._asdict() for key, value in values.items()} for name, values in measured.items()}


def tfidf(trained: Labelled, held: Labelled, extra: Scores | None, half: npt.NDArray[np.bool_] | None = None) -> Scores:
    """[held out, 9] decision values of the usual baseline: any harm, then the categories."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    inputs, outputs = vectorizer.fit_transform(trained.texts), vectorizer.transform(held.texts)
    if extra is not None:
        assert half is not None
        odds = np.log(np.clip(extra, 1e-6, 1 - 1e-6) / (1 - np.clip(extra, 1e-6, 1 - 1e-6)))
        odds = (odds - odds[half].mean(0)) / odds[half].std(0)
        inputs, outputs = hstack([inputs, csr_matrix(odds[half])]).tocsr(), hstack([outputs, csr_matrix(odds[~half])]).tocsr()
    targets = [trained.harmful.astype(np.int8), *trained.labels.T]
    found = []
    for target in targets:
        looked = target != UNKNOWN
        model = LogisticRegression(C=10.0, solver="liblinear", random_state=0).fit(inputs[looked], target[looked])
        found.append(model.decision_function(outputs))
    return np.array(found).T


def ask(peers: Path, code: str, material: list[str]) -> Scores:
    """[texts, scores] of a packaged model in a process that sees the packages of ``peers`` first."""
    script = f"import json, sys\ntexts = json.load(sys.stdin)\n{code}\nprint('\\n' + json.dumps(scores))"
    environment = {**os.environ, "PYTHONPATH": str(peers), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, input=json.dumps(material), capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{peers}: {done.stderr.strip().splitlines()[-1]}")
    return np.array(json.loads(done.stdout.strip().splitlines()[-1]))


def functional(judge: AbuseFilter) -> dict[str, list[int]]:
    """Class -> [sentences refused, sentences]."""
    print(f"functional tests, {judge.origin}:")
    found = {}
    for name, (*_, harmful) in CLASSES.items():
        some = [case.text for case in cases() if case.name == name]
        refused = sum(judge.refuse(text) is not None for text in some)
        found[name] = [refused, len(some)]
        print(f"  {name:32s} {'to refuse' if harmful else 'to keep':10s} {refused:3d} of {len(some)} refused")
    return found


def surrounded(judge: AbuseFilter, rows: Labelled) -> dict[str, int]:
    """How many of the harmful texts that are refused alone are refused amid so many characters of documentation."""
    alone = [text for text, bad in zip(rows.texts, rows.harmful, strict=True) if bad and judge.refuse(text)]
    clean = [text for text in texts(2) if not judge.refuse(text)]
    found = {"alone": len(alone)}
    for size in (3_000, 10_000):
        around = " ".join(clean)[:size]
        middle = around.rfind(" ", 0, size // 2)
        found[str(size)] = sum(judge.refuse(f"{around[:middle]} {text} {around[middle:]}") is not None for text in alone)
    print(f"refused alone and amid clean characters: {found}")
    return found


def cost(judge: AbuseFilter) -> dict[str, float]:
    """CPU ms for a megabyte of documentation, and the share of its documents that is refused."""
    material = texts(5)
    size = sum(len(text.encode()) for text in material) / 1e6
    judge.refuse(" ".join(material[:20]))
    started = time.process_time()
    refused = sum(judge.refuse(text) is not None for text in material)
    found = {"ms_per_mb": (time.process_time() - started) / size * 1e3, "refused": refused / len(material), "documents": len(material)}
    print(f"{found['ms_per_mb']:.0f} CPU ms a MB, {refused} of {len(material)} documents refused")
    return found


if __name__ == "__main__":
    sys.exit(program(main))
