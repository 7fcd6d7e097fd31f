"""The teacher, and a journal of what it said: whatever was answered before a run died is not asked again.

A reply's key is the hash of what was asked and how it was to be drawn, so a run that goes on from the beginning finds its own replies and asks only
for the rest. The journal lies with the stage's checkpoints. Left out: a journal for a run that goes on at another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from modelyard.config import digest
from modelyard.formats.feedback import Prompt
from modelyard.formats.journal import Journal
from modelyard.formats.teacher import Teacher as Provenance
from modelyard.judges.open_judge import TeacherConfig
from modelyard.model import endpoint
from modelyard.model.asked import Decoding, conversation
from modelyard.model.endpoint import Endpoint
from modelyard.model.subject import Subject
from modelyard.progress import beat

JOURNAL = "teacher.jsonl"


class Said(NamedTuple):
    """A reply."""

    text: str
    ended: bool
    """Whether the teacher ended it by itself."""
    whole: bool
    """Whether the teacher read all that it was asked; a server refuses what it cannot read."""


class Teacher:
    """A model that is asked every question once."""

    def __init__(self, model: Endpoint | Subject, config: TeacherConfig, journal: Path) -> None:
        self.model, self.journal = model, Journal(journal, Said)
        identity = config.model if isinstance(model, Endpoint) else model.weights
        self.provenance = Provenance(name=config.name, licence=config.licence, identity=identity)

    def ask(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Said]:
        """A reply to each, remembered or asked for."""
        keys = [digest([conversation(prompt), decoding]) for prompt in prompts]
        new = list({key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self.journal}.items())
        together = endpoint.WORKERS if isinstance(self.model, Endpoint) else len(new)
        for start in range(0, len(new), together or 1):
            asked = dict(new[start : start + together])
            self.journal.add(dict(zip(asked, replies(self.model, list(asked.values()), decoding), strict=True)))
            beat()
        return [self.journal[key] for key in keys]


def replies(model: Endpoint | Subject, prompts: Sequence[Prompt], decoding: Decoding) -> list[Said]:
    """The model's replies by its own chat template."""
    return [Said(one.text, one.ended, whole=not one.cut) for one in model.reply(prompts, decoding)]
