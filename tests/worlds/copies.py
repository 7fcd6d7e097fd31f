"""Documents with copies and clusters of every kind, and a loop over all of them that says what becomes of each."""

import random

import numpy as np
import pyarrow as pa

from modelyard.data.corpus.deduplicate import Arrivals, Rules, judge
from modelyard.data.corpus.splits import HeldOut, split_of
from modelyard.data.filters import seen
from modelyard.data.filters.duplicates import DuplicatesConfig

LIMITS = DuplicatesConfig(permutations=32, bands=16, shingle=3, threshold=0.7)
RULES = Rules(LIMITS, 0.4, HeldOut(validation=0.3, test=0.2, seed=0))


def arrivals_of(n, seed):
    """Documents in families: copies of a signature with few to many places changed, some of the same text, some of one work."""
    rng, draw = random.Random(seed), np.random.default_rng(seed)
    families = draw.integers(0, 1000, (max(2, n // 6), LIMITS.permutations), np.uint32)
    signatures = families[draw.integers(0, len(families), n)]
    for row in signatures:
        changed = draw.random(LIMITS.permutations) < rng.choice([0.0, 0.1, 0.25, 0.3, 0.5, 0.9])
        row[changed] = draw.integers(0, 1000, changed.sum(), np.uint32)
    keys = draw.integers(0, 1 << 63, n, np.uint64)
    for row in range(1, n):
        if rng.random() < 0.15:
            other = rng.randrange(row)
            keys[row] = keys[other]
            if rng.random() < 0.8:
                signatures[row] = signatures[other]
    works = [rng.randrange(40) << 8 if rng.random() < 0.3 else None for _ in range(n)]
    return Arrivals(keys, seen.band_hashes(signatures, LIMITS.bands), signatures, works)


def in_order(documents):
    """(reason, originals by place, similarity rounded, cluster) of each document: every earlier one that stays is looked at, one after another."""
    kept, found = [], []
    for row, (key, work) in enumerate(zip(documents.keys, documents.works, strict=True)):
        same = [other for other in kept if documents.keys[other] == key]
        near = [other for other in kept if (documents.bands[other] == documents.bands[row]).any()]
        alike = [sum(documents.signatures[other] == documents.signatures[row]) / LIMITS.permutations for other in near]
        similar = [other for other, share in zip(near, alike, strict=True) if share >= RULES.cluster_similarity]
        clusters = [RULES.held.cluster(work)] if work is not None else []
        clusters += [found[other][3] for other in similar]
        if same:
            found.append(("duplicate/exact", same[:1], 1.0, 0))
        elif alike and max(alike) >= LIMITS.threshold:
            found.append(("duplicate/near", [near[alike.index(max(alike))]], max(alike), 0))
        elif len({split_of(cluster) for cluster in clusters}) > 1:
            found.append(("duplicate/straddles_held_out", similar[:4], 0.0, 0))
        else:
            found.append((None, [], 0.0, clusters[0] if clusters else RULES.held.cluster(int(key))))
            kept.append(row)
    return found


def in_blocks(documents, cuts, partitions, root):
    """The same by blocks that end at ``cuts``; each finished block is a segment of the index."""
    kept, places, found = [], [], []
    for number, (low, high) in enumerate(zip([0, *cuts], [*cuts, len(documents.keys)], strict=True)):
        block = Arrivals(*(column[low:high] for column in documents))
        partitions.hold(kept)
        verdicts = judge(block, partitions, RULES)
        for verdict in verdicts:
            originals = [low + ~number if number < 0 else places[number] for number in verdict.originals]
            found.append((verdict.reason, originals, verdict.similarity, verdict.cluster))
        stay = [row for row, verdict in enumerate(verdicts) if verdict.reason is None]
        places += [low + row for row in stay]
        clusters = np.array([verdicts[row].cluster for row in stay], np.uint64)
        ids = pa.chunked_array([[f"document {low + row}" for row in stay]], pa.string())
        segment = seen.segment(block.keys[stay], block.bands[stay], block.signatures[stay], clusters, ids)
        seen.save(segment, root / f"{number}")
        kept.append(seen.following(kept, root / f"{number}"))
    return found
