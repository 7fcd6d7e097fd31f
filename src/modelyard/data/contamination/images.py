"""Which items about images show one that training has met, or nearly: the image's part of the contamination check.

The words of such an item are no evidence: "what colour is the shape?" is asked of every picture. Who copies whom is
:class:`~modelyard.formats.images.NearCopies`'. Counted are the images of the very records that a set trains on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from modelyard.formats.contamination import Hit
from modelyard.formats.feedback import DEMONSTRATIONS, PROMPTS, Demonstration, PromptRecord, images_of, records
from modelyard.formats.images import ImageFiles, NearCopies
from modelyard.formats.questions import Question

Shown = Mapping[str, Mapping[str, str]]
"""Training set -> id of an image -> the first record that shows it."""


def shown(feedback: Path) -> Shown:
    """The images of every set of a feedback artifact."""
    found: dict[str, dict[str, str]] = {"demonstrations": {}, "prompts": {}}
    for one in records(feedback / DEMONSTRATIONS, Demonstration):
        for image in images_of(one.prompt) if one.split == "train" else ():
            found["demonstrations"].setdefault(image, one.id)
    for prompt in records(feedback / PROMPTS, PromptRecord):
        for image in images_of(prompt.prompt) if prompt.split == "train" else ():
            found["prompts"].setdefault(image, prompt.id)
    return found


def hits(rows: Sequence[Question], benchmarks: Path, feedback: Path, training: Shown) -> dict[str, list[Hit]]:
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
