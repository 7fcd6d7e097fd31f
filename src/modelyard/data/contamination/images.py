"""Which items about images show one that training has met, or nearly: the image's part of the contamination check.

What such an item and a record with images both say is no evidence: "what colour is the shape?" is asked of every picture. Who copies whom is
:class:`~modelyard.formats.image_copies.NearCopies`'. Counted are the images of the very records that a set trains on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from modelyard.formats.contamination import Hit
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    THUMBS,
    Comparison,
    Demonstration,
    Prompt,
    PromptRecord,
    Thumb,
    images_of,
    records,
)
from modelyard.formats.flags import Flag, flags_of
from modelyard.formats.image_copies import NearCopies
from modelyard.formats.questions import Question
from modelyard.formats.stored_images import ImageFiles

First = Mapping[str, Mapping[str, str]]
"""Training set -> id of an image -> the first record that shows it."""


class Shown(NamedTuple):
    """The images that training shows."""

    first: First
    records: frozenset[str]
    """Ids of the records that show any."""


def shown(feedback: Path) -> Shown:
    """The images of every set that something is trained on, of a feedback artifact."""
    demonstrations = records(feedback / DEMONSTRATIONS, Demonstration)
    compared: list[Comparison | Flag] = [*records(feedback / COMPARISONS, Comparison)]
    compared += flags_of(feedback)  # which become comparisons
    thumbs = records(feedback / THUMBS, Thumb)
    prompts = records(feedback / PROMPTS, PromptRecord)
    sets: dict[str, list[tuple[str, Prompt]]] = {
        "demonstrations": [(one.id, one.prompt) for one in demonstrations if one.split == "train"],
        **{f"{split}_comparisons": [(one.id, one.prompt) for one in compared if one.split == split] for split in ("reward", "gold")},
        "thumbs": [(one.id, one.prompt) for one in thumbs if one.split == "train"],
        "prompts": [(one.id, one.prompt) for one in prompts if one.split == "train"],
    }
    first: dict[str, dict[str, str]] = {name: {} for name in sets}
    for name, some in sets.items():
        for record, prompt in some:
            for image in images_of(prompt):
                first[name].setdefault(image, record)
    return Shown(first, frozenset(record for some in sets.values() for record, prompt in some if images_of(prompt)))


def hits(rows: Sequence[Question], benchmarks: Path, feedback: Path, training: First) -> dict[str, list[Hit]]:
    """Training set -> the items of a benchmark that show one of its images, or a near copy."""
    asked = ImageFiles(benchmarks)
    owners: dict[str, list[str]] = {}
    for row in rows:
        for image in row.images:
            owners.setdefault(image, []).append(row.id)
    files = ImageFiles(feedback)
    copies = NearCopies(files.row(image) for image in dict.fromkeys(image for one in training.values() for image in one))
    found: dict[str, list[Hit]] = {name: [] for name in training}
    for image, items in owners.items():
        if not (met := copies.of(asked.row(image))):
            continue
        for name, documents in training.items():
            if met in documents:
                found[name] += [Hit(item=item, set=name, document=documents[met], found=f"image {met[:16]}") for item in items]
    return found
