"""What a judge that is asked rules is worth for labels of harm: planted errors that it finds zero-shot, and labels that it gives few-shot.

``python -m bench.harm_judge MODEL --labels FILE.jsonl.gz [--category sexual hate] [--texts N] [--json OUT]``, as ``modelyard harms --judge``
asks. Zero-shot: a share of the held-out half's known labels is flipped, and the judge's doubt ranks them, beside that of a classifier (TF-IDF)
of the training half. Few-shot: a classifier of some texts that people labelled, beside it with as many more by the judge or by people;
average precision on the held-out half, mean over the categories. A judge is heard here whatever its kappa is. With ``--answers`` a bench that was
killed asks only what is left. What the files themselves have wrong counts as right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import typer

from bench.harm_labels import CONFIG, flips, halves_of, of_set, shown
from bench.program import REPORT, program
from modelyard.commands.judge import open_judge
from modelyard.commands.prefer import sample
from modelyard.config import load_config
from modelyard.formats.harms import HarmText
from modelyard.judges.agreement import Agreement
from modelyard.judges.answers import Answers
from modelyard.judges.harm_rules import HarmRule, HarmRules, Posed, Reals, asking, examples
from modelyard.judges.judge import Judge
from modelyard.posttrain.content_classifier.cross_scores import Labelled, judged
from modelyard.stats.ranking import average_precision

RULES = Path("configs/harm_rules/markov.toml")


class Asked(NamedTuple):
    """Who is asked what."""

    judge: Judge
    rules: Mapping[str, HarmRule]
    answers: Answers


def main(
    model: Annotated[str, typer.Argument(help="Directory, or http://host:port/v1#name.")],
    labels: Annotated[Path, typer.Option(help="JSON lines with OpenAI's keys.")],
    rules: Annotated[Path, typer.Option(help="TOML file with a rule for each category.")] = RULES,
    category: Annotated[list[str], typer.Option(help="Which of them are asked; without it all.")] = [],
    texts: Annotated[int | None, typer.Option(help="At most N texts are judged in either part.")] = None,
    flipped: Annotated[list[float], typer.Option(help="Shares of the known labels that are flipped.")] = [0.05, 0.1],
    seeds: Annotated[int, typer.Option(help="Of the flips; nothing is asked anew.")] = 20,
    start: Annotated[int, typer.Option(help="Texts that people labelled, the examples among them.")] = 60,
    draws: Annotated[int, typer.Option(help="Of those texts; each is asked anew.")] = 2,
    shots: Annotated[list[int], typer.Option(help="Examples of either kind that are shown; 0 leaves few-shot labels out.")] = [4],
    orders: int = 2,
    chat: Annotated[bool, typer.Option("--chat", help="Ask in the judge's chat template.")] = False,
    threads: int = 2,
    answers: Annotated[Path | None, typer.Option(help="Keep what was answered there, and take what is there.")] = None,
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Measure and print."""
    known = load_config(HarmRules, rules).rules
    if unknown := [name for name in category if name not in known]:
        raise ValueError(f"--category {unknown[0]}: {rules} has rules for {', '.join(known)}")
    train, test = halves_of(labels)
    opened, result = open_judge(model, threads), dict[str, Any]()
    with TemporaryDirectory() as place:
        kept = Answers(answers or Path(place) / "answers")
        asked = Asked(Judge(opened, asking(orders, 0, chat)), {name: known[name] for name in category or known}, kept)
        print(f"judge {asked.judge.identity}; rules for {', '.join(asked.rules)}; mean [95% interval over draws]", flush=True)
        result |= zero_shot(asked, train, sample(test, texts, 0), flipped, seeds)
        for count in filter(None, shots):
            few = asked._replace(judge=Judge(opened, asking(orders, count, chat)))
            rounds = [few_shot(few, train, test, start, texts, count, seed) for seed in range(draws)]
            name = f"{count} examples of either kind, {start} texts of people"
            result[name] = shown(name, rounds)
    if report:
        report.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def told(found: Agreement) -> str:
    """Agreement in words."""
    interval = f"[{found.kappa_low:.3f}, {found.kappa_high:.3f}]"
    return f"  {found.rubric:40} agrees with {found.accuracy:.3f} of {found.n} ({sum(found.confusion[1])} with 1), kappa {found.kappa:.3f} {interval}"


def zero_shot(asked: Asked, train: Sequence[HarmText], test: Sequence[HarmText], shares: Sequence[float], seeds: int) -> dict[str, Any]:
    """Agreement by category, and flipped labels by the judge's doubt and by that of a classifier of the training half."""
    held, learned = Labelled.of(test), Labelled.of(train)
    columns = [held.names.index(name) for name in asked.rules]
    p, agreements = np.full(held.labels.shape, 0.5), []
    for column, (name, rule) in zip(columns, asked.rules.items(), strict=True):
        rows = np.flatnonzero(held.labels[:, column] >= 0)
        some, posed = [test[int(n)] for n in rows], Posed(name, rule)
        p[rows, column] = posed.ask(asked.judge, [one.text for one in some], asked.answers)
        agreements.append(posed.measure(asked.judge, some, p[rows, column], 0))
        print(told(agreements[-1]), flush=True)
    beside = judged(learned, np.arange(len(train)), [one.text for one in test], None, CONFIG).probabilities
    order = [learned.names.index(name) for name in asked.rules]
    found: dict[str, Any] = {"zero-shot": [one.model_dump() for one in agreements]}
    given = held.labels[:, columns]
    for share in shares:
        rounds = []
        for seed in range(seeds):
            wrong = flips(given >= 0, share, seed)
            spoiled = np.where(wrong, 1 - given, given)
            rounds.append({"planted": float(wrong.sum()), "share of the labels": float(wrong.sum() / (given >= 0).sum())}
                          | ranked("judge", spoiled, p[:, columns], wrong) | ranked("classifier", spoiled, beside[:, order], wrong))  # fmt: skip
        found[f"flipped {share:g}"] = shown(f"{share:.0%} of {int((given >= 0).sum())} held-out labels flipped", rounds)
    return found


def ranked(name: str, labels: npt.NDArray[np.int8], p: Reals, wrong: npt.NDArray[np.bool_]) -> dict[str, float]:
    """How well the doubt of labels [texts, C] finds the wrong ones."""
    known = labels >= 0
    doubt, truth = np.where(labels == 1, 1 - p, p)[known], wrong[known]
    first = np.argsort(-doubt, kind="stable")[: int(truth.sum())]
    return {
        f"{name}: average precision of the ranking": average_precision(doubt, truth),
        f"{name}: found among as many as were planted": float(truth[first].mean()),
        **of_set(name, doubt > 0.5, truth),
    }


def few_shot(
    asked: Asked, train: Sequence[HarmText], test: Sequence[HarmText], start: int, most: int | None, shots: int, seed: int
) -> dict[str, float]:
    """Average precision of a classifier of ``start`` texts, alone and with more that the judge or people labelled."""
    order = np.random.default_rng(seed).permutation(len(train)).tolist()
    people = [train[n] for n in order[:start]]
    pool = [train[n] for n in order[start:]][:most]
    said: list[dict[str, Literal[0, 1]]] = [{} for _ in pool]
    kappas = {}
    for name, rule in asked.rules.items():
        posed = Posed(name, rule, examples(people, name, shots, seed))
        p = posed.ask(asked.judge, [one.text for one in pool], asked.answers)
        for labels, value in zip(said, p, strict=True):
            labels[name] = 1 if value > 0.5 else 0
        rows = [n for n, one in enumerate(pool) if name in one.labels]
        kappas[name] = posed.measure(asked.judge, [pool[n] for n in rows], p[rows], seed).kappa
    by_judge = [one.model_copy(update={"labels": labels}) for one, labels in zip(pool, said, strict=True)]
    arms = {"alone": people, "and more by the judge": [*people, *by_judge], "and more by people": [*people, *pool]}
    values = {name: precision(texts, test, list(asked.rules)) for name, texts in arms.items()}
    gains = {f"{name}, less alone": value - values["alone"] for name, value in values.items() if name != "alone"}
    agrees = {f"kappa of {name}": value for name, value in kappas.items()}
    return {"texts that the judge labelled": float(len(pool)), **agrees, **values, **gains}


def precision(texts: Sequence[HarmText], test: Sequence[HarmText], names: Sequence[str]) -> float:
    """Mean average precision of the categories on the held-out texts, by a classifier of ``texts``."""
    known, held = Labelled.of(texts), Labelled.of(test)
    known = known._replace(labels=known.labels[:, [known.names.index(name) for name in names]], names=tuple(names))
    scored = judged(known, np.arange(len(texts)), [one.text for one in test], None, CONFIG)
    values = []
    for name in names:
        truth = held.labels[:, held.names.index(name)]
        rows = np.flatnonzero(truth >= 0)
        values.append(average_precision(scored.probabilities[rows, names.index(name)], truth[rows] == 1))
    return float(np.mean(values))


if __name__ == "__main__":
    sys.exit(program(main))
