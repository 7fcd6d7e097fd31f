"""Comparisons against hallucination, closed-domain and open-domain (GPT-4 Technical Report, arXiv:2303.08774, system card, section 3.1).

Closed-domain, without people once the judge of step 2 has been measured on responses that people labelled: (1) respond to the prompt; (2) ask the
judge to list what the response makes up; where it finds nothing, the response is left unchanged; (3) ask it to rewrite the response without that;
(4) list again; (5) where nothing is found now, (original, rewrite) is a comparison with the rewrite preferred, otherwise repeat from (3), at most
``rounds`` times. A rewrite that was cut at ``response_tokens`` is never preferred: trained as a whole answer, it would teach that one may stop there.
The report's model is its own judge (``policy``); a small one needs a larger judge. Open-domain: outputs that users flagged as not factual
(:mod:`modelyard.formats.flags`), compared with a corrected or an unflagged response to the same prompt. Both give the records that people's rankings
make. The report's prompts are not published; ours are. Left out: checking either against sources.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from pydantic import Field, model_validator

from modelyard.config import Config, digest
from modelyard.formats.feedback import Comparison, Prompt, prompt_text
from modelyard.formats.flags import Flag
from modelyard.judges.agreement import Agreement, compare
from modelyard.judges.judge import asked_once
from modelyard.judges.open_judge import JudgeModel
from modelyard.judges.rubric import NamedRubric
from modelyard.model.asked import Decoding, Model, Sampled

SOURCE, OPEN = "closed_domain", "open_domain"
"""Sources of the comparisons of either."""
FIND = (
    "Message:\n{prompt}\n\nResponse:\n{response}\n\nList every statement of the response that the message does not support, one a line, each "
    "beginning with a dash. If there is none, write only: none\n\nStatements:\n"
)
REWRITE = (
    "Message:\n{prompt}\n\nResponse:\n{response}\n\nThe message does not support these statements:\n{found}\n\nRewrite the response "
    "without them and change nothing else.\n\nRewritten response:\n"
)


End = Literal["faithful", "rewritten", "given_up", "unclear"]
"""Nothing was found in the response; nothing was found in a rewrite; every rewrite still had something, or the one without was cut, empty or the
response itself; a list said nothing at all."""
FAITHFUL, INVENTED = "faithful", "invented"


class ClosedDomainConfig(Config):
    """The closed-domain loop."""

    judge: JudgeModel
    """Who lists what a response makes up, and rewrites; ``policy`` is the SFT model."""
    rubric: NamedRubric
    """Responses labelled ``faithful`` or ``invented``, on which the lists are measured first."""
    min_kappa: float = Field(ge=-1, le=1)
    """Least agreement with the labels (Cohen's kappa); below it no comparison is made."""
    prompts: int = Field(ge=1)
    """Most training prompts that are answered."""

    rounds: int = Field(ge=1)
    """Most rewrites of a response (GPT-4: 5)."""
    response_tokens: int = Field(ge=1)
    """Longest response and rewrite."""
    list_tokens: int = Field(ge=1)
    """Longest list of what was made up."""
    temperature: float = Field(ge=0)
    """Of responses; lists and rewrites are greedy in the first round and drawn at this temperature afterwards."""
    seed: int = Field(ge=0)
    """Of the sampling and of bootstraps."""

    @model_validator(mode="after")
    def _labelled(self) -> ClosedDomainConfig:
        if [option.name for option in self.rubric.options] != [FAITHFUL, INVENTED]:
            raise ValueError(f"rubric {self.rubric.name}: its options must be {FAITHFUL} and {INVENTED}")
        if not self.rubric.labelled():
            raise ValueError(f"rubric {self.rubric.name}: has no labelled examples")
        return self


class Answering(Protocol):
    """What answers the prompts, in the form that alignment trains."""

    def follow(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """What is said after each prompt."""
        ...


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
    end: End
    cut: bool
    """Whether the response was cut at ``response_tokens``."""
    rewrite_cut: bool
    """Whether the last rewrite was."""


def closed_domain(policy: Answering, judge: Model, cases: Sequence[Case], config: ClosedDomainConfig) -> list[Outcome]:
    """The five steps for every case, all cases of a round together: ``policy`` responds, ``judge`` lists and rewrites."""
    texts = [prompt_text(case.prompt) for case in cases]
    decoding = _decoding(config, config.response_tokens, 0)
    current = [_Said.of(one) for one in policy.follow([case.prompt for case in cases], decoding)]
    responses = list(current)
    found = _listed(judge, texts, [one.text for one in responses], config, 0)
    outcomes: dict[int, Outcome] = {}
    for number in range(config.rounds + 1):
        for i, listed in enumerate(found):
            if i not in outcomes and (end := _end(listed, current[i], responses[i], number, config.rounds)):
                rewrite = current[i] if number else _Said("", cut=False)
                outcomes[i] = Outcome(cases[i], responses[i].text, rewrite.text, number, end, responses[i].cut, rewrite.cut)
        going = {i: listed for i, listed in enumerate(found) if listed and i not in outcomes}
        if not going:
            break
        asked = [REWRITE.format(prompt=texts[i], response=current[i].text, found="\n".join(listed)) for i, listed in going.items()]
        for i, said in zip(going, _said(judge, asked, config, config.response_tokens, number + 1), strict=True):
            current[i] = said
        again = _listed(judge, [texts[i] for i in going], [current[i].text for i in going], config, number + 1)
        for i, listed in zip(going, again, strict=True):
            found[i] = listed
    return [outcomes[i] for i in range(len(cases))]


class _Said(NamedTuple):
    """A response, a rewrite or a list."""

    text: str
    cut: bool

    @classmethod
    def of(cls, drawn: Sampled) -> _Said:
        return cls(drawn.text.strip(), not drawn.ended)


def _end(listed: list[str] | None, said: _Said, response: _Said, number: int, rounds: int) -> End | None:
    """How a case ends after rewrite ``number``; None where it is to be rewritten (again)."""
    if listed is None:
        return "unclear"
    if number == 0:
        return None if listed else "faithful"
    if not listed and said.text and said.text != response.text and not said.cut:
        return "rewritten"
    return "given_up" if number == rounds or not listed else None


def agreement(judge: Model, config: ClosedDomainConfig) -> Agreement:
    """How often ``judge`` lists nothing of responses labelled faithful and something of invented ones, asked as in the loop."""
    labelled = config.rubric.labelled()
    listed = _listed(judge, [one.prompt for one in labelled], [one.response for one in labelled], config, 0)
    said = [[1.0, 0.0] if found == [] else [0.0, 1.0] for found in listed]
    identity = f"{judge.name} {digest([judge.weights, FIND, config.list_tokens])[:16]}"
    return compare(config.rubric, identity, labelled, said, config.seed)


def comparisons_of(outcomes: Sequence[Outcome], split: str, rater: str) -> list[Comparison]:
    """(rewrite, original) of every case that ended with a faithful rewrite."""
    return [
        preferred(f"{SOURCE}-{one.case.id}", SOURCE, split, one.case.prompt, one.rewrite, one.response, rater, "judge")
        for one in outcomes
        if one.end == "rewritten"
    ]


def preferred(
    name: str, source: str, split: str, prompt: Prompt, better: str, worse: str, rater: str, by: Literal["people", "judge"]
) -> Comparison:
    """Two completions of which the first is better."""
    fields = {"id": name, "split": split, "source": source, "category": "hallucination", "rater": rater, "prompt": prompt}
    return Comparison.model_validate({**fields, "completions": (better, worse), "ranks": (1, 2), "ranked_by": by})


def _decoding(config: ClosedDomainConfig, tokens: int, number: int) -> Decoding:
    temperature = config.temperature if number != 1 else 0.0
    return Decoding(max_new_tokens=tokens, temperature=temperature, samples=1, seed=config.seed + number, stops=("\nMessage:",))


def _said(judge: Model, messages: Sequence[str], config: ClosedDomainConfig, tokens: int, number: int) -> list[_Said]:
    decoding = _decoding(config, tokens, number)
    return [_Said.of(one) for one in asked_once(judge, lambda: judge.reply(messages, decoding))]


def _listed(
    judge: Model, prompts: Sequence[str], responses: Sequence[str], config: ClosedDomainConfig, number: int
) -> list[list[str] | None]:
    asked = [FIND.format(prompt=prompt, response=response) for prompt, response in zip(prompts, responses, strict=True)]
    return [statements(one.text) for one in _said(judge, asked, config, config.list_tokens, number or 1)]


def statements(listed: str) -> list[str] | None:
    """The statements of a list; none where it says ``none``, None where it is empty: then nobody knows what to take out. A reply that is
    neither list nor ``none`` is one statement, so it never passes."""
    text = listed.strip()
    if re.fullmatch(r"[-*\s]*(none|nothing|no statements?)\b[\s.!]*", text, re.IGNORECASE):
        return []
    lines = [re.sub(r"^\s*(?:[-*\u2022]|\d+[.)])\s*", "", line).strip() for line in text.split("\n")]
    return [line for line in lines if line] or None


class Flags(NamedTuple):
    """What flags gave."""

    comparisons: list[Comparison]
    """Each of the split of its flags."""
    unpaired: list[Flag]
    """Flagged outputs with nothing to compare them with: to be given to labellers."""


def open_domain(flags: Sequence[Flag]) -> Flags:
    """Flagged outputs with the responses to the same prompts, on the same side of the split, that are better."""
    right: dict[tuple[str, Prompt], list[str]] = {}
    for flag in flags:
        if flag.factual:
            right.setdefault((flag.split, flag.prompt), []).append(flag.completion)
    comparisons, unpaired = [], []
    for flag in flags:
        if flag.factual:
            continue
        better = [flag.correction] if flag.correction else right.get((flag.split, flag.prompt), [])
        better = [text for text in dict.fromkeys(better) if text != flag.completion]
        if not better:
            unpaired.append(flag)
        for number, text in enumerate(better):
            name = f"{OPEN}-{flag.id}-{number}"
            comparisons.append(preferred(name, OPEN, flag.split, flag.prompt, text, flag.completion, flag.rater, "people"))
    return Flags(comparisons, unpaired)
