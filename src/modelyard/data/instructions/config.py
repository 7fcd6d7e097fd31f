"""Settings of the ``instructions`` stage: who teaches, what it is shown, how much is asked for and what is left out."""

from __future__ import annotations

import string

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.contamination.overlap import ContaminationConfig
from modelyard.data.feedback.files import FeedbackFile
from modelyard.data.filters.pii import PiiConfig
from modelyard.judges.open_judge import TeacherConfig

REQUEST = """These are tasks that people have given to a writing assistant:

{examples}

Write {count} further tasks for the assistant. Vary what they are about, what they ask for and how they are put, and repeat none of the above. \
Every task must say all that is needed to answer it in words alone. Reply with a numbered list of the tasks and nothing else."""
SEEDS = ("messages", "instructions", "prompts")
"""Shapes of files that hold one instruction a line."""


class Drawing(Config):
    """How the teacher's replies are drawn."""

    temperature: float = Field(ge=0)
    """0: greedy."""
    max_new_tokens: int = Field(ge=1)
    """Longest reply; an answer that did not end by itself is left out, of a list the last line."""


class WordBounds(Config):
    """How long a text may be, in words; of scripts without spaces a few characters are one."""

    least: int = Field(ge=1)
    """Fewest words."""
    most: int = Field(ge=1)
    """Most words."""

    @model_validator(mode="after")
    def _ordered(self) -> WordBounds:
        if self.least > self.most:
            raise ValueError(f"least {self.least} is more than most {self.most}")
        return self


class InstructionsConfig(Config):
    """What a stronger model is asked to write."""

    seed: int = Field(ge=0)
    """Of the choice of examples and of the teacher's replies."""
    teacher: TeacherConfig
    """Who writes."""
    seeds: FeedbackFile | None = None
    """A file of instructions to begin with; absent: the training demonstrations of the line's feedback that are conversations of one turn. What
    is shown to an endpoint leaves this machine."""
    categories: tuple[str, ...] = ()
    """Categories of the feedback's demonstrations that are shown; none: all."""
    number: int = Field(ge=1)
    """Demonstrations that are wanted, before those are taken out that hold a benchmark item."""
    requests: int = Field(ge=1)
    """Most requests for instructions; where they are used up there are fewer demonstrations."""
    per_request: int = Field(ge=1)
    """Instructions that a request asks for."""
    at_once: int = Field(default=8, ge=1)
    """Requests between which nothing is compared or shown: those of one round."""
    shots: int = Field(default=8, ge=1)
    """Examples that a request shows (self-instruct: 8)."""
    made_shots: int = Field(default=2, ge=0)
    """How many of them are the teacher's own, as soon as there are any (self-instruct: 2)."""
    request: str = REQUEST
    """What the teacher is asked, with the fields ``{examples}`` (a numbered list) and ``{count}``."""
    proposing: Drawing
    """Replies to requests."""
    answering: Drawing
    """Answers to instructions."""
    similarity: float = Field(default=0.7, gt=0, le=1)
    """ROUGE-L (F1) with any other instruction, people's or the teacher's, from which one is left out (self-instruct: 0.7)."""
    instruction_words: WordBounds = WordBounds(least=4, most=150)
    """Length of an instruction (self-instruct: 4 to 150)."""
    answer_words: WordBounds
    """Length of an answer."""
    excluded: tuple[str, ...] = ()
    """Words that no instruction may hold, such as ``picture`` or ``file``: what asks for more than text."""
    category: str = "instruction"
    """Category of what is made."""
    keep_demonstrations: bool
    """Whether people's training demonstrations stay beside the teacher's, or SFT learns from these alone. Those held out stay in any case."""
    also_prompts: bool = False
    """Whether the instructions are also prompts that a policy samples from."""

    @model_validator(mode="after")
    def _fits(self) -> InstructionsConfig:
        if self.made_shots >= self.shots:
            raise ValueError(f"made_shots {self.made_shots} leaves no example of people among shots {self.shots}")
        if self.number > (most := self.requests * self.per_request):
            raise ValueError(f"number {self.number} is more than requests x per_request ask for ({most})")
        if self.seeds and self.categories:
            raise ValueError("categories: are of the feedback's demonstrations, and seeds names a file instead")
        if self.seeds and self.seeds.shape not in SEEDS:
            raise ValueError(f"seeds.shape {self.seeds.shape!r}: no instruction a line; it must be {', '.join(SEEDS)}")
        try:
            fields = sorted(name for _, name, _, _ in string.Formatter().parse(self.request) if name is not None)
        except ValueError as error:
            raise ValueError(f"request: {error}") from None
        if fields != ["count", "examples"]:
            raise ValueError("request: needs the fields {examples} and {count}, each once, and no other")
        return self


class TaughtConfig(InstructionsConfig):
    """All that defines the artifact: the table with the line's own rules about personal data and contamination."""

    pii: PiiConfig
    """What is redacted in seeds of a file and in what the teacher wrote: as in feedback."""
    contamination: ContaminationConfig
    """How benchmark items are looked for in it: as in the line's check."""
