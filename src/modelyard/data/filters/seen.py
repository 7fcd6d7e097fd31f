"""What is already in a corpus: exact keys, LSH bands, signatures and ids of kept documents, in files of earlier shards and blocks.

A shard's index is written once, sorted, and only read afterwards (memory-mapped, so that the index of a large corpus costs disk, not memory): a new
shard looks itself up in the old ones without reading their text. :mod:`modelyard.data.filters.partition` looks up, in one part or in many.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.data.filters.words import Hashes

Signatures = npt.NDArray[np.uint32]
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
FILES = ("exact", "exact_rows", "bands", "band_rows", "signatures", "clusters")
IDS = "ids.arrow"


class Segment(NamedTuple):
    """Kept documents of one shard or block."""

    exact: Hashes
    """[n] sorted."""
    exact_rows: npt.NDArray[np.uint32]
    """[n] row of each."""
    bands: Hashes
    """[bands, n] sorted within a band."""
    band_rows: npt.NDArray[np.uint32]
    """[bands, n]."""
    signatures: Signatures
    """[n, permutations]."""
    clusters: Hashes
    """[n]."""
    ids: pa.ChunkedArray
    """[n] strings."""


class Kept(NamedTuple):
    """Kept documents of an earlier shard or block, numbered in their order in the corpus."""

    directory: Path
    """Of its segment."""
    first: int
    """Number of its first document."""
    documents: int

    @property
    def end(self) -> int:
        """Number of the document after its last."""
        return self.first + self.documents


def following(earlier: list[Kept], directory: Path) -> Kept:
    """The segment in ``directory``, whose documents come after those of ``earlier``."""
    return Kept(directory, earlier[-1].end if earlier else 0, len(np.load(directory / "clusters.npy", mmap_mode="r")))


def band_hashes(signatures: Signatures, bands: int) -> Hashes:
    """One hash a band, uint64 [documents, bands]."""
    rows = signatures.reshape(len(signatures), bands, signatures.shape[1] // bands).astype(np.uint64)
    total = np.zeros(rows.shape[:2], np.uint64)
    for index in range(rows.shape[2]):
        total = (total ^ rows[:, :, index]) * _FACTOR
        total ^= total >> np.uint64(29)
    return total


def segment(keys: Hashes, bands: Hashes, signatures: Signatures, clusters: Hashes, ids: pa.ChunkedArray) -> Segment:
    """The index of kept documents, in their order."""
    exact, order = np.argsort(keys, kind="stable"), np.argsort(bands, axis=0, kind="stable")
    return Segment(
        keys[exact],
        exact.astype(np.uint32),
        np.ascontiguousarray(np.take_along_axis(bands, order, 0).T),
        np.ascontiguousarray(order.T.astype(np.uint32)),
        signatures,
        clusters,
        ids,
    )


def save(part: Segment, directory: Path) -> None:
    """Write a segment's files."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        np.save(directory / f"{name}.npy", getattr(part, name))
    _save_ids(part.ids, directory)


def load(directory: Path) -> Segment:
    """A segment as memory maps."""
    arrays = {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in FILES}
    return Segment(**arrays, ids=load_ids(directory))


def load_ids(directory: Path) -> pa.ChunkedArray:
    """The ids of a segment's documents as a memory map."""
    return pa.ipc.open_file(pa.memory_map(str(directory / IDS))).read_all().column("id")


def _save_ids(ids: pa.ChunkedArray, directory: Path) -> None:
    table = pa.table({"id": ids}).combine_chunks()
    with pa.OSFile(str(directory / IDS), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def merge(parts: list[Segment], directory: Path) -> None:
    """Write several segments as one, rows one after another; a band at a time, so memory stays that of one band."""
    offsets = np.cumsum([0, *(len(part.clusters) for part in parts)])
    directory.mkdir(parents=True, exist_ok=True)
    n, bands, permutations = int(offsets[-1]), parts[0].bands.shape[0], parts[0].signatures.shape[1]

    def create(name: str, shape: tuple[int, ...], dtype: type) -> npt.NDArray[np.generic]:
        return np.lib.format.open_memmap(directory / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)

    def rows(values: list[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
        return np.concatenate([value + np.uint32(offset) for value, offset in zip(values, offsets[:-1], strict=True)])

    keys, key_rows = np.concatenate([part.exact for part in parts]), rows([part.exact_rows for part in parts])
    order = np.lexsort((key_rows, keys))
    np.save(directory / "exact.npy", keys[order])
    np.save(directory / "exact_rows.npy", key_rows[order])
    np.save(directory / "clusters.npy", np.concatenate([part.clusters for part in parts]))
    hashes, owners, signatures = (
        create("bands", (bands, n), np.uint64),
        create("band_rows", (bands, n), np.uint32),
        create("signatures", (n, permutations), np.uint32),
    )
    for band in range(bands):
        values, value_rows = np.concatenate([part.bands[band] for part in parts]), rows([part.band_rows[band] for part in parts])
        order = np.lexsort((value_rows, values))
        hashes[band], owners[band] = values[order], value_rows[order]
    for part, offset in zip(parts, offsets[:-1].tolist(), strict=True):
        signatures[offset : offset + len(part.clusters)] = part.signatures
    _save_ids(pa.chunked_array([chunk for part in parts for chunk in part.ids.chunks], pa.string()), directory)


class Seen:
    """Kept documents in memory: those of the work at hand."""

    def __init__(self, bands: int) -> None:
        self._exact: dict[int, int] = {}
        self._buckets: list[dict[int, list[int]]] = [{} for _ in range(bands)]

    def copy(self, key: int) -> int | None:
        """Row of an exact copy."""
        return self._exact.get(key)

    def candidates(self, bands: list[int]) -> list[int]:
        """Rows of LSH candidates, in order."""
        return sorted({row for bucket, band in zip(self._buckets, bands, strict=True) for row in bucket.get(band, ())})

    def add(self, row: int, key: int, bands: list[int]) -> None:
        """Keep a document."""
        self._exact[key] = row
        for bucket, band in zip(self._buckets, bands, strict=True):
            bucket.setdefault(band, []).append(row)
