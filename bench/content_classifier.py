"""The content classifier on labels that it did not see: heads, words and both together, by which layers of the decoder are read.

``python -m bench.content_classifier MODEL --labels FILE.jsonl.gz [--prompts FILE.csv] [--out DIR] [--json OUT]``; MODEL is a directory of ours or
of Hugging Face. Texts are split as the stage splits them. Every choice of layers is ranked by cross-fitting on the training half alone; the first is
then measured on the held-out half, once. What the decoder makes of the texts is kept in DIR, so a second run takes it from there.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from bench.program import REPORT, program
from modelyard.data.filters.abuse_labels import LabelsConfig
from modelyard.data.harms import gather
from modelyard.execution import ExecutionConfig
from modelyard.formats.harms import ANY, HarmText, read_probes, read_texts
from modelyard.model.subject import Subject
from modelyard.posttrain.content_classifier import features, heads, measure, train
from modelyard.posttrain.content_classifier.features import Features, FeaturesConfig, Reader
from modelyard.posttrain.content_classifier.heads import HeadsConfig
from modelyard.posttrain.content_classifier.train import ContentClassifierConfig
from modelyard.progress import silent
from modelyard.stats.ranking import average_precision, average_precision_interval

DEPTHS = (0.25, 0.4, 0.5, 0.75)
CHOICES = ((0.25,), (0.4,), (0.5,), (0.75,), (0.4, 0.5), (0.5, 0.75), DEPTHS)
"""Layers that are tried, as shares of the decoder's."""
Labels = npt.NDArray[np.int8]


def main(
    model: Path,
    labels: Annotated[Path, typer.Option(help="JSON lines with OpenAI's keys.")],
    prompts: Path | None = None,
    out: Path = Path(".modelyard/bench/content_classifier"),
    max_tokens: int = 192,
    max_windows: int = 2,
    threads: int = 2,
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Measure and print."""
    texts, probes = gathered(labels, prompts, out)
    every = read(
        model,
        [*(one.text for one in texts), *(one.text for one in probes)],
        out,
        FeaturesConfig(depths=DEPTHS, max_tokens=max_tokens),
        max_windows,
        threads,
    )
    names = (ANY, *dict.fromkeys(name for one in texts for name in one.labels))
    columns = measure.columns(texts, names)
    side = np.array([one.split == "train" for one in texts])
    trained, held = np.flatnonzero(side), np.flatnonzero(~side)
    folds = train.folds_of([texts[n].group for n in trained], 4)
    ranked = {choice: cross_fitted(chosen(every, choice).some(trained), columns[trained][:, :1], folds) for choice in CHOICES}
    for choice, value in ranked.items():
        print(f"depths {', '.join(map(str, choice)):20} any harm, cross-fitted on the training half: {value:.3f}")
    best = max(ranked, key=lambda choice: ranked[choice])
    result: dict[str, Any] = {"cross-fitted": {str(choice): value for choice, value in ranked.items()}, "chosen": best}
    result["held out"] = on_held_out(chosen(every, best), texts, columns, trained, held)
    if report:
        report.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def gathered(labels: Path, prompts: Path | None, out: Path) -> tuple[list[HarmText], list[Any]]:
    """Texts and probes, as the stage leaves them in ``out``."""
    out.mkdir(parents=True, exist_ok=True)

    def declared(path: Path) -> LabelsConfig:
        return LabelsConfig(path=str(path.resolve()), sha256=hashlib.sha256(path.read_bytes()).hexdigest(), licence="as given")

    config = gather.HarmLabelsConfig(files=(declared(labels),), prompts=declared(prompts) if prompts else None)
    gather.run(config, {}, out, silent, [""])
    return read_texts(out), read_probes(out)


def read(model: Path, texts: Sequence[str], out: Path, config: FeaturesConfig, max_windows: int, threads: int) -> Features:
    """The decoder's features of every text, from ``out`` where they were made before."""
    subject = Subject.open("decoder", model, ExecutionConfig(threads=threads), micro_batch=8)
    told = hashlib.sha256("\n".join([subject.weights, config.model_dump_json(), str(max_windows), *texts]).encode()).hexdigest()
    kept = out / told[:16]
    if not (kept / features.SETTINGS).is_file():
        kept.mkdir(exist_ok=True)

        def shown(done: int, total: int, metrics: Any = None, unit: str = "") -> None:
            print(f"\r{done} of {total} windows", end="\n" if done == total else "", flush=True)

        features.write(kept, Reader(subject.engine, subject.encoder, config).read(texts, max_windows, shown), subject.weights, config)
    return features.read(kept)[0]


def chosen(every: Features, choice: Sequence[float]) -> Features:
    """The columns of some of :data:`DEPTHS`."""
    each = every.values.shape[1] // len(DEPTHS)
    parts = [every.values[:, n * each : (n + 1) * each] for n, depth in enumerate(DEPTHS) if depth in choice]
    return Features(np.concatenate(parts, 1), every.owner)


def cross_fitted(found: Features, labels: Labels, folds: npt.NDArray[np.int64]) -> float:
    """Average precision of heads on folds that they were not trained on."""
    said = np.zeros(labels.shape)
    for fold in np.unique(folds):
        kept, left = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        said[left] = heads.fit(found.some(kept), labels[kept], HeadsConfig(), 0).logits(found.some(left))
    return average_precision(said[:, 0], labels[:, 0] == 1)


def on_held_out(
    every: Features, texts: Sequence[HarmText], columns: Labels, trained: npt.NDArray[np.int64], held: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Average precision of any harm: the heads alone, the words alone, and both as the stage mixes them."""
    config, names = ContentClassifierConfig(seed=0), (ANY, *dict.fromkeys(name for one in texts for name in one.labels))
    fitted = train.fit([texts[n] for n in trained], every.some(trained), columns[trained], names, config, silent)
    spoken, truth = [texts[n].text for n in held], columns[held, 0] == 1
    parts = fitted.classifier.parts(every.some(held), spoken)
    both = fitted.classifier.calibrated.probabilities(parts)
    found = {}
    for name, scores in (("heads", parts[0]), ("words", parts[1]), ("both", both)):
        found[name] = average_precision_interval(scores[:, 0], truth, 0)
        print(f"{name:6} any harm, {len(held)} held-out texts ({truth.sum()} harmful): {found[name]}")
    return {name: value._asdict() for name, value in found.items()}


if __name__ == "__main__":
    sys.exit(program(main))
