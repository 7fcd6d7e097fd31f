"""What ``modelyard harms --judge`` does: rules as prompts, zero-shot to doubt held-out labels, few-shot to label a pool.

Either way the judge is measured beside people's labels first, and a category on which the lower end of its kappa's interval does not lie above
the bound is set aside. The answers lie beside the file that is written until it is, so a run that was killed asks only what is left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modelyard.adapters.terminal import console, stage_progress
from modelyard.commands import harm_labelling
from modelyard.commands.command import say
from modelyard.commands.harm_labelling import Tables
from modelyard.commands.judge import open_judge
from modelyard.commands.outputs import write
from modelyard.commands.prefer import sample
from modelyard.commands.tables import table
from modelyard.config import Config, load_config
from modelyard.data.harms import gather
from modelyard.formats.feedback import json_lines
from modelyard.formats.harms import ANY, JUDGED, HarmText, Judged, RuleAnswer
from modelyard.judges.agreement import Agreement
from modelyard.judges.answers import Answers
from modelyard.judges.harm_rules import UNDECIDED, HarmRule, HarmRules, Posed, Reals, asking, examples
from modelyard.judges.judge import Judge
from modelyard.model.asked import ChooseBy
from modelyard.posttrain.content_classifier.cross_scores import Labelled, suspects
from modelyard.store.file_hash import sha256_file

HEAD = ("rule", "labels", "with 1", "agrees", "kappa", "95% interval", "")


class JudgeOptions(NamedTuple):
    """Who judges, by what, and how well it must agree with people."""

    judge: str
    """Directory, or ``http://host:port/v1#name``."""
    rules: Path
    category: str
    """``any``: every category that has a rule."""
    shots: int
    """Examples of each kind; 0: zero-shot."""
    orders: int
    chat: bool
    choose_by: ChooseBy
    max_new_tokens: int
    limit: int | None
    """Most texts that are asked about."""
    held: int | None
    """Most labelled texts of a category that few-shot agreement is measured on."""
    min_kappa: float
    """The lower end of kappa's interval must lie above it."""
    seed: int
    threads: int
    json: Path | None


class AskedRecord(Config):
    """A line of what ``--json`` keeps."""

    category: str
    rule: str
    """Id."""
    examples: tuple[str, ...]
    """Ids of the labelled texts that were shown."""
    agreement: Agreement | None
    used: bool


class Asked(NamedTuple):
    """A category's rule beside people's labels."""

    posed: Posed
    agreement: Agreement | None
    """None: no labelled text to measure it on."""

    def good(self, min_kappa: float) -> bool:
        """Whether the judge may be heard."""
        return self.agreement is not None and self.agreement.kappa_low > min_kappa

    def record(self, min_kappa: float) -> AskedRecord:
        """As ``--json`` keeps it."""
        shown = tuple(one.id for one in self.posed.examples)
        used = self.good(min_kappa)
        return AskedRecord(category=self.posed.category, rule=self.posed.id, examples=shown, agreement=self.agreement, used=used)


class Session(NamedTuple):
    """A judge that is asked, and where its answers are kept."""

    judge: Judge
    answers: Answers
    options: JudgeOptions

    def ask(self, posed: Posed, texts: Sequence[str]) -> Reals:
        """[texts] probabilities that the rule is broken."""
        with stage_progress(posed.category, console()) as report:
            return posed.ask(self.judge, texts, self.answers, report)

    def measured(self, posed: Posed, texts: Sequence[HarmText]) -> tuple[Asked, Reals]:
        """The rule on texts with a label of its category, and the probabilities."""
        p = self.ask(posed, [one.text for one in texts])
        return Asked(posed, posed.measure(self.judge, texts, p, self.options.seed) if len(texts) else None), p


def write_suspects(config: Path, options: JudgeOptions, out: Path, most: int, desk: Path | None) -> None:
    """Held-out labels that the judge contradicts zero-shot, to be answered in the file, or at the desk.

    Raises:
        ValueError: ``out`` has answers already, or the judge is no better than ``min_kappa`` on every category.
    """
    harm_labelling.require_unanswered(out)
    tables, texts = labelled(config)
    held = sample([one for one in texts if one.split == "test"], options.limit, options.seed)
    rules = rules_of(options, tables)
    session = opened(options, out)
    known = Labelled.of(held)
    p = np.full(known.labels.shape, UNDECIDED)  # of which nothing is doubted
    asked = []
    for category, rule in rules.items():
        rows = [n for n, one in enumerate(held) if category in one.labels]
        one, said = session.measured(Posed(category, rule), [held[n] for n in rows])
        asked.append(one)
        if one.good(options.min_kappa):
            p[rows, known.names.index(category)] = said
    good = require_good(session, asked)
    judge, ids = session.judge.identity, {one.posed.category: one.posed.id for one in good}
    found = [one.model_copy(update={"judge": judge, "rule": ids[one.category]}) for one in suspects(known, p, most)]
    harm_labelling.hand_out(found, sum(one.agreement.n for one in good if one.agreement), out, desk)
    session.answers.remove()


def write_labels(config: Path, options: JudgeOptions, pool: Path, out: Path) -> None:
    """Texts of a pool with the judge's labels and how they came about, for ``harm_labels.files``; what it is undecided about has no label.

    Examples and agreement are of the half that the classifier learns from, as people labelled it; no text is both.

    Raises:
        ValueError: the pool has no new text, or the judge is no better than ``min_kappa`` on every category.
    """
    tables, texts = labelled(config)
    new = harm_labelling.unseen([one.text for one in texts], [gather.text_of(line) for line in json_lines(pool)])
    if not new:
        raise ValueError(f"{pool}: no text that was not labelled already")
    new = sample(new, options.limit, options.seed)
    rules = rules_of(options, tables)
    session = opened(options, out)
    people = [one for one in texts if one.split == "train" and not one.judge]
    good = require_good(session, [few_shot(session, category, rule, people) for category, rule in rules.items()])
    said = {one.posed.category: (one.posed.id, session.ask(one.posed, new)) for one in good}
    keys = tables.harm_labels.categories
    rows = []
    for number, text in enumerate(new):
        answers = {name: RuleAnswer(rule=rule, probability=float(p[number])) for name, (rule, p) in said.items() if p[number] != UNDECIDED}
        if not answers:
            continue
        labels = {key: int(answers[name].probability > UNDECIDED) if name in answers else None for name, key in keys.items()}
        rows.append({"prompt": text, **labels, JUDGED: Judged(judge=session.judge.identity, rules=answers).model_dump()})
    write(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    session.answers.remove()
    counts = ", ".join(f"{name} {int((p > UNDECIDED).sum())}" for name, (_, p) in said.items())
    undecided = f"; {len(new) - len(rows):,} that it is undecided about are left out" if len(rows) < len(new) else ""
    say(f"{out}: {len(rows):,} texts, of them by the judge {counts}{undecided}")
    say(f"name it under [[harm_labels.files]]: sha256 {sha256_file(out)}")


def few_shot(session: Session, category: str, rule: HarmRule, people: Sequence[HarmText]) -> Asked:
    """The rule with examples among people's texts, measured on others that are no near duplicates of them."""
    shown = examples(people, category, session.options.shots, session.options.seed)
    groups = {one.group for one in shown}
    left = [one for one in people if category in one.labels and one.group not in groups]
    return session.measured(Posed(category, rule, shown), sample(left, session.options.held, session.options.seed))[0]


def labelled(config: Path) -> tuple[Tables, list[HarmText]]:
    """What the config says, and its labelled texts."""
    tables = load_config(Tables, config)
    return tables, gather.records(tables.harm_labels, tables.execution.roots)[0]


def rules_of(options: JudgeOptions, tables: Tables) -> dict[str, HarmRule]:
    """The rules that are asked. Raises ValueError naming the file and the category that does not fit the config's."""
    rules, categories = load_config(HarmRules, options.rules).rules, tables.harm_labels.categories
    if options.category == ANY:
        asked = {name: rule for name, rule in rules.items() if name in categories}
        if not asked:
            raise ValueError(f"{options.rules}: has no rule for a category of harm_labels ({', '.join(categories)})")
        return asked
    if options.category not in categories:
        raise ValueError(f"--category {options.category}: expected one of {', '.join((ANY, *categories))}")
    if options.category not in rules:
        raise ValueError(f"{options.rules}: has no rule for {options.category}, but for {', '.join(rules)}")
    return {options.category: rules[options.category]}


def opened(options: JudgeOptions, out: Path) -> Session:
    """The judge, with the answers that an earlier try at ``out`` left."""
    answers = Answers(out.with_name(f".{out.name}.answers"))
    how = asking(options.orders, options.shots, options.chat, options.choose_by, options.max_new_tokens)
    return Session(Judge(open_judge(options.judge, options.threads), how), answers, options)


def require_good(session: Session, asked: Sequence[Asked]) -> list[Asked]:
    """The categories on which the judge may be heard; all are printed and kept. Raises ValueError where none is left."""
    options, judge = session.options, session.judge.identity
    say(f"judge {judge}")
    if replies := session.judge.replies:
        say(f"replies without a letter: {session.judge.no_letter} of {replies}")
    say(table(HEAD, [row(one, options.min_kappa) for one in asked]), nl=False)
    if options.json:
        write(options.json, json.dumps([one.record(options.min_kappa).model_dump() for one in asked], indent=1))
    left = [one for one in asked if one.good(options.min_kappa)]
    if not left:
        best = max((one.agreement for one in asked if one.agreement), key=lambda one: one.kappa_low, default=None)
        of = f"; the best is {best.rubric} with {best.kappa:.2f} [{best.kappa_low:.2f}, {best.kappa_high:.2f}]" if best else ""
        raise ValueError(f"judge {judge}: no rule's kappa has a lower end above --min-kappa {options.min_kappa:g}{of}")
    return left


def row(one: Asked, min_kappa: float) -> tuple[str, ...]:
    """Agreement as a line of the table."""
    found = one.agreement
    if found is None:
        return (one.posed.id, "0", "0", "", "", "", "set aside: no labelled text")
    said = (f"{found.accuracy:.3f}", f"{found.kappa:.3f}", f"[{found.kappa_low:.3f}, {found.kappa_high:.3f}]")
    return (one.posed.id, str(found.n), str(sum(found.confusion[1])), *said, "" if one.good(min_kappa) else "set aside")
