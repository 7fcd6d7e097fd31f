"""Batched sampling with a key-value cache and log-probabilities, at any layout.

The forward steps are :mod:`modelyard.model.inference.decode`'s.
Prompts that share a batch (:mod:`modelyard.model.inference.grouping`) are padded on the left, read at once and end at the same place; a token keeps
the position that it has in training, and no token sees padding. Sampling is inverse-CDF on
uniforms drawn from one seeded CPU generator for all prompts, so the same seed gives the same text however the work is split. Top-p is Holtzman et
al. 2020's nucleus. Stop tokens and stop texts (:mod:`modelyard.model.inference.stops`) end a batch as
soon as all of its sequences have met one; where the caller allows it, sequences that have are dropped from it as it goes on. Left out: beams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelyard import progress
from modelyard.model.inference.decode import Decoder, Weights, shares
from modelyard.model.inference.gallery import Gallery
from modelyard.model.inference.grouping import READING, groups
from modelyard.model.inference.queries import alike
from modelyard.model.inference.stops import StopTexts
from modelyard.model.network import parallel
from modelyard.model.training.engine import Engine

TEXT_EVERY = 4
"""Steps between two looks for stop texts on a CPU: decoding costs about as much as the steps it saves."""

FEWEST = 4
"""Sequences that a batch keeps at least: fewer cost as much as reading the weights does, and torch's products of up to three rows add in another
order, so that log-probabilities would differ in their last digits."""


Once = Callable[[Sequence[int], Callable[[], Any]], Any]
"""(places of prompts, draw) -> their new tokens and log-probabilities: as drawn before, or by ``draw``."""


class Generation(NamedTuple):
    """New tokens of each prompt (a stop included when it was sampled) and their log-probabilities at temperature 1 and top-p 1."""

    tokens: list[list[int]]
    logprobs: list[list[float]]


def generate(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    stop_ids: Sequence[int] = (),
    stop_texts: StopTexts | None = None,
    top_p: float = 1.0,
    batch: int = 256,
    gallery: Gallery | None = None,
    drop_finished: bool = False,
    share_beginnings: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
    kept: Once | None = None,
) -> Generation:
    """Sample from a language model; greedy at temperature 0. The same result on every rank.

    ``top_p``: draw only from the likeliest tokens that together have this much probability (at ``temperature``). ``gallery``: of the images in
    the prompts, in which they stand by its numbers. ``batch``: sequences that a rank decodes at once, at most. ``drop_finished``: no more
    steps for sequences that have ended, half a batch at a time; the same tokens, and log-probabilities to the rounding of products with
    fewer rows (on some processors to the bit). ``share_beginnings``: what prompts begin with alike is read once where that saves more than it
    costs to continue them by themselves; the same tokens, and log-probabilities to rounding. ``kept``: where batches that were drawn before are
    found, and those that are drawn now are put.

    Raises:
        ValueError: an empty prompt, prompt and new tokens longer than the model's ``seq_len``, or a ``top_p`` outside (0, 1].
    """
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
    longest = max((len(p) for p in prompts), default=0)
    if any(len(p) == 0 for p in prompts):
        raise ValueError("every prompt needs at least one token")
    if longest + max_new_tokens > engine.model.seq_len:
        raise ValueError(f"{longest} prompt tokens + {max_new_tokens} new ones exceed seq_len {engine.model.seq_len}")
    uniforms = torch.rand(len(prompts), max_new_tokens, generator=torch.Generator().manual_seed(seed))
    tokens: list[list[int]] = [[]] * len(prompts)
    logprobs: list[list[float]] = [[]] * len(prompts)
    done, ranks = 0, engine.layout.samplers
    with torch.inference_mode():
        weights = Weights(engine, max(1, min(batch, -(-len(prompts) // ranks))))
    # each rank reads the weights for its share of the sequences
    reading = READING[parallel.device().type] * ranks
    sharing = share_beginnings and gallery is None and shares(engine, weights)
    families = alike([p[:-1] for p in prompts], max_new_tokens * reading) if sharing else [(0, list(range(len(prompts))))]
    for shared, members in families:
        for places in groups([len(prompts[i]) for i in members], batch * ranks, max_new_tokens, reading):
            chosen = [members[place] for place in places]
            part, stops = [prompts[i] for i in chosen], (stop_ids, stop_texts)
            seeds = uniforms[chosen]
            draw = partial(
                _generate_batch, engine, weights, part, max_new_tokens, temperature, top_p, seeds, *stops, gallery, drop_finished, shared
            )
            new, logp = kept(chosen, draw) if kept else draw()
            for i, row, row_logp in zip(chosen, new, logp, strict=True):
                length = next((i + 1 for i, token in enumerate(row) if token in stop_ids), max_new_tokens)
                if stop_texts:
                    length = stop_texts.length(row[:length])
                tokens[i], logprobs[i] = row[:length], row_logp[:length]
            done += len(chosen)
            report(done, len(prompts))
    return Generation(tokens, logprobs)


def _generate_batch(
    engine: Engine,
    weights: Weights,
    prompts: Sequence[Sequence[int]],
    max_new: int,
    temperature: float,
    top_p: float,
    uniforms: Tensor,
    stop_ids: Sequence[int],
    stop_texts: StopTexts | None,
    gallery: Gallery | None,
    drop_finished: bool,
    shared: int,
) -> tuple[list[list[int]], list[list[float]]]:
    """New tokens and log-probabilities, each [B, max_new]; after a stop anything may stand."""
    ranks, device = engine.layout.samplers, parallel.device()
    fill = -len(prompts) % ranks
    rows = [*prompts, *[prompts[-1]] * fill]
    share = len(rows) // ranks
    mine = slice(engine.layout.sampler * share, (engine.layout.sampler + 1) * share)
    longest = max(len(p) for p in rows)
    given = torch.zeros(share, longest - shared, dtype=torch.long)
    for i, prompt in enumerate(rows[mine]):
        given[i, longest - len(prompt) :] = torch.tensor(prompt[shared:])
    given, begins = given.to(device), torch.tensor([longest - len(p) for p in rows[mine]], device=device)
    uniform = torch.cat([uniforms, uniforms[-1:].expand(fill, -1)])[mine].to(device)
    new = torch.zeros(share, max_new, dtype=torch.long, device=device)
    logp = torch.zeros(share, max_new, device=device)
    done = torch.zeros(share, dtype=torch.bool, device=device)
    stops = torch.tensor(stop_ids, device=device, dtype=torch.long)
    engine.mode(training=False)
    engine.split_sequences(False)
    position, ask_every = shared, 16 if device.type != "cpu" or ranks > 1 else TEXT_EVERY if stop_texts else 1
    with torch.inference_mode():
        padded = any(len(p) < longest for p in rows[mine])
        decoder = Decoder(engine, weights, share, longest + max_new, gallery, begins if padded else None, shared)
        if shared:
            decoder.begin(torch.tensor(rows[0][:shared], device=device))
        live: slice | Tensor = slice(None)  # the sequences that steps are computed for
        for step in range(max_new):
            progress.beat()
            logits = decoder.logits(given, position)
            position = longest + step
            new[live, step], logp[live, step] = sample(logits, temperature, top_p, uniform[live, step])
            if stop_ids or stop_texts:
                done[live] |= torch.isin(new[live, step], stops)
                asked = step % ask_every == 0
                if asked and stop_texts:
                    done[live] |= _met(stop_texts, new[live, : step + 1], done[live], ask_every)
                if asked and _all_done(done, ranks):
                    break
                if asked and drop_finished and decoder.drops and (rows_left := _left(done[live])) is not None:
                    decoder.keep(rows_left)
                    live = rows_left if isinstance(live, slice) else live[rows_left]
            given = new[live, step, None]
    gathered = [parallel.gather_data_parallel(x, context=True) for x in (new, logp)]
    return gathered[0][: len(prompts)].tolist(), gathered[1][: len(prompts)].tolist()


def _met(stop_texts: StopTexts, new: Tensor, done: Tensor, fresh: int) -> Tensor:
    """Which of the completions [b, n] have met a stop text in their last ``fresh`` tokens."""
    met = [not over and stop_texts.within(row, fresh) for row, over in zip(new.tolist(), done.tolist(), strict=True)]
    return torch.tensor(met, device=done.device)


def _left(over: Tensor) -> Tensor | None:
    """The places, ascending, of the sequences [n] to go on with: those that are not over, and as many others as make :data:`FEWEST`; None where
    they are more than half."""
    count = max(int((~over).sum()), FEWEST)
    return over.sort(stable=True).indices[:count].sort().values if 2 * count <= len(over) else None


def _all_done(done: Tensor, ranks: int) -> bool:
    """Whether every sequence [b] of every one of ``ranks`` samplers has ended; the host waits for the device here, and ranks for each other."""
    ended = done.all().to(torch.int)
    if ranks > 1:
        ended = parallel.sum_data_parallel(ended, context=True)
    return int(ended) == ranks


def sample(logits: Tensor, temperature: float, top_p: float, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [b] and their log-probabilities at temperature 1 from logits [b, V] and uniforms [b]."""
    logprobs = torch.log_softmax(logits, -1)
    if temperature == 0:
        chosen = _likeliest(logits)
    else:
        probabilities = logprobs.exp() if temperature == 1 else torch.softmax(logits / temperature, -1)
        if top_p < 1:
            probabilities = _nucleus(probabilities, top_p)
        cumulative = probabilities.cumsum(-1)
        # above 0, or a uniform of exactly 0 would choose a first token without probability
        height = (uniform * cumulative[:, -1]).clamp_min(torch.finfo(torch.float32).tiny)
        chosen = torch.searchsorted(cumulative, height[:, None]).squeeze(-1).clamp(max=logits.shape[-1] - 1)
    return chosen, logprobs.gather(1, chosen[:, None]).squeeze(1)


def _likeliest(logits: Tensor) -> Tensor:
    """The first greatest of each row; numpy finds it in a tenth of torch's time on a CPU."""
    return torch.from_numpy(logits.numpy().argmax(-1)) if logits.device.type == "cpu" else logits.argmax(-1)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Probabilities [b, V] with all but the likeliest tokens, which together reach ``top_p``, set to 0."""
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probabilities).scatter_(1, order, ordered.where(before < top_p, 0.0))
