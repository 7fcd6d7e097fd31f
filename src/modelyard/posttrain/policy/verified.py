"""Rewards that a rule verifies: the form of a completion, or the answer that it states.

RLVR is Tulu 3's name for it (arXiv:2411.15124, section 6); DeepSeek-R1 rewards answers and their form (arXiv:2501.12948, section 2.2.2).

A reward is a value with an id, like a benchmark: a pattern that the completion must hold and what its group must equal. Where the reward is
given decides what is learned, so the answer is read strictly, as the pattern says and nowhere else; how well a model answers in forms of its own
is a benchmark's question. Left out: tasks with several right answers, which only a library's own check can tell.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal

from pydantic import model_validator

from modelyard.config import Config, digest
from modelyard.formats.feedback import PromptRecord
from modelyard.judges.sandbox import sandbox_runner, seccomp
from modelyard.judges.sandbox.run import Limits, Program, of_asserts, run_programs
from modelyard.model.network.first_rank import on_first_rank
from modelyard.store.code_identity import code_version, definition_version

NUMBER = re.compile(r"[+-]?((\d{1,3}(,\d{3})+|\d+)(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
"""``1000``, ``1,000.50``, ``1e3``; a comma that sets no thousands apart is no part of a number."""


class VerifiedReward(Config):
    """One rule."""

    pattern: str
    """Regular expression that is searched in the completion, over all lines; its last match counts."""
    expects: Literal["match", "text", "number", "tests"]
    """``match``: that the pattern is found. ``text``, ``number``: that its only group equals the prompt's ``answer``, as text without
    surrounding space or as a number (``1,000`` is 1000.0; of a solution as GSM8K writes them, the number behind ``####``).
    ``tests``: that the group is a Python program which passes the ``answer``, assert statements that call a function of it
    (``policy.sandbox`` says what it may use)."""
    weight: float
    """Reward of a completion that does as expected, beside the reward model's score; one that does not earns 0."""
    categories: tuple[str, ...] = ()
    """Categories of the prompts that it speaks about; none: all."""

    @model_validator(mode="after")
    def _fits(self) -> VerifiedReward:
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is no regular expression: {error}") from None
        if self.expects != "match" and groups != 1:
            raise ValueError(
                f"pattern {self.pattern!r} has {groups} groups; expects {self.expects!r} compares the only one with the answer"
            )
        return self

    @property
    def id(self) -> str:
        """First 16 hex digits of a hash over its fields and the code that verifies."""
        code: list[str] = [definition_version("modelyard.posttrain.policy.verified", "program_of" if self.expects == "tests" else "right")]
        if self.expects == "tests":
            code += [
                definition_version("modelyard.judges.sandbox.run", "of_asserts"),
                code_version(sandbox_runner.__name__, seccomp.__name__),
            ]
        return digest({"reward": self, "code": code})[:16]

    def speaks_about(self, prompt: PromptRecord) -> bool:
        """Whether a completion of ``prompt`` can earn it."""
        if self.categories and prompt.category not in self.categories:
            return False
        if self.expects == "number":
            return stated(prompt) is not None
        if self.expects == "tests":
            return holds_tests(prompt.answer or "")
        return self.expects == "match" or prompt.answer is not None


def right(reward: VerifiedReward, prompt: PromptRecord, completion: str) -> bool:
    """Whether ``completion`` does what ``reward`` expects of an answer to ``prompt``."""
    found = list(re.finditer(reward.pattern, completion, re.MULTILINE))
    if reward.expects == "match" or not found:
        return bool(found)
    said, wanted = (found[-1].group(1) or "").strip(), (prompt.answer or "").strip()
    if reward.expects == "text":
        return said == wanted
    return number(said) is not None and number(said) == stated(prompt)


def stated(prompt: PromptRecord) -> Decimal | None:
    """The number that a prompt's answer is, or ends with behind ``####`` (GSM8K, arXiv:2110.14168); None where it has none."""
    return number((prompt.answer or "").rpartition("####")[2].strip())


def number(text: str) -> Decimal | None:
    """The number that ``text`` spells in ASCII digits, thousands apart by commas or not; None where it is none."""
    return Decimal(text.replace(",", "")) if NUMBER.fullmatch(text) else None


def holds_tests(answer: str) -> bool:
    """Whether ``answer`` is the body of a function that calls something and asserts something."""
    try:
        parts = list(ast.walk(ast.parse("def check():\n" + textwrap.indent(answer, "    "))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # text from files: NUL, nesting without an end
        return False
    return all(any(isinstance(part, kind) for part in parts) for kind in (ast.Assert, ast.Call))


def program_of(reward: VerifiedReward, prompt: PromptRecord, completion: str) -> Program | None:
    """The program in ``completion`` with the prompt's tests; None where there is none, or none of its functions is tested."""
    found = list(re.finditer(reward.pattern, completion, re.MULTILINE))
    code = found[-1].group(1) or "" if found else ""
    return of_asserts(code, code, prompt.answer or "")


def passing(reward: VerifiedReward, prompts: Sequence[PromptRecord], completions: Sequence[str], sandbox: Limits) -> list[bool]:
    """Whether each completion's program passes its prompt's tests: run once, since a program may end otherwise when it is run again.

    Every rank calls it. Raises ValueError where ``sandbox`` cannot be had.
    """
    programs = [program_of(reward, prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
    verdicts = iter(on_first_rank(lambda: run_programs([program for program in programs if program], sandbox)))
    return [program is not None and next(verdicts).passed for program in programs]


def verified(
    rewards: Mapping[str, VerifiedReward], prompts: Sequence[PromptRecord], completions: Sequence[str], sandbox: Limits
) -> dict[str, list[float]]:
    """Name -> reward of every completion; 0 where a reward does not speak about its prompt. Programs run in ``sandbox``."""
    earned = {}
    for name, reward in rewards.items():
        asked = [i for i, prompt in enumerate(prompts) if reward.speaks_about(prompt)]
        chosen, said = [prompts[i] for i in asked], [completions[i] for i in asked]
        if reward.expects == "tests":
            judged = passing(reward, chosen, said, sandbox)
        else:
            judged = [right(reward, prompt, text) for prompt, text in zip(chosen, said, strict=True)]
        values = dict(zip(asked, judged, strict=True))
        earned[name] = [reward.weight * values.get(i, False) for i in range(len(prompts))]
    return earned


def require_spoken_about(rewards: Mapping[str, VerifiedReward], prompts: Sequence[PromptRecord]) -> None:
    """Raise ValueError for a reward that no completion could earn."""
    for name, reward in rewards.items():
        if not any(reward.speaks_about(prompt) for prompt in prompts):
            which = f" of category {' or '.join(reward.categories)}" if reward.categories else ""
            needs = {"match": "", "text": " with an answer", "number": " with an answer that is a number"}
            needed = needs.get(reward.expects, " whose answer is assert statements that call a function")
            raise ValueError(f"policy.rewards.{name}: there is no prompt{which}{needed}")
