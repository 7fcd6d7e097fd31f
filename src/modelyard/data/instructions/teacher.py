"""The teacher, whose replies are kept as they come: whatever was answered before a run died is not asked again.

A run that goes on from the beginning finds its own replies beside the stage's checkpoints, a server's one by one and those of a model on this machine
batch by batch (:meth:`Subject.keep`). Left out: a run that goes on at another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from modelyard.config import digest
from modelyard.formats.feedback import Prompt
from modelyard.formats.teacher import Teacher as Provenance
from modelyard.judges.open_judge import TeacherConfig
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
        self.model = model
        model.keep(journal)
        identity = config.model if isinstance(model, Endpoint) else model.weights
        self.provenance = Provenance(name=config.name, licence=config.licence, identity=identity)

    def ask(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Said]:
        """A reply to each by the model's own chat template; to equal ones the same."""
        keys = [digest(conversation(prompt)) for prompt in prompts]
        new = dict(zip(keys, prompts, strict=True))
        said = [Said(one.text, one.ended, whole=not one.cut) for one in self.model.reply(list(new.values()), decoding)]
        beat()
        found = dict(zip(new, said, strict=True))
        return [found[key] for key in keys]
