"""Log-probabilities of continuations: every shared token is computed once, and logits only where something is scored.

A query is a question with its possible answers. Their inputs have a common stem; what differs hangs on it as branches of one row, and a mask
lets a branch see the stem and itself, so four answers to a question cost one pass over the question. Rows that begin alike (a few-shot preface)
share keys and values computed once for all of them. Rows are sorted by length and batched by tokens; the unembedding runs on the scored
positions only, of many batches at once, and so does the last block. The layers are :mod:`modelyard.model.inference.block`'s, in fp32, and the
numbers the plain forward's (tests hold them to 1e-5 nats); with ``gemm="bf16"`` the blocks' matrix products and what lies between them run in
bfloat16. Left out: more than one rank (:meth:`Engine.evaluate` serves there).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modelyard.model.inference.attend import added, attend, behind
from modelyard.model.inference.block import Block, Rotation, norm, scaled, tokens_at_once
from modelyard.model.inference.cores import Cores, side_by_side
from modelyard.model.inference.gallery import Gallery, embedded
from modelyard.model.inference.product import output_product
from modelyard.model.inference.queries import Query, Row, batched, families, layout
from modelyard.model.network import attention, parallel
from modelyard.model.training.engine import Engine

LOGIT_ROWS = 256
"""Scored positions whose logits exist at a time: 256 x 49,152 in fp32 are 50 MB."""
WORTH = 512
"""Tokens of work that a family must save."""


class Scored(NamedTuple):
    """One continuation: log p of each of its tokens (nats), and by how much (logits) the least likely of them beats every other token there.

    Greedy decoding says the continuation where ``margin`` is not negative.
    """

    logprobs: list[float]
    margin: float


class Past(NamedTuple):
    """Keys and values [layers][P, groups, d] of a preface of P tokens."""

    keys: list[Tensor]
    values: list[Tensor]

    def __len__(self) -> int:
        return self.keys[0].shape[0] if self.keys else 0


NO_PAST = Past([], [])


class Unread:
    """Final hidden states whose logits are still to come, so that the output layer's weights are read once for many batches."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.hidden: list[Tensor] = []
        self.at: list[int] = []
        """For every token that is scored, row by row and continuation by continuation, the state that it comes after."""
        self.states = 0

    def add(self, rows: Sequence[Row], hidden: Tensor, at: Sequence[int]) -> None:
        """Rows, the states [N, h] that something is scored after, and for every token which."""
        self.rows.extend(rows)
        self.hidden.append(hidden)
        self.at.extend(place + self.states for place in at)
        self.states += len(hidden)


class Scorer:
    """The forward of one engine's language model for scoring; one rank only."""

    def __init__(self, engine: Engine, gemm: Literal["fp32", "bf16"] = "fp32") -> None:
        if engine.layout.tp * engine.layout.pp > 1:
            raise ValueError("scoring with shared prefixes needs a whole model on one rank")
        self.gpt, self.seq_len, self.window = engine.gpt, engine.model.seq_len, engine.model.variant.window
        products = torch.bfloat16 if gemm == "bf16" else torch.float32
        self.tokens = tokens_at_once(engine.model, products)
        with torch.inference_mode():
            self.blocks = [Block(layer, self.tokens, products=products) for layer in self.gpt.decoder.layers]
            self.output = output_product(self.gpt, LOGIT_ROWS, torch.float32)
        self.dtype = self.blocks[0].between or torch.float32
        self.alone = any(block.experts is not None for block in self.blocks)
        """Whether batches are computed one after another: megatron-core's experts remember which tokens they were given."""
        self._angles: Tensor | None = None
        self._gallery: Gallery | None = None

    def score(
        self,
        queries: Sequence[Query],
        *,
        tokens: int | None = None,
        gallery: Gallery | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[list[Scored]]:
        """Every continuation of every query, in order; ``tokens``: size of a batch (None: the device's), ``report`` hears (queries done, all).

        ``gallery``: of the images in the prefixes, in which they stand by its numbers.

        Raises:
            ValueError: a query without prefix, or a continuation that is empty or longer than the context.
        """
        self._gallery = gallery
        rows = [layout(i, query, self.seq_len) for i, query in enumerate(queries)]
        beside = 1 if self.alone or gallery else side_by_side()
        found = families(rows, worth=WORTH)
        parts = [(shared, list(batched(family, shared, tokens or self.tokens, beside))) for shared, family in found]
        self._reach(max((max(row.positions) for row in rows), default=0) + 1)
        results: list[list[Scored]] = [[] for _ in queries]
        unread, done = Unread(), 0
        read: list[tuple[list[Row], Future[list[list[Scored]]]]] = []
        with Cores(min(beside, sum(len(batches) for _, batches in parts))) as cores:
            for batch, hidden, at in self._states(cores, parts):
                unread.add(batch, hidden, at)
                if unread.states >= LOGIT_ROWS:
                    read.append((unread.rows, cores.submit(self._read, unread)))
                    unread = Unread()
                done += len(batch)
                report(done, len(queries))
            read.append((unread.rows, cores.submit(self._read, unread)))
            for some, scored in read:
                for row, one in zip(some, scored.result(), strict=True):
                    results[row.query] = one
        return results

    def _states(self, cores: Cores, parts: Iterable[tuple[int, list[list[Row]]]]) -> Iterator[tuple[list[Row], Tensor, list[int]]]:
        """Batches with :meth:`_batch` of each, in order; a few more are under way."""
        running: deque[tuple[list[Row], Future[tuple[Tensor, list[int]]]]] = deque()
        for past, batches in self._prefaces(cores, parts):
            for batch in batches:
                running.append((batch, cores.submit(self._batch, batch, past)))
                if len(running) > 2 * cores.workers:
                    done, states = running.popleft()
                    yield (done, *states.result())
        for done, states in running:
            yield (done, *states.result())

    def _prefaces(self, cores: Cores, parts: Iterable[tuple[int, list[list[Row]]]]) -> Iterator[tuple[Future[Past], list[list[Row]]]]:
        """The batches of a family and what precedes them, which is begun before the batches of the family before it."""
        ahead: tuple[Future[Past], list[list[Row]]] | None = None
        for shared, batches in parts:
            begun = cores.submit(self._preface, batches[0][0].tokens[:shared] if batches else [])
            if ahead:
                yield ahead
            ahead = begun, batches
        if ahead:
            yield ahead

    def _preface(self, tokens: Sequence[int]) -> Past:
        """Keys and values of a preface, if there is one."""
        if not tokens:
            return NO_PAST
        past = Past([], [])
        ids = torch.tensor([tokens], device=parallel.device())
        self._forward(ids, torch.arange(len(tokens), device=ids.device)[None], None, NO_PAST, None, past)
        return past

    def _batch(self, rows: Sequence[Row], preface: Future[Past]) -> tuple[Tensor, list[int]]:
        """The final hidden states [N, h] that something is scored after, and for every scored token of ``rows`` which."""
        past = preface.result()
        shared = len(past)
        width = max(len(row.tokens) for row in rows) - shared
        ids, positions, segments = (
            torch.tensor([[*line[shared:], *[fill] * (width + shared - len(line))] for line in lines], device=parallel.device())
            for fill, lines in ((0, [r.tokens for r in rows]), (0, [r.positions for r in rows]), (-1, [r.segments for r in rows]))
        )
        seen = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
        seen &= torch.ones(width, width, dtype=torch.bool, device=ids.device).tril()
        mask = torch.cat([seen.new_ones(len(rows), width, shared), seen], -1)[:, None]
        if self.window:
            keys = torch.cat([torch.arange(shared, device=ids.device).expand(len(rows), -1), positions], 1)
            mask = torch.cat([mask, mask & (positions[:, None, :, None] - keys[:, None, None] < self.window)], 1)
        wanted = [(i, node - shared) for i, row in enumerate(rows) for nodes in row.scored for node in nodes]
        places = sorted(set(wanted))
        index = {place: k for k, place in enumerate(places)}
        hidden = self._forward(ids, positions, added(mask, self.dtype), past, torch.tensor(places, device=ids.device).T)
        return hidden, [index[place] for place in wanted]

    def _read(self, unread: Unread) -> list[list[Scored]]:
        """Each row's continuations."""
        if not unread.rows:
            return []
        tokens = [token for row in unread.rows for new in row.targets for token in new]
        values = iter(zip(*self._logprobs(torch.cat(unread.hidden), unread.at, tokens), strict=True))
        found = []
        for row in unread.rows:
            pairs = [[next(values) for _ in new] for new in row.targets]
            found.append([Scored([p for p, _ in some], min(margin for _, margin in some)) for some in pairs])
        return found

    def _logprobs(self, hidden: Tensor, rows: Sequence[int], tokens: Sequence[int]) -> tuple[list[float], list[float]]:
        """log p of ``tokens[k]`` after ``hidden[rows[k]]`` ([N, h]), and its logit less the best other one; logits in blocks."""
        at, wanted = torch.tensor(rows, device=hidden.device), torch.tensor(tokens, device=hidden.device)
        logprobs, margins = torch.empty(len(rows)), torch.empty(len(rows))
        for start in range(0, len(hidden), LOGIT_ROWS):
            logits = self.output(hidden[start : start + LOGIT_ROWS])
            here = (at >= start) & (at < start + LOGIT_ROWS)
            row, token = at[here] - start, wanted[here]
            mine, other = logits[row, token], logits.amax(-1)[row]
            likeliest = (mine == other).nonzero().squeeze(1)  # the best other one is then the second
            other[likeliest] = logits[row[likeliest]].scatter(1, token[likeliest, None], float("-inf")).amax(-1)
            logprobs[here.cpu()] = (mine - logits.logsumexp(-1)[row]).cpu()
            margins[here.cpu()] = (mine - other).cpu()
        return logprobs.tolist(), margins.tolist()

    def _forward(
        self, ids: Tensor, positions: Tensor, mask: Tensor | None, past: Past, places: Tensor | None, keep: Past | None = None
    ) -> Tensor:
        """Tokens [b, n] to final hidden states [N, h] of ``places`` ([2, N]: row, node); with ``keep``, keys and values go there instead."""
        gpt = self.gpt
        hidden = scaled(gpt, embedded(ids, gpt.embedding.word_embeddings.weight, self._gallery).float())
        if self._gallery is not None:
            hidden = self._gallery.embed(ids, hidden)
        rotation = None
        if gpt.position_embedding_type == "rope":
            rotation = self._rotation(positions)
        else:
            hidden = hidden + F.embedding(positions, gpt.embedding.position_embeddings.weight)
        for number, block in enumerate(self.blocks):
            last = number == len(self.blocks) - 1
            turned, v = block.heads(hidden, rotation)
            q, k = turned[..., : block.ratio, :].flatten(2, 3), turned[..., block.ratio, :]
            if keep is not None:
                keep.keys.append(k[0])
                keep.values.append(v[0])
                if last:
                    return hidden.new_empty(0)
            if len(past):
                k, v = behind(past.keys[number], k), behind(past.values[number], v)
            seen = attention.layer_mask(mask, block.window, len(ids), ids.shape[1], ids.device)
            context = attend(q, k, v, seen, block.scale)
            if last and places is not None:  # nothing reads the other positions any more
                context, hidden = context[places[0], places[1]], hidden[places[0], places[1]]
            hidden = block.finish(hidden, context)
        return norm(gpt.decoder.final_layernorm, hidden)

    def _reach(self, length: int) -> None:
        """Have megatron-core's table of angles for so many positions."""
        if self.gpt.position_embedding_type == "rope" and (self._angles is None or len(self._angles) < length):
            self._angles = self.gpt.rotary_pos_emb(min(self.seq_len, 2 * length))[:, 0, 0].float()

    def _rotation(self, positions: Tensor) -> Rotation:
        """Of positions [b, n]."""
        assert self._angles is not None
        return Rotation.of(self.gpt, self._angles[positions][:, :, None, None], self.dtype)
