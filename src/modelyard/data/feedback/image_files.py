"""A user's own files of images with captions or questions, as demonstrations in chat.

Every row becomes a demonstration or is dropped with a reason: what the reader sets aside (``read/...``), an image that cannot be used
(``image_broken``, ``image_animated``, ``image_too_many_bytes``, ``image_too_many_pixels``, ``image_missing``, ``image_elsewhere``,
``image_behind_url``), one that is too small, large or long (``image_too_small``, ``image_too_large``, ``image_too_long``), that nearly copies
an earlier one (``near_copy``) or one of a benchmark (``near_copy_of_benchmark``), a row without its text (``no_text``) or that says what another
said (``duplicate``). An image is dropped by the same rules wherever it stands. Images are written as they come, so a file may hold more than memory;
splits go by image. Left out: LLaVA's conversations of several turns, which are ``[[feedback.files]]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import DataError
from modelyard.data.corpus.splits import fraction
from modelyard.data.feedback.file_images import COPIES_BENCHMARK, listed, require_listed
from modelyard.data.sources.image_rows import SUFFIXES, ImageRow, form_of, rows
from modelyard.data.sources.record import Broken
from modelyard.formats.feedback import Demonstration, ImagePart, Message, TextPart
from modelyard.formats.image_copies import NearCopies
from modelyard.formats.images import Image, ImageError, cleaned, is_data_url, referenced
from modelyard.formats.stored_images import ImageWriter
from modelyard.printable import is_blank
from modelyard.store.file_hash import require_sha256
from modelyard.store.inputs import find_input


class ImageFile(Config):
    """One file of images with texts."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    """Source and category of the demonstrations."""
    path: str
    """The file: ``.jsonl`` with paths or data URLs (packed or not), ``.parquet`` with bytes, or a ``.tar`` as webdataset writes it; a relative
    path starts beside the config, else at ``execution.inputs``."""
    sha256: str
    """Hash of the file."""
    images_sha256: str = ""
    """Hash over the image files that its lines name: of ``sha256sum``'s lines in the order of their paths; a run without it says which it is."""
    licence: str
    """Its licence, and that of the images."""
    image: str = "image"
    """Key or column of the image; a tar has it by the name."""
    question: str = ""
    """Key or column of the question; "": every image is asked ``ask``."""
    ask: str = "What does the picture show?"
    """The question of images that bring none."""
    answer: str = "caption"
    """Key or column of the caption or answer; in a tar also the ending of its file, such as ``txt``."""
    seed: int
    """Of the split."""
    held_out: float = Field(gt=0, lt=1)
    """Share of the images that are for validation alone."""
    least_side: int = Field(default=16, ge=1)
    """Pixels that the shorter side has at least."""
    most_side: int = Field(default=8192, ge=1)
    """Pixels that the longer side has at most."""
    most_aspect: float = Field(default=10.0, ge=1)
    """How many times as long as the shorter side the longer one is at most."""
    keep_near_copies: bool = False
    """Whether images that nearly copy an earlier one stay."""

    @model_validator(mode="after")
    def _known(self) -> ImageFile:
        if form_of(self.path) is None:
            raise ValueError(f"path: expected a file called {', '.join(SUFFIXES)}, got {self.path!r}")
        return self


class Kept(NamedTuple):
    """What a file gives."""

    demonstrations: list[Demonstration]
    dropped: list[tuple[str, str]]
    """(``file:place``, reason) of what is left out."""


def read(file: ImageFile, roots: str | Sequence[str], asked: NearCopies, clean: Callable[[str], str], writer: ImageWriter) -> Kept:
    """The file's demonstrations, whose images go to ``writer``.

    Args:
        file: which, and what of it.
        roots: where it may lie.
        asked: the images of benchmarks, which nothing may be trained on.
        clean: takes personal data out of a text.
        writer: of the images that are kept.

    Raises:
        DataError: no such file, another file or other images than declared, or nothing left of it in a split.
    """
    what = f"feedback images {file.name}"
    try:
        path = find_input(file.path, roots, what)
        require_sha256(path, file.sha256, what)
    except ValueError as error:
        raise DataError(str(error)) from None
    sieve = Sieve(file, path, asked)
    kept = Kept([], [])
    for number, row in enumerate(sieve.rows()):
        if isinstance(row, Broken):
            kept.dropped.append((f"{path}: {row.place}" if row.place else str(path), row.reason))
            continue
        writer.add(row.image)
        kept.demonstrations.append(demonstration(file, number, row._replace(question=clean(row.question), answer=clean(row.answer))))
    require_listed(listed(sieve.hashes), file.images_sha256, what)
    if lacking := {"train", "validation"} - {one.split for one in kept.demonstrations}:
        reasons = sorted({reason for _, reason in kept.dropped})
        raise DataError(f"{what}: {path}: nothing is left for {min(lacking)}" + (f" ({', '.join(reasons)})" if reasons else ""))
    return kept


class Shown(NamedTuple):
    """An image, what is asked about it, and the answer."""

    image: Image
    question: str
    answer: str
    group: str
    """The image that decides on its side of the split: itself, or the first one that it nearly copies."""


class Sieve:
    """The rows of a file: pairs as they are kept, and what is dropped, one for one."""

    def __init__(self, file: ImageFile, path: Path, asked: NearCopies) -> None:
        self.file, self.path, self.asked = file, path, asked
        self.hashes: dict[str, str] = {}
        """Path of an image that a line names -> its hash."""
        self._earlier = NearCopies()
        self._refused: dict[str, str] = {}
        """Image -> why it is not used; "" of one that is."""
        self._groups: dict[str, str] = {}
        self._said: set[str] = set()

    def rows(self) -> Iterator[Shown | Broken]:
        """As many as the file has."""
        form = form_of(self.file.path)
        assert form is not None
        for row in rows(self.path, form, self.file.image, (self.file.question, self.file.answer)):
            yield row if isinstance(row, Broken) else self._shown(row)

    def _shown(self, row: ImageRow) -> Shown | Broken:
        question = row.fields.get(self.file.question) if self.file.question else self.file.ask
        answer = row.fields.get(self.file.answer)
        if not isinstance(question, str) or not isinstance(answer, str) or is_blank(question) or is_blank(answer):
            return Broken(row.place, "no_text", f"no text in {self.file.question or self.file.answer!r}", "")
        if not _spelled(question + answer):
            return Broken(row.place, "read/invalid_utf8", "half of a surrogate pair", "")
        try:
            image = cleaned(self._bytes(row.image), self.file.name, self.file.licence)
        except ImageError as error:
            return Broken(row.place, f"image_{error.reason}", str(error), "")
        if image.id not in self._refused:
            self._refused[image.id] = self._reason(image)
        said = sha256("\0".join((image.id, question.strip(), answer.strip())).encode()).hexdigest()
        if reason := self._refused[image.id] or ("duplicate" if said in self._said else ""):
            return Broken(row.place, reason, "", "")
        self._said.add(said)
        return Shown(image, question.strip(), answer.strip(), self._groups[image.id])

    def _bytes(self, image: bytes | str) -> bytes:
        if isinstance(image, bytes):
            return image
        data = referenced(image, self.path.parent)
        if not is_data_url(image):
            self.hashes[image] = sha256(data).hexdigest()
        return data

    def _reason(self, image: Image) -> str:
        """Why an image is not used; "" of one that is, which later ones may not copy."""
        short, long = sorted((image.width, image.height))
        if short < self.file.least_side:
            return "image_too_small"
        if long > self.file.most_side:
            return "image_too_large"
        if long > self.file.most_aspect * short:
            return "image_too_long"
        if self.asked.of(image):
            return COPIES_BENCHMARK
        like = self._earlier.of(image)
        if like and not self.file.keep_near_copies:
            return "near_copy"
        self._groups[image.id] = self._groups[like] if like else image.id
        self._earlier.add(image)
        return ""


def _spelled(text: str) -> bool:
    """Whether UTF-8 can spell a text; JSON can spell half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def demonstration(file: ImageFile, number: int, shown: Shown) -> Demonstration:
    """A pair as it is trained on; images and their near copies lie on one side of the split."""
    held_out = fraction(f"{file.seed}:images:{shown.group}") < file.held_out
    return Demonstration(
        id=f"{file.name}-{number}",
        split="validation" if held_out else "train",
        source=file.name,
        category=file.name,
        prompt=(Message(role="user", content=(ImagePart(image=shown.image.id), TextPart(text=f"\n{shown.question}"))),),
        completion=shown.answer,
    )
