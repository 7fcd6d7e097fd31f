"""How questions with several answers become rows of tokens: what is shared is laid out once.

A query is a question with its possible answers. Their inputs have a common stem; what differs hangs on it as branches of one row. Rows that begin
alike (a few-shot preface) are families, whose beginning :mod:`modelyard.model.inference.score` and
:mod:`modelyard.model.inference.generate` compute once. Pure; no tensors. Left out: trees of more levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

LEAST_SHARED = 8
"""Leading tokens below which rows are not looked at as a family."""


class Query(NamedTuple):
    """What may be said (token ids, each at least one), each after its prefix (token ids, at least one; mostly the same for all)."""

    prefixes: Sequence[Sequence[int]]
    continuations: Sequence[Sequence[int]]


class Row(NamedTuple):
    """A query laid out: the stem's tokens, then the branches'; ``-1`` in ``segments`` would be padding."""

    query: int
    tokens: list[int]
    positions: list[int]
    segments: list[int]
    """0 for the stem, i for branch i."""
    stem: int
    """Tokens of the stem."""
    scored: list[list[int]]
    """For each continuation the nodes whose next token is scored."""
    targets: list[Sequence[int]]
    """Those tokens."""


def layout(index: int, query: Query, limit: int) -> Row:
    """One query as a row; inputs longer than ``limit`` tokens lose their beginning, each continuation by itself."""
    if not query.continuations or not all(query.prefixes) or not all(query.continuations):
        raise ValueError(f"query {index}: needs continuations and prefixes of at least one token each")
    if (longest := max(map(len, query.continuations))) > limit:
        raise ValueError(f"query {index}: a continuation of {longest} tokens is longer than the context of {limit}")
    inputs = [[*prefix, *new][-(limit + 1) :][:-1] for prefix, new in zip(query.prefixes, query.continuations, strict=True)]
    stem = shared_length(inputs)
    tokens, positions, segments = inputs[0][:stem], list(range(stem)), [0] * stem
    scored: list[list[int]] = []
    targets = list(query.continuations)
    for branch, (line, new) in enumerate(zip(inputs, targets, strict=True), 1):
        offset = len(tokens) - stem
        scored.append([p if p < stem else p + offset for p in range(len(line) - len(new), len(line))])
        tokens = tokens + line[stem:]
        positions += range(stem, len(line))
        segments += [branch] * (len(line) - stem)
    return Row(index, tokens, positions, segments, stem, scored, targets)


def shared_length(lines: Sequence[Sequence[int]]) -> int:
    """Tokens with which all lines begin."""
    low, high = min(lines, key=list), max(lines, key=list)  # whatever the least and the greatest share, all share
    count = 0
    for a, b in zip(low, high, strict=False):
        if a != b:
            break
        count += 1
    return count


def families(rows: Sequence[Row], worth: int) -> Iterator[tuple[int, list[Row]]]:
    """Rows in groups with the number of leading tokens that their group shares (0: nothing worth ``worth`` tokens of saved work)."""
    heads = [row.tokens[: min(row.stem, *(nodes[0] for nodes in row.scored))] for row in rows]
    for shared, places in alike(heads, worth):
        yield shared, [rows[place] for place in places]


def alike(heads: Sequence[Sequence[int]], worth: int) -> Iterator[tuple[int, list[int]]]:
    """Places of ``heads`` (token ids) in groups, and how many leading tokens each group shares: 0 of the last, whose sharing would save fewer
    than ``worth`` tokens."""
    ordered = sorted(range(len(heads)), key=lambda place: list(heads[place]))
    alone: list[int] = []
    start = 0
    while start < len(ordered):
        first = heads[ordered[start]]
        shared, best = len(first), (0, start + 1, 0)
        for stop in range(start + 2, len(ordered) + 1):
            now = min(shared, shared_length([first, heads[ordered[stop - 1]]]))
            if now < LEAST_SHARED or (best[0] >= worth and now < shared / 2):
                break  # a worthwhile family does not give up most of its beginning to take in the next one
            shared = now
            best = max(best, (shared * (stop - start - 1), stop, shared))
        if best[0] >= worth:
            yield best[2], ordered[start : best[1]]
            start = best[1]
        else:
            alone.append(ordered[start])
            start += 1
    yield 0, alone


def batched(rows: Sequence[Row], shared: int, tokens: int, beside: int = 1) -> Iterator[list[Row]]:
    """Rows of like length in batches of at most ``tokens`` padded tokens, preface not counted (one row at least).

    ``beside``: how many batches are computed at a time; they are made smaller so that none is left over.
    """
    left = sum(len(row.tokens) - shared for row in rows)
    count = -(-left // tokens)
    batches = 1 if beside == 1 or count <= 1 else count + -count % min(beside, count)
    part: list[Row] = []
    for row in sorted(rows, key=lambda row: (-len(row.tokens), row.query)):
        width = len((part or [row])[0].tokens) - shared
        now, then = len(part) * width, (len(part) + 1) * width
        if part and (then > tokens or (batches > 1 and then + now > 2 * left / batches)):  # without the row it is nearer to its share
            yield part
            left, batches, part = left - sum(len(one.tokens) - shared for one in part), max(1, batches - 1), []
        part.append(row)
    if part:
        yield part
