"""The images that a file of feedback names: data URLs in its lines, and files below its folder.

Each is read and cleaned when a line first names it, and forgotten but for its id, so that a file may name more images than fit in memory; those
of the records that are kept are read once more when they are written. What cannot be used drops the lines that name it, as ``image_`` and the
reason. Files are pinned by one hash over all of them, which is what ``sha256sum`` makes of ``sha256sum``'s lines in the order of their names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from modelyard.data.corpus.document import DataError
from modelyard.data.feedback.content import UselessError
from modelyard.formats.feedback import Prompt, images_of, with_images
from modelyard.formats.image_copies import NearCopies
from modelyard.formats.images import Image, ImageError, cleaned, is_data_url, referenced

COPIES_BENCHMARK = "near_copy_of_benchmark"


class Named(NamedTuple):
    """Where an image that is kept comes from."""

    reference: str
    folder: Path
    source: str
    licence: str

    def read(self) -> Image:
        """The image. Raises ImageError."""
        return cleaned(referenced(self.reference, self.folder), self.source, self.licence)


class FileImages:
    """The images of one file, in the order in which its lines name them."""

    def __init__(self, folder: Path, source: str, licence: str, asked: NearCopies) -> None:
        """``asked``: the images of benchmarks, which nothing may be trained on."""
        from scipy.cluster.hierarchy import DisjointSet

        self.folder, self.source, self.licence, self.asked = folder, source, licence, asked
        self.named: dict[str, Named] = {}
        """By id."""
        self._groups = DisjointSet()
        """Ids of images that are nearly copies of each other, or that one prompt shows."""
        self._found: dict[str, str | UselessError] = {}
        self._hashes: dict[str, str] = {}
        self._copies = NearCopies()

    def put(self, prompt: Prompt) -> Prompt:
        """The prompt with ids in the place of references. Raises UselessError for one with an image that cannot be used."""
        references = images_of(prompt)
        found = {reference: self._id(reference) for reference in references}
        for one, other in pairwise(found.values()):
            self._groups.merge(one, other)
        return with_images(prompt, found) if references else prompt

    def group(self, image: str) -> str:
        """What splits go by, once every line is read: one of the images that belong with this one. "" of no image."""
        return self._groups[image] if image else ""

    def _id(self, reference: str) -> str:
        key = hashlib.sha256(reference.encode()).hexdigest() if is_data_url(reference) else reference
        if key not in self._found:
            self._found[key] = self._read(reference)
        if isinstance(found := self._found[key], UselessError):
            raise found
        return found

    def _read(self, reference: str) -> str | UselessError:
        try:
            data = referenced(reference, self.folder)
            if not is_data_url(reference):
                self._hashes[reference] = hashlib.sha256(data).hexdigest()
            image = cleaned(data)
        except ImageError as error:
            return UselessError(f"image_{error.reason}")
        if self.asked.of(image):
            return UselessError(COPIES_BENCHMARK)
        if image.id not in self.named:
            self.named[image.id] = Named(reference, self.folder, self.source, self.licence)
            self._groups.add(image.id)
            if copied := self._copies.of(image):
                self._groups.merge(copied, image.id)
            self._copies.add(image)
        return image.id

    @property
    def sha256(self) -> str:
        """Over all files that were named and could be read; "" where none was."""
        return listed(self._hashes)


def listed(hashes: Mapping[str, str]) -> str:
    """The hash of ``sha256sum``'s lines of files, path -> hash, in the order of their paths; "" of none."""
    lines = "".join(f"{value}  {path}\n" for path, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest() if lines else ""


def require_listed(found: str, declared: str, what: str) -> None:
    """Raises DataError where the images that ``what`` names are others than declared."""
    if found == declared:
        return
    if not declared:
        raise DataError(f"{what}: images_sha256: needed, since its lines name files: {found}")
    raise DataError(f"{what}: images_sha256: {declared} in the config, but its images have {found or 'none'}")


def of_all(named: Mapping[str, Named], used: Sequence[str]) -> Iterable[Image]:
    """The images with the ids ``used``. Raises DataError where a file is not what it was."""
    for image in used:
        try:
            read = named[image].read()
        except ImageError as error:
            raise DataError(f"{named[image].folder / named[image].reference[:200]}: {error}, while the feedback was made") from None
        if read.id != image:
            raise DataError(f"{named[image].folder / named[image].reference[:200]}: changed while the feedback was made")
        yield read
