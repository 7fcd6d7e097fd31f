"""A model under test: an engine with its tokenizer, asked for completions, log-likelihoods and next-token confidences.

Text goes in as the model's tokenizer begins it, so base, SFT, policy and the released model answer the same prompt. A prompt longer than the context
is cut on the left and the record says so. Conversations go through the model's own chat template. Images are those that :meth:`Subject.show` was
given; asked ``blank``, a model is asked the same with every image grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from modelyard.config import digest
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import Prompt, is_text
from modelyard.formats.token_rows import PackedRows
from modelyard.model import model_directory
from modelyard.model.asked import Decoding, Likelihood, Sampled, conversation, ended, plain_turns
from modelyard.model.control_tokens import spelled
from modelyard.model.encoder import Encoder
from modelyard.model.feed import Feed
from modelyard.model.hf import conversion
from modelyard.model.hf.tokenizer import HubEncoder
from modelyard.model.image_token import IMAGE
from modelyard.model.inference.gallery import Gallery
from modelyard.model.inference.generate import generate
from modelyard.model.inference.grouping import most_rows
from modelyard.model.inference.queries import Query
from modelyard.model.inference.score import Scorer
from modelyard.model.inference.screening import likelihoods, screened
from modelyard.model.inference.stops import StopTexts
from modelyard.model.inference.windows import joined, windows
from modelyard.model.kept import Kept
from modelyard.model.network.model_config import Precision
from modelyard.model.padded_rows import batches, pad
from modelyard.model.pictures import Images, Pictures
from modelyard.model.reading import reading
from modelyard.model.training.batch import UNLABELLED, Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import sequences

T = TypeVar("T")


class Subject:
    """One model and what it can be asked."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        encoder: Encoder,
        weights: str,
        micro_batch: int,
        screen: bool = False,
        products: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        """``products``: how likelihoods are computed, whatever the weights are kept in; ``screen``: in bf16 first, close calls in fp32."""
        self.name, self.engine, self.encoder, self.weights = name, engine, encoder, weights
        self.micro_batch, self.screen, self.products = micro_batch, screen, products
        self._scorers: dict[str, Scorer] = {}
        self.feed = Feed(encoder)
        self._blank = False
        self._kept: Kept | None = None

    @property
    def gallery(self) -> Gallery | None:
        """The images that prompts may hold."""
        return self.feed.gallery

    @property
    def reading(self) -> str:
        """Hash of what decides its answers besides its weights."""
        return reading(self.engine.model, self.encoder)

    @property
    def sees(self) -> bool:
        """Whether the model can be asked about images."""
        return self.engine.model.vision is not None and self.encoder.placeholder is not None

    def show(self, images: Images, blank: bool = False) -> None:
        """From here on prompts may hold ``images``, in the place of those before; ``blank``: every one of them grey.

        A model that reads text only stays one: asked about an image, it raises ValueError.
        """
        self._blank = blank
        if self.sees:
            self.feed.gallery = self.gallery_of(images, blank)
            self.encoder.pictures = self.feed.gallery.pictures

    def gallery_of(self, images: Images, blank: bool = False) -> Gallery:
        """Images as the model is shown them; it must be one that :attr:`sees`."""
        vision, placeholder = self.engine.model.vision, self.encoder.placeholder
        assert vision is not None, "a model that reads text only is shown no images"
        assert placeholder is not None, "and its tokenizer has no token for them"
        return Gallery(self.engine, Pictures(vision, images, blank), placeholder)

    @classmethod
    def open(
        cls,
        name: str,
        directory: Path,
        execution: ExecutionConfig,
        micro_batch: int,
        screen: bool = False,
        precision: Precision | None = None,
        products: Literal["fp32", "bf16"] = "fp32",
    ) -> Subject:
        """The model in a directory of ours or of Hugging Face; ``precision``: its own, or fp32 of Hugging Face's, unless told.

        ``products``: of likelihoods; the plain forward pass of a model that is cut over ranks has its weights'.

        Raises:
            ValueError: there is neither.
        """
        weights = model_directory.weights_at(directory)
        if (directory / "model.json").is_file():
            engine = model_directory.load(directory, execution, precision=precision)
            return cls(name, engine, Encoder(directory), weights, micro_batch, screen, products)
        engine = conversion.load(directory, execution, precision=precision or "fp32")
        return cls(name, engine, HubEncoder(directory), weights, micro_batch, screen, products)

    def keep(self, path: Path) -> None:
        """Write what it says to ``path`` as it comes, and take from there what is asked again; every rank calls it."""
        self._kept = Kept(path)

    def _once(self, question: Sequence[object], ask: Callable[[], T], of: Callable[[Any], T]) -> T:
        return self._kept.once([self.weights, self._blank, *question], ask, of) if self._kept else ask()

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A completion of each prompt, in order; of a conversation that ends with the assistant, the rest of that turn."""
        shown = [self.feed.shown(prompt) for prompt in prompts]
        ends = self.encoder.text_ends if all(map(is_text, shown)) else self.encoder.ends
        return self._drawn(shown, [ids or [self.encoder.start] for ids in self.feed.tokens(shown)], decoding, ends)

    def reply(self, said: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A reply to each message or conversation, as the model's chat template puts it; without a template to ``User: ...``, ``Assistant:``."""
        if not self.encoder.template:
            stops = (*decoding.stops, "\nUser:")
            return self.complete([plain_turns(one) for one in said], decoding.model_copy(update={"stops": stops}))
        return self.follow([conversation(one) for one in said], decoding)

    def turn(self, said: Prompt) -> str:
        """The text that :meth:`reply` continues, to be looked at."""
        if not self.encoder.template:
            return spelled(plain_turns(said), lambda image: IMAGE)
        return self.encoder.render(conversation(said), open_turn=True)

    def follow(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """What the model says after each prompt as alignment trains it: a text goes on, a conversation is answered."""
        full = [self.feed.numbered(self.encoder.prompt(prompt), prompt) for prompt in prompts]
        return self._drawn(prompts, full, decoding, self.encoder.ends)

    def _drawn(self, prompts: Sequence[Prompt], full: Sequence[list[int]], decoding: Decoding, stop_ids: Sequence[int]) -> list[Sampled]:
        room = self.engine.model.seq_len - decoding.max_new_tokens
        if room < 2:
            raise ValueError(f"{decoding.max_new_tokens} new tokens leave no room for a prompt in a model of {self.engine.model.seq_len}")
        fed = [ids if len(ids) <= room else [ids[0], *ids[len(ids) - room + 1 :]] for ids in full]
        asked = digest([list(prompts), fed, list(stop_ids), decoding]) if self._kept else ""
        drawn = generate(
            self.engine,
            fed,
            max_new_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            seed=decoding.seed,
            stop_ids=stop_ids,
            stop_texts=StopTexts(decoding.stops, self.encoder.decode) if decoding.stops else None,
            batch=most_rows(self._cache_bytes, max(map(len, fed), default=1) + decoding.max_new_tokens, self.engine.device.type),
            gallery=self.gallery,
            drop_finished=True,
            share_beginnings=True,
            kept=lambda places, draw: self._once(["drawn", asked, list(places)], draw, tuple),
        )
        said = [self.encoder.decode(tokens) for tokens in drawn.tokens]
        texts = [ended(text, decoding.stops) for text in said]
        cut = [len(ids) > room for ids in full]
        whole = [
            len(tokens) < decoding.max_new_tokens or tokens[-1] in stop_ids or text != every
            for tokens, text, every in zip(drawn.tokens, texts, said, strict=True)
        ]
        if self.gallery:
            fed = [self.gallery.spelled(ids) for ids in fed]
        return list(map(Sampled, fed, drawn.tokens, drawn.logprobs, texts, cut, whole))

    @property
    def _cache_bytes(self) -> int:
        """Bytes of a token's keys and values on this rank."""
        model, layout = self.engine.model, self.engine.layout
        width = next(self.engine.gpt.parameters()).element_size()
        return 2 * model.layers * model.kv_heads_on(layout.tp) * model.head_width * width // layout.pp

    def likelihoods(self, questions: Sequence[Sequence[tuple[Prompt, str]]]) -> list[list[Likelihood]]:
        """log p of each (context, continuation) of each question, contexts and shared beginnings computed once.

        Text becomes tokens as in lm-evaluation-harness: space at the end of a context belongs to the continuation, both are encoded together
        and cut where the context alone would end. An empty context is the token that starts a text. Behind a conversation the continuation
        is what the assistant says, encoded by itself as training encodes it.
        """
        asked = [[list(pair) for pair in question] for question in questions]
        return self._once(["likelihoods", asked], lambda: self._likelihoods(questions), _likelihoods_of)

    def _likelihoods(self, questions: Sequence[Sequence[tuple[Prompt, str]]]) -> list[list[Likelihood]]:
        whole = self.feed.queries(questions)
        pieces = [windows(query, self.engine.model.seq_len) for query in whole]
        queries = [query for some in pieces for query in some]
        if self.screen and not self.split and len(queries) == len(whole):
            return screened(
                self._scorer("fp32"),
                self._scorer("bf16"),
                queries,
                [[len(new.strip()) for _, new in question] for question in questions],
                self.gallery,
            )
        found = iter(self._of_split(queries) if self.split else likelihoods(self._scorer(self.products), queries, self.gallery))
        return [joined([next(found) for _ in some], query) for some, query in zip(pieces, whole, strict=True)]

    @property
    def split(self) -> bool:
        """Whether the model is cut over several ranks, which must then all ask the same."""
        return self.engine.layout.tp * self.engine.layout.pp > 1

    @property
    def together(self) -> bool:
        """Whether an answer takes all ranks: the model is cut over several of them, or its experts are shared out."""
        return self.split or self.engine.layout.ep > 1

    def _of_split(self, queries: Sequence[Query]) -> list[list[Likelihood]]:
        """Likelihoods of a model that is cut over ranks, by its plain forward pass; margins are not known."""
        prefixes = [prefix for query in queries for prefix in query.prefixes]
        found = iter(self._logprobs(prefixes, [new for query in queries for new in query.continuations]))
        return [[Likelihood(next(found), math.nan) for _ in query.prefixes] for query in queries]

    def _scorer(self, gemm: Literal["fp32", "bf16"]) -> Scorer:
        """Made once: it keeps weights in the type that it multiplies with."""
        if gemm not in self._scorers:
            self._scorers[gemm] = Scorer(self.engine, gemm)
        return self._scorers[gemm]

    def logprobs(self, prefixes: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> list[list[float]]:
        """log p of each continuation's tokens after its prefix (both token ids, neither empty; a long prefix is cut on the left)."""
        return self._once(["logprobs", prefixes, continuations], lambda: self._logprobs(prefixes, continuations), list)

    def _logprobs(self, prefixes: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> list[list[float]]:
        limit = self.engine.model.seq_len
        rows = [[*prefix, *new][-(limit + 1) :] for prefix, new in zip(prefixes, continuations, strict=True)]
        result: list[list[float]] = [[] for _ in rows]
        for chosen in batches(rows, self.micro_batch):
            padded = pad([rows[i] for i in chosen], self.encoder.padding)
            tokens, tiles = self.gallery.batch(padded[:, :-1]) if self.gallery else (padded[:, :-1], None)
            labels = padded[:, 1:]
            if self.gallery:
                labels = labels.masked_fill(self.gallery.places(labels), UNLABELLED)
            output = self.engine.evaluate(Batch(tokens.contiguous(), labels.contiguous(), {}, tiles), self.micro_batch)
            for line, i in zip(output.tolist(), chosen, strict=True):
                last = len(rows[i]) - 1
                result[i] = line[last - len(continuations[i]) : last]
        return result

    def row_logprobs(self, rows: PackedRows) -> list[float]:
        """Mean log p of the tokens of each packed row, nats a token."""
        return self._once(["rows", _hash(rows)], lambda: self._row_logprobs(rows), list)

    def _row_logprobs(self, rows: PackedRows) -> list[float]:
        means: list[float] = []
        for start in range(0, len(rows), self.micro_batch):
            means += self.engine.evaluate(sequences(rows[start : start + self.micro_batch]), self.micro_batch).mean(1).tolist()
        return means

    def nats_per_byte(self, texts: Sequence[str]) -> list[float]:
        """-log p of each text after its beginning (BOS, else the document's end), nats a UTF-8 byte.

        A text longer than the context is read in consecutive windows.
        """
        limit = self.engine.model.seq_len
        cut: list[tuple[int, list[int]]] = []
        for number, text in enumerate(texts):
            ids = [*(self.encoder.beginning or [self.encoder.document_end]), *self.encoder.ids(text)]
            cut += [(number, ids[start : start + limit + 1]) for start in range(0, len(ids) - 1, limit)]
        found = self.logprobs([window[:1] for _, window in cut], [window[1:] for _, window in cut])
        nats = [0.0] * len(texts)
        for (number, _), logprobs in zip(cut, found, strict=True):
            nats[number] -= sum(logprobs)
        return [total / max(1, len(text.encode())) for total, text in zip(nats, texts, strict=True)]

    def next_token(self, rows: PackedRows, position: int) -> tuple[list[float], list[bool]]:
        """Confidence in the likeliest token at ``position`` of each row given those before it, and whether it stands there."""
        found = self._once(["next token", position, _hash(rows)], lambda: self._next_token(rows, position), tuple)
        return found[0], found[1]

    def _next_token(self, rows: PackedRows, position: int) -> tuple[list[float], list[bool]]:
        drawn = generate(self.engine, rows.before(position), max_new_tokens=1, temperature=0.0, seed=0)
        confidences = [min(1.0, float(np.exp(line[0]))) for line in drawn.logprobs]
        return confidences, [new[0] == there for new, there in zip(drawn.tokens, rows.tokens[:, position].tolist(), strict=True)]


def _likelihoods_of(found: Any) -> list[list[Likelihood]]:
    """What a journal holds of :meth:`Subject.likelihoods`."""
    return [[Likelihood(*one) for one in question] for question in found]


def _hash(rows: PackedRows) -> str:
    parts = (rows.tokens, rows.documents)
    return sha256(b"".join(part.tobytes() for part in parts if part is not None)).hexdigest()
