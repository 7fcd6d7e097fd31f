"""Requests for new instructions: examples that the teacher is shown, and the list that it replies with.

After self-instruct (Wang et al. 2022, arXiv:2212.10560, section 2.2): every request shows a few of people's instructions and, once there are any, of
the teacher's own, drawn anew, so that no two replies begin alike. Left out: telling classification tasks apart, and inputs apart from instructions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modelyard.data.corpus.document import DataError
from modelyard.data.feedback import files
from modelyard.data.feedback.agreement import folded
from modelyard.data.filters.pii import PiiConfig, redact
from modelyard.data.instructions.config import InstructionsConfig, TaughtConfig
from modelyard.data.instructions.filters import off
from modelyard.data.instructions.teacher import Said
from modelyard.formats.feedback import DEMONSTRATIONS, Demonstration, Message, Prompt, content_text, images_of, is_text, records

_NUMBERED = re.compile(r"^[ \t]*\**(\d{1,4})[.):]\**[ \t]+", re.M)


class Example(NamedTuple):
    """An instruction that a request may show."""

    id: str
    text: str


class Request(NamedTuple):
    """A request for instructions."""

    prompt: tuple[Message, ...]
    shown: tuple[str, ...]
    """Ids of its examples."""


def seeds(config: TaughtConfig, feedback: Path, roots: str | Sequence[str], counts: Counter[str]) -> list[Example]:
    """People's instructions, each text once, as long as an instruction may be; personal data in a file's is redacted and counted.

    Raises:
        DataError: the file is missing, another one or has a bad line, or there are fewer instructions than a request shows.
    """
    given = _of_file(config, roots, counts) if config.seeds else _of_feedback(config, feedback)
    found = {folded(one.text): one for one in given if not off(one.text, config.instruction_words, "instruction")}
    if len(found) < config.shots:
        where = f"file {config.seeds.name}" if config.seeds else "the feedback's demonstrations of one turn"
        of = f" of category {' or '.join(config.categories)}" if config.categories else ""
        raise DataError(f"instructions: {where}{of}: {len(found)} instructions to show, and shots asks for {config.shots}")
    return list(found.values())


def _of_feedback(config: TaughtConfig, feedback: Path) -> list[Example]:
    shown = (one for one in records(feedback / DEMONSTRATIONS, Demonstration) if one.split == "train")
    wanted = (one for one in shown if not config.categories or one.category in config.categories)
    return [Example(one.id, text) for one in wanted if (text := single_turn(one.prompt))]


def _of_file(config: TaughtConfig, roots: str | Sequence[str], counts: Counter[str]) -> list[Example]:
    assert config.seeds
    found = []
    for raw in files.read(config.seeds, roots).entries:
        if raw.source == "user" and not raw.consent:
            counts["seeds_without_consent"] += 1
            continue
        if text := raw.prompt if isinstance(raw.prompt, str) else single_turn(raw.prompt):
            found.append(Example(raw.id, redacted(text, config.pii, counts)))
    return found


def redacted(text: str, config: PiiConfig, counts: Counter[str]) -> str:
    """The text without personal data; ``redacted/{kind}`` is counted."""
    found = redact(text, config)
    counts.update({f"redacted/{kind}": count for kind, count in found.found.items()})
    return found.text


def single_turn(prompt: Prompt) -> str:
    """What the user says in a conversation of one turn, system messages apart; "" for a text to be continued, for longer conversations and for
    one about images, which no teacher is shown."""
    if is_text(prompt) or images_of(prompt):
        return ""
    spoken = [message for message in prompt if message.role != "system"]
    return content_text(spoken[0].content).strip() if len(spoken) == 1 and spoken[0].role == "user" else ""


def request(number: int, config: InstructionsConfig, people: Sequence[Example], made: Sequence[Example]) -> Request:
    """The request of this number: a function of the seed, its number and what there is to show."""
    generator = np.random.default_rng([config.seed, number])
    own = min(config.made_shots, len(made))
    drawn = [
        *(people[i] for i in generator.choice(len(people), config.shots - own, replace=False)),
        *(made[i] for i in generator.choice(len(made), own, replace=False)),
    ]
    shown = [drawn[i] for i in generator.permutation(len(drawn))]
    examples = "\n".join(f"{place}. {one.text}" for place, one in enumerate(shown, 1))
    text = config.request.format(examples=examples, count=config.per_request)
    return Request((Message(role="user", content=text),), tuple(one.id for one in shown))


def listed(said: Said) -> list[str]:
    """The items of a numbered list, which may have several lines each; numbers go up by one. The last item of a reply that was cut is left out."""
    starts: list[re.Match[str]] = []
    for match in _NUMBERED.finditer(said.text):
        if not starts or int(match[1]) == int(starts[-1][1]) + 1:
            starts.append(match)
    ends = [*(match.start() for match in starts[1:]), len(said.text)][: len(starts)]
    items = [said.text[match.end() : end].strip() for match, end in zip(starts, ends, strict=True)]
    return [item for item in (items if said.ended else items[:-1]) if item]
