"""Comparisons against hallucination, closed-domain and open-domain (GPT-4 Technical Report, arXiv:2303.08774, system card, section 3.1).

Closed-domain, without people: (1) respond to the prompt; (2) ask the model to list what the response makes up; where it finds nothing, the
response is let be; (3) ask it to rewrite the response without that; (4) list again; (5) where nothing is found now, (original, rewrite) is a
comparison with the rewrite preferred, otherwise repeat from (3), at most ``rounds`` times. Open-domain: outputs that users flagged as not factual,
compared with a corrected or an unflagged response to the same prompt. Both give the records that people's rankings make. The report's prompts are
not published; ours are. Left out: checking either against sources.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from modelyard.config import Config
from modelyard.formats.feedback import Comparison, Message, Prompt, json_lines, prompt_text, record
from modelyard.model.asked import Decoding, Model

SOURCE = "closed_domain"
FIND = (
    "Message:\n{prompt}\n\nResponse:\n{response}\n\nList every statement of the response that the message does not support, one a line, each "
    "beginning with a dash. If there is none, write only: none\n\nStatements:\n"
)
REWRITE = (
    "Message:\n{prompt}\n\nResponse:\n{response}\n\nThe message does not support these statements:\n{found}\n\nRewrite the response "
    "without them and change nothing else.\n\nRewritten response:\n"
)


class ClosedDomainConfig(Config):
    """The closed-domain loop."""

    rounds: int = Field(ge=1)
    """Most rewrites of a response (GPT-4: 5)."""
    response_tokens: int = Field(ge=1)
    """Longest response and rewrite."""
    list_tokens: int = Field(ge=1)
    """Longest list of what was made up."""
    temperature: float = Field(ge=0)
    """Of responses; lists and rewrites are greedy in the first round and drawn at this temperature afterwards."""
    seed: int
    """Of the sampling."""


class Case(NamedTuple):
    """A prompt that holds all that a response may say."""

    id: str
    prompt: Prompt


class Outcome(NamedTuple):
    """What became of one case."""

    case: Case
    response: str
    rewrite: str
    """The last one; "" where the response was let be."""
    rounds: int
    """Rewrites that were asked for."""
    end: Literal["faithful", "rewritten", "given_up"]
    """Nothing was found in the response; nothing was found in a rewrite; every rewrite still had something."""


def closed_domain(model: Model, cases: Sequence[Case], config: ClosedDomainConfig) -> list[Outcome]:
    """The five steps for every case, all cases of a round together."""
    texts = [prompt_text(case.prompt) for case in cases]
    responses = _said(model, [f"Message:\n{text}\n\nResponse:\n" for text in texts], config, config.response_tokens, 0)
    found = _listed(model, texts, responses, config, 0)
    outcomes = {i: Outcome(cases[i], responses[i], "", 0, "faithful") for i, listed in enumerate(found) if not listed}
    current = dict(enumerate(responses))
    for number in range(1, config.rounds + 1):
        open_cases = [i for i in range(len(cases)) if i not in outcomes]
        if not open_cases:
            break
        asked = [REWRITE.format(prompt=texts[i], response=current[i], found="\n".join(found[i])) for i in open_cases]
        current |= dict(zip(open_cases, _said(model, asked, config, config.response_tokens, number), strict=True))
        again = _listed(model, [texts[i] for i in open_cases], [current[i] for i in open_cases], config, number)
        for i, listed in zip(open_cases, again, strict=True):
            found[i] = listed
            if not listed and current[i] and current[i] != responses[i]:
                outcomes[i] = Outcome(cases[i], responses[i], current[i], number, "rewritten")
            elif number == config.rounds:
                outcomes[i] = Outcome(cases[i], responses[i], current[i], number, "given_up")
    return [outcomes[i] for i in range(len(cases))]


def comparisons_of(outcomes: Sequence[Outcome], split: str, rater: str) -> list[Comparison]:
    """(rewrite, original) of every case that ended with a faithful rewrite."""
    return [
        preferred(f"{SOURCE}-{one.case.id}", SOURCE, split, one.case.prompt, one.rewrite, one.response, rater)
        for one in outcomes
        if one.end == "rewritten"
    ]


def preferred(name: str, source: str, split: str, prompt: Prompt, better: str, worse: str, rater: str) -> Comparison:
    """Two completions of which the first is better."""
    fields = {"id": name, "split": split, "source": source, "category": "hallucination", "rater": rater, "prompt": prompt}
    return Comparison.model_validate({**fields, "completions": (better, worse), "ranks": (1, 2)})


def _said(model: Model, prompts: Sequence[str], config: ClosedDomainConfig, tokens: int, number: int) -> list[str]:
    temperature = config.temperature if number != 1 else 0.0
    decoding = Decoding(max_new_tokens=tokens, temperature=temperature, samples=1, seed=config.seed + number, stops=("\nMessage:",))
    return [one.text.strip() for one in model.complete(prompts, decoding)]


def _listed(model: Model, prompts: Sequence[str], responses: Sequence[str], config: ClosedDomainConfig, number: int) -> list[list[str]]:
    asked = [FIND.format(prompt=prompt, response=response) for prompt, response in zip(prompts, responses, strict=True)]
    return [statements(text) for text in _said(model, asked, config, config.list_tokens, number or 1)]


def statements(listed: str) -> list[str]:
    """The statements of a list; none where it says ``none``. A reply that is neither list nor ``none`` is one statement, so it never passes."""
    text = listed.strip()
    if re.fullmatch(r"[-*\s]*(none|nothing|no statements?)\b[\s.!]*", text, re.IGNORECASE):
        return []
    lines = [re.sub(r"^\s*(?:[-*\u2022]|\d+[.)])\s*", "", line).strip() for line in text.split("\n")]
    return [line for line in lines if line] or ["(the list is empty)"]


class Flag(Config):
    """A user's report about an output, as it is imported: one JSON object a line."""

    id: str
    prompt: str | tuple[Message, ...]
    completion: str = Field(min_length=1)
    """What the model said."""
    factual: bool
    """``false``: flagged as not factual; ``true``: a response that nobody flagged or that a labeller found right."""
    correction: str = ""
    """A labeller's corrected response, where there is one."""
    consent: bool
    """Whether the user agreed that it may be used for training."""
    rater: str = ""
    """Who flagged or labelled."""


class Flags(NamedTuple):
    """What imported flags gave."""

    comparisons: list[Comparison]
    unpaired: list[Flag]
    """Flagged outputs with nothing to compare them with: to be given to labellers."""
    without_consent: int
    """Records left out because their user did not agree."""


def open_domain(path: Path, split: str) -> Flags:
    """Flagged outputs of a JSONL file with the responses to the same prompts that are better. Raises FeedbackError naming file, line and key."""
    every = [record(Flag, line) for line in json_lines(path)]
    flags = [flag for flag in every if flag.consent]
    right: dict[Prompt, list[Flag]] = {}
    for flag in flags:
        if flag.factual:
            right.setdefault(flag.prompt, []).append(flag)
    comparisons, unpaired = [], []
    for flag in flags:
        if flag.factual:
            continue
        better = [flag.correction] if flag.correction else [one.completion for one in right.get(flag.prompt, [])]
        better = [text for text in dict.fromkeys(better) if text != flag.completion]
        if not better:
            unpaired.append(flag)
        for number, text in enumerate(better):
            name = f"open_domain-{flag.id}-{number}"
            comparisons.append(preferred(name, "open_domain", split, flag.prompt, text, flag.completion, flag.rater))
    return Flags(comparisons, unpaired, len(every) - len(flags))
