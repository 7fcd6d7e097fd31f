"""Settings of the ``feedback`` stage: whose records, what is held out of them, what is redacted and what counts as one prompt."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag, model_validator

from modelyard.config import Config
from modelyard.data.feedback.files import FeedbackFile
from modelyard.data.feedback.image_files import ImageFile
from modelyard.data.feedback.image_sets import ImageSet
from modelyard.data.feedback.tasks import TaskSet
from modelyard.data.feedback.votes import VotesConfig
from modelyard.data.filters.pii import PiiConfig


class FeedbackSplits(Config):
    """Shares of what the user's files bring; the corpus has its own."""

    held_out: float = Field(ge=0, lt=1)
    """Share of prompts (or users) that nothing is trained on: validation demonstrations and prompts, test comparisons."""
    gold: float = Field(ge=0, lt=1)
    """Share whose comparisons train the judge of policies and nothing else."""
    held_out_raters: float = Field(ge=0, lt=1)
    """Share of the named raters whose comparisons are only measured on."""

    @model_validator(mode="after")
    def _room(self) -> FeedbackSplits:
        if self.held_out + self.gold >= 1:
            raise ValueError("held_out and gold leave nothing to train on")
        return self


def _kind(value: object) -> str:
    return "file" if isinstance(value, ImageFile) or (isinstance(value, dict) and "path" in value) else "package"


Images = Annotated[Annotated[ImageSet, Tag("package")] | Annotated[ImageFile, Tag("file")], Discriminator(_kind)]


class FeedbackConfig(Config):
    """Everything that defines the feedback."""

    seed: int = Field(ge=0)
    """Of draws and splits."""
    from_corpus: bool = True
    """Whether the corpus's reviews, dialogs and ratings become feedback, beside the files; a model that converses has no use for reviews."""
    votes: VotesConfig | None = None
    """How the corpus's ratings become comparisons; absent: they do not."""
    files: tuple[FeedbackFile, ...] = ()
    """The user's own files."""
    tasks: tuple[TaskSet, ...] = ()
    """Questions whose answers are known, for rewards that a rule verifies."""
    images: tuple[Images, ...] = ()
    """Pictures with questions and answers, of packages or of files (with a ``path``)."""
    splits: FeedbackSplits
    """What is held out of files and tasks."""
    pii: PiiConfig
    """What is redacted in the files."""
    prefix_characters: int = Field(ge=8)
    """Prompts whose first so many characters are the same (case and spacing apart) are one prompt."""
    prompts_per_user: int = Field(ge=1)
    """Most prompts of one user (InstructGPT: 200)."""

    @model_validator(mode="after")
    def _names(self) -> FeedbackConfig:
        if self.votes and not self.from_corpus:
            raise ValueError("votes: are the corpus's, but from_corpus is false")
        names = [*(file.name for file in self.files), *(task.name for task in self.tasks), *(one.name for one in self.images)]
        if len(set(names)) < len(names):
            raise ValueError(f"files, tasks and images: two are called {next(name for name in names if names.count(name) > 1)}")
        kept = [one.benchmark_name() for one in self.images if isinstance(one, ImageSet)]
        if len(set(kept)) < len(kept):
            raise ValueError(f"images: two would keep the benchmark {next(name for name in kept if kept.count(name) > 1)!r}")
        return self
