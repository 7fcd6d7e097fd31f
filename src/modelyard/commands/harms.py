"""``modelyard harms``: labels of harm that people should look at again, texts that they should label next, and labels by a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from modelyard.commands.judge import CHOOSE_BY, REPLY_TOKENS
from modelyard.commands.numbers import at_least, between
from modelyard.commands.outputs import json_option

CONFIG = typer.Argument(help="TOML file with the table harm_labels; a pipeline's file will do.", show_default=False)
SUSPECTS = json_option("JSON lines: labels that models doubt which did not learn from them. Answered, they are harm_labels.reviews.")
MOST = typer.Option(help="Doubtful labels that are written.", callback=at_least(1))
DESK = typer.Option(help="With --suspects: also a batch for modelyard label, so that labelers of the desk answer.", metavar="DIR")
ANSWERS = typer.Option(help="labels.jsonl of the desk: fill its votes into the file that --suspects names.", metavar="FILE")
NEXT = json_option("JSON lines: texts of the pool to label next. Labelled, they are one of harm_labels.files.")
LABEL = json_option(
    "JSON lines: texts of the pool with --judge's labels, rules and probabilities, to train on as one of harm_labels.files."
)
POOL = typer.Option(help="JSON lines with prompt or text, plain or .gz: texts that nobody labelled.")
NUMBER = typer.Option(help="Texts to label next.", callback=at_least(1))
AT_RANDOM = typer.Option(help="Share of them that is drawn at random; the rest after it and --above is what the classifier is unsure of.",
                         callback=between(0, 1))  # fmt: skip
ABOVE = typer.Option(help="Share of them that is drawn from what the classifier would block.", callback=between(0, 1))
CATEGORY = typer.Option(help="Of what harm they should tell, or a judge is asked; 'any': any, or all.")
DECODER = typer.Option(
    help="models:/name@alias or a directory: judge by heads on it too, as the line's classifier does; without it by words alone."
)
JUDGE = typer.Option(
    metavar="MODEL", help="Directory, or http://host:port/v1#name: asked each rule, zero-shot of held-out labels with --suspects."
)
RULES = typer.Option(help="TOML file with a rule for each category.")
SHOTS = typer.Option(
    help="With --label: examples that break a rule, and as many that do not, which the judge is shown.", callback=at_least(1)
)
LIMIT = typer.Option(help="At most N texts are judged, a seeded sample.", callback=at_least(1))
AGREEMENT = typer.Option(help="With --label: at most N labelled texts a rule to measure the judge on.", callback=at_least(1))
MIN_KAPPA = typer.Option(help="What the lower end of the judge's kappa must lie above, a rule [0 for --suspects, 0.4 for --label].",
                         callback=between(-1, 1), show_default=False)  # fmt: skip
ORDERS = typer.Option(help="Orders of the two answers that are averaged.", callback=between(1, 2))
CHAT = typer.Option("--chat", help="Ask in the judge's chat template.")
KEPT = json_option("Where the judge's agreement goes, as JSON.")


def harms(
    config: Annotated[Path, CONFIG],
    suspects: Annotated[Path | None, SUSPECTS] = None,
    most: Annotated[int, MOST] = 100,
    desk: Annotated[Path | None, DESK] = None,
    answers: Annotated[Path | None, ANSWERS] = None,
    pool: Annotated[Path | None, POOL] = None,
    next: Annotated[Path | None, NEXT] = None,
    number: Annotated[int, NUMBER] = 100,
    random: Annotated[float, AT_RANDOM] = 0.3,
    above: Annotated[float, ABOVE] = 0.3,
    category: Annotated[str, CATEGORY] = "any",
    seed: Annotated[int, typer.Option(help="Of what is drawn.", callback=at_least(0))] = 0,
    decoder: Annotated[str | None, DECODER] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of the decoder, or the judge.", callback=at_least(1))] = 2,
    judge: Annotated[str | None, JUDGE] = None,
    label: Annotated[Path | None, LABEL] = None,
    rules: Annotated[Path, RULES] = Path("configs/harm_rules/markov.toml"),
    shots: Annotated[int, SHOTS] = 4,
    limit: Annotated[int | None, LIMIT] = None,
    agreement: Annotated[int | None, AGREEMENT] = None,
    min_kappa: Annotated[float | None, MIN_KAPPA] = None,
    orders: Annotated[int, ORDERS] = 2,
    chat: Annotated[bool, CHAT] = False,
    choose_by: Annotated[Literal["likelihood", "letter"], CHOOSE_BY] = "likelihood",
    max_new_tokens: Annotated[int, REPLY_TOKENS] = 16,
    json: Annotated[Path | None, KEPT] = None,
) -> None:
    """Let the labels judge each other, or a judge the held-out ones (--suspects), choose what to label next (--next), or have a judge label
    a pool (--label). No label is changed.

    Without a judge both go by the half of the labels that the classifier learns from.
    """
    if [suspects, next, label].count(None) != 2:
        raise ValueError("missing --suspects, --next or --label, one of them; see --help")
    if (pool is None) is not (suspects is not None):
        raise ValueError("--next and --label want a --pool, and --suspects none; see --help")
    if (suspects is None and (desk or answers)) or (desk and answers):
        raise ValueError("--desk writes suspects and --answers reads them back: one of the two, with --suspects; see --help")
    if (judge is None and (label or json)) or (judge is not None and (next or answers or decoder)):
        raise ValueError("--judge belongs with --label, or with --suspects and without --answers and --decoder; see --help")
    from modelyard.commands import harm_labelling

    if suspects is not None and answers is not None:
        harm_labelling.fill_in(suspects, answers)
    elif judge is not None:
        from modelyard.commands import harm_judging

        least = min_kappa if min_kappa is not None else 0.0 if suspects else 0.4
        options = harm_judging.JudgeOptions(
            judge=judge, rules=rules, category=category, shots=shots if label else 0, orders=orders, chat=chat,
            choose_by=choose_by, max_new_tokens=max_new_tokens, limit=limit, held=agreement, min_kappa=least, seed=seed, threads=threads, json=json,
        )  # fmt: skip
        if suspects is not None:
            harm_judging.write_suspects(config, options, suspects, most, desk)
        if label is not None and pool is not None:
            harm_judging.write_labels(config, options, pool, label)
    else:
        opened = harm_labelling.opened(config, decoder, threads)
        if suspects is not None:
            harm_labelling.write_suspects(opened, suspects, most, desk)
        if next is not None and pool is not None:
            harm_labelling.write_next(opened, pool, next, category, number, random, above, seed)
