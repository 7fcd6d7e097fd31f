"""Builds the ``feedback`` artifact of corpus, own files and tasks: demonstrations, comparisons, thumbs, flags and prompts, as the same records.

After InstructGPT (arXiv:2203.02155, section 3.2 and appendix A.3): prompts that share a long prefix are one prompt, a user gives at most so many,
personal data is redacted, splits go by user or by prompt, and users' traffic is read only with consent. What is dropped is counted by reason and
listed in ``dropped.jsonl``; ``sources.json`` names the files. A prompt lies on one side of the split in all sets, so no model is measured on
what another was shown. The corpus brings text that was screened before; its ratings become comparisons in
:mod:`modelyard.data.feedback.votes`. Left out: writing prompts or answers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.data.corpus.document import DataError
from modelyard.data.corpus.held_out import RATINGS
from modelyard.data.corpus.splits import fraction
from modelyard.data.feedback import file_images, image_files, image_sets, votes
from modelyard.data.feedback import files as feedback_files
from modelyard.data.feedback.agreement import about, agreements, folded, opinions_of, said
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.data.feedback.files import Entry, FeedbackFile
from modelyard.data.feedback.image_files import ImageFile
from modelyard.data.feedback.image_sets import ImageSet
from modelyard.data.feedback.rated import comparison, flag, thumb
from modelyard.data.feedback.redaction import cleaner, redacted
from modelyard.data.feedback.sets import Prompts, Sets, split_of
from modelyard.data.feedback.tasks import LIBRARY, TaskSet, questions
from modelyard.formats.feedback import (
    DEMONSTRATIONS,
    PROMPTS,
    Comparison,
    Demonstration,
    Message,
    Prompt,
    PromptRecord,
    Thumb,
    images_of,
    json_lines,
)
from modelyard.formats.flags import Flag
from modelyard.formats.image_copies import NearCopies
from modelyard.formats.stored_images import ImageWriter
from modelyard.progress import Report


def run(
    config: FeedbackConfig, inputs: Mapping[str, Path], out: Path, report: Report, roots: str | Sequence[str], cache: Path = Path()
) -> dict[str, float]:
    """Gather the records of ``inputs["held_out"]`` (where there is one) and of the config's files, found under ``roots``, into ``out``; packages with
    images are fetched into ``cache``.

    Raises:
        DataError: a file that is missing, changed or has a bad line; two records with one id; nothing to align with.
    """
    sets = Sets([], [], [], [], [], [], Counter(), {})
    shown = [image_sets.made(table, cache) for table in config.images if isinstance(table, ImageSet)]
    asked = NearCopies(pair.image for one in shown for pairs in one.asked.values() for pair in pairs)
    for done, file in enumerate(config.files, 1):
        _own(sets, config, file, roots, asked)
        report(done, len(config.files), unit="file")
    for task in config.tasks:
        _made(sets, config, task)
    for one in shown:
        sets.demonstrations.extend(one.demonstrations)
        for what, reason in one.dropped:
            sets.drop(what, reason, next(iter(one.asked)))
        image_sets.write_benchmarks(out, one.asked)
    for table in config.images:
        if isinstance(table, ImageFile):
            _pictured(sets, config, table, roots, asked, out)
    sets.comparisons[:] = agreements(sets.comparisons)
    if "held_out" in inputs and config.from_corpus:
        _corpus(sets, config, inputs["held_out"])
    for name, records in sets.named().items():
        ids = Counter(record.id for record in records)
        if twice := next((one for one, count in ids.items() if count > 1), None):
            raise DataError(f"feedback: two {name} have the id {twice}")
    if not any(sets.named().values()):
        raise DataError("feedback: nothing is left of the files, and the corpus gives none")
    _write_images(sets, shown, out)
    sets.write(out)
    (out / "sources.json").write_text(json.dumps(_sources(config), indent=1, ensure_ascii=False) + "\n", "utf-8")
    metrics = sets.metrics()
    (out / "statistics.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    return metrics


def _sources(config: FeedbackConfig) -> list[dict[str, str]]:
    """The files, task sets and sets of images that records come from."""
    rows = [_row(file.name, Path(file.path).name, file.licence, sha256=file.sha256) for file in config.files]
    rows += [_row(task.name, LIBRARY, "Apache-2.0", version=task.version) for task in config.tasks]
    for table in config.images:
        if isinstance(table, ImageFile):
            rows.append(_row(table.name, Path(table.path).name, table.licence, sha256=table.sha256))
        else:
            rows += table.declared
    return rows


def _row(name: str, package: str, licence: str, version: str = "", sha256: str = "") -> dict[str, str]:
    return {"name": name, "package": package, "version": version, "sha256": sha256, "licence": licence}


def _write_images(sets: Sets, shown: Sequence[image_sets.Made], out: Path) -> None:
    """The images of sets, and those of files that a record shows."""
    prompts = (one.prompt for records in sets.named().values() for one in records)
    used = list(dict.fromkeys(image for prompt in prompts for image in images_of(prompt) if image in sets.images))
    with ImageWriter(out) as writer:
        for image in (image for one in shown for image in one.images.values()):
            writer.add(image)
        for image in file_images.of_all(sets.images, used):
            writer.add(image)


def _own(sets: Sets, config: FeedbackConfig, file: FeedbackFile, roots: str | Sequence[str], asked: NearCopies) -> None:
    """The records of one file."""
    read = feedback_files.read(file, roots, asked)
    sets.images.update(read.images)
    for where, reason in read.dropped:
        sets.drop("", reason, where)
    sets.counts.update({f"ignored_keys/{key}": count for key, count in read.ignored.items()})
    prompts = Prompts(config, sets)
    seen: set[str] = set()
    entries = [redacted(raw, config.pii, sets.counts) for raw in read.entries]
    opinions = opinions_of(one for one in entries if one.source != "user" or one.consent)
    for entry in entries:
        if entry.source == "user" and not entry.consent:
            sets.drop(entry.id, "no_consent", entry.where)
            continue
        group = entry.group if file.split_by == "user" else entry.image or folded(said(entry.prompt))
        place = fraction(f"{config.seed}:feedback:{group}")
        if file.shape == "prompts":
            if (
                prompts.add(entry, place)
                and (answer := entry.answer or "").strip()
                and is_shown(config, said(entry.prompt), file.demonstrated)
            ):
                sets.demonstrations.append(_demonstration(config, file, entry, place, answer))
            continue
        key = folded(repr((entry.prompt, entry.completions, entry.ranks, entry.label, entry.correction, entry.rater)))
        if key in seen:
            sets.drop(entry.id, "duplicate", entry.where)
            continue
        seen.add(key)
        if file.also_prompts:
            prompts.add(entry, place)
        if len(opinions[about(entry)]) > 1:
            if entry.rater:
                sets.drop(entry.id, "contradicted", entry.where)
                continue
            sets.counts["disagreed"] += 1  # they may be several people, whose disagreement is what a model is to learn
        if entry.ranks or entry.label is not None:
            _rated(sets, config, file, entry, place)
        else:
            sets.demonstrations.append(_demonstration(config, file, entry, place, entry.completions[0]))


def _demonstration(config: FeedbackConfig, file: FeedbackFile, entry: Entry, place: float, completion: str) -> Demonstration:
    return Demonstration(
        id=entry.id,
        split=split_of(place, config),
        source=file.name,
        category=entry.category,
        prompt=entry.prompt,
        completion=completion,
    )


def is_shown(config: FeedbackConfig, prompt: str, share: float) -> bool:
    """Whether the answer of a prompt is among the share that demonstrations show."""
    return fraction(f"{config.seed}:demonstrated:{prompt}") < share


def _rated(sets: Sets, config: FeedbackConfig, file: FeedbackFile, entry: Entry, place: float) -> None:
    """The comparison, the thumb or the flag, unless it is on a side that nothing learns from."""
    shape = comparison if entry.ranks else flag if file.shape == "flags" else thumb
    found = shape(config, file, entry, place)
    if isinstance(found, Comparison):
        sets.comparisons.append(found)
    elif isinstance(found, Thumb):
        sets.thumbs.append(found)
    elif isinstance(found, Flag):
        sets.flags.append(found)
    else:
        sets.drop(entry.id, found, entry.where)


def _pictured(sets: Sets, config: FeedbackConfig, table: ImageFile, roots: str | Sequence[str], asked: NearCopies, out: Path) -> None:
    """The demonstrations of a file of images."""
    with ImageWriter(out, f"set-{table.name}") as writer:
        kept = image_files.read(table, roots, asked, cleaner(config.pii, sets.counts), writer)
    sets.demonstrations.extend(kept.demonstrations)
    for where, reason in kept.dropped:
        sets.drop("", reason, where)


def _made(sets: Sets, config: FeedbackConfig, task: TaskSet) -> None:
    """The questions of a task, and demonstrations of a share of them."""
    for question in questions(task):
        prompt: Prompt = (Message(role="user", content=question.prompt),) if task.chat else question.prompt
        shared: dict[str, Any] = {"id": f"{task.name}-{question.number}", "category": task.name, "prompt": prompt}
        shared["split"] = split_of(fraction(f"{config.seed}:feedback:{folded(question.prompt)}"), config)
        sets.prompts.append(PromptRecord(source="synthetic", answer=question.answer, **shared))
        if is_shown(config, question.prompt, task.demonstrated):
            sets.demonstrations.append(Demonstration(source=task.name, completion=question.shown, **shared))


def _corpus(sets: Sets, config: FeedbackConfig, held_out: Path) -> None:
    """What was derived from the corpus: reviews to continue, dialogs to answer, and rated texts."""
    for row in (line.fields for line in json_lines(held_out / DEMONSTRATIONS)):
        prompt: Prompt = row["prompt"] if row["kind"] == "review" else (Message(role="user", content=row["prompt"]),)
        sets.demonstrations.append(
            Demonstration(
                id=row["id"], split=row["split"], source="corpus", category=row["kind"], prompt=prompt, completion=row["completion"]
            )
        )
    for row in (line.fields for line in json_lines(held_out / PROMPTS)):
        sets.prompts.append(PromptRecord(id=row["id"], split="train", source="corpus", category="review", prompt=row["prompt"]))
    if config.votes is not None:
        drawn = votes.comparisons(held_out / RATINGS, config.votes, config.seed)
        sets.comparisons.extend(drawn.comparisons)
        sets.counts["dropped/tied_votes"] += drawn.ties
