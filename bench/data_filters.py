"""Filters and MinHash beside datatrove, MinHash alone beside rensa: the same real text, the same parameters, one thread, one process.

``python -m bench.data_filters [--megabytes 50] [--datatrove-megabytes 1.5] [--runs 3] [--json OUT]``. Near copies are planted (every tenth
document once more with one word in forty changed) so that recall is measured beside speed. datatrove is slow, so it sees a sample. Processor seconds
of all threads are counted: MB/s is per core, and other work on the machine disturbs little.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from rensa import RMinHash, RMinHashLSH

from bench.program import REPORT, program
from bench.real_text import WEB, texts
from modelyard.data.filters import c4, duplicates, gopher
from modelyard.data.filters.c4 import C4Config
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.data.filters.gopher import GopherConfig
from modelyard.model.network import processor

GOPHER, C4 = GopherConfig.model_validate(WEB["gopher"]["text"]), C4Config.model_validate(WEB["c4"]["text"])
MINHASH = DuplicatesConfig(permutations=112, bands=14, shingle=5, threshold=0.0)
"""datatrove's default: 14 buckets of 8 hashes over 5-grams, every collision counts."""


def main(
    megabytes: float = 50.0,
    datatrove_megabytes: float = 1.5,
    runs: int = 3,
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Measure and print."""
    print(processor.description(), flush=True)
    documents, copies = planted(megabytes)
    sample, _ = planted(datatrove_megabytes)
    filters_and_minhash(sample)  # tables are made on first use
    rates: dict[str, list[float]] = {}
    found: dict[str, set[int]] = {}
    methods: dict[str, tuple[list[str], Callable[[list[str]], set[int]]]] = {
        "modelyard filters + MinHash": (documents, filters_and_minhash),
        "datatrove filters + MinHash": (sample, datatrove_filters_and_minhash),
        "modelyard MinHash": (documents, minhash),
        "rensa MinHash": (documents, rensa_minhash),
    }
    for _ in range(runs):
        for name, (material, method) in methods.items():
            size = sum(len(text.encode()) for text in material) / 1e6
            started = time.process_time()
            found[name] = method(material)
            rates.setdefault(name, []).append(size / (time.process_time() - started))
    median = {name: statistics.median(values) for name, values in rates.items()}
    recall = {name: len(found[name] & copies) / len(copies) for name in ("modelyard MinHash", "rensa MinHash")}
    for name, rate in median.items():
        print(f"{name:30s} {rate:8.2f} MB/s" + (f"   recall of {len(copies)} planted copies {recall[name]:.4f}" if name in recall else ""))
    ratios = {
        "filters_over_datatrove": median["modelyard filters + MinHash"] / median["datatrove filters + MinHash"],
        "minhash_over_rensa": median["modelyard MinHash"] / median["rensa MinHash"],
    }
    print(f"filters + MinHash: {ratios['filters_over_datatrove']:.1f} x datatrove; MinHash: {ratios['minhash_over_rensa']:.2f} x rensa")
    if report:
        report.write_text(json.dumps({"rates": median, "recall": recall, **ratios}, indent=1) + "\n", "utf-8")


def planted(megabytes: float) -> tuple[list[str], set[int]]:
    """Documents and the indices of the planted near copies."""
    generator = random.Random(0)
    documents = texts(megabytes)
    copies = [_changed(text, generator) for text in documents[::10]]
    return [*documents, *copies], set(range(len(documents), len(documents) + len(copies)))


def _changed(text: str, generator: random.Random) -> str:
    pieces = text.split(" ")
    for index in range(0, len(pieces), 40):
        pieces[min(len(pieces) - 1, index + generator.randrange(40))] = "changed"
    return " ".join(pieces)


def minhash(documents: list[str]) -> set[int]:
    """Indices that our look-up calls copies."""
    keys = [duplicates.exact_key(text) for text in documents]
    copies = duplicates.find(keys, duplicates.signatures(documents, MINHASH), MINHASH)
    return {index for index, copy in enumerate(copies) if copy is not None}


def filters_and_minhash(documents: list[str]) -> set[int]:
    """Gopher's and C4's rules on every document, then MinHash on every document."""
    gopher.refuse(documents, GOPHER)
    for text in documents:
        c4.cut(text, C4)
    return minhash(documents)


def rensa_minhash(documents: list[str]) -> set[int]:
    """rensa as its README batches it, on the same 5-grams of words."""
    sets = []
    for text in documents:
        tokens = text.lower().split()
        sets.append([" ".join(tokens[index : index + 5]) for index in range(max(1, len(tokens) - 4))])
    matrix = RMinHash.digest_matrix_from_token_sets(sets, num_perm=MINHASH.permutations, seed=1)
    flags = RMinHashLSH(threshold=0.5, num_perm=MINHASH.permutations, num_bands=MINHASH.bands).query_duplicate_flags_matrix_one_shot(matrix)
    return {index for index, flag in enumerate(flags) if flag}


def datatrove_filters_and_minhash(documents: list[str]) -> set[int]:
    """datatrove's Gopher and C4 filters, then its MinHash signatures (its later steps, which match signatures, are not counted).

    Its xxhash call does not work with xxhash 4; sha1 is its other choice.
    """
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.utils.hashing import HashConfig

    filters = [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=True)]
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, hash_config=HashConfig(hash_fc="sha1"))
    signatures = MinhashDedupSignature(output_folder="/tmp", config=config)
    for index, text in enumerate(documents):
        for rule in filters:
            rule.filter(Document(text=text, id=str(index)))
        signatures.get_signature(signatures.get_shingles(text))
    return set()


if __name__ == "__main__":
    sys.exit(program(main))
