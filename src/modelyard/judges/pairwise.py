"""Which of two responses is better: a judge's answers in both positions, what they are worth, and pairs that people have labelled.

Each pair is asked twice with the positions swapped and the answers averaged (Lee et al., arXiv:2309.00267, section 2.1.1;
Zheng et al. 2023, arXiv:2306.05685, section 3.4). A judge that changes its mind with the positions contradicts itself; how
often it takes whatever stands first is its position bias, 0.5 for none. Agreement with people is accuracy and Cohen's kappa,
as LLMBar (Zeng et al., arXiv:2310.07641) measures judges. Pairs are read as LLMBar writes them, or as ``chosen`` and
``rejected``. Left out: three-way answers and reasons before the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from modelyard.config import digest
from modelyard.formats.feedback import Comparison, Prompt, prompt_text
from modelyard.formats.json_file import Line
from modelyard.judges.agreement import Agreement, agreement
from modelyard.judges.judge import NOTHING, Judge, Question
from modelyard.stats import ties
from modelyard.stats.estimate import Estimate, proportion

WHICH = "Which of the two responses to the message is better: more helpful, true, clear and harmless?"
LAST_TURN = "\n\nAssistant:"
"""Begins the response in a dialogue written out as text (HH-RLHF)."""


class Preference(NamedTuple):
    """A judge on two completions of one prompt."""

    first: float
    """Probability that the first is better, mean over positions."""
    contradicted: bool
    """Whether the judge chose the other one once the positions were swapped."""
    front: float = 0.5
    """How often it chose what stood in front, of the two positions: 0.5 where it held to its choice or took neither."""


class Pair(NamedTuple):
    """Two responses to a prompt."""

    id: str
    prompt: Prompt
    first: str
    second: str
    better: int = -1
    """Which is better by people's label, 0 or 1; -1: nobody says."""
    group: str = ""


class PairResult(NamedTuple):
    """What a judge's answers on pairs amount to."""

    wins: Estimate
    """Share in which the first wins, ties counted half."""
    contradicted: Estimate
    """Share in which the judge contradicts itself once the positions are swapped."""
    front: Estimate
    """Share of all answers that take what stands in front: 0.5 is no bias."""
    agreement: Agreement | None
    """With people's labels, where there are any."""
    consistent: Estimate | None
    """Agreement where the judge does not contradict itself."""
    no_letter: Estimate | None = None
    """Share of replies that named no letter, where replies were generated."""


def prefer(judge: Judge, pairs: Sequence[tuple[Prompt, str, str]]) -> list[Preference]:
    """The judge's preference in each (prompt, first, second). Raises ValueError for a judge that is asked in one order only."""
    if judge.asking.orders < 2:
        raise ValueError("judge.orders must be at least 2: preferences are asked in both positions")
    asked = [question(prompt_text(prompt), first, second) for prompt, first, second in pairs]
    answers = judge.by_order(asked, (question(NOTHING, NOTHING, NOTHING),))
    return [of_positions(one[0], other[0]) for one, other in answers]


def of_positions(front: float, behind: float) -> Preference:
    """A preference of the probabilities that the first is better, asked in front and behind; a half takes neither side."""
    won = [ties.preferred(p, 1 - p, "fp32") for p in (front, behind)]
    return Preference((front + behind) / 2, abs(won[0] - won[1]) == 1, (won[0] + 1 - won[1]) / 2)


def question(prompt: str, first: str, second: str) -> Question:
    """Which of two responses is better."""
    return Question(f"User's message:\n{prompt.strip()}\n\n{WHICH}", (first.strip() or "(empty)", second.strip() or "(empty)"))


def judged(judge: Judge, pairs: Sequence[Pair], seed: int) -> tuple[list[Preference], PairResult]:
    """Every pair put to the judge, and what follows. Raises ValueError without pairs."""
    if not pairs:
        raise ValueError("no pair to judge")
    replies, no_letter = judge.replies, judge.no_letter
    said = prefer(judge, [(one.prompt, one.first, one.second) for one in pairs])
    replies, no_letter = judge.replies - replies, judge.no_letter - no_letter
    wins = [ties.preferred(one.first, 1 - one.first, "fp32") for one in said]
    labelled = [place for place, pair in enumerate(pairs) if pair.better >= 0]
    steady = [place for place in labelled if not said[place].contradicted]
    right = [wins[place] if pairs[place].better == 0 else 1 - wins[place] for place in steady]
    result = PairResult(
        wins=proportion(sum(wins), len(wins)),
        contradicted=proportion(sum(one.contradicted for one in said), len(said)),
        front=proportion(sum(one.front for one in said) * 2, len(said) * 2),
        agreement=agreed(judge, [pairs[place] for place in labelled], [said[place] for place in labelled], seed) if labelled else None,
        consistent=proportion(sum(right), len(right)) if right else None,
        no_letter=proportion(no_letter, replies) if replies else None,
    )
    return said, result


def agreed(judge: Judge, pairs: Sequence[Pair], said: Sequence[Preference], seed: int) -> Agreement:
    """How far preferences are people's, by accuracy and kappa over prompts; an undecided pair agrees with nobody."""
    labels = np.array([pair.better for pair in pairs])
    decided = [ties.preferred(one.first, 1 - one.first, "fp32") for one in said]
    answers = np.array([2 if win == 0.5 else int(win < 0.5) for win in decided])
    given = [one.first if pair.better == 0 else 1 - one.first for one, pair in zip(said, pairs, strict=True)]
    prompts = [prompt_text(pair.prompt) for pair in pairs]
    return agreement(f"preference-{digest(WHICH)[:8]}", judge.identity, labels, answers, given, prompts, 2, seed)


def of_comparisons(comparisons: Sequence[Comparison]) -> list[Pair]:
    """People's comparisons as pairs without ties, the better one in either place."""
    return [
        sided(f"{one.id}/{better}-{worse}", one.prompt, one.completions[better], one.completions[worse], one.category)
        for one in comparisons
        for better, worse in one.pairs()
    ]


def sided(name: str, prompt: Prompt, better: str, worse: str, group: str) -> Pair:
    """A labelled pair with its better response first or second, as a hash of the name says: no side is the right one."""
    if sha256(name.encode()).digest()[0] % 2:
        return Pair(name, prompt, worse, better, 1, group)
    return Pair(name, prompt, better, worse, 0, group)


def read_pair(line: Line, number: int) -> Pair:
    """A row of a pair set: LLMBar's, or a prompt with ``chosen`` and ``rejected``. Raises ValueError naming the line that is neither."""
    where, row = line
    name, group = str(row.get("id", number)), str(row.get("subset") or row.get("category") or "")
    if {"input", "output_1", "output_2"} <= set(row):
        label = row.get("label")
        if label not in (1, 2, None):
            raise ValueError(f"{where}: label: {label!r} is neither 1 nor 2")
        return Pair(
            name,
            said(where, row, "input"),
            said(where, row, "output_1"),
            said(where, row, "output_2"),
            -1 if label is None else label - 1,
            group,
        )
    if "chosen" not in row or "rejected" not in row:
        raise ValueError(f"{where}: neither input, output_1 and output_2 nor chosen and rejected")
    chosen, rejected = reply(where, row, "chosen"), reply(where, row, "rejected")
    prompt = said(where, row, "prompt") if "prompt" in row else chosen[0]
    return sided(name, prompt, chosen[1], rejected[1], group)


def said(where: str, row: dict[str, Any], key: str) -> str:
    """A text. Raises ValueError naming the line."""
    if not isinstance(row[key], str):
        raise ValueError(f"{where}: {key}: not a text but {type(row[key]).__name__}")
    return str(row[key])


def reply(where: str, row: dict[str, Any], key: str) -> tuple[str, str]:
    """(what came before, response): a dialogue ends with its last turn; messages likewise; anything else is the response."""
    given = row[key]
    if isinstance(given, list) and given and all(isinstance(one, dict) and isinstance(one.get("content"), str) for one in given):
        return "\n\n".join(f"{one.get('role', 'user')}: {one['content']}" for one in given[:-1]), str(given[-1]["content"])
    text = said(where, row, key)
    before, found, response = text.rpartition(LAST_TURN)
    return (before, response) if found else ("", text)
