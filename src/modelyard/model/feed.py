"""What a model is fed for a prompt or a question: its tokenizer's and template's tokens, images by their numbers in a gallery.

Text becomes tokens as in lm-evaluation-harness: space at the end of a context belongs to the continuation, both are encoded together and cut where
the context alone would end. Behind a conversation the continuation is what the assistant says, encoded by itself as training encodes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.formats.feedback import Prompt, images_of, is_text
from modelyard.model.asked import Written, boundary, plain, together
from modelyard.model.encoder import Encoder
from modelyard.model.inference.gallery import Gallery
from modelyard.model.inference.queries import Query

ENCODED_TOGETHER = 256
"""Questions whose tokens exist as encodings at a time."""


class Feed:
    """A model's way from prompts to tokens."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.gallery: Gallery | None = None
        """The images that prompts may hold."""

    def shown(self, prompt: Prompt) -> Prompt:
        """The prompt, a conversation as plain text where there is no chat template."""
        return prompt if self.encoder.template else plain(prompt)

    def tokens(self, shown: Sequence[Prompt]) -> list[list[int]]:
        """Token ids of what is continued; texts together, which is faster."""
        opened = iter(self._openings([prompt for prompt in shown if is_text(prompt)]))
        return [next(opened) if is_text(prompt) else self.numbered(self.encoder.prompt(prompt), prompt) for prompt in shown]

    def _openings(self, texts: Sequence[Written]) -> list[list[int]]:
        return [self.numbered(ids, text) for ids, text in zip(self.encoder.openings(texts), texts, strict=True)]

    def numbered(self, ids: list[int], prompt: Prompt) -> list[int]:
        """Token ids with images by the gallery's numbers."""
        images = images_of(prompt)
        if not images:
            return ids
        assert self.gallery is not None, "the encoder refuses images that nobody has shown"
        return self.gallery.numbered(ids, images)

    def _split(self, context: Prompt, continuation: str) -> tuple[Prompt, str]:
        shown = self.shown(context)
        return boundary(shown, continuation) if is_text(shown) else (shown, continuation)

    def queries(self, questions: Sequence[Sequence[tuple[Prompt, str]]]) -> list[Query]:
        """Token ids; some hundred questions at a time, since an encoded batch is many times its text."""
        split = [[self._split(*pair) for pair in question] for question in questions]
        queries: list[Query] = []
        for start in range(0, len(split), ENCODED_TOGETHER):
            queries += self._encoded(split[start : start + ENCODED_TOGETHER])
        return queries

    def _encoded(self, questions: Sequence[Sequence[tuple[Prompt, str]]]) -> list[Query]:
        contexts = list({context for question in questions for context, _ in question})
        fed = dict(zip(contexts, self.tokens(contexts), strict=True))
        pairs = [pair for question in questions for pair in question]
        wholes = iter(self._openings([together(context, new) for context, new in pairs if is_text(context)]))
        queries = []
        for question in questions:
            prefixes, continuations = [], []
            for context, new in question:
                prefix = fed[context]
                whole = next(wholes) if is_text(context) else [*prefix, *self.encoder.continued(new)]
                if not prefix:
                    start = self.encoder.start
                    prefix, whole = [start], whole if whole[:1] == [start] else [start, *whole]
                prefixes.append(prefix)
                continuations.append(whole[len(prefix) :])
            queries.append(Query(prefixes, continuations))
        return queries
