"""The ``instructions`` stage: demonstrations that a stronger model wrote, beside people's, as one ``feedback`` artifact.

Self-instruct (Wang et al. 2022, arXiv:2212.10560) with a teacher that answers too, as in instruction tuning with GPT-4 (Peng et al. 2023,
arXiv:2304.03277): instructions of people are shown, new ones are asked for, and the teacher answers those that pass; then what holds a benchmark item
is taken out. Every demonstration has its teacher, the teacher's licence and the examples that were shown in ``instructions.jsonl``; what was left
out stands in ``left_out.jsonl`` with its reason. Validation demonstrations stay people's, so the loss of SFT with and without is of the same texts.
A run that was killed asks for nothing twice (:mod:`modelyard.data.instructions.teacher`). Left out: rewriting an instruction until it is harder.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from modelyard.data.corpus.document import DataError
from modelyard.data.feedback.agreement import said as said_of
from modelyard.data.instructions.config import Drawing, TaughtConfig
from modelyard.data.instructions.filters import Instructions, contaminated, refused_answer
from modelyard.data.instructions.proposals import Example, listed, redacted, request, seeds
from modelyard.data.instructions.teacher import JOURNAL, Teacher
from modelyard.execution import ExecutionConfig
from modelyard.formats import instructions
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    THUMBS,
    Comparison,
    Demonstration,
    Message,
    Prompt,
    PromptRecord,
    Thumb,
    records,
    write,
)
from modelyard.formats.flags import Flag, flags_of
from modelyard.formats.instructions import InstructionsRecord, TaughtDemonstration
from modelyard.formats.questions import Question, read_questions
from modelyard.formats.teacher import Teacher as Provenance
from modelyard.formats.teacher import source
from modelyard.judges.open_judge import open_elsewhere
from modelyard.model.asked import Decoding
from modelyard.progress import Report


class People(NamedTuple):
    """What people gave."""

    demonstrations: list[Demonstration]
    prompts: list[PromptRecord]
    trained: list[str]
    """Prompts that something is trained on."""
    held_out: list[str]
    """Prompts that something is measured on."""


class Proposed(NamedTuple):
    """An instruction that passed, and the examples that it was asked for with."""

    text: str
    shown: tuple[str, ...]


class Making:
    """What has been made and left out so far."""

    def __init__(self, config: TaughtConfig, teacher: Teacher, people: People, examples: Sequence[Example], counts: Counter[str]) -> None:
        self.config, self.teacher, self.examples, self.counts = config, teacher, examples, counts
        self.there = Instructions(config, [*(one.text for one in examples), *people.trained], people.held_out)
        self.kept: list[TaughtDemonstration] = []
        self.left_out: list[dict[str, str]] = []
        self.requests = self.proposed = 0

    def leave_out(self, reason: str, text: str, **named: str) -> None:
        """Note that something is not taken; ``id`` of what later requests may have shown."""
        self.left_out.append({"reason": reason, "text": text, **named})

    def round(self) -> None:
        """Some requests, and the answers to what they brought."""
        first, count = self.requests, min(self.config.at_once, self.config.requests - self.requests)
        own = [Example(one.id, one.instruction) for one in self.kept]
        asked = [request(first + place, self.config, self.examples, own) for place in range(count)]
        said = self.teacher.ask([one.prompt for one in asked], drawn(self.config.proposing, self.config.seed + first))
        self.requests += count
        passed: list[Proposed] = []
        for one, reply in zip(asked, said, strict=True):
            items = listed(reply)
            if not reply.whole or not items:
                self.leave_out("no_list" if reply.whole else "long_request", reply.text)
                continue
            passed += [Proposed(text, one.shown) for item in items if (text := self._passed(item))]
        self._answer(passed, first)

    def _passed(self, item: str) -> str:
        """The instruction without personal data; "" where it is left out."""
        self.proposed += 1
        text = redacted(item, self.config.pii, self.counts)
        if reason := self.there.refuse(text):
            self.leave_out(reason, text)
            return ""
        return text

    def _answer(self, passed: Sequence[Proposed], first: int) -> None:
        asked = [(Message(role="user", content=one.text),) for one in passed]
        said = self.teacher.ask(asked, drawn(self.config.answering, self.config.seed + first))
        for one, reply in zip(passed, said, strict=True):
            if reason := refused_answer(one.text, reply, self.config):
                self.leave_out(reason, one.text)
                continue
            made = TaughtDemonstration(
                id=f"instructions/{len(self.kept)}",
                teacher=self.teacher.provenance,
                shown=one.shown,
                instruction=one.text,
                completion=redacted(reply.text.strip(), self.config.pii, self.counts),
            )
            self.kept.append(made)

    def finish(self, benchmarks: Mapping[str, Sequence[Question]]) -> list[TaughtDemonstration]:
        """As many as are wanted, but for those that hold a benchmark item."""
        for one in self.kept[self.config.number :]:
            self.leave_out("surplus", one.instruction, id=one.id)
        wanted = self.kept[: self.config.number]
        taken = contaminated([one.text for one in wanted], benchmarks, self.config.contamination)
        for place in sorted(taken):
            self.leave_out("contaminated", wanted[place].instruction, id=wanted[place].id)
        return [one for place, one in enumerate(wanted) if place not in taken]


def run(
    config: TaughtConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Demonstrations by the config's teacher beside those of ``inputs["feedback"]``, without items of ``inputs["benchmarks"]``.

    Raises:
        ValueError: the teacher cannot be opened or does not answer, there are too few instructions to show, or nothing was left of what it wrote.
    """
    counts: Counter[str] = Counter()
    people = of_people(inputs["feedback"])
    examples = seeds(config, inputs["feedback"], execution.roots, counts)
    teacher = Teacher(open_elsewhere(config.teacher, execution), config.teacher, checkpoints / JOURNAL)
    making = Making(config, teacher, people, examples, counts)
    while len(making.kept) < config.number and making.requests < config.requests:
        making.round()
        report(min(len(making.kept), config.number), config.number, {"instructions/requests": float(making.requests)}, unit="demonstration")
    made = making.finish(read_questions(inputs["benchmarks"]))
    reasons = Counter(row["reason"] for row in making.left_out)
    if not made:
        said = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "nothing was proposed"
        raise DataError(f"instructions: nothing is left of what {config.teacher.name} said to {making.requests} requests: {said}")
    kept_people = write_all(config, people, made, inputs["feedback"], out)
    (out / "left_out.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in making.left_out), "utf-8")
    record = InstructionsRecord(
        teacher=teacher.provenance,
        seeds=len(examples),
        requests=making.requests,
        proposed=making.proposed,
        kept=len(made),
        people=kept_people,
        left_out=dict(sorted(reasons.items())),
    )
    instructions.write(out, made, record)
    return metrics(record, counts)


def of_people(feedback: Path) -> People:
    """The records of a ``feedback`` artifact, and what new instructions are compared with."""
    demonstrations = list(records(feedback / DEMONSTRATIONS, Demonstration))
    prompts = list(records(feedback / PROMPTS, PromptRecord))
    rated: list[Comparison | Thumb | Flag] = [*records(feedback / COMPARISONS, Comparison), *records(feedback / THUMBS, Thumb)]
    rated += flags_of(feedback)
    tests = [one.prompt for one in rated if one.split == "test"]
    given: list[Demonstration | PromptRecord] = [*demonstrations, *prompts]
    held_out = [one.prompt for one in given if one.split == "validation"]
    return People(demonstrations, prompts, distinct(one.prompt for one in given if one.split == "train"), distinct([*held_out, *tests]))


def distinct(prompts: Iterable[Prompt]) -> list[str]:
    """What the prompts say, each text once."""
    return list(dict.fromkeys(map(said_of, prompts)))


def write_all(config: TaughtConfig, people: People, made: Sequence[TaughtDemonstration], feedback: Path, out: Path) -> int:
    """The ``feedback`` artifact's files; how many of people's training demonstrations are among them."""
    kept = [one for one in people.demonstrations if one.split == "validation" or config.keep_demonstrations]
    shared = [(one, {"id": one.id, "split": "train", "category": config.category, "prompt": asked(one)}) for one in made]
    own = [Demonstration.model_validate({**fields, "source": config.teacher.name, "completion": one.completion}) for one, fields in shared]
    prompts = [PromptRecord.model_validate({**fields, "source": "synthetic"}) for _, fields in shared] if config.also_prompts else []
    write(out / DEMONSTRATIONS, [*kept, *own])
    write(out / PROMPTS, [*people.prompts, *prompts])
    for name in (COMPARISONS, THUMBS):
        shutil.copyfile(feedback / name, out / name)
    (out / "sources.json").write_text(json.dumps(sources(config, made[0].teacher), indent=1, ensure_ascii=False) + "\n", "utf-8")
    return sum(one.split == "train" for one in kept)


def asked(one: TaughtDemonstration) -> list[dict[str, str]]:
    """The instruction as a user's turn."""
    return [{"role": "user", "content": one.instruction}]


def sources(config: TaughtConfig, teacher: Provenance) -> list[dict[str, str]]:
    """Rows of ``sources.json``: the teacher, and the file of seeds."""
    rows = [source(teacher, served=config.teacher.kind == "endpoint")]
    if file := config.seeds:
        rows.append({"name": file.name, "package": Path(file.path).name, "version": "", "sha256": file.sha256, "licence": file.licence})
    return rows


def drawn(drawing: Drawing, seed: int) -> Decoding:
    """How replies are drawn."""
    return Decoding(max_new_tokens=drawing.max_new_tokens, temperature=drawing.temperature, samples=1, seed=seed)


def metrics(record: InstructionsRecord, counts: Mapping[str, int]) -> dict[str, float]:
    """``instructions/...``: sizes, what was left out by reason, redactions by kind."""
    sizes = {key: float(getattr(record, key)) for key in ("kept", "requests", "proposed", "seeds", "people")}
    reasons = {f"left_out/{reason}": float(count) for reason, count in record.left_out.items()}
    return {f"instructions/{key}": value for key, value in {**sizes, **reasons, **counts}.items()}
